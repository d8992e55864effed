"""Configured clients of the desk, as the orchestrator's resources."""

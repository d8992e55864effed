"""The code location: what the orchestrator loads."""

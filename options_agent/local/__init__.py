"""Starts and stops the parts of the embedded default on this machine: orchestrator, tracking server, database."""

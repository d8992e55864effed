"""MLflow: runs, prompts, traces; what is sent waits in an outbox while the server is away."""

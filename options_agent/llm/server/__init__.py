"""The embedded model server: OpenAI's wire protocol on loopback, answered by small models that run and train on this machine."""

from __future__ import annotations

from options_agent.llm.server.running import start_model_server

__all__ = ["start_model_server"]

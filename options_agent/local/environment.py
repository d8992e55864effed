"""Settings as environment variables, so that every process of the desk has the same ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from options_agent.settings import Settings


def environment_of(settings: Settings) -> dict[str, str]:
    """Every setting that is not None as `OPTIONS_AGENT_...`; secrets are in it, so it is for child processes only."""
    variables: dict[str, str] = {}
    _collect(settings, "OPTIONS_AGENT_", variables)
    return variables


def _collect(model: BaseModel, prefix: str, into: dict[str, str]) -> None:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            _collect(value, f"{prefix}{name.upper()}__", into)
        elif value is not None:
            into[f"{prefix}{name.upper()}"] = _text(value)


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return json.dumps([_text(v) for v in value])
    if isinstance(value, dict):
        return json.dumps({k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in value.items()})
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)

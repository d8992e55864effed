"""Prompts: files in this folder, loaded, hashed and rendered by the functions here and nowhere else.

A prompt is a folder: `system.md`, `user.md` (with `{{variables}}`) and `response.schema.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE: Final = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")
DECISION: Final = "decision"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat prompt; `template` holds `{{variables}}`."""

    role: str
    template: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat prompt and the JSON schema of its answer. `sha256` is `prompt_sha256` of them."""

    name: str
    messages: tuple[Message, ...]
    response_schema: dict[str, Any]
    sha256: str

    @property
    def variables(self) -> frozenset[str]:
        """Names that `render` must be given."""
        return frozenset(v for m in self.messages for v in _VARIABLE.findall(m.template))


def prompt_names() -> tuple[str, ...]:
    """Names of the prompts that ship with the desk."""
    return tuple(sorted(e.name for e in resources.files(__name__).iterdir() if e.is_dir() and not e.name.startswith("_")))


def load_prompt(name: str = DECISION) -> Prompt:
    """Read a prompt's files.

    Raises:
        SettingsError: no prompt of that name.
    """
    folder = resources.files(__name__) / name
    try:
        system = (folder / "system.md").read_text(encoding="utf-8")
        user = (folder / "user.md").read_text(encoding="utf-8")
        schema = (folder / "response.schema.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(f"no prompt named {name!r}", remedy=f"one of {', '.join(prompt_names())}") from None
    messages = (Message("system", system.strip()), Message("user", user.strip()))
    return Prompt(name, messages, json.loads(schema), prompt_sha256(messages, json.loads(schema)))


def prompt_sha256(messages: tuple[Message, ...], schema: Mapping[str, Any]) -> str:
    """Identity of a prompt by what is said and asked for, wherever it is kept."""
    parts = [part for m in messages for part in (m.role, m.template)] + [json.dumps(schema, sort_keys=True)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def render(prompt: Prompt, variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Fill a prompt: chat messages with every variable replaced, and no text of a value read as a template.

    Raises:
        DataError: a variable is missing or unknown.
    """
    missing, unknown = prompt.variables - variables.keys(), variables.keys() - prompt.variables
    if missing or unknown:
        raise DataError(f"prompt {prompt.name!r} cannot be rendered: missing {sorted(missing)}, unknown {sorted(unknown)}")
    return [{"role": m.role, "content": _VARIABLE.sub(lambda v: variables[v[1]], m.template)} for m in prompt.messages]

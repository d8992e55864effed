"""What a decision prompt says, read back from its text: numbers by label, words by name, and what may be answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NUMBER: Final = re.compile(r"^- (?P<label>[^:]+): (?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)$", re.MULTILINE)
_WORD: Final = re.compile(r"\b(?P<name>Strategy|Underlying|Regime): (?P<word>[\w-]+)")
_ACTIONS: Final = re.compile(r"Allowed actions: (?P<actions>[^.\n]+)")


@dataclass(frozen=True, slots=True)
class Situation:
    """`numbers` by label as the prompt has it, `words` by name, `actions` allowed (empty where the prompt is of another kind)."""

    numbers: Mapping[str, float]
    words: Mapping[str, str]
    actions: tuple[str, ...]

    def number(self, start: str) -> float | None:
        """The number whose label starts so."""
        return next((value for label, value in self.numbers.items() if label.startswith(start)), None)


def read_situation(messages: Sequence[Mapping[str, Any]]) -> Situation:
    """Read the last user message."""
    text = user_text(messages)
    allowed = _ACTIONS.search(text)
    return Situation(
        {m["label"]: float(m["value"]) for m in _NUMBER.finditer(text)},
        {m["name"]: m["word"] for m in _WORD.finditer(text)},
        tuple(a.strip() for a in allowed["actions"].split(",")) if allowed else (),
    )


def user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The last user message."""
    return next((str(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")

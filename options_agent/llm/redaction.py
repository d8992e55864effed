"""Secrets taken out of what becomes training text: keys, tokens, account ids, URLs with passwords."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from options_agent.settings import Settings

GONE: Final = "[redacted]"
#: A shorter one is found by what stands around it only: as a word of its own it would take words of the language out.
LEAST_KNOWN: Final = 6
#: By kind; the part in group `secret` goes, or the whole where there is none.
PATTERNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)),
    ("url with password", re.compile(r"\b[a-z][a-z0-9+.-]*://(?P<secret>[^\s/@:]*:[^\s@]+)@", re.IGNORECASE)),
    ("bearer token", re.compile(r"\b(?:bearer|basic)\s+(?P<secret>[A-Za-z0-9._~+/=-]{12,})", re.IGNORECASE)),
    ("web token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?")),
    ("provider's key", re.compile(r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}")),
    (
        "named secret",
        re.compile(
            r"\b(?:api[ _-]?key|access[ _-]?key|client[ _-]?secret|client[ _-]?id|secret|token|password|passwd)\b"
            r"[\"']?\s*[:=]\s*[\"']?(?P<secret>[^\s\"',;&]+)",
            re.IGNORECASE,
        ),
    ),
    (
        "account id",
        re.compile(r"\b(?:sub)?account(?:[ _-]?(?:id|number|no))?\b[\"']?\s*[:=#]\s*[\"']?(?P<secret>[\w-]*\d[\w-]*)", re.IGNORECASE),
    ),
)


def redact(text: str, known: Sequence[str] = ()) -> tuple[str, int]:
    """The text without secrets, and how many were taken out. `known`: values that are secret whatever they look like."""
    count = 0
    for value in known:
        if value and value in text:
            count += text.count(value)
            text = text.replace(value, GONE)

    def without(match: re.Match[str]) -> str:
        nonlocal count
        secret = match.groupdict().get("secret") or match[0]
        if secret == GONE:
            return match[0]
        count += 1
        return match[0].replace(secret, GONE)

    for _, pattern in PATTERNS:
        text = pattern.sub(without, text)
    return text, count


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every key, password and token the settings hold, longest first."""
    found = {value for value in _secrets(settings) if len(value) >= LEAST_KNOWN}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from _secrets(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _secrets(one)

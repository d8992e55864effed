"""The error hierarchy: one child per thing the user can do about it.

Every message names the thing, the place and the remedy. What a function raises is in its docstring.
"""

from __future__ import annotations


class OptionsAgentError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: what is wrong, with the thing named.
        place: the file, URL, row or setting it was found in.
        remedy: what the user can do about it.
    """

    def __init__(self, message: str, *, place: str | None = None, remedy: str | None = None) -> None:
        self.message = message
        self.place = place
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = f" [at {self.place}]" if self.place else ""
        what_to_do = f" Remedy: {self.remedy}" if self.remedy else ""
        return f"{self.message}{where}{what_to_do}"


class DataError(OptionsAgentError):
    """Input data is malformed, unknown, truncated or contradictory."""


class SettingsError(OptionsAgentError):
    """A setting is missing, out of range, or contradicts another."""


class ExchangeError(OptionsAgentError):
    """The exchange, or a vendor of its data, refused or failed."""


class StorageError(OptionsAgentError):
    """The lake or the archive could not be read or written (full, denied, torn, unreachable)."""


class ServiceError(OptionsAgentError):
    """A service of the desk (orchestrator, tracking, database, alerts) is not reachable or not healthy."""


class BudgetError(OptionsAgentError):
    """A limit of capital, risk, time or money would be exceeded."""

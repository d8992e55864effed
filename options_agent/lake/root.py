"""A lake: its root, its network, and how to get at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from options_agent.lake.files import Files, open_files

if TYPE_CHECKING:
    from options_agent.settings import Settings


@dataclass(frozen=True)
class Lake:
    """A lake of one network: where its root is and how to get at it. Make one with `open_lake`."""

    root: str
    network: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    files: Files = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", open_files(f"{self.root.rstrip('/')}/{self.network}", self.storage_options))


def open_lake(settings: Settings) -> Lake:
    """The lake the settings name; nothing is created or reached before the first read or write."""
    return Lake(settings.lake_url, settings.network, settings.options_for(settings.lake_url))

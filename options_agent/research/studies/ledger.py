"""The ledger of a study: one line an event, each holding the hash of the one before, so that nothing can be taken out or changed unseen."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import StorageError
from options_agent.journal.chain import append_line, read_chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What can happen in a study.
KINDS: Final = ("declared", "proposed", "played", "failed", "stopped", "finished", "holdout_opened", "holdout_answered", "holdout_refused")


def read(path: Path) -> list[dict[str, Any]]:
    """Every event, oldest first; see `journal.chain.read_chain`."""
    return read_chain(path)


def append(path: Path, kind: str, **content: Any) -> dict[str, Any]:
    """Write an event to disk, behind the last one; returns it. Call inside `writing`.

    Raises:
        StorageError: it cannot be written.
    """
    return append_line(path, {"kind": kind} | content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the study: one process works on it at a time; the kernel drops the lock with its holder.

    Raises:
        StorageError: another process works on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError("another process works on this study", place=str(path.parent), remedy="wait for it, or end it") from None
        yield

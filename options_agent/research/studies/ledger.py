"""The ledger of a study: one line an event, each holding the hash of the one before, so that nothing can be taken out or changed unseen."""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What can happen in a study.
KINDS: Final = ("declared", "proposed", "played", "failed", "stopped", "finished", "holdout_opened", "holdout_answered", "holdout_refused")
_START: Final = "0" * 64


def read(path: Path) -> list[dict[str, Any]]:
    """Every event, oldest first. A last line that a kill cut short never happened and is left out.

    Raises:
        DataError: a line was changed, taken out or put in; names it.
    """
    if not path.exists():
        return []
    events, before = [], _START
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            event = json.loads(line)
            sound = event["before"] == before and event["hash"] == _hash(event) and event["n"] == number
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise DataError(
                f"line {number} is not the one that was written, or one before it is gone",
                place=str(path),
                remedy="restore the file from a backup; a study whose ledger is broken proves nothing",
            )
        before = event["hash"]
        events.append(event)
    return events


def append(path: Path, kind: str, **content: Any) -> dict[str, Any]:
    """Write an event to disk, behind the last one; returns it. Call inside `writing`.

    Raises:
        DataError: the ledger is broken.
        StorageError: it cannot be written.
    """
    events = read(path)
    event: dict[str, Any] = {"n": len(events) + 1, "at": dt.datetime.now(dt.UTC).isoformat(), "kind": kind} | content
    event["before"] = events[-1]["hash"] if events else _START
    event["hash"] = _hash(event)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            _drop_torn_line(path)
            stream.write(json.dumps(event, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StorageError(f"the ledger cannot be written: {error.strerror}", place=str(path), remedy="look at the disk") from error
    return event


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the study: one process works on it at a time; the kernel drops the lock with its holder.

    Raises:
        StorageError: another process works on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError("another process works on this study", place=str(path.parent), remedy="wait for it, or end it") from None
        yield


def _drop_torn_line(path: Path) -> None:
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(data.rfind(b"\n") + 1)


def _hash(event: dict[str, Any]) -> str:
    content = {name: value for name, value in event.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

"""Hash-chained JSON lines: each holds the hash of the one before, so that nothing can be changed or taken out unseen."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

START: Final = "0" * 64
_TAIL: Final = 65_536


def read_chain(path: Path) -> list[dict[str, Any]]:
    """Every line, oldest first. A last line that a kill cut short never happened and is left out.

    Raises:
        DataError: a line was changed, taken out or put in; names it.
    """
    if not path.exists():
        return []
    events, before = [], START
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            event = json.loads(line)
            sound = event["before"] == before and event["hash"] == _hash(event) and event["n"] == number
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise DataError(
                f"line {number} is not the one that was written, or one before it is gone",
                place=str(path),
                remedy="restore the file from a backup; what is broken proves nothing",
            )
        before = event["hash"]
        events.append(event)
    return events


def append_line(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write a line to disk behind the last whole one; returns it with `n`, `at`, `before` and `hash`. One writer at a time.

    Raises:
        StorageError: it cannot be written, or the last line is none of a chain.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            last = _last(stream, path)
            event = {"n": (last["n"] if last else 0) + 1, "at": dt.datetime.now(dt.UTC).isoformat()} | content
            event["before"] = last["hash"] if last else START
            event["hash"] = _hash(event)
            stream.write(json.dumps(event, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StorageError(f"it cannot be written: {error.strerror}", place=str(path), remedy="look at the disk") from error
    return event


def _last(stream: Any, path: Path) -> dict[str, Any] | None:
    """The last whole line; a torn one behind it is cut off."""
    size, reach = stream.seek(0, os.SEEK_END), _TAIL
    while True:
        start = max(0, size - reach)
        stream.seek(start)
        data = stream.read(size - start)
        end = data.rfind(b"\n")
        begin = data.rfind(b"\n", 0, end) if end > 0 else -1
        if start == 0 or begin >= 0:
            break
        reach *= 4
    stream.truncate(start + end + 1)
    if end < 0:
        return None
    try:
        event: dict[str, Any] = json.loads(data[begin + 1 : end])
        if {"n", "hash"} <= event.keys():
            return event
    except (ValueError, AttributeError):
        pass
    raise StorageError("its last line is none of a chain", place=str(path), remedy="restore the file from a backup")


def _hash(event: dict[str, Any]) -> str:
    content = {name: value for name, value in event.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

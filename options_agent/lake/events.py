"""What happened to a harvester: when it started, was alive, lost the exchange, met maintenance; read as the causes of gaps.

One small JSON-lines file a day, source and region, rewritten whole: `raw/events/day=2026-01-31/deribit-local.jsonl`. A harvester
is the only writer of its files. Runs of `alive` are one line that is moved on.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError

if TYPE_CHECKING:
    from options_agent.lake.root import Lake

KINDS: Final = (
    "started",
    "stopped",
    "alive",
    "connected",
    "disconnected",
    "maintenance_began",
    "maintenance_ended",
    "rate_limited",
    "snapshot_missed",
    "snapshot_partial",
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at `at` (UTC) by the market's clock; `underlying` where it concerns one."""

    at: dt.datetime
    kind: str
    underlying: str | None = None
    detail: str = ""
    source: str = ""
    region: str = ""


def record_event(lake: Lake, source: str, region: str, event: Event) -> None:
    """Add an event to its day's file. An `alive` after an `alive` takes its place.

    Raises:
        DataError: the kind is unknown, or the file is damaged.
        StorageError: it cannot be written.
    """
    if event.kind not in KINDS:
        raise DataError(f"no event is called {event.kind!r}", remedy=f"one of {', '.join(KINDS)}")
    path = event_path(event.at.astimezone(dt.UTC).date(), source, region)
    data = lake.files.read_or_none(path) or b""
    lines = data.splitlines()
    if event.kind == "alive" and lines and json.loads(lines[-1])["kind"] == "alive":
        lines.pop()
    document: dict[str, Any] = {"at": event.at.astimezone(dt.UTC).isoformat(), "kind": event.kind}
    if event.underlying:
        document["underlying"] = event.underlying
    if event.detail:
        document["detail"] = event.detail
    lines.append(json.dumps(document, sort_keys=True).encode())
    lake.files.write(path, b"\n".join(lines) + b"\n")


def events(lake: Lake, start: dt.date, end: dt.date, source: str | None = None, region: str | None = None) -> list[Event]:
    """Events of the days `start` to `end`, both inclusive, by time.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read.
    """
    found: list[Event] = []
    paths = [path for path in lake.files.find("raw/events") if path.endswith(".jsonl") and start <= _day_of(path) <= end]
    for path, data in zip(paths, lake.files.read_many(paths), strict=True):
        of_source, _, of_region = path.rsplit("/", 1)[-1].removesuffix(".jsonl").rpartition("-")
        if source in {None, of_source} and region in {None, of_region}:
            found += _parse(data, of_source, of_region, lake.files.place(path))
    return sorted(found, key=lambda event: event.at)


def event_path(day: dt.date, source: str, region: str) -> str:
    """`raw/events/day=2026-01-31/deribit-local.jsonl`."""
    return f"raw/events/day={day:%Y-%m-%d}/{source}-{region}.jsonl"


def _day_of(path: str) -> dt.date:
    return dt.date.fromisoformat(path.split("/")[2].removeprefix("day="))


def _parse(data: bytes, source: str, region: str, place: str) -> list[Event]:
    try:
        told = [json.loads(line) for line in data.splitlines() if line]
        return [
            Event(dt.datetime.fromisoformat(each["at"]), each["kind"], each.get("underlying"), each.get("detail", ""), source, region)
            for each in told
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a file of events: {error}", place=place, remedy="set it aside: gaps of that day lose their causes") from error

"""Why a snapshot or a row is missing, from what harvesters noted: their events, their sweeps, and files set aside as damaged."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from options_agent.lake import layout
from options_agent.lake.events import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from options_agent.lake.events import Event
    from options_agent.lake.store import Lake

MAINTENANCE: Final = "maintenance"
OUTAGE: Final = "our outage"
DISCONNECTED: Final = "disconnected"
EXCHANGE: Final = "exchange"
RATE_LIMITED: Final = "rate limited"
DAMAGED: Final = "damaged file"
UNKNOWN: Final = "unknown"
#: Every cause a gap may have, with what it means.
CAUSES: Final = {
    MAINTENANCE: "the exchange was under maintenance",
    OUTAGE: "our harvester was stopped, dead or behind",
    DISCONNECTED: "our harvester ran, and could not reach the exchange",
    EXCHANGE: "the exchange answered, and told nothing of it, or with an error",
    RATE_LIMITED: "the exchange refused for our credits",
    DAMAGED: "it was harvested, and its file was later set aside as unreadable",
    UNKNOWN: "nobody noted why: a source without events, or one read from a vendor's files",
}
#: Words by which what a harvester noted tells its cause; the first that is found counts.
_WORDS: Final = (
    (MAINTENANCE, ("maintenance", "11051")),
    (RATE_LIMITED, ("rate_limited", "rate limited", "too_many_requests", "10028", "credits")),
    (OUTAGE, ("harvester was behind", "disk is full", "stopped")),
    (DISCONNECTED, ("did not answer", "no answer", "socket is closed", "socket closed", "cannot be opened", "connect", "timeout")),
)

Key = tuple[dt.datetime, str, str]
_ALWAYS: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def cause_in(text: str) -> str:
    """The cause that a harvester's own words tell; `exchange` where they name none."""
    lowered = text.lower()
    return next((cause for cause, words in _WORDS if any(word in lowered for word in words)), EXCHANGE)


@dataclass(slots=True)
class Diary:
    """What one harvester (a source and a region) noted, ready to be asked about a grid time."""

    missed: dict[tuple[dt.datetime, str | None], str] = field(default_factory=dict)
    down: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)
    maintenance: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)
    disconnected: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)
    limited: list[dt.datetime] = field(default_factory=list)
    last: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Diaries:
    """Everything that tells why something is missing: diaries by (source, region), and snapshots whose file was set aside."""

    by_harvester: dict[tuple[str, str], Diary]
    damaged: frozenset[Key]


def read_diaries(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> Diaries:
    """What harvesters noted from the day before `start` to the day after `end`.

    Raises:
        DataError: a file of events is damaged.
        StorageError: the lake cannot be read.
    """
    a_day = dt.timedelta(days=1)
    of_harvester: dict[tuple[str, str], list[Event]] = {}
    for event in events(lake, start - a_day, end + a_day):
        of_harvester.setdefault((event.source, event.region), []).append(event)
    aside = lake.files.find(f"quarantine/files/{layout.underlying_folder('raw', underlying)}")
    names = (layout.parse_snapshot_name(path.rsplit("/", 1)[-1]) for path in aside)
    return Diaries({key: diary_of(told) for key, told in of_harvester.items()}, frozenset(name for name in names if name))


def diary_of(told: Sequence[Event]) -> Diary:
    """Order what one harvester noted, given by time, into the spans in which it was down, cut off, or met maintenance.

    Between its last sign of life and the next `started` it was down; after `stopped` as well. A new start knows of no maintenance
    and of no lost connection until it meets them.
    """
    diary = Diary()
    cut: dt.datetime | None = None
    closed: dt.datetime | None = None
    previous: Event | None = None
    for event in told:
        if event.kind in {"started", "connected"} and cut is not None:
            diary.disconnected.append((cut, event.at))
            cut = None
        if event.kind in {"started", "maintenance_ended"} and closed is not None:
            diary.maintenance.append((closed, event.at))
            closed = None
        if event.kind == "started":
            diary.down.append((previous.at if previous else _NEVER, event.at))
        elif event.kind == "disconnected":
            cut = cut or event.at
        elif event.kind == "maintenance_began":
            closed = closed or event.at
        elif event.kind == "rate_limited":
            diary.limited.append(event.at)
        elif event.kind == "snapshot_missed":
            at, _, why = event.detail.partition(": ")
            if (grid := _instant(at)) is not None:
                diary.missed[grid, event.underlying] = why
        previous = event
    if previous is not None:
        diary.last = previous.at
        if previous.kind == "stopped":
            diary.down.append((previous.at, _ALWAYS))
    if cut is not None:
        diary.disconnected.append((cut, _ALWAYS))
    if closed is not None:
        diary.maintenance.append((closed, _ALWAYS))
    return diary


def why_missing(diaries: Diaries, underlying: str, source: str, region: str, at: dt.datetime, step: dt.timedelta) -> str:
    """Why one harvester has no snapshot of a grid time. What it noted of that very snapshot counts first.

    Harvesters note a lost connection or maintenance with the snapshot that first met it, so spans reach back one `step`.
    """
    if (at, source, region) in diaries.damaged:
        return DAMAGED
    diary = diaries.by_harvester.get((source, region))
    if diary is None:
        return UNKNOWN
    noted = diary.missed.get((at, underlying)) or diary.missed.get((at, None))
    if noted:
        return cause_in(noted)
    if _within(diary.down, at, dt.timedelta()):
        return OUTAGE
    if _within(diary.maintenance, at, step):
        return MAINTENANCE
    if _within(diary.disconnected, at, step):
        return DISCONNECTED
    if bisect_right(diary.limited, at + step) > bisect_left(diary.limited, at - step):
        return RATE_LIMITED
    if diary.last is not None and at > diary.last + step / 2:
        return OUTAGE  # nothing was heard of it since: it says `alive` with every snapshot
    return UNKNOWN


def told_together(causes: Iterable[str]) -> tuple[str, str]:
    """The commonest of many causes, and all of them with how often, where they differ."""
    counted = Counter(causes)
    if not counted:
        return UNKNOWN, ""
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return ordered[0][0], "" if len(ordered) == 1 else ", ".join(f"{cause} {n}" for cause, n in ordered)


def _within(spans: Sequence[tuple[dt.datetime, dt.datetime]], at: dt.datetime, reach: dt.timedelta) -> bool:
    """Whether an instant lies in one of the ascending spans, each begun earlier by `reach`."""
    i = bisect_right(spans, at + reach, key=lambda span: span[0])
    return any(start - reach <= at <= end if start != _NEVER else at <= end for start, end in spans[max(i - 2, 0) : i])


def _instant(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None

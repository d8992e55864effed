"""Holes in the harvest and how fresh it is, from the names of raw snapshots alone: no row is read."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from options_agent.errors import DataError
from options_agent.lake.retained import retained_days
from options_agent.lake.store import days, snapshot_files
from options_agent.quotes import UTC_US

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from options_agent.lake.store import Lake

#: Consecutive snapshots further apart than this many intervals leave a gap.
TOLERANCE: Final = 1.5

#: One row per gap. `opened_at` is the last good snapshot before it, `closed_at` the next good one (null while it is open).
GAP_SCHEMA: Final = pa.schema(
    [
        pa.field("underlying", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("opened_at", UTC_US, nullable=False),
        pa.field("closed_at", UTC_US),
        pa.field("missing", pa.int64(), nullable=False),  # snapshots that should lie between
        pa.field("interval_seconds", pa.float64(), nullable=False),
    ],
    metadata={"schema": "gaps", "schema_version": "1"},
)


@dataclass(frozen=True, slots=True)
class Freshness:
    """The newest raw snapshot of an underlying from one harvester."""

    underlying: str
    source: str
    region: str
    newest: dt.datetime
    snapshots_that_day: int

    def age(self, now: dt.datetime) -> dt.timedelta:
        """How long ago the newest snapshot's grid time was."""
        return now - self.newest


def find_gaps(
    lake: Lake,
    underlying: str,
    start: dt.date,
    end: dt.date,
    *,
    interval: dt.timedelta | None = None,
    now: dt.datetime | None = None,
) -> pa.Table:
    """Gaps that touch the days `start` to `end` (inclusive), per source and region, ascending by `opened_at`.

    A gap lies between consecutive snapshots further apart than 1.5 intervals; it lacks round(distance / interval) - 1
    snapshots. The nearest snapshots outside the range are looked at too, so a hole across midnight, or over whole days,
    is one gap. With `now`, a harvester that has been silent for more than 1.5 intervals leaves an open gap.

    Args:
        lake: raw snapshots of one network.
        underlying: family.
        start, end: days, by grid time.
        interval: the grid; None = the median spacing of that harvester's snapshots in the range.
        now: the present of a live harvest; None where the data simply end.

    Returns:
        `GAP_SCHEMA` rows.

    Raises:
        DataError: a compacted day is damaged, or `interval` is not positive.
        StorageError: the lake cannot be listed.
    """
    if interval is not None and interval <= dt.timedelta():
        raise DataError(f"an interval of {interval} is no grid", remedy="give a positive interval")
    rows: list[dict[str, object]] = []
    for (source, region), times in sorted(_snapshots(lake, underlying, start, end).items()):
        step = interval or _typical(times)
        if step is None:
            continue
        harvester = {"underlying": underlying, "source": source, "region": region, "interval_seconds": step.total_seconds()}
        for before, after in _holes(times, step):
            if after.date() >= start and before.date() <= end:
                rows.append({**harvester, "opened_at": before, "closed_at": after, "missing": round((after - before) / step) - 1})
        if now is not None and now - times[-1] > TOLERANCE * step:
            rows.append({**harvester, "opened_at": times[-1], "closed_at": None, "missing": int((now - times[-1]) / step)})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (str(row["opened_at"]), str(row["source"]))), schema=GAP_SCHEMA)


def freshness(lake: Lake, underlyings: Iterable[str]) -> list[Freshness]:
    """The newest snapshot of every underlying and harvester that wrote on the underlying's last day.

    An underlying without any snapshot has no entry.
    """
    found = []
    for underlying in underlyings:
        present = days(lake, "raw", underlying)
        if not present:
            continue
        newest: dict[tuple[str, str], list[dt.datetime]] = {}
        for file in snapshot_files(lake, underlying, present[-1]):
            newest.setdefault((file.source, file.region), []).append(file.snapshot)
        found += [Freshness(underlying, *harvester, max(times), len(times)) for harvester, times in sorted(newest.items())]
    return found


def _snapshots(lake: Lake, underlying: str, start: dt.date, end: dt.date) -> dict[tuple[str, str], list[dt.datetime]]:
    """Grid times per (source, region), ascending: of the range, and of the nearest day with data on either side.

    A day that retention deleted here was harvested all the same: its receipt says which snapshots it had.
    """
    retained = {day: one.snapshots for day, one in retained_days(lake, underlying).items() if one.snapshots}
    present = sorted({*days(lake, "raw", underlying), *retained})
    before, after = [day for day in present if day < start][-1:], [day for day in present if day > end][:1]
    times: dict[tuple[str, str], list[dt.datetime]] = {}
    for day in [*before, *(day for day in present if start <= day <= end), *after]:
        for file in retained.get(day) or snapshot_files(lake, underlying, day):
            times.setdefault((file.source, file.region), []).append(file.snapshot)
    return {harvester: sorted(set(found)) for harvester, found in times.items()}


def _typical(times: Sequence[dt.datetime]) -> dt.timedelta | None:
    """Median spacing; None for fewer than two snapshots."""
    if len(times) < 2:
        return None
    return dt.timedelta(seconds=median((b - a).total_seconds() for a, b in itertools.pairwise(times)))


def _holes(times: Sequence[dt.datetime], step: dt.timedelta) -> list[tuple[dt.datetime, dt.datetime]]:
    return [(a, b) for a, b in itertools.pairwise(times) if b - a > TOLERANCE * step]

"""Missing intervals of the harvest: snapshots the schedule expects and that are not there, from the names of raw files alone.

Missing expiries and strikes are in `listing_gaps`, the causes in `gap_causes`, everything together in `gap_report`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from options_agent.errors import DataError
from options_agent.lake.receipts import receipts
from options_agent.lake.retained import retained_days
from options_agent.lake.store import days, snapshot_files
from options_agent.quality.gap_causes import read_diaries, told_together, why_missing
from options_agent.quotes import UTC_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from options_agent.lake.store import Lake
    from options_agent.quality.gap_causes import Diaries
    from options_agent.settings import Settings

#: Consecutive snapshots further apart than this many intervals leave a gap.
TOLERANCE: Final = 1.5
#: The view in which one region stands in for another.
ANY_REGION: Final = "any"
#: Sources whose snapshots come by `live_interval_minutes` and by nothing else.
SCHEDULED: Final = ("deribit",)

#: One row per gap. `opened_at` is the last good snapshot before it, `closed_at` the next good one (null while it is open);
#: `first_missing` and `last_missing` are the grid times in between that are first and last known to lack it.
GAP_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # interval, expiry or strike
        pa.field("underlying", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),  # a harvester's, or "any": missing in every region
        pa.field("regions", pa.int64(), nullable=False),  # how many harvest this source; of several, `any` speaks for the lake
        pa.field("expiry", UTC_US),  # of a missing expiry or strike
        pa.field("instrument", pa.string()),  # of a missing strike
        pa.field("opened_at", UTC_US),  # null: it was never seen before
        pa.field("closed_at", UTC_US),  # null: it is missing still, or was never seen again
        pa.field("first_missing", UTC_US, nullable=False),
        pa.field("last_missing", UTC_US, nullable=False),
        pa.field("missing", pa.int64(), nullable=False),  # snapshots that lack it
        pa.field("interval_seconds", pa.float64(), nullable=False),
        pa.field("cause", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ],
    metadata={"schema": "gaps", "schema_version": "2"},
)

_MICROSECONDS: Final = 1_000_000
_NEIGHBOURS: Final = 24


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch between two consecutive grid times that the schedule says is too long; `after` is None while it is open."""

    before: dt.datetime
    after: dt.datetime | None
    missing: int
    step: dt.timedelta

    @property
    def grid(self) -> list[dt.datetime]:
        """The grid times that are missing."""
        return [self.before + n * self.step for n in range(1, self.missing + 1)]


def find_gaps(
    lake: Lake,
    underlying: str,
    start: dt.date,
    end: dt.date,
    *,
    interval: dt.timedelta | None = None,
    now: dt.datetime | None = None,
    settings: Settings | None = None,
) -> pa.Table:
    """Missing intervals that touch the days `start` to `end` (inclusive), per source and region, ascending by `opened_at`.

    A gap lies between consecutive snapshots further apart than 1.5 intervals; it lacks round(distance / interval) - 1
    snapshots. The nearest snapshots outside the range are looked at too, so a hole across midnight, or over whole days,
    is one gap. With `now`, a harvester that has been silent for more than 1.5 intervals leaves an open gap. Where several
    regions harvest a source, rows of region `any` are the gaps that none of them covers. Days in the archive only count as
    harvested.

    The interval is `interval`; else, with `settings`, `live_interval_minutes` of a source that is harvested live only and
    what a backfill's receipts say of a recorded one; else the typical spacing thereabouts.

    Args:
        lake: raw snapshots of one network.
        underlying: family.
        start, end: days, by grid time.
        interval: the grid of every source.
        now: the present of a live harvest; None where the data simply end.
        settings: the schedule; with it only the configured source can have an open gap.

    Returns:
        `GAP_SCHEMA` rows of kind `interval`.

    Raises:
        DataError: a compacted day or a file of events is damaged, or `interval` is not positive.
        StorageError: the lake cannot be listed.
    """
    if interval is not None and interval <= dt.timedelta():
        raise DataError(f"an interval of {interval} is no grid", remedy="give a positive interval")
    times = _snapshots(lake, underlying, start, end)
    steps = {source: interval or scheduled_step(lake, underlying, source, settings) for source, _ in times}
    holes: dict[tuple[str, str], list[Hole]] = {}
    newest = {source: max(found[-1] for (of, _), found in times.items() if of == source) for source, _ in times}
    for (source, region), found in [*times.items(), *_together(times).items()]:
        given_up = settings is not None and newest[source] - found[-1] > dt.timedelta(days=settings.freshness.retired_days)
        goes_on = not given_up and (settings is None or source == settings.source)
        touching = [hole for hole in find_holes(found, steps[source], now if goes_on else None) if _touches(hole, start, end)]
        if touching:
            holes[source, region] = touching
    if not holes:
        return GAP_SCHEMA.empty_table()
    everything = [hole for some in holes.values() for hole in some]
    last = max((hole.after or hole.before + hole.missing * hole.step).date() for hole in everything)
    diaries = read_diaries(lake, underlying, min(hole.before for hole in everything).date(), last)
    rows = []
    for (source, region), some in holes.items():
        regions = sorted(of for of_source, of in times if of_source == source)
        rows += [_row(diaries, underlying, source, region, regions, hole) for hole in some]
    return gap_table(rows)


def find_holes(times: Sequence[dt.datetime], step: dt.timedelta | None, now: dt.datetime | None = None) -> list[Hole]:
    """Stretches of ascending grid times that are too long, ascending; the last of them open where `now` is given.

    Args:
        times: grid times that have a snapshot, to the second.
        step: the schedule's; None = the typical spacing thereabouts, so that a history by the hour and a harvest by the
            quarter both are what they should be.
        now: the present.
    """
    at = np.array([int(time.timestamp()) for time in times], np.int64)
    apart = np.diff(at)
    if step is None and not len(apart):
        return []
    steps = _typical(apart) if step is None else np.full(len(apart), round(step.total_seconds()), np.int64)
    holes = [
        Hole(times[i], times[i + 1], int(np.rint(apart[i] / steps[i])) - 1, dt.timedelta(seconds=int(steps[i])))
        for i in np.flatnonzero(apart > TOLERANCE * steps).tolist()
    ]
    if now is not None and len(at):
        recent = step or dt.timedelta(seconds=int(steps[-1]))
        if (silent := now - times[-1]) > TOLERANCE * recent:
            holes.append(Hole(times[-1], None, int(silent / recent), recent))
    return holes


def gap_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows by when they open, then by harvester and contract."""
    table = pa.Table.from_pylist(rows, schema=GAP_SCHEMA)
    order = ("first_missing", "kind", "source", "region", "expiry", "instrument")
    return table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in order]))


def merged_view(gaps: pa.Table) -> pa.Table:
    """The gaps of the view in which regions stand in for each other: those of `any` where a source has several regions."""
    return gaps.filter(pc.or_(pc.equal(gaps["regions"], 1), pc.equal(gaps["region"], ANY_REGION)))


def scheduled_step(lake: Lake, underlying: str, source: str, settings: Settings | None) -> dt.timedelta | None:
    """The interval a source is harvested by; None where it keeps no single one (the synthetic market: by the hour and live)."""
    if settings is None:
        return None
    if source in SCHEDULED:
        return dt.timedelta(minutes=settings.live_interval_minutes)
    if source == "synthetic":
        return None
    told = {r.details["interval_seconds"] for r in receipts(lake, "harvest", underlying) if r.details.get("source") == source}
    return dt.timedelta(seconds=told.pop()) if len(told) == 1 else None


def _row(diaries: Diaries, underlying: str, source: str, region: str, regions: Sequence[str], hole: Hole) -> dict[str, Any]:
    asked = regions if region == ANY_REGION else [region]
    by_region = {of: told_together(why_missing(diaries, underlying, source, of, at, hole.step) for at in hole.grid) for of in asked}
    if len(by_region) == 1:
        cause, detail = by_region[asked[0]]
    else:
        cause, _ = told_together(cause for cause, _ in by_region.values())
        detail = "; ".join(f"{of}: {several or one}" for of, (one, several) in by_region.items())
    return {
        "kind": "interval",
        "underlying": underlying,
        "source": source,
        "region": region,
        "regions": len(regions),
        "opened_at": hole.before,
        "closed_at": hole.after,
        "first_missing": hole.before + hole.step,
        "last_missing": hole.before + hole.missing * hole.step,
        "missing": hole.missing,
        "interval_seconds": hole.step.total_seconds(),
        "cause": cause,
        "detail": detail,
    }


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
    return {harvester: sorted(set(found)) for harvester, found in sorted(times.items())}


def _together(times: dict[tuple[str, str], list[dt.datetime]]) -> dict[tuple[str, str], list[dt.datetime]]:
    """Grid times of every source that several regions harvest, whichever has them."""
    sources: dict[str, list[list[dt.datetime]]] = {}
    for (source, _), found in times.items():
        sources.setdefault(source, []).append(found)
    return {(source, ANY_REGION): sorted(set().union(*found)) for source, found in sources.items() if len(found) > 1}


def _touches(hole: Hole, start: dt.date, end: dt.date) -> bool:
    return (hole.after is None or hole.after.date() >= start) and hole.before.date() <= end


def _typical(apart: NDArray[np.int64]) -> NDArray[np.int64]:
    """Typical spacing at each place: the larger of the lower medians of the spacings before it and after it.

    The larger, because where the grid grows finer the last coarse stretch is no gap.
    """
    window = min(_NEIGHBOURS, max(len(apart) - 1, 1))
    edge = np.full(window, np.iinfo(np.int64).max, np.int64)  # past the ends there is nothing: sorted last, it is never the median
    padded = np.concatenate([edge, apart, edge])
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    counts = (windows != edge[0]).sum(axis=1)
    medians = np.where(counts > 0, np.take_along_axis(windows, np.maximum((counts - 1) // 2, 0)[:, None], axis=1)[:, 0], 0)
    before, after = medians[: len(apart)], medians[window + 1 : window + 1 + len(apart)]
    return np.where(np.maximum(before, after) > 0, np.maximum(before, after), apart)

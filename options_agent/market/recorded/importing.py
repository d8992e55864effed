"""Bring recorded files into the lake: every day with chains through the harvest, and the series around them.

Safe to stop and to repeat: days that are there already are left as they are.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.lake.store import write_series
from options_agent.market.harvest import harvest_day
from options_agent.market.sources import day_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from options_agent.lake.layout import SeriesName
    from options_agent.lake.store import Lake
    from options_agent.market.recorded.source import RecordedSource

#: Days of series taken before a day with chains (trend and realised volatility look back) and after it (settlement).
DAYS_BEFORE: Final = 30
DAYS_AFTER: Final = 2
_SERIES: Final[tuple[SeriesName, ...]] = ("prices", "dvol", "funding")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote or found in place for one underlying."""

    underlying: str
    days: int
    snapshots: int
    rows: int
    bytes: int
    prices: int
    dvol: int
    funding: int


def import_recorded(source: RecordedSource, lake: Lake, told: Callable[[str, int, int, int], None] | None = None) -> tuple[Imported, ...]:
    """Write raw snapshots and series of everything the files hold.

    Args:
        source: the files, already looked into.
        lake: where to; of the source's network.
        told: called with the underlying, days done, days in all and rows so far, after each day.

    Raises:
        DataError: networks differ, a value cannot be decoded, or other rows of a snapshot are already in the lake.
        StorageError: the lake cannot be written.
    """
    chains = tuple(_import_chains(source, lake, underlying, told) for underlying in source.underlyings())
    if chains:
        return chains
    coins = sorted({coin for name in _SERIES for coin in source.series_span(name)})
    return tuple(_import_series_only(source, lake, coin, told) for coin in coins)


def _import_chains(source: RecordedSource, lake: Lake, underlying: str, told: Callable[[str, int, int, int], None] | None) -> Imported:
    days = sorted({snapshot.at.date() for snapshot in source.catalogue.snapshots[underlying]})
    around = {near for day in days for near in _days(day - dt.timedelta(days=DAYS_BEFORE), day + dt.timedelta(days=DAYS_AFTER))}.difference(
        days
    )
    counts: dict[str, int] = dict.fromkeys(("snapshots", "rows", "bytes", *_SERIES), 0)
    for done, day in enumerate(days, start=1):
        receipt = harvest_day(source, lake, underlying, day)
        counts = {name: count + receipt.counts.get(name, 0) for name, count in counts.items()}
        if told:
            told(underlying, done, len(days), counts["rows"])
    for day in sorted(around):
        for name, count in _series_day(source, lake, underlying, day).items():
            counts[name] += count
    return Imported(underlying, len(days), **counts)


def _import_series_only(source: RecordedSource, lake: Lake, coin: str, told: Callable[[str, int, int, int], None] | None) -> Imported:
    spans = [spans[coin] for name in _SERIES if coin in (spans := source.series_span(name))]
    days = list(_days(min(first for first, _ in spans).date(), max(last for _, last in spans).date()))
    counts: dict[str, int] = dict.fromkeys(_SERIES, 0)
    for done, day in enumerate(days, start=1):
        for name, count in _series_day(source, lake, coin, day).items():
            counts[name] += count
        if told:
            told(coin, done, len(days), sum(counts.values()))
    return Imported(coin, len(days), 0, 0, 0, **counts)


def _series_day(source: RecordedSource, lake: Lake, underlying: str, day: dt.date) -> dict[SeriesName, int]:
    start, end = day_range(day)
    tables: dict[SeriesName, pa.Table] = {
        "prices": source.prices(underlying, start, end),
        "dvol": source.dvol(underlying, start, end),
        "funding": source.funding(underlying, start, end),
    }
    for name, table in tables.items():
        if table.num_rows:
            write_series(lake, name, underlying, day, table)
    return {name: table.num_rows for name, table in tables.items()}


def _days(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    for n in range((last - first).days + 1):
        yield first + dt.timedelta(days=n)

"""The harvest: snapshots of a source, and the series beside them, into the raw lake, a day or a moment at a time.

The scheduled and the long-running harvester call the same functions. A day's receipt is written last; killed before, the next call
finds the files already there with the same bytes and goes on.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError
from options_agent.lake.raw import rows_by_snapshot, snapshot_files, write_snapshot
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.retained import retained_snapshots
from options_agent.lake.store import write_series
from options_agent.market.sources import DayFileSource, day_range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import pyarrow as pa

    from options_agent.lake.files import FileRecord
    from options_agent.lake.layout import SeriesName
    from options_agent.lake.store import Lake
    from options_agent.market.sources import Source

HARVEST_VERSION: Final = 1
STAGE: Final = "harvest"
_WRITES_AHEAD: Final = 4


def harvest_fingerprint(source: Source, underlying: str, day: dt.date, now: dt.datetime | None = None) -> str:
    """What a day's harvest depends on; equal to the receipt's where there is nothing to do."""
    start, end = _known_range(source, day, now)
    return fingerprint(HARVEST_VERSION, source.name, source.fingerprint(underlying, start, end))


def harvest_day(source: Source, lake: Lake, underlying: str, day: dt.date, *, now: dt.datetime | None = None) -> Receipt:
    """Write every snapshot of a day and its prices, DVOL and funding; nothing is done where nothing changed.

    The source is the authority on its own history: where it now tells a snapshot otherwise (other settings, a mended file), the new
    rows take the place of its former ones. Snapshots that were harvested live, between those of the source's grid, stay and count.

    Args:
        source: where from; of a live one only what is known by `now` is taken.
        lake: where to; its network must be the source's.
        underlying: the family.
        day: UTC.
        now: the present, default the clock's.

    Returns:
        The receipt: counts of `snapshots`, `rows`, `bytes`, `prices`, `dvol`, `funding`.

    Raises:
        DataError: networks differ, or the source cannot be read.
        StorageError: the lake cannot be written.
    """
    _same_network(source, lake)
    if isinstance(source, DayFileSource):
        return source.backfill_day(lake, underlying, day)
    start, end = _known_range(source, day, now)
    mark = harvest_fingerprint(source, underlying, day, now)
    former = read_receipt(lake, STAGE, underlying, day.isoformat())
    there = snapshot_files(lake, underlying, day) or retained_snapshots(lake, underlying, day)
    if former is not None and former.fingerprint == mark and len(there) >= former.counts["snapshots"]:
        return former
    _write_all(lake, source.snapshots(underlying, start, end))
    return _leave_receipt(source, lake, underlying, day, (start, end), mark, rows_by_snapshot(lake, underlying, day))


def harvest_latest(source: Source, lake: Lake, underlying: str, *, now: dt.datetime | None = None) -> Receipt | None:
    """Write the newest snapshot of a live source and bring today's series up to `now`.

    Returns:
        Today's receipt with the snapshot counted, or None where the source had nothing to give.

    Raises:
        DataError: networks differ or the source is not live.
        StorageError: the lake cannot be written.
    """
    _same_network(source, lake)
    now = now or dt.datetime.now(dt.UTC)
    table = source.latest(underlying, now)
    if table is None or table.num_rows == 0:
        return None
    write_snapshot(lake, table)
    day = table["snapshot"][0].as_py().date()
    former = read_receipt(lake, STAGE, underlying, day.isoformat())
    rows_of = rows_by_snapshot(lake, underlying, day)
    mark = fingerprint(HARVEST_VERSION, "live", former.fingerprint if former else None, rows_of)
    if former is not None and rows_of == former.details["rows_of"]:
        mark = former.fingerprint
    return _leave_receipt(source, lake, underlying, day, _known_range(source, day, now), mark, rows_of)


def live_receipt(lake: Lake, underlying: str, day: dt.date) -> Receipt:
    """What live harvesters have written of a day so far: counts of `snapshots`, `rows`, `bytes`. It is not kept: the day is not over.

    Raises:
        DataError: a file is damaged.
        StorageError: the lake cannot be read.
    """
    rows_of = rows_by_snapshot(lake, underlying, day)
    size = sum(file.bytes for file in snapshot_files(lake, underlying, day))
    counts = {"snapshots": len(rows_of), "rows": sum(rows_of.values()), "bytes": size}
    return Receipt(STAGE, underlying, day.isoformat(), fingerprint("live", rows_of), counts, (), {"rows_of": rows_of})


def _write_all(lake: Lake, snapshots: Iterator[pa.Table]) -> None:
    """Write snapshots while the next ones are made, a few at a time in memory."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="harvest") as writers:
        pending: deque[Future[FileRecord]] = deque()
        for table in snapshots:
            pending.append(writers.submit(write_snapshot, lake, table, replace=True))
            if len(pending) > _WRITES_AHEAD:
                pending.popleft().result()
        for write in pending:
            write.result()


def _leave_receipt(
    source: Source,
    lake: Lake,
    underlying: str,
    day: dt.date,
    known: tuple[dt.datetime, dt.datetime],
    mark: str,
    rows_of: dict[str, int],
) -> Receipt:
    """Write the day's series, then the receipt that counts what of the day is in the lake."""
    counts = {
        "snapshots": len(rows_of),
        "rows": sum(rows_of.values()),
        "bytes": sum(file.bytes for file in snapshot_files(lake, underlying, day)),
        **_write_series(source, lake, underlying, day, known),
    }
    details = {"source": source.name, "interval_seconds": source.interval(underlying).total_seconds(), "rows_of": rows_of}
    receipt = Receipt(STAGE, underlying, day.isoformat(), mark, counts, (), details)
    write_receipt(lake, receipt)
    return receipt


def _write_series(source: Source, lake: Lake, underlying: str, day: dt.date, known: tuple[dt.datetime, dt.datetime]) -> dict[str, int]:
    start, end = known
    tables: dict[SeriesName, pa.Table] = {
        "prices": source.prices(underlying, start, end),
        "dvol": source.dvol(underlying, start, end),
        "funding": source.funding(underlying, start, end),
    }
    for name, table in tables.items():
        if table.num_rows:
            write_series(lake, name, underlying, day, table)
    return {name: table.num_rows for name, table in tables.items()}


def _known_range(source: Source, day: dt.date, now: dt.datetime | None) -> tuple[dt.datetime, dt.datetime]:
    start, end = day_range(day)
    return start, max(start, min(end, now or dt.datetime.now(dt.UTC))) if source.live else end


def _same_network(source: Source, lake: Lake) -> None:
    if source.network != lake.network:
        raise DataError(
            f"source {source.name!r} is of network {source.network}, the lake of {lake.network}: their quotes never mix",
            place=lake.root,
            remedy="set OPTIONS_AGENT_NETWORK to the source's network",
        )

"""Every gap of everything harvested, of all three kinds, kept as a receipt for the tables that people read."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from options_agent.errors import DataError
from options_agent.lake.receipts import Receipt, fingerprint, read_receipt, write_receipt
from options_agent.lake.retained import retained_days
from options_agent.lake.store import days
from options_agent.quality.gaps import GAP_SCHEMA, SCHEDULED, find_gaps, gap_table, merged_view
from options_agent.quality.listing_gaps import find_listing_gaps

if TYPE_CHECKING:
    import pyarrow as pa

    from options_agent.lake.store import Lake
    from options_agent.settings import Settings

STAGE: Final = "gaps"
PARTITION: Final = "all"
#: So many expiries and strikes are listed in a receipt, the newest; all are counted.
_MOST_LISTED: Final = 5_000
_TIMES: Final = ("expiry", "opened_at", "closed_at", "first_missing", "last_missing")


def all_gaps(
    lake: Lake, underlying: str, start: dt.date, end: dt.date, *, settings: Settings | None = None, now: dt.datetime | None = None
) -> pa.Table:
    """Missing intervals, expiries and strikes that touch the days `start` to `end`, inclusive, with their causes.

    Args:
        lake, underlying, start, end, settings, now: as for `gaps.find_gaps`.

    Returns:
        `gaps.GAP_SCHEMA` rows of all kinds, by when they opened.

    Raises:
        DataError: a compacted day or a file of events is damaged.
        StorageError: the lake cannot be read.
    """
    intervals = find_gaps(lake, underlying, start, end, settings=settings, now=now)
    return gap_table([*intervals.to_pylist(), *find_listing_gaps(lake, underlying, start, end).to_pylist()])


def gaps_receipt(lake: Lake, underlying: str, settings: Settings | None = None, *, now: dt.datetime | None = None) -> Receipt:
    """Find the gaps of an underlying over all its days, write and return them.

    Counts are of the lake as a whole, where regions stand in for each other: `gaps` and `missing` are intervals and the snapshots
    they lack, `expiries` and `strikes` findings of those kinds. `details["gaps"]` is the list, of every region and of `any`, newest
    last; `details["causes"]` snapshots missing by cause; `details["archived"]` the days whose raw rows lie in the archive only. What
    was found on those days before they were archived is kept. With `now`, a source that is harvested live only and has fallen silent
    has an open gap.

    Raises:
        DataError: nothing was ever harvested, or a compacted day is damaged.
        StorageError: the lake cannot be listed or written.
    """
    retained = {day for day, one in retained_days(lake, underlying).items() if "raw" in one.layers}
    present = sorted({*days(lake, "raw", underlying), *retained})
    if not present:
        raise DataError(f"nothing of {underlying} was ever harvested", place=lake.root, remedy="harvest it first")
    silence = now if settings is not None and settings.source in SCHEDULED else None
    found = all_gaps(lake, underlying, present[0], present[-1], settings=settings, now=silence)
    found = gap_table([*found.to_pylist(), *_kept(lake, underlying, retained)])
    lake_wide = Counter(gap["kind"] for gap in merged_view(found).to_pylist())
    missing: Counter[str] = Counter()
    for gap in merged_view(found).to_pylist():
        if gap["kind"] == "interval":
            missing[gap["cause"]] += gap["missing"]
    counts = {
        "gaps": lake_wide["interval"],
        "missing": missing.total(),
        "expiries": lake_wide["expiry"],
        "strikes": lake_wide["strike"],
    }
    rows = [_plain(gap) for gap in found.to_pylist()]
    listed = [row for row in rows if row["kind"] == "interval"] + [row for row in rows if row["kind"] != "interval"][-_MOST_LISTED:]
    listed.sort(key=lambda row: str(row["first_missing"]))
    details = {"gaps": listed, "causes": dict(missing), "archived": [day.isoformat() for day in sorted(retained)]}
    receipt = Receipt(STAGE, underlying, PARTITION, fingerprint(details), counts, (), details)
    write_receipt(lake, receipt)
    return receipt


def gaps_in(rows: list[dict[str, Any]]) -> pa.Table:
    """The table of gaps that a receipt lists."""
    return gap_table([row | {name: row[name] and dt.datetime.fromisoformat(row[name]) for name in _TIMES} for row in rows])


def _plain(gap: dict[str, Any]) -> dict[str, Any]:
    return gap | {name: gap[name] and gap[name].isoformat() for name in _TIMES}


def _kept(lake: Lake, underlying: str, retained: set[dt.date]) -> list[dict[str, Any]]:
    """Contracts found missing on days that have been archived since: their rows are no longer here to be looked at."""
    former = read_receipt(lake, STAGE, underlying, PARTITION) if retained else None
    if former is None:
        return []
    rows = [row for row in former.details["gaps"] if row.keys() == set(GAP_SCHEMA.names) and row["kind"] != "interval"]
    return [gap for gap in gaps_in(rows).to_pylist() if gap["last_missing"].date() in retained]

"""Two harvesters saw the same snapshot: which row of an instrument counts.

The rule, per (snapshot, instrument, source): the most complete row (two-sided before one-sided before no side);
then the row with a mark; then one known within two minutes of its grid time before a later one (a region that lags
must not win by lagging); then the latest `ts`; then the region whose name sorts first. Whole rows win: sides of two
regions are never mixed, for such a market may never have stood.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

#: Columns `merge_regions` looks at.
MERGE_COLUMNS: Final = ("ts", "snapshot", "instrument", "bid", "ask", "mark", "source", "region")
#: Microseconds after its grid time up to which a row counts as known in time.
IN_TIME: Final = 120_000_000


def merge_regions(table: pa.Table) -> pa.Table:
    """One row per (snapshot, instrument, source), by the rule above; the order of the kept rows is the table's.

    Args:
        table: rows with at least `MERGE_COLUMNS`.
    """
    if not len(table):
        return table
    sides = pc.add(pc.cast(pc.is_valid(table["bid"]), pa.int8()), pc.cast(pc.is_valid(table["ask"]), pa.int8()))
    marked = pc.cast(pc.is_valid(table["mark"]), pa.int8())
    known, grid = (pc.cast(table[name], pa.int64()) for name in ("ts", "snapshot"))
    in_time = pc.cast(pc.less_equal(pc.subtract(known, grid), IN_TIME), pa.int8())
    keys = pa.table(
        {
            "snapshot": table["snapshot"],
            "instrument": table["instrument"],
            "source": table["source"],
            "completeness": pc.add(pc.multiply(sides, pa.scalar(2, pa.int8())), marked),
            "in_time": in_time,
            "ts": table["ts"],
            "region": table["region"],
            "row": pa.array(range(len(table)), pa.int64()),
        }
    )
    best_last = keys.take(
        pc.sort_indices(
            keys,
            sort_keys=[
                *[("completeness", "ascending"), ("in_time", "ascending"), ("ts", "ascending")],
                *[("region", "descending"), ("row", "descending")],
            ],
        )
    )
    groups = best_last.group_by(["snapshot", "instrument", "source"], use_threads=False).aggregate([("row", "last")])
    kept = groups["row_last"].combine_chunks()
    return table.take(kept.take(pc.sort_indices(kept)))

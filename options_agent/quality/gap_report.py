"""The gaps of everything harvested, kept as a receipt for the tables that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from options_agent.errors import DataError
from options_agent.lake.receipts import Receipt, fingerprint, write_receipt
from options_agent.lake.retained import retained_days
from options_agent.lake.store import days
from options_agent.quality.gaps import find_gaps

if TYPE_CHECKING:
    from options_agent.lake.store import Lake

STAGE: Final = "gaps"
PARTITION: Final = "all"


def gaps_receipt(lake: Lake, underlying: str) -> Receipt:
    """Find the gaps of an underlying over all its days, write and return them: counts `gaps`, `missing`; `details["gaps"]` is the list.

    Raises:
        DataError: nothing was ever harvested, or a compacted day is damaged.
        StorageError: the lake cannot be listed or written.
    """
    present = sorted({*days(lake, "raw", underlying), *retained_days(lake, underlying)})
    if not present:
        raise DataError(f"nothing of {underlying} was ever harvested", place=lake.root, remedy="harvest it first")
    rows = find_gaps(lake, underlying, present[0], present[-1]).to_pylist()
    listed = [
        row | {"opened_at": row["opened_at"].isoformat(), "closed_at": row["closed_at"] and row["closed_at"].isoformat()} for row in rows
    ]
    counts = {"gaps": len(rows), "missing": sum(row["missing"] for row in rows)}
    receipt = Receipt(STAGE, underlying, PARTITION, fingerprint(listed), counts, (), {"gaps": listed})
    write_receipt(lake, receipt)
    return receipt

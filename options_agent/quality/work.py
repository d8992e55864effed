"""Whether a day's work, from harvest to archive, stands as it would come out now: asked before a run is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.lake.archive import open_archive
from options_agent.lake.receipts import read_receipt, unchanged
from options_agent.quality.judge import judge_fingerprint

if TYPE_CHECKING:
    import datetime as dt

    from options_agent.lake.receipts import Receipt
    from options_agent.lake.store import Lake
    from options_agent.settings import Settings


def day_is_done(lake: Lake, underlying: str, day: dt.date, settings: Settings, harvest_mark: str) -> bool:
    """True where harvest, verdict and archive of the day have receipts that answer today's data, settings and rules.

    Args:
        harvest_mark: what `market.harvest.harvest_fingerprint` says of the day now.
    """
    partition = day.isoformat()
    harvested = read_receipt(lake, "harvest", underlying, partition)
    if harvested is None or harvested.fingerprint != harvest_mark:
        return False
    judged = read_receipt(lake, "quality", underlying, partition)
    if judged is None or not unchanged(lake, judged, judge_fingerprint(lake, underlying, day, settings=settings)):
        return False
    archived = read_receipt(lake, "archive", underlying, partition)
    return archived is not None and archived.details["archive"] == open_archive(settings).files.url and _hashes(archived) == _hashes(judged)


def _hashes(receipt: Receipt) -> dict[str, str]:
    return {record.path: record.sha256 for record in receipt.files}

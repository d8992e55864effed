"""Whether a day's work, from harvest to archive, stands as it would come out now: asked before a run is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from options_agent.lake.receipts import read_receipt, unchanged
from options_agent.market.harvest import harvest_fingerprint
from options_agent.quality.judge import judge_fingerprint

if TYPE_CHECKING:
    import datetime as dt

    from options_agent.lake.store import Lake
    from options_agent.market.sources import Source
    from options_agent.settings import Settings


def day_is_done(lake: Lake, source: Source, underlying: str, day: dt.date, settings: Settings) -> bool:
    """True where harvest, verdict and archive of the day have receipts that answer today's data, settings and rules."""
    partition = day.isoformat()
    harvested = read_receipt(lake, "harvest", underlying, partition)
    if harvested is None or harvested.fingerprint != harvest_fingerprint(source, underlying, day):
        return False
    judged = read_receipt(lake, "quality", underlying, partition)
    if judged is None or not unchanged(lake, judged, judge_fingerprint(lake, underlying, day, settings=settings)):
        return False
    archived = read_receipt(lake, "archive", underlying, partition)
    return archived is not None and archived.written_at >= judged.written_at

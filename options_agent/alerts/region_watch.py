"""Regions of a live source watched against each other: an alert while one lags, lacks snapshots or tells other marks."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from options_agent.alerts.notify import close_alert, is_open, open_alert
from options_agent.quality.regions import compare_regions
from options_agent.settings import LIVE_SOURCES

if TYPE_CHECKING:
    from options_agent.lake.store import Lake
    from options_agent.quality.regions import Disagreement
    from options_agent.settings import Settings


def recent_disagreements(lake: Lake, settings: Settings, now: dt.datetime) -> list[Disagreement]:
    """How regions of the configured source differ in the last `regions.watched_intervals` grid times, all underlyings.

    Grid times within the grace of `alerts.gap_grace_minutes` are left out: some region may still be writing.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read.
    """
    interval = dt.timedelta(minutes=settings.live_interval_minutes)
    until = now - dt.timedelta(minutes=settings.alerts.gap_grace_minutes)
    since = until - settings.regions.watched_intervals * interval
    found: list[Disagreement] = []
    for underlying in settings.underlyings:
        for day in sorted({since.date(), until.date()}):
            found += compare_regions(lake, underlying, day, settings.regions, since=since, until=until)
    return [one for one in found if one.source == settings.source]


def watch_regions(lake: Lake, settings: Settings, now: dt.datetime) -> list[Disagreement]:
    """Open alert `regions/{underlying}/{source}` while the regions of a live source differ, close it when they agree again.

    Raises:
        DataError: a file is damaged.
        StorageError: a file cannot be read, or the state of alerts not kept.
    """
    if settings.source not in LIVE_SOURCES:
        return []
    found = recent_disagreements(lake, settings, now)
    for underlying in settings.underlyings:
        key, mine = f"regions/{underlying}/{settings.source}", [one for one in found if one.underlying == underlying]
        if mine:
            title = f"{settings.network}: regions differ on {underlying} from {settings.source}"
            body = "\n".join([*map(str, mine), "Readers get one best row a contract; look at the region that is named most."])
            open_alert(key, title, body, "warning", settings, now=now)
        elif is_open(key, settings):
            title = f"{settings.network}: regions agree again on {underlying} from {settings.source}"
            minutes = settings.regions.watched_intervals * settings.live_interval_minutes
            close_alert(key, title, f"Nothing differed in the last {minutes} minutes.", settings, now=now)
    return found

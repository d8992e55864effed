"""What is watched: that snapshots keep coming, and that runs end well. Called by the orchestrator's sensors.

A recorded source and the lake read back have an end; only live sources are watched for gaps.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from options_agent.alerts.notify import Delivery, close_alert, open_alert, send
from options_agent.alerts.state import AlertState
from options_agent.quality.freshness import freshness
from options_agent.quality.gaps import ANY_REGION, find_gaps, merged_view
from options_agent.settings import LIVE_SOURCES

if TYPE_CHECKING:
    from options_agent.lake.store import Lake
    from options_agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Watched:
    """How one underlying and source stands. `newest` is None where nothing was ever harvested."""

    underlying: str
    source: str
    newest: dt.datetime | None
    overdue: dt.timedelta
    state: Literal["fresh", "opened", "open", "closed"]
    delivery: Delivery | None = None


def watch_gaps(lake: Lake, settings: Settings, now: dt.datetime) -> list[Watched]:
    """Open an alert for every underlying whose newest snapshot is overdue, close it when snapshots come again.

    Overdue is later than `live_interval_minutes` + `alerts.gap_grace_minutes` after the newest snapshot, and as long
    after the watch first began: a desk that has just been set up gets one interval before it is told off. One notice
    when a gap opens, none while it stays, one when it closes; restarts change nothing.

    Args:
        lake: raw snapshots.
        settings: underlyings, source, intervals, channels.
        now: the present, UTC-aware.

    Returns:
        One entry per underlying; empty where the source is not live.

    Raises:
        StorageError: the lake cannot be listed, or the state of alerts not kept.
    """
    if settings.source not in LIVE_SOURCES:
        return []
    interval = dt.timedelta(minutes=settings.live_interval_minutes)
    allowed = interval + dt.timedelta(minutes=settings.alerts.gap_grace_minutes)
    state = AlertState(settings.state_dir)
    open_now = {alert.key: alert for alert in state.open_alerts()}
    found = [one for one in freshness(lake, settings, now) if one.source == settings.source and one.region == ANY_REGION]
    newest_of = {one.underlying: one.newest for one in found}
    watched = []
    for underlying in settings.underlyings:
        key = f"gap/{underlying}/{settings.source}"
        newest = newest_of.get(underlying)
        began = state.first_time(key, now)
        overdue = now - max(newest or began, began) - allowed
        if overdue > dt.timedelta():
            delivery = open_alert(key, *_opening(underlying, settings, newest, now), "warning", settings, now=now, details=_since(newest))
            watched.append(Watched(underlying, settings.source, newest, overdue, "opened" if delivery.news else "open", delivery))
        elif key in open_now and newest is not None:
            last_good = open_now[key].details.get("last_good")
            since = dt.datetime.fromisoformat(last_good) if last_good else None
            delivery = close_alert(key, *_closing(lake, underlying, settings, since, newest, interval), settings, now=now)
            watched.append(Watched(underlying, settings.source, newest, dt.timedelta(), "closed", delivery))
        else:
            watched.append(Watched(underlying, settings.source, newest, max(overdue, dt.timedelta()), "fresh"))
    return watched


def run_failed(job: str, run_id: str, error: str, url: str | None, settings: Settings) -> Delivery:
    """Say once that a run failed, or that a blocking check of it did.

    Args:
        job: the job's name.
        run_id: the orchestrator's; the same run is said once.
        error: what happened; its first lines are sent.
        url: the run's page, where there is one.
        settings: channels.

    Raises:
        StorageError: the state of alerts cannot be kept.
    """
    lines = [line for line in error.strip().splitlines() if line.strip()][:6]
    body = "\n".join([*lines, f"Run {run_id}", *([url] if url else [])])
    return send(f"run/{run_id}", f"{settings.network}: {job} failed", body, "failure", settings)


def _since(newest: dt.datetime | None) -> dict[str, str]:
    return {"last_good": newest.isoformat()} if newest else {}


def _opening(underlying: str, settings: Settings, newest: dt.datetime | None, now: dt.datetime) -> tuple[str, str]:
    title = f"{settings.network}: no new {underlying} quotes from {settings.source}"
    last = f"The last snapshot is of {newest:%Y-%m-%d %H:%M} UTC" if newest else "There has never been one"
    return title, (
        f"{last}; one is due every {settings.live_interval_minutes} minutes and it is {now:%Y-%m-%d %H:%M} UTC. "
        "Look at the harvest schedule and its last run; `options-agent doctor` says what is not running."
    )


def _closing(
    lake: Lake, underlying: str, settings: Settings, since: dt.datetime | None, newest: dt.datetime, interval: dt.timedelta
) -> tuple[str, str]:
    title = f"{settings.network}: {underlying} quotes from {settings.source} are back"
    if since is None:
        return title, f"The first snapshot is of {newest:%Y-%m-%d %H:%M} UTC."
    gaps = merged_view(find_gaps(lake, underlying, since.date(), newest.date(), interval=interval)).to_pylist()
    hole = next((gap for gap in gaps if gap["opened_at"] == since and gap["source"] == settings.source), None)
    if hole is None:
        return title, f"The newest snapshot is of {newest:%Y-%m-%d %H:%M} UTC; the snapshots in between came after all."
    return title, (
        f"Nothing from {hole['opened_at']:%Y-%m-%d %H:%M} to {hole['closed_at']:%Y-%m-%d %H:%M} UTC: {hole['missing']} snapshots lost; "
        f"cause: {hole['cause']}. "
        "A live chain cannot be had again; backtests over it go on without them."
    )

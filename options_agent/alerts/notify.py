"""Opening, closing and sending alerts.

Delivery is at least once: a notice leaves the outbox after its channel took it, so a kill in between says it twice
(with the same number) rather than never. A channel that fails keeps its notices and gets them, in order, with a later
call; the caller never fails for it, but is told.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from options_agent.alerts.channels import channels_of
from options_agent.alerts.state import AlertState, Severity
from options_agent.errors import ServiceError

if TYPE_CHECKING:
    from options_agent.settings import Settings

log = logging.getLogger("options_agent.alerts")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a call did: whether there was news, how many notices channels took, how many wait, and why."""

    news: bool
    sent: int
    pending: int
    failures: tuple[str, ...] = ()


def open_alert(
    key: str,
    title: str,
    body: str,
    severity: Severity,
    settings: Settings,
    *,
    now: dt.datetime | None = None,
    details: dict[str, Any] | None = None,
) -> Delivery:
    """Say once that something is wrong; while `key` stays open, saying it again sends nothing.

    Args:
        key: what is wrong, for instance `gap/BTC/synthetic`; the same key is closed later.
        title: one line.
        body: a few lines: the thing, the place, the remedy.
        severity: info, warning or failure.
        settings: channels and where state is kept.
        now: when; the clock by default.
        details: JSON kept with the open alert.

    Raises:
        StorageError: the state cannot be kept. Channels' failures never raise.
    """
    now = now or dt.datetime.now(dt.UTC)
    state = AlertState(settings.state_dir)
    news = state.open(key, severity, title, body, _ids(settings), now, details or {})
    return _deliver(state, settings, now, news=news)


def close_alert(key: str, title: str, body: str, settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """Say once that what `key` names is over; nothing where it was not open.

    Raises:
        StorageError: the state cannot be kept.
    """
    now = now or dt.datetime.now(dt.UTC)
    state = AlertState(settings.state_dir)
    news = state.close(key, title, body, _ids(settings), now)
    return _deliver(state, settings, now, news=news)


def send(key: str, title: str, body: str, severity: Severity, settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """Say once that something happened which does not last, a failed run for instance; the same key again sends nothing.

    Raises:
        StorageError: the state cannot be kept.
    """
    now = now or dt.datetime.now(dt.UTC)
    state = AlertState(settings.state_dir)
    news = state.record(key, severity, title, body, _ids(settings), now)
    return _deliver(state, settings, now, news=news)


def deliver_pending(settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """Try again what channels did not take before.

    Raises:
        StorageError: the state cannot be kept.
    """
    return _deliver(AlertState(settings.state_dir), settings, now or dt.datetime.now(dt.UTC), news=False)


def is_open(key: str, settings: Settings) -> bool:
    """Whether an alert of this key is open."""
    return any(alert.key == key for alert in AlertState(settings.state_dir).open_alerts())


def _ids(settings: Settings) -> list[str]:
    return list(dict.fromkeys(channel.id for channel in channels_of(settings)))


def _deliver(state: AlertState, settings: Settings, now: dt.datetime, *, news: bool) -> Delivery:
    """Send what waits, oldest first; a channel that fails once is left alone for the rest of the call."""
    channels = {channel.id: channel for channel in channels_of(settings)}
    failures: dict[str, str] = {}
    sent = 0
    if dropped := state.forget(now):
        log.error("%d alert notices were never taken by their channel and are dropped", dropped)
    if not state.pending():
        return Delivery(news, 0, 0)
    with state.delivering():
        waiting = state.pending()
        for notice in waiting:
            channel = channels.get(notice.channel)
            if channel is None:
                log.warning("alert %r has no channel any more (its URL left the settings)", notice.title)
                state.done(notice)
                continue
            if notice.channel in failures:
                continue
            try:
                channel.send(notice)
            except ServiceError as error:
                failures[notice.channel] = str(error)
                state.failed(notice, str(error))
                log.warning("alert %r was not delivered: %s", notice.title, error)
            else:
                state.done(notice)
                sent += 1
        pending = len(state.pending())
    return Delivery(news, sent, pending, tuple(failures.values()))

"""Opening, closing and sending alerts.

Delivery is at least once: a notice leaves the outbox after its channel took it, so a kill in between says it twice
(with the same number) rather than never. A channel that fails keeps its notices and gets them, in order, with a later
call; the caller never fails for it, but is told. When and where something is told is in `rules`; what was held back on
purpose is told together (`digest`).
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from options_agent.alerts.channels import RefusedError
from options_agent.alerts.digest import digest
from options_agent.alerts.rules import RANK, RuleBook, due_at, rule_book
from options_agent.alerts.state import AlertState, Notice, When
from options_agent.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from options_agent.settings import AlertRule, Settings, Severity

log = logging.getLogger("options_agent.alerts")

#: How long a channel is left alone after its first, second, ... failure in a row.
PATIENCE: Final = tuple(dt.timedelta(seconds=s) for s in (0, 0, 60, 120, 300, 600, 1_800, 3_600))


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
        key: what is wrong, for instance `gap/BTC/synthetic`; the same key is closed later. Rules match it.
        title: one line.
        body: a few lines: the thing, the place, the remedy.
        severity: info, warning or failure; a rule may say otherwise.
        settings: rules, routes and where state is kept.
        now: when; the clock by default.
        details: JSON kept with the open alert.

    Raises:
        SettingsError: the rules cannot be read.
        StorageError: the state cannot be kept. Channels' failures never raise.
    """
    now, book, state = now or dt.datetime.now(dt.UTC), rule_book(settings), AlertState(settings.state_dir)
    rule = book.rule_for(key)
    severity = rule.severity or severity
    when = _when(state, rule, key, severity, now)
    news = state.open(key, severity, title, body, dict.fromkeys(book.routes_of(rule), when), now, details or {})
    return _deliver(state, settings, book, now, news=news)


def close_alert(key: str, title: str, body: str, settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """Say once that what `key` names is over, to whoever its opening was for; nothing where it was not open.

    Raises:
        SettingsError: the rules cannot be read.
        StorageError: the state cannot be kept.
    """
    now, book, state = now or dt.datetime.now(dt.UTC), rule_book(settings), AlertState(settings.state_dir)
    opened = next((alert for alert in state.open_alerts() if alert.key == key), None)
    when = _when(state, book.rule_for(key), key, opened.severity if opened else "info", now)
    news = state.close(key, title, body, when, now)
    return _deliver(state, settings, book, now, news=news)


def send(key: str, title: str, body: str, severity: Severity, settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """Say once that something happened which does not last, a failed run for instance; the same key again sends nothing.

    Raises:
        SettingsError: the rules cannot be read.
        StorageError: the state cannot be kept.
    """
    now, book, state = now or dt.datetime.now(dt.UTC), rule_book(settings), AlertState(settings.state_dir)
    rule = book.rule_for(key)
    severity = rule.severity or severity
    when = _when(state, rule, key, severity, now)
    news = state.record(key, severity, title, body, dict.fromkeys(book.routes_of(rule), when), now)
    return _deliver(state, settings, book, now, news=news)


def tick(settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """What time alone brings: alerts that stay open are escalated, what was held back is told, what failed is tried again.

    Raises:
        SettingsError: the rules cannot be read.
        StorageError: the state cannot be kept.
    """
    now, book, state = now or dt.datetime.now(dt.UTC), rule_book(settings), AlertState(settings.state_dir)
    news = False
    for alert in state.open_alerts():
        rule = book.rule_for(alert.key)
        if rule.escalate_minutes is None or state.silenced_until(alert.key, now):
            continue
        first = alert.opened_at + dt.timedelta(minutes=rule.escalate_minutes)
        again = alert.escalated_at + dt.timedelta(minutes=rule.repeat_minutes) if alert.escalated_at and rule.repeat_minutes else None
        if now < first or (alert.escalated_at is not None and (again is None or now < again)):
            continue
        minutes = round((now - alert.opened_at).total_seconds() / 60)
        routes = [name for name in (rule.escalate_to or book.routes_of(rule)) if name in book.channels]
        text = f"Open since {alert.opened_at:%Y-%m-%d %H:%M} UTC and nobody has ended it. `options-agent alerts silence` holds it back."
        title = f"still open after {minutes} min: {alert.title or alert.key}"
        news |= state.escalate(alert, title, text, dict.fromkeys(routes, When(now)), now)
    return _deliver(state, settings, book, now, news=news)


def deliver_pending(settings: Settings, *, now: dt.datetime | None = None) -> Delivery:
    """Try again what channels did not take before.

    Raises:
        SettingsError: the rules cannot be read.
        StorageError: the state cannot be kept.
    """
    return _deliver(AlertState(settings.state_dir), settings, rule_book(settings), now or dt.datetime.now(dt.UTC), news=False)


def is_open(key: str, settings: Settings) -> bool:
    """Whether an alert of this key is open."""
    return any(alert.key == key for alert in AlertState(settings.state_dir).open_alerts())


def _when(state: AlertState, rule: AlertRule, key: str, severity: Severity, now: dt.datetime) -> When:
    due = due_at(rule, severity, now)
    if (silenced := state.silenced_until(key, now)) is not None:
        due = max(due, silenced)
    return When(due, held=due > now, early=due == now + dt.timedelta(seconds=rule.group_seconds))


def _deliver(state: AlertState, settings: Settings, book: RuleBook, now: dt.datetime, *, news: bool) -> Delivery:
    """Send what is due, oldest first; a channel that fails once is left alone for the rest of the call, and then for longer."""
    failures: dict[str, str] = {}
    sent = 0
    if dropped := state.forget(now):
        log.error("%d alert notices were never taken by their channel and are dropped", dropped)
    if not state.pending():
        return Delivery(news, 0, 0)
    with state.delivering():
        resting = state.left_alone(now)
        for notice, parts in _messages(state, settings, now):
            channel = book.channels.get(notice.channel)
            if channel is None:
                log.warning("alert %r has no channel any more (it left the settings)", notice.title)
                _done(state, parts)
                continue
            if notice.channel in failures or notice.channel in resting:
                continue
            try:
                channel.send(notice)
            except RefusedError as error:
                log.error("alert %r was refused for good and is dropped: %s", notice.title, error)  # noqa: TRY400 - said whole
                _done(state, parts)
                failures[notice.channel] = str(error)
            except ServiceError as error:
                failures[notice.channel] = str(error)
                for part in parts:
                    state.failed(part, str(error))
                state.trouble(notice.channel, now, PATIENCE)
                log.warning("alert %r was not delivered: %s", notice.title, error)
            else:
                _done(state, parts)
                state.well(notice.channel)
                sent += len(parts)
        pending = len(state.pending())
    return Delivery(news, sent, pending, tuple(failures.values()))


def _messages(state: AlertState, settings: Settings, now: dt.datetime) -> Iterator[tuple[Notice, list[Notice]]]:
    """What is due now as messages, in the order it was queued: held notices of a channel as one, each other by itself.

    The first of a group to be due takes along those that came while it waited.
    """
    waiting = state.pending()
    due = [notice for notice in waiting if notice.due is None or notice.due <= now]
    ripe = {notice.channel for notice in due if notice.held}
    due = [notice for notice in waiting if notice.due is None or notice.due <= now or (notice.early and notice.channel in ripe)]
    held: dict[str, list[Notice]] = {}
    for notice in due:
        if notice.held:
            held.setdefault(notice.channel, []).append(notice)
    messages = [(notice, [notice]) for notice in due if not notice.held]
    messages += [(digest(parts, settings.network, RANK), parts) for parts in held.values()]
    yield from sorted(messages, key=lambda message: message[0].id)


def _done(state: AlertState, parts: list[Notice]) -> None:
    for part in parts:
        state.done(part)

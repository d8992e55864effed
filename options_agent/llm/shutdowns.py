"""When models and hosted fine-tuning end: a dated table of known ends, and what the server says of its own models; alarmed ahead."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from options_agent.alerts.notify import close_alert, open_alert
from options_agent.errors import ServiceError
from options_agent.llm.client import is_openai, openai_client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from options_agent.settings import Settings

AHEAD: Final = dt.timedelta(days=60)
#: When the table was last compared with the provider's announcements.
TABLE_OF: Final = dt.date(2026, 11, 23)


@dataclass(frozen=True, slots=True)
class Shutdown:
    """What ends, the day it does, and what to do. `models`: names that begin so are meant; empty for an offer as a whole."""

    what: str
    on: dt.date
    remedy: str
    models: tuple[str, ...] = ()


_OTHER: Final = "choose another model, and evaluate it before it decides"
KNOWN: Final = (
    Shutdown(
        "OpenAI's hosted fine-tuning",
        dt.date(2027, 1, 6),
        "train on the embedded server, or on another that speaks the protocol",
    ),
    Shutdown(
        "gpt-4o and gpt-4.1 snapshots and their fine-tunes",
        dt.date(2027, 1, 14),
        _OTHER,
        ("gpt-4o", "gpt-4.1", "ft:gpt-4o", "ft:gpt-4.1"),
    ),
)


def shutdowns(settings: Settings, models: Iterable[str] = ()) -> list[Shutdown]:
    """Ends that concern this desk, soonest first: of a hosted offer it uses, and of models it names.

    The table applies to the host it is about; a server's own `shutdown_date` of a model applies always.

    Raises:
        ServiceError: the server cannot be started or does not list its models.
    """
    from options_agent.llm.fine_tuning import told

    used = _used(settings, models)
    found = _known(settings, used)
    with told("list its models"):
        for model in openai_client(settings).models.list():
            ends = getattr(model, "shutdown_date", None)
            if ends and model.id in used:
                found.append(Shutdown(f"model {model.id}", _day(ends), _OTHER, (model.id,)))
    return sorted(found, key=lambda s: (s.on, s.what))


def _used(settings: Settings, models: Iterable[str]) -> set[str]:
    return {settings.language_model.model, *settings.language_model.models.values(), *models}


def _known(settings: Settings, used: set[str]) -> list[Shutdown]:
    """Ends of the table that concern the desk: none where it speaks to another host."""
    hosted = is_openai(settings.language_model)
    return [s for s in KNOWN if hosted and (not s.models or any(m.startswith(s.models) for m in used))]


def alarm_shutdowns(settings: Settings, models: Iterable[str] = (), *, now: dt.datetime | None = None) -> list[Shutdown]:
    """Open an alert for every end within `AHEAD` (a failure once it is past), close those no longer due; returns the due ones.

    Raises:
        ServiceError: the server does not list its models; the ends of the table are alarmed all the same.
        StorageError: the alerts' state cannot be kept.
    """
    now, used = now or dt.datetime.now(dt.UTC), _used(settings, models)
    try:
        ends = shutdowns(settings, used)
    except ServiceError:
        _alarm(settings, _known(settings, used), now)
        raise
    return _alarm(settings, ends, now)


def _alarm(settings: Settings, ends: Iterable[Shutdown], now: dt.datetime) -> list[Shutdown]:
    due = []
    for one in ends:
        key, left = f"shutdown/{one.what}", one.on - now.date()
        if left > AHEAD:
            close_alert(key, f"{one.what} ends later now", f"On {one.on}.", settings, now=now)
            continue
        due.append(one)
        past = left <= dt.timedelta(0)
        says = f"{one.what} {'ended' if past else 'ends'} on {one.on}" + ("" if past else f", in {left.days} days")
        open_alert(key, says, f"{one.remedy[0].upper()}{one.remedy[1:]}.", "failure" if past else "warning", settings, now=now)
    return due


def _day(value: object) -> dt.date:
    """A date as the wire has it: ISO text or seconds since 1970."""
    if isinstance(value, (int, float)):
        return dt.datetime.fromtimestamp(value, dt.UTC).date()
    return dt.date.fromisoformat(str(value)[:10])

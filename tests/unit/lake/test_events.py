"""What happened to a harvester is kept a day, a source and a region at a time, and read back by time."""

from __future__ import annotations

import datetime as dt

import pytest

from options_agent.errors import DataError
from options_agent.lake.events import KINDS, Event, event_path, events, record_event
from options_agent.lake.store import open_lake

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def lake(settings):
    return open_lake(settings)


def told(lake, **options) -> list[tuple[str, str, str]]:
    found = events(lake, NOON.date() - dt.timedelta(days=1), NOON.date() + dt.timedelta(days=1), **options)
    return [(event.kind, event.source, event.region) for event in found]


def test_every_kind_comes_back_as_it_went_in(lake) -> None:
    for n, kind in enumerate(KINDS):
        record_event(lake, "deribit", "eu1", Event(NOON + n * MINUTE, kind, "BTC" if n % 2 else None, f"detail {n}"))
    found = events(lake, NOON.date(), NOON.date())
    assert [event.kind for event in found] == list(KINDS)
    assert found[1] == Event(NOON + MINUTE, KINDS[1], "BTC", "detail 1", "deribit", "eu1")
    assert found[0].underlying is None


def test_runs_of_alive_are_one_line_that_moves_on(lake) -> None:
    record_event(lake, "deribit", "eu1", Event(NOON, "started"))
    for n in range(1, 5):
        record_event(lake, "deribit", "eu1", Event(NOON + n * MINUTE, "alive"))
    record_event(lake, "deribit", "eu1", Event(NOON + 5 * MINUTE, "disconnected"))
    record_event(lake, "deribit", "eu1", Event(NOON + 6 * MINUTE, "alive"))
    found = events(lake, NOON.date(), NOON.date())
    assert [(event.kind, (event.at - NOON) / MINUTE) for event in found] == [
        ("started", 0),
        ("alive", 4),
        ("disconnected", 5),
        ("alive", 6),
    ]


def test_days_are_inclusive_and_sources_and_regions_are_asked_for_by_name(lake) -> None:
    record_event(lake, "deribit", "eu1", Event(NOON + 24 * 60 * MINUTE, "stopped"))
    record_event(lake, "deribit", "us1", Event(NOON, "started"))
    record_event(lake, "synthetic", "eu1", Event(NOON - MINUTE, "alive"))
    assert told(lake) == [("alive", "synthetic", "eu1"), ("started", "deribit", "us1"), ("stopped", "deribit", "eu1")]
    assert told(lake, source="deribit") == [("started", "deribit", "us1"), ("stopped", "deribit", "eu1")]
    assert told(lake, region="eu1") == [("alive", "synthetic", "eu1"), ("stopped", "deribit", "eu1")]
    assert events(lake, NOON.date(), NOON.date())[-1].region == "us1"
    assert events(lake, NOON.date() - dt.timedelta(days=2), NOON.date() - dt.timedelta(days=1)) == []


def test_an_event_lies_on_its_day_of_utc(lake) -> None:
    tokyo = dt.timezone(dt.timedelta(hours=9))
    record_event(lake, "deribit", "jp1", Event(dt.datetime(2026, 2, 1, 3, tzinfo=tokyo), "started"))
    assert lake.files.read_or_none(event_path(NOON.date(), "deribit", "jp1")) is not None


def test_a_kind_nobody_knows_is_refused_and_a_damaged_file_is_named(lake) -> None:
    with pytest.raises(DataError, match="no event is called"):
        record_event(lake, "deribit", "eu1", Event(NOON, "tired"))
    lake.files.write(event_path(NOON.date(), "deribit", "eu1"), b'{"at": "soon"}\n')
    with pytest.raises(DataError, match="not a file of events"):
        events(lake, NOON.date(), NOON.date())

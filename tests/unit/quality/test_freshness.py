"""The last good snapshot per underlying, source and region: one answer for everybody who asks."""

from __future__ import annotations

import datetime as dt

import pytest

from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.store import open_lake, write_snapshot
from options_agent.lake.sweeps import with_sweep
from options_agent.quality.freshness import describe, freshness, worst
from options_agent.settings import load_settings
from tests.chains import chain

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def live(tmp_path):
    return load_settings(home=tmp_path / "home", source="deribit", network="synthetic", underlyings=("BTC",), region="eu1")


@pytest.fixture
def lake(live):
    return open_lake(live)


def harvest(lake, at=NOON, *, region="eu1", source="deribit", received: int | None = None):
    table = chain(at, contracts=10, source=source, region=region)
    if received is not None:
        names = table["instrument"].to_pylist()
        table = with_sweep(table.slice(0, received), expected=names, transport="http", started=at, ended=at)
    return write_snapshot(lake, table)


def states(lake, live, now=NOON) -> dict[str, tuple[str, float | None]]:
    """State and age in minutes by region."""
    return {one.region: (one.state, one.age and one.age / MINUTE) for one in freshness(lake, live, now)}


def test_nothing_harvested_is_never(lake, live) -> None:
    assert states(lake, live) == {"eu1": ("never", None), "any": ("never", None)}
    assert describe(freshness(lake, live, NOON)[0]) == "no good snapshot yet"


@pytest.mark.parametrize(("age", "state"), [(0, "fresh"), (20, "fresh"), (21, "late"), (140, "late"), (141, "stale"), (10_000, "stale")])
def test_fresh_late_and_stale_by_the_schedule(lake, live, age: int, state: str) -> None:
    harvest(lake)
    assert states(lake, live, NOON + age * MINUTE) == {"eu1": (state, age or dt.timedelta()), "any": (state, age or dt.timedelta())}


def test_a_region_stands_in_for_another(lake, live) -> None:
    harvest(lake, NOON - 60 * MINUTE)
    harvest(lake, NOON, region="us1")
    assert states(lake, live, NOON + 5 * MINUTE) == {"eu1": ("late", 65), "us1": ("fresh", 5), "any": ("fresh", 5)}
    assert worst(freshness(lake, live, NOON + 5 * MINUTE)) == "fresh"
    assert worst(freshness(lake, live, NOON + 25 * MINUTE)) == "late"


def test_a_snapshot_too_partial_or_unreadable_does_not_count(lake, live) -> None:
    harvest(lake, NOON - 30 * MINUTE, received=9)
    harvest(lake, NOON - 15 * MINUTE, received=8)
    torn = harvest(lake, NOON)
    lake.files.write(torn.path, lake.files.read(torn.path)[:-40])
    one = freshness(lake, live, NOON)[0]
    assert (one.newest, one.state, one.passed_over) == (NOON - 30 * MINUTE, "late", 2)
    assert describe(one) == ("last good snapshot 2026-01-31 11:30 UTC, 30 min ago (20 min allowed); 2 newer too partial or unreadable")


def test_compaction_changes_nothing(lake, live) -> None:
    harvest(lake, NOON - 30 * MINUTE, received=9)
    harvest(lake, NOON - 15 * MINUTE, received=8)
    before = freshness(lake, live, NOON)
    compact_raw_day(lake, "BTC", NOON.date())
    assert freshness(lake, live, NOON) == before


def test_only_partial_snapshots_are_never_good(lake, live) -> None:
    harvest(lake, NOON, received=3)
    one = freshness(lake, live, NOON)[0]
    assert (one.state, one.passed_over) == ("never", 1)


def test_a_region_silent_for_longer_than_a_week_is_given_up(lake, live) -> None:
    harvest(lake, NOON - dt.timedelta(days=8), region="old")
    harvest(lake, NOON)
    assert set(states(lake, live)) == {"eu1", "any"}
    write_snapshot(lake, chain(NOON - dt.timedelta(days=6), contracts=2, source="deribit", region="recent"))
    assert states(lake, live)["recent"][0] == "stale"


def test_of_a_source_with_an_end_nothing_new_is_expected(lake, live) -> None:
    harvest(lake, NOON, source="recorded")
    recorded = live.model_copy(update={"source": "recorded"})
    found = freshness(lake, recorded, NOON + dt.timedelta(days=400))
    assert [(one.source, one.region, one.state, one.allowed) for one in found] == [
        ("recorded", "eu1", "fresh", None),
        ("recorded", "any", "fresh", None),
    ]


def test_a_configured_live_source_that_never_wrote_is_told_beside_what_did(lake, live) -> None:
    harvest(lake, NOON, source="recorded")
    assert [(one.source, one.region, one.state) for one in freshness(lake, live, NOON)] == [
        ("deribit", "eu1", "never"),
        ("deribit", "any", "never"),
        ("recorded", "eu1", "fresh"),
        ("recorded", "any", "fresh"),
    ]

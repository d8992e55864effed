"""Missing intervals, from the names of raw snapshots and the schedule."""

from __future__ import annotations

import datetime as dt

import pytest

from options_agent.errors import DataError
from options_agent.lake.store import open_lake, write_snapshot
from options_agent.quality.gaps import GAP_SCHEMA, find_gaps, merged_view
from tests.chains import chain

MIDNIGHT = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = MIDNIGHT.date()


@pytest.fixture
def lake(settings):
    return open_lake(settings)


def harvest(lake, hours, **options) -> None:
    for hour in hours:
        write_snapshot(lake, chain(MIDNIGHT + hour * HOUR, contracts=2, **options))


def gaps(lake, start=DAY, end=DAY, **options) -> list[tuple[float, float | None, int]]:
    """Hours of opening and closing, and how many are missing."""
    table = find_gaps(lake, "BTC", start, end, **options)
    assert table.schema.equals(GAP_SCHEMA)
    hours = lambda at: None if at is None else (at - MIDNIGHT) / HOUR  # noqa: E731
    return [(hours(row["opened_at"]), hours(row["closed_at"]), row["missing"]) for row in table.to_pylist()]


def test_a_full_day_has_no_gap(lake) -> None:
    harvest(lake, range(24))
    assert gaps(lake) == []


def test_a_gap_names_its_last_and_next_good_snapshot_and_counts_the_missing(lake) -> None:
    harvest(lake, [0, 1, 2, 5, 6, 8])
    assert gaps(lake) == [(2, 5, 2), (6, 8, 1)]


def test_a_snapshot_up_to_half_an_interval_late_is_no_gap(lake) -> None:
    harvest(lake, [0, 1, 2.5, 3, 4])
    assert gaps(lake) == []


def test_a_hole_across_midnight_is_one_gap_seen_from_either_day(lake) -> None:
    harvest(lake, [20, 21, 22, 27, 28, 29])
    assert gaps(lake) == [(22, 27, 4)]
    assert gaps(lake, DAY + 24 * HOUR, DAY + 24 * HOUR) == [(22, 27, 4)]


def test_a_hole_over_whole_days_is_one_gap_seen_from_every_day_in_it(lake) -> None:
    harvest(lake, [22, 23, 72, 73])
    for days in (0, 1, 2, 3):
        day = DAY + dt.timedelta(days=days)
        assert gaps(lake, day, day, interval=HOUR) == [(23, 72, 48)]
    assert gaps(lake, DAY, DAY + dt.timedelta(days=3), interval=HOUR) == [(23, 72, 48)]


def test_the_interval_is_inferred_or_given(lake) -> None:
    harvest(lake, [0, 6, 12, 18, 36])
    assert gaps(lake) == [(18, 36, 2)]
    assert gaps(lake, interval=HOUR * 18) == []


def test_harvesters_are_judged_apart(lake) -> None:
    harvest(lake, [0, 1, 2, 3, 4])
    harvest(lake, [0, 1, 4], region="tokyo")
    table = find_gaps(lake, "BTC", DAY, DAY, interval=HOUR)
    assert table.select(["source", "region", "missing"]).to_pylist() == [{"source": "synthetic", "region": "tokyo", "missing": 2}]
    assert merged_view(table).num_rows == 0, "another region has them"


def test_a_silent_harvester_has_an_open_gap_once_it_is_more_than_half_an_interval_late(lake) -> None:
    harvest(lake, [0, 1, 2])
    assert gaps(lake, now=MIDNIGHT + 3.5 * HOUR) == []
    assert gaps(lake, now=MIDNIGHT + 4.6 * HOUR) == [(2, None, 2)]


def test_nothing_harvested_is_no_gap(lake) -> None:
    assert gaps(lake) == []


def test_an_interval_of_nothing_is_refused(lake) -> None:
    with pytest.raises(DataError, match="no grid"):
        find_gaps(lake, "BTC", DAY, DAY, interval=dt.timedelta())

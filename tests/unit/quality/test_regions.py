"""Regions compared: what one lacks, knows late or tells otherwise is found, and rows of two regions are no duplicates."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.alerts.notify import is_open
from options_agent.alerts.region_watch import watch_regions
from options_agent.lake.compaction import compact_raw_day
from options_agent.lake.merging import IN_TIME, merge_regions
from options_agent.lake.store import open_lake, read_range, write_snapshot
from options_agent.quality.judge import judge_day
from options_agent.quality.regions import compare_regions
from options_agent.settings import load_settings
from tests.chains import chain
from tests.unit.quality.market import rows, table

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
DAY = NOON.date()


@pytest.fixture
def live(tmp_path):
    return load_settings(home=tmp_path / "home", source="deribit", network="synthetic", underlyings=("BTC",), region="eu1")


@pytest.fixture
def lake(live):
    return open_lake(live)


def harvest(lake, region, quarters=range(6), *, known_after=3.0, spoil=None) -> None:
    for n in quarters:
        made = chain(NOON + n * QUARTER, contracts=12, source="deribit", region=region, known_after=known_after)
        if spoil:
            marks = [mark + spoil if i == 4 and mark is not None else mark for i, mark in enumerate(made["mark"].to_pylist())]
            made = made.set_column(made.schema.get_field_index("mark"), made.schema.field("mark"), pa.array(marks))
        write_snapshot(lake, made)


def told(lake, live, **options):
    found = compare_regions(lake, "BTC", DAY, live.regions, **options)
    return [(one.kind, one.region, one.other, one.count, one.compared) for one in found]


def test_regions_that_tell_the_same_agree_and_one_alone_does(lake, live) -> None:
    harvest(lake, "eu1")
    assert told(lake, live) == []
    harvest(lake, "us1", known_after=9.0)
    assert told(lake, live) == []


def test_snapshots_that_another_region_has_are_missing(lake, live) -> None:
    harvest(lake, "eu1")
    harvest(lake, "us1", [0, 1, 4, 5])
    harvest(lake, "jp1", [3, 4, 5])  # begun at the fourth: nothing before is expected of it
    assert told(lake, live) == [("missing", "us1", "eu1, jp1", 2, 6)]
    assert told(lake, live, since=NOON + 4 * QUARTER) == []


def test_a_region_that_wrote_yesterday_is_expected_all_day(lake, live) -> None:
    harvest(lake, "us1", [-96])
    harvest(lake, "eu1")
    assert told(lake, live) == [("missing", "us1", "eu1", 6, 6)]


def test_a_region_that_lags(lake, live) -> None:
    harvest(lake, "eu1")
    harvest(lake, "us1", known_after=200.0)
    assert told(lake, live) == [("lag", "us1", "", 6, 6)]
    assert "by up to 197 s" in str(compare_regions(lake, "BTC", DAY, live.regions)[0])


def test_marks_that_differ_by_more_than_both_thresholds(lake, live) -> None:
    harvest(lake, "eu1")
    harvest(lake, "us1", spoil=0.0019)
    assert told(lake, live) == []
    harvest(lake, "jp1", spoil=0.5)
    found = compare_regions(lake, "BTC", DAY, live.regions)
    assert [(one.kind, one.region, one.other, one.count, one.compared) for one in found] == [
        ("marks", "eu1", "jp1", 6, 72),
        ("marks", "jp1", "us1", 6, 72),
    ]
    assert found[0].worst == pytest.approx(0.5)


def test_compaction_changes_no_answer(lake, live) -> None:
    harvest(lake, "eu1")
    harvest(lake, "us1", [0, 1, 4, 5], known_after=200.0)
    harvest(lake, "jp1", spoil=0.5)
    windows = ({}, {"since": NOON + 2 * QUARTER}, {"until": NOON + QUARTER})
    before = [compare_regions(lake, "BTC", DAY, live.regions, **window) for window in windows]
    compact_raw_day(lake, "BTC", DAY)
    assert [compare_regions(lake, "BTC", DAY, live.regions, **window) for window in windows] == before
    assert {one.kind for one in before[0]} == {"missing", "lag", "marks"}


def test_the_alert_opens_once_and_closes_when_they_agree_again(lake, live) -> None:
    key, now = "regions/BTC/deribit", NOON + 5 * QUARTER + dt.timedelta(minutes=6)
    harvest(lake, "eu1")
    harvest(lake, "us1", [0, 1, 2, 4, 5])
    assert [one.kind for one in watch_regions(lake, live, now)] == ["missing"]
    assert is_open(key, live)
    for region in ("eu1", "us1"):
        harvest(lake, region, range(6, 14))
    assert watch_regions(lake, live, now + 8 * QUARTER) == []
    assert not is_open(key, live)


def test_rows_of_two_regions_are_not_quarantined_as_duplicates_and_readers_get_one_of_each(tmp_path) -> None:
    settings = load_settings(home=tmp_path / "home")
    lake = open_lake(settings)
    one = rows(NOON)
    for region in ("eu1", "us1"):
        write_snapshot(lake, table([row | {"region": region} for row in one]))
    receipt = judge_day(lake, "BTC", DAY, settings=settings)
    assert (receipt.counts["clean"], receipt.counts["quarantined"]) == (2 * len(one), 0)
    merged = read_range(lake, "clean", "BTC", DAY, DAY)
    assert sorted(merged["instrument"].to_pylist()) == sorted(row["instrument"] for row in one)
    assert set(merged["region"].to_pylist()) == {"eu1"}, "equal in everything, the name that sorts first"


SIDE = st.sampled_from([None, 0.01, 0.02])
KNOWN = st.one_of(st.integers(0, 3), st.integers(IN_TIME, IN_TIME + 3))
ROW = st.fixed_dictionaries({"known": KNOWN, "bid": SIDE, "ask": SIDE, "mark": SIDE})
REGIONS = st.dictionaries(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.integers(0, 2)), ROW, min_size=1, max_size=30)


def of_regions(cells) -> pa.Table:
    return pa.table(
        {
            "ts": pa.array([row["known"] for row in cells.values()], pa.int64()),
            "snapshot": pa.array([at for _, _, at in cells], pa.int64()),
            "instrument": [name for _, name, _ in cells],
            **{side: pa.array([row[side] for row in cells.values()], pa.float64()) for side in ("bid", "ask", "mark")},
            "source": ["deribit"] * len(cells),
            "region": [region for region, _, _ in cells],
        }
    )


def best(rows: list[dict]) -> dict:
    """The rule of the merge, plainly: sides, mark, in time, latest, then the first name."""
    sides = lambda row: (row["bid"] is not None) + (row["ask"] is not None)  # noqa: E731
    ordered = sorted(rows, key=lambda row: row["region"])
    return max(ordered, key=lambda row: (sides(row), row["mark"] is not None, row["ts"] - row["snapshot"] <= IN_TIME, row["ts"]))


def as_set(table: pa.Table) -> set:
    return {tuple(row.items()) for row in table.to_pylist()}


@hypothesis_settings(deadline=None)
@given(cells=REGIONS, order=st.randoms(use_true_random=False))
def test_the_merge_takes_the_best_row_whatever_the_order(cells, order) -> None:
    everything = of_regions(cells)
    shuffled = list(range(len(everything)))
    order.shuffle(shuffled)
    merged = merge_regions(everything.take(shuffled))
    assert as_set(merged) == as_set(merge_regions(everything))
    groups: dict = {}
    for row in everything.to_pylist():
        groups.setdefault((row["snapshot"], row["instrument"]), []).append(row)
    assert as_set(merged) == {tuple(best(rows).items()) for rows in groups.values()}
    assert as_set(merge_regions(merged)) == as_set(merged)


@hypothesis_settings(deadline=None)
@given(cells=REGIONS, killed=st.sampled_from("abcd"))
def test_killing_a_region_leaves_no_hole_that_another_could_fill_and_no_duplicate(cells, killed) -> None:
    everything = of_regions(cells)
    left = everything.filter(pc.not_equal(everything["region"], killed))
    merged = merge_regions(left)
    keys = [(row["snapshot"], row["instrument"]) for row in merged.to_pylist()]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(row["snapshot"], row["instrument"]) for row in left.to_pylist()}

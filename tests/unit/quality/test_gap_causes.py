"""Why a snapshot is missing: from what the harvester noted of it, else from what state it was in."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.lake.events import Event, record_event
from options_agent.lake.store import open_lake, set_aside, write_snapshot
from options_agent.quality.gap_causes import CAUSES, cause_in, diary_of, told_together
from options_agent.quality.gap_report import all_gaps, gaps_in, gaps_receipt
from options_agent.quality.gaps import find_gaps, merged_view
from options_agent.settings import load_settings
from tests.chains import chain

MIDNIGHT = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
DAY = MIDNIGHT.date()


@pytest.fixture
def live(tmp_path):
    return load_settings(home=tmp_path / "home", source="deribit", network="synthetic", live_interval_minutes=15)


@pytest.fixture
def lake(live):
    return open_lake(live)


def harvest(lake, quarters, region: str = "eu1") -> None:
    for n in quarters:
        write_snapshot(lake, chain(MIDNIGHT + n * QUARTER, contracts=2, source="deribit", region=region))


def note(lake, quarter: float, kind: str, detail: str = "", underlying: str | None = None, region: str = "eu1") -> None:
    record_event(lake, "deribit", region, Event(MIDNIGHT + quarter * QUARTER, kind, underlying, detail))


def causes(lake, live, **options) -> list[tuple[str, int, str]]:
    table = find_gaps(lake, "BTC", DAY, DAY, settings=live, **options)
    return [(row["cause"], row["missing"], row["detail"]) for row in table.to_pylist()]


def test_the_schedule_says_what_is_missing_and_not_the_typical_spacing(lake, live) -> None:
    harvest(lake, [0, 2, 4, 6])
    assert [missing for _, missing, _ in causes(lake, live)] == [1, 1, 1]


def test_a_harvester_killed_and_started_again_is_our_outage(lake, live) -> None:
    harvest(lake, [0, 1, 5, 6])
    for at, kind in ((-0.5, "started"), (1.01, "alive"), (4.9, "started"), (6.01, "alive")):
        note(lake, at, kind)
    assert causes(lake, live) == [("our outage", 3, "")]


def test_a_harvester_stopped_on_purpose_is_our_outage_too(lake, live) -> None:
    harvest(lake, [0, 1, 3])
    for at, kind in ((-0.5, "started"), (1.01, "alive"), (1.02, "stopped"), (2.9, "started"), (3.01, "alive")):
        note(lake, at, kind)
    assert causes(lake, live) == [("our outage", 1, "")]


def test_a_harvester_that_says_nothing_any_more_is_down(lake, live) -> None:
    harvest(lake, [0, 1])
    note(lake, -0.5, "started")
    note(lake, 1.01, "alive")
    assert causes(lake, live, now=MIDNIGHT + 4.2 * QUARTER) == [("our outage", 3, "")]


def test_maintenance_by_the_note_of_the_snapshot_or_by_the_span(lake, live) -> None:
    harvest(lake, [0, 1, 4, 7])
    note(lake, -0.5, "started")
    note(lake, 2.01, "maintenance_began")
    note(lake, 2.01, "snapshot_missed", f"{(MIDNIGHT + 2 * QUARTER).isoformat()}: maintenance", "BTC")
    note(lake, 3.01, "alive")
    note(lake, 4.01, "maintenance_ended")
    note(lake, 7.01, "alive")
    assert causes(lake, live) == [("maintenance", 2, ""), ("unknown", 2, "")]


def test_a_lost_connection_and_drained_credits(lake, live) -> None:
    harvest(lake, [0, 1, 3, 10, 12])
    note(lake, -0.5, "started")
    note(lake, 2.01, "disconnected", "socket closed")
    note(lake, 2.9, "connected")
    for n in range(4, 10):
        note(lake, n + 0.1, "snapshot_missed", f"{(MIDNIGHT + n * QUARTER).isoformat()}: the exchange did not answer: x", "BTC")
    note(lake, 11.01, "rate_limited")
    note(lake, 12.01, "alive")
    assert [cause for cause, _, _ in causes(lake, live)] == ["disconnected", "disconnected", "rate limited"]


def test_a_gap_of_several_causes_names_the_commonest_and_counts_all(lake, live) -> None:
    harvest(lake, [0, 1, 6])
    note(lake, -0.5, "started")
    for n in (2, 3):
        note(lake, n + 0.1, "snapshot_missed", f"{(MIDNIGHT + n * QUARTER).isoformat()}: maintenance", "BTC")
    note(lake, 4.1, "snapshot_missed", f"{(MIDNIGHT + 4 * QUARTER).isoformat()}: maintenance", "ETH")
    note(lake, 4.2, "stopped")
    note(lake, 5.9, "started")
    note(lake, 6.1, "alive")
    assert causes(lake, live) == [("maintenance", 4, "maintenance 2, our outage 1, unknown 1")]


def test_each_region_has_its_own_cause_and_any_names_them_all(lake, live) -> None:
    harvest(lake, [0, 1, 4, 5])
    harvest(lake, [0, 1, 2, 4, 5], region="us1")
    for region in ("eu1", "us1"):
        note(lake, -0.5, "started", region=region)
    note(lake, 1.01, "stopped")
    note(lake, 3.9, "started")
    note(lake, 3.1, "snapshot_missed", f"{(MIDNIGHT + 3 * QUARTER).isoformat()}: maintenance", "BTC", region="us1")
    for region in ("eu1", "us1"):
        note(lake, 5.01, "alive", region=region)
    table = find_gaps(lake, "BTC", DAY, DAY, settings=live)
    told = {row["region"]: (row["missing"], row["cause"], row["detail"]) for row in table.to_pylist()}
    assert told == {
        "eu1": (2, "our outage", ""),
        "us1": (1, "maintenance", ""),
        "any": (1, "maintenance", "eu1: our outage; us1: maintenance"),
    }
    assert merged_view(table)["missing"].to_pylist() == [1]


def test_a_snapshot_whose_file_was_set_aside_says_so(lake, live) -> None:
    harvest(lake, range(4))
    damaged = next(path for path in lake.files.find("raw/quotes") if "T003000Z" in path)
    set_aside(lake, damaged, "torn")
    assert causes(lake, live) == [("damaged file", 1, "")]


def test_a_region_given_up_days_ago_is_not_missed_and_a_silent_one_is(lake, live) -> None:
    harvest(lake, [0, 1], region="old")
    later = MIDNIGHT + dt.timedelta(days=8)
    for n in range(3):
        write_snapshot(lake, chain(later + n * QUARTER, contracts=2, source="deribit", region="eu1"))
    table = find_gaps(lake, "BTC", later.date(), later.date(), settings=live, now=later + 5 * QUARTER)
    assert [(row["region"], row["closed_at"]) for row in table.to_pylist() if row["opened_at"] >= later] == [("any", None), ("eu1", None)]
    assert "old" not in table["region"].to_pylist()


def test_a_receipt_counts_the_lake_as_a_whole_and_lists_every_region(lake, live) -> None:
    harvest(lake, [0, 1, 4])
    harvest(lake, [0, 1, 2, 4], region="us1")
    receipt = gaps_receipt(lake, "BTC", live)
    assert receipt.counts == {"gaps": 1, "missing": 1, "expiries": 0, "strikes": 0}
    assert [row["region"] for row in receipt.details["gaps"]] == ["eu1", "any", "us1"]
    assert receipt.details["causes"] == {"unknown": 1}
    assert gaps_in(receipt.details["gaps"]).equals(all_gaps(lake, "BTC", DAY, DAY, settings=live))


def test_a_silent_live_source_has_an_open_gap_in_the_receipt_and_others_have_none(lake, live) -> None:
    harvest(lake, [0, 1])
    for n in range(3):
        write_snapshot(lake, chain(MIDNIGHT + n * 4 * QUARTER, contracts=2, source="synthetic"))
    receipt = gaps_receipt(lake, "BTC", live, now=MIDNIGHT + 40 * QUARTER)
    assert [(row["source"], row["closed_at"], row["missing"]) for row in receipt.details["gaps"]] == [("deribit", None, 39)]


@given(st.text())
def test_whatever_a_harvester_says_is_one_of_the_causes(text: str) -> None:
    assert cause_in(text) in CAUSES


KINDS = st.sampled_from(["started", "stopped", "alive", "connected", "disconnected", "maintenance_began", "maintenance_ended"])


@given(st.lists(st.tuples(st.integers(0, 1_000), KINDS), max_size=30))
def test_a_harvester_is_never_in_a_span_that_ends_before_it_began(told) -> None:
    ordered = sorted(told, key=lambda pair: pair[0])
    diary = diary_of([Event(MIDNIGHT + dt.timedelta(minutes=n), kind) for n, kind in ordered])
    for spans in (diary.down, diary.maintenance, diary.disconnected):
        assert all(start <= end for start, end in spans)
        assert spans == sorted(spans)


def test_together_the_commonest_comes_first() -> None:
    assert told_together(["b", "a", "a"]) == ("a", "a 2, b 1")
    assert told_together(["a", "a"]) == ("a", "")
    assert told_together([]) == ("unknown", "")

"""Thresholds are learnt from before the month only, never above the fixed one, kept, told in reasons and part of the verdict's answer."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from options_agent.lake.receipts import read_receipt
from options_agent.lake.store import open_lake, read_day, write_snapshot
from options_agent.market.synthetic.source import SyntheticSource
from options_agent.quality.injection import inject
from options_agent.quality.judge import judge, judge_day, judge_fingerprint
from options_agent.quality.thresholds import FLOOR, STAGE, TENORS, Learnt, ensure_learnt, learn, learnt_before, tenor_of
from options_agent.settings import QualitySettings, SyntheticSettings
from tests.unit.quality.market import spoilt, table

STANDARD = QualitySettings()
MONTH = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
SOURCE = SyntheticSource(SyntheticSettings(defect_rate=0.0, outage_rate=0.0))


def chains(start: dt.datetime, hours: int, step: int = 1) -> list[pa.Table]:
    return list(SOURCE.snapshots("BTC", start, start + dt.timedelta(hours=hours)))[::step]


@pytest.fixture(scope="module")
def history() -> pa.Table:
    return pa.concat_tables(chains(MONTH - dt.timedelta(days=3), 72, 4)).combine_chunks()


def test_a_threshold_never_exceeds_the_fixed_one_nor_the_floor_and_few_rows_teach_nothing(history) -> None:
    learnt = learn(history, STANDARD, until=MONTH.date() - dt.timedelta(days=1))
    assert any(value is not None for value in learnt.points)
    assert all(value is None or value >= FLOOR for value in learnt.points)
    years = np.linspace(0.0, 2.0, 200)
    assert (learnt.at(years, STANDARD.smile_points) <= STANDARD.smile_points).all()
    few = learn(history.slice(0, 500), STANDARD, until=MONTH.date())
    assert set(few.points) == {None}
    assert few.told(0.1) == ""


def test_tenors_are_half_open_intervals_of_days() -> None:
    assert list(tenor_of(np.array([0.0, *TENORS, 1e4]) * 1.0001 / 365.0)) == [0, 1, 2, 3, 4, 5, 6, 6]


def test_a_share_of_bad_rows_in_history_makes_no_threshold_wider_than_the_fixed_one(history) -> None:
    bad = inject(history, "smile_outlier", 0.01, seed=1, settings=STANDARD).quotes
    clean, spoiled = (learn(some, STANDARD, until=MONTH.date()) for some in (history, bad))
    years = np.array([0.0, *TENORS]) / 365.0
    assert (spoiled.at(years, STANDARD.smile_points) <= STANDARD.smile_points).all()
    assert (np.abs(spoiled.at(years, 0.25) - clean.at(years, 0.25)) < 0.05).all()


def test_a_learnt_threshold_catches_what_the_fixed_one_cannot_and_the_reason_says_whence() -> None:
    def raised(row) -> None:
        row.update(mark_iv=row["mark_iv"] + 0.15, mark=None)

    quotes = table(spoilt(raised))
    learnt = {"BTC": Learnt((0.05,) * 7, (12_345,) * 7, "2026-01-30")}
    assert not judge(quotes, STANDARD).condemned.any()
    (row,) = judge(quotes, STANDARD, learnt=learnt).quarantined().to_pylist()
    assert row["rule"] == "smile_outlier"
    assert "smile_points 0.05 learnt from 12,345 rows up to 2026-01-30" in row["reason"]


def test_the_lake_teaches_once_from_days_before_the_month_and_a_verdict_answers_what_was_learnt(settings) -> None:
    lake, day = open_lake(settings), MONTH.date()
    for back in range(8, 0, -1):
        for snapshot in chains(MONTH - dt.timedelta(days=back), 24, 6):
            write_snapshot(lake, snapshot)
    for snapshot in chains(MONTH, 4):
        write_snapshot(lake, snapshot)
    off = settings.model_copy(update={"quality": QualitySettings(learn_thresholds=False)})
    assert learnt_before(lake, "BTC", day, settings=settings) is None
    before = judge_fingerprint(lake, "BTC", day, settings=settings)
    receipt = judge_day(lake, "BTC", day, settings=settings)
    kept = read_receipt(lake, STAGE, "BTC", "2026-02")
    assert kept is not None
    assert receipt.details["learnt"]["until"] == "2026-01-31"
    assert receipt.fingerprint != before
    assert judge_day(lake, "BTC", day, settings=settings) == receipt
    for snapshot in chains(MONTH - dt.timedelta(days=20), 24, 6):  # history that comes later changes nothing
        write_snapshot(lake, snapshot)
    assert ensure_learnt(lake, "BTC", day, settings=settings) == learnt_before(lake, "BTC", day, settings=settings)
    assert judge_day(lake, "BTC", day, settings=settings) == receipt
    assert ensure_learnt(lake, "BTC", day, settings=off) is None
    assert judge_day(lake, "BTC", day, settings=off).details["learnt"] is None
    assert len(read_day(lake, "clean", "BTC", day)) == receipt.counts["clean"]


def test_too_few_days_teach_nothing(settings) -> None:
    lake = open_lake(settings)
    for snapshot in chains(MONTH - dt.timedelta(days=2), 48, 6):
        write_snapshot(lake, snapshot)
    assert ensure_learnt(lake, "BTC", MONTH.date(), settings=settings) is None
    assert read_receipt(lake, STAGE, "BTC", "2026-02") is None

"""Runs cut to the time they share: exact edges by the last value known, nothing from outside, nothing counted twice."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.backtest.aligned import Range, common_range, cut, cut_equity, holes, lacking, spacing, tolerance
from options_agent.backtest.metrics import measure
from options_agent.backtest.saved_runs import SavedRun, load_run, times
from options_agent.quotes import UTC_US
from tests.unit.backtest.saved import saved
from tests.unit.backtest.worlds import random_world, weekly_call

HOUR = 3_600_000_000


def equity_of(hours: list[int], **columns: list[float]) -> pa.Table:
    n = len(hours)
    stamps = pa.array([h * HOUR for h in hours], pa.int64()).cast(UTC_US)
    values = {"equity_coin": [1.0 + i / 10 for i in range(n)], "equity_usd": [2.0 + i for i in range(n)], "index": [9e4] * n}
    counts = {"open_positions": [0] * n, "stale_marks": [0] * n}
    return pa.table({"ts": stamps, **values, **counts, **columns})


def run_of(hours: list[int], label: str = "A") -> SavedRun:
    return SavedRun(label, Path("x.json"), {"run": "0" * 12, "underlying": "BTC"}, equity_of(hours), None, None, None)


grids = st.lists(st.integers(0, 400), min_size=2, max_size=40, unique=True).map(sorted)


@given(grids, st.data())
def test_a_cut_begins_and_ends_where_it_says_with_the_values_then_known(hours: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(hours[0], hours[-1] - 1))
    end = data.draw(st.integers(start + 1, hours[-1]))
    whole = equity_of(hours)
    found = cut_equity(whole, Range(start * HOUR, end * HOUR))
    at = (times(found, "ts") // HOUR).tolist()
    assert at[0] == start
    assert at[-1] == end
    assert at == sorted({start, end, *(h for h in hours if start <= h <= end)})
    for row, hour in zip(found.to_pylist(), at, strict=True):
        last = max(n for n, h in enumerate(hours) if h <= hour)  # slow reference
        assert row["equity_usd"] == 2.0 + last


def test_a_row_carried_to_an_edge_moves_nothing_again() -> None:
    equity = equity_of([0, 10, 20, 30], funding=[1.0, 2.0, 4.0, 8.0], equity_delta=[1.0, 2.0, 4.0, 8.0])
    found = cut_equity(equity, Range(5 * HOUR, 25 * HOUR))
    assert found["funding"].to_pylist() == [0.0, 2.0, 4.0, 0.0]
    assert found["equity_delta"].to_pylist() == [1.0, 2.0, 4.0, 4.0]
    assert cut_equity(equity, Range(0, 30 * HOUR)).equals(equity)


@given(grids, grids)
def test_the_common_range_is_what_all_cover(first: list[int], second: list[int]) -> None:
    found = common_range([run_of(first), run_of(second, "B")])
    start, end = max(first[0], second[0]), min(first[-1], second[-1])
    if start >= end:
        assert found is None
    else:
        assert found == Range(start * HOUR, end * HOUR)


@given(grids, grids, st.integers(0, 30))
def test_what_another_lacks(mine: list[int], theirs: list[int], near: int) -> None:
    found = lacking(np.array(mine), np.array(theirs), near)
    assert found.tolist() == [min(abs(a - b) for b in theirs) > near for a in mine]
    assert lacking(np.array(mine), np.empty(0, np.int64), near).all()


def test_holes_are_steps_far_longer_than_the_usual() -> None:
    ts = np.array([0, 6, 12, 18, 40, 46, 52, 58]) * HOUR
    assert holes(ts, Range(0, 58 * HOUR)) == [(18 * HOUR, 40 * HOUR)]
    assert holes(ts, Range(40 * HOUR, 58 * HOUR)) == []
    assert holes(ts[:1], Range(0, HOUR)) == []
    assert spacing(ts[:1]) == 0
    assert tolerance([run_of([0, 6, 12])]) == 300_000_000
    assert tolerance([run_of([0])]) == 300_000_000


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    return load_run(saved(random_world(11, snapshots=90).play(weekly_call()), tmp_path_factory.mktemp("reports")), "A")


def test_a_cut_to_the_whole_range_is_the_run(played: SavedRun) -> None:
    part = cut(played, Range(int(played.ts[0]), int(played.ts[-1])))
    assert part is not None
    assert played.trades is not None
    assert played.fills is not None
    assert part.trades.equals(played.trades)
    assert part.fills.equals(played.fills)
    assert (part.before, part.readable) == (0, True)
    whole, again = measure(played.trades, played.equity, played.fills), measure(part.trades, part.equity, part.fills)
    np.testing.assert_equal(whole, again)


def test_a_range_that_begins_seconds_after_a_run_keeps_its_first_trade_and_what_that_cost(played: SavedRun) -> None:
    whole, late = (cut(played, Range(int(played.ts[0]) + seconds * 1_000_000, int(played.ts[-1]))) for seconds in (0, 20))
    assert whole is not None
    assert late is not None
    assert played.equity is not None
    assert whole.trades["opened_at"][0].as_py() == played.equity["ts"][0].as_py()  # the first entry is at the first snapshot
    assert (late.before, late.trades.num_rows) == (0, whole.trades.num_rows)
    found, expected = (measure(part.trades, part.equity, part.fills) for part in (late, whole))
    for name in ("return_coin", "return_usd", "max_drawdown_coin", "fees_coin", "trades"):
        assert found[name] == expected[name], name
    after = cut(played, Range(int(played.ts[1]), int(played.ts[-1])))
    assert after is not None
    assert measure(after.trades, after.equity, after.fills)["return_coin"] != expected["return_coin"]


@given(st.data())
def test_trades_of_a_cut_are_those_opened_within_and_open_where_they_end_after(played: SavedRun, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, played.ts.size - 2))
    last = data.draw(st.integers(first + 1, played.ts.size - 1))
    within = Range(int(played.ts[first]), int(played.ts[last]))
    part = cut(played, within)
    assert part is not None
    assert played.trades is not None
    rows: list[dict[str, Any]] = played.trades.to_pylist()

    def us(at: dt.datetime | None) -> int | None:
        return None if at is None else round((at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))

    expected = [t["trade"] for t in rows if within.start <= (us(t["opened_at"]) or 0) <= within.end]
    assert part.trades["trade"].to_pylist() == expected
    for row in part.trades.to_pylist():
        former = next(t for t in rows if t["trade"] == row["trade"])
        ended = us(former["closed_at"])
        assert row["closed_at"] == (former["closed_at"] if ended is not None and ended <= within.end else None)
    assert part.before == sum(
        (us(t["opened_at"]) or 0) < within.start and (t["closed_at"] is None or (us(t["closed_at"]) or 0) >= within.start) for t in rows
    )
    assert part.after == sum(
        (us(t["opened_at"]) or 0) <= within.end and (t["closed_at"] is None or (us(t["closed_at"]) or 0) > within.end) for t in rows
    )

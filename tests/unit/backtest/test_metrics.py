"""Metrics: each agrees with the peer its table names, is null where it is not defined, and stands in the docs."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.backtest.metrics import METRICS, daily_returns, max_drawdown, measure, sharpe
from options_agent.backtest.metrics import returns as of_returns
from options_agent.backtest.metrics.drawdown import deepest, longest_under_water, max_drawdown_days, time_under_water
from options_agent.backtest.metrics.grid import DAY_US
from options_agent.backtest.metrics.page import metrics_page
from options_agent.backtest.report import report_content
from options_agent.backtest.result import BacktestResult
from options_agent.quotes import UTC_US
from options_agent.strategies.catalogue import CATALOGUE
from tests.conftest import REPOSITORY
from tests.unit.backtest.worlds import random_world

PEERS = json.loads((REPOSITORY / "tests" / "data" / "peer_metrics.json").read_text())
NO_LABELS = pa.schema([("ts", UTC_US), ("regime", pa.string()), ("trend", pa.string())]).empty_table()
START_US = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000
#: The same number by another library's name.
SECOND_PEER = {
    "quantstats.cagr": "empyrical.annual_return",
    "quantstats.volatility": "empyrical.annual_volatility",
    "quantstats.sharpe": "empyrical.sharpe_ratio",
    "quantstats.sortino": "empyrical.sortino_ratio",
    "quantstats.calmar": "empyrical.calmar_ratio",
    "quantstats.omega": "empyrical.omega_ratio",
    "quantstats.max_drawdown": "empyrical.max_drawdown",
}


@pytest.fixture(scope="module")
def run() -> BacktestResult:
    found = random_world(7, snapshots=120).play(CATALOGUE["covered_call"])
    assert found.metrics["days"] > 20
    return found


def equity_of(coin: np.ndarray, ts: np.ndarray | None = None, **columns: Any) -> pa.Table:
    """An equity table; a day between values and an index of 2 unless told otherwise."""
    ts = START_US + DAY_US * np.arange(coin.size) if ts is None else ts
    return pa.table(
        {
            "ts": pa.array(ts, pa.int64()).cast(pa.timestamp("us")).cast(UTC_US),
            "index": np.full(coin.size, 2.0),
            "equity_coin": coin,
            "equity_usd": 2.0 * coin,
            "open_positions": np.ones(coin.size, dtype=np.int64),
            "stale_marks": np.zeros(coin.size, dtype=np.int64),
            **columns,
        }
    )


def measured(run: BacktestResult, equity: pa.Table) -> dict[str, float]:
    return measure(run.trades, equity, run.fills)


@pytest.mark.parametrize("name", PEERS["series"])
def test_metrics_agree_with_the_peer_that_the_table_names(run: BacktestResult, name: str) -> None:
    series = PEERS["series"][name]
    found = measured(run, equity_of(of_returns.wealth(np.array(series["returns"]))))
    compared = 0
    for metric in METRICS:
        for peer in filter(None, (metric.peer, SECOND_PEER.get(metric.peer))):
            assert found[metric.name] == pytest.approx(series["metrics"][peer], rel=1e-9, abs=1e-9), (metric.name, peer)
            compared += 1
    assert compared == 46


@pytest.mark.parametrize("name", [n for n, s in PEERS["series"].items() if s["drawdown"]])
def test_the_dates_of_the_deepest_fall_are_quantstats(name: str) -> None:
    series = PEERS["series"][name]
    path = of_returns.wealth(np.array(series["returns"]))
    # the peer's first day under water is the day after the peak, its series begins a day after ours
    ts = START_US + DAY_US * np.arange(-1, path.size - 1)
    fall = deepest(ts, path)
    assert fall is not None
    start, valley, end = (
        int(dt.datetime.fromisoformat(series["drawdown"][k]).replace(tzinfo=dt.UTC).timestamp()) * 1_000_000
        for k in ("start", "valley", "end")
    )
    assert (fall.peak_at, fall.trough_at) == (start - DAY_US, valley)
    # its last day is the last one under water; ours is the day the peak was reached again
    assert (fall.recovered_at or ts[-1]) in (end, end + DAY_US)


def test_every_metric_of_a_run_is_in_its_report_and_null_where_it_is_not_known(run: BacktestResult) -> None:
    names = [m.name for m in METRICS]
    assert len(names) == len(set(names)) > 70
    assert list(run.metrics) == names
    content = report_content(
        run, pa.table({"ts": pa.array([], UTC_US), "regime": pa.array([], pa.string()), "trend": pa.array([], pa.string())})
    )
    unknown = {n for n, v in content["metrics"].items() if v is None}
    assert not unknown


def test_margin_and_greeks_are_averaged_over_time_where_the_run_has_them(run: BacktestResult) -> None:
    ts = START_US + DAY_US * np.array([0, 1, 4, 5])
    equity = equity_of(
        np.array([1.0, 2.0, 2.0, 2.0]), ts, initial_margin=np.array([0.5, 0.2, 0.4, 9.0]), delta=np.array([0.0, -1.0, np.nan, 5.0])
    )
    found = measured(run, equity)
    assert found["margin_average"] == pytest.approx((0.5 * 1 + 0.1 * 3 + 0.2 * 1) / 5)
    assert found["margin_peak"] == 4.5
    assert found["return_on_margin_coin"] == pytest.approx(found["return_coin"] / found["margin_average"])  # margin was asked all the time
    never = equity_of(np.array([1.0, 2.0, 2.0, 3.0]), ts, initial_margin=np.array([0.0, 0.4, 0.0, 0.0]))
    assert measured(run, never)["return_on_margin_coin"] == pytest.approx(2.0 / 0.2)  # only while it was: 0.4 of 2 coins
    assert math.isnan(measured(run, equity_of(np.array([1.0, 2.0]), ts[:2], initial_margin=np.zeros(2)))["return_on_margin_coin"])
    assert found["delta_average"] == pytest.approx(-3 / 4)
    assert math.isnan(found["gamma_average"])


def test_the_metrics_in_docs_are_made_from_the_table() -> None:
    assert (REPOSITORY / "docs" / "metrics.md").read_text() == metrics_page(), "run: python -m options_agent.backtest.metrics"


def test_trades_and_costs_add_up(run: BacktestResult) -> None:
    m, trades = run.metrics, [t for t in run.trades.to_pylist() if t["closed_at"] is not None]
    profits = [t["profit_coin"] for t in trades]
    assert m["closed_trades"] == len(trades)
    assert m["average_trade_coin"] == pytest.approx(sum(profits) / len(profits))
    lost = 1 - m["win_rate"] - sum(p == 0 for p in profits) / len(profits)
    assert m["average_trade_coin"] == pytest.approx(m["win_rate"] * m["average_win_coin"] + lost * m["average_loss_coin"])
    assert m["expectancy"] == pytest.approx(m["average_trade_coin"] / -m["average_loss_coin"])
    assert m["profit_factor"] == pytest.approx(m["payoff_ratio"] * m["win_rate"] / lost)
    assert (m["best_trade_coin"], m["worst_trade_coin"]) == (max(profits), min(profits))
    assert m["premium_captured"] == pytest.approx(
        1 - sum(t["closing_coin"] + t["payoff_coin"] for t in trades) / sum(t["premium_coin"] for t in trades)
    )
    assert m["fees_usd"] == pytest.approx(sum(f["fee"] * f["index"] for f in run.fills.to_pylist()))
    assert m["premium_sold_coin"] >= m["premium_coin"]


@pytest.mark.parametrize("underlying", ["BTC", "BTC_USDC"])
def test_trades_and_the_hedge_make_up_the_whole_change_of_equity(underlying: str) -> None:
    world = random_world(3, snapshots=200, underlying=underlying)
    hedged = world.play(CATALOGUE["short_strangle_hedged"], perpetual_half_spread=0.0002)
    m, currency = hedged.metrics, "usd" if underlying == "BTC_USDC" else "coin"
    assert m[f"hedge_costs_{currency}"] > 0
    column = {name: hedged.equity[name].to_numpy() for name in ("hedge_fee", "perpetual_pnl", "funding")}
    assert m[f"hedge_costs_{currency}"] == pytest.approx(-column["hedge_fee"].sum())
    index = hedged.equity["index"].to_numpy()
    other, scale = ("coin", 1 / index) if currency == "usd" else ("usd", index)
    assert m[f"hedge_profit_{other}"] == pytest.approx((column["perpetual_pnl"] * scale).sum())
    moved = m[f"hedge_profit_{currency}"] + m[f"funding_{currency}"] - m[f"hedge_costs_{currency}"]
    flows = sum(r["amount"] for r in hedged.ledger.to_pylist() if r["kind"] in ("perpetual", "funding", "hedge_fee"))
    assert moved == pytest.approx(flows, rel=1e-12, abs=1e-12)
    if currency == "coin":
        last, fills = hedged.equity.to_pylist()[-1], hedged.fills.to_pylist()
        of_options = sum(-f["contracts"] * f["price"] - f["fee"] for f in fills) + last["options_coin"]
        assert last["equity_coin"] - hedged.capital_coin == pytest.approx(of_options + moved, abs=1e-12)
    bare = world.play(CATALOGUE["short_strangle"]).metrics
    assert bare["hedge_costs_coin"] == bare["hedge_profit_usd"] == bare["funding_coin"] == 0.0


def test_slippage_is_what_the_crossing_cost_and_nothing_at_the_mid() -> None:
    world = random_world(7, snapshots=120, missing=0.0)
    full, half, free = (world.play(CATALOGUE["covered_call"], crossing=c).metrics["slippage_coin"] for c in (1.0, 0.5, 0.0))
    assert full > half > free
    assert free == pytest.approx(0, abs=1e-15)
    one = world.play(CATALOGUE["covered_call"])
    paid = [abs(f["price"] - f["mid"]) * abs(f["contracts"]) for f in one.fills.to_pylist() if f["mid"] is not None]
    assert full == pytest.approx(sum(paid))
    assert {f["kind"] for f in one.fills.to_pylist() if f["mid"] is None} <= {"settle", "open", "close"}
    without = measure(one.trades, one.equity, one.fills.drop_columns("mid"))
    assert math.isnan(without["slippage_coin"])


def test_exposure_is_a_share_of_time_not_of_snapshots(run: BacktestResult) -> None:
    equity = equity_of(np.ones(3), START_US + DAY_US * np.array([0, 1, 4]), open_positions=np.array([1, 0, 1]))
    assert measured(run, equity)["exposure"] == pytest.approx(1 / 4)


def test_a_run_without_trades_has_no_means_and_no_zeros_in_their_place() -> None:
    run = random_world(7, snapshots=4).play(CATALOGUE["covered_call"])
    assert run.metrics["closed_trades"] == 0
    names = ("win_rate", "profit_factor", "expectancy", "average_trade_coin", "average_win_usd", "best_trade_coin", "premium_captured")
    assert all(math.isnan(run.metrics[n]) for n in (*names, "sharpe_coin", "volatility_usd", "tail_ratio_coin", "assignment_rate"))


EQUITY = st.lists(st.floats(0.01, 100), min_size=2, max_size=60).map(np.array)


@given(EQUITY)
def test_a_fall_with_its_dates_is_the_largest_drawdown(values: np.ndarray) -> None:
    ts = START_US + DAY_US * np.arange(values.size)
    fall, depth = deepest(ts, values), max_drawdown(values)
    if fall is None:
        assert (
            depth == 0 == time_under_water(ts, values) == longest_under_water(ts, values) == max_drawdown_days(ts, values)
            or values[-1] < values.max()
        )
        return
    assert fall.depth == depth
    at = {int(t): float(v) for t, v in zip(ts, values, strict=True)}
    assert at[fall.trough_at] == pytest.approx(at[fall.peak_at] * (1 - depth))
    assert fall.peak_at < fall.trough_at < (fall.recovered_at or math.inf)
    assert fall.recovered_at is None or at[fall.recovered_at] >= at[fall.peak_at]
    assert 0 < fall.days <= longest_under_water(ts, values) <= values.size - 1


@given(EQUITY)
def test_the_longest_time_under_water_is_what_a_plain_loop_finds(values: np.ndarray) -> None:
    ts = START_US + DAY_US * np.arange(values.size)
    longest, since, peak, below = 0, 0, values[0], 0
    for t in range(1, values.size):
        below += values[t - 1] < peak
        if values[t] >= peak:
            longest, since, peak = max(longest, t - since if t - since > 1 else 0), t, values[t]
    longest = max(longest, values.size - 1 - since)
    assert longest_under_water(ts, values) == longest
    assert time_under_water(ts, values) == pytest.approx(below / (values.size - 1))


@given(EQUITY, st.floats(1e-3, 1e3))
def test_no_metric_of_equity_depends_on_its_scale(values: np.ndarray, scale: float) -> None:
    ts = START_US + DAY_US * np.arange(values.size)
    for one, other in zip(daily_returns(ts, values), daily_returns(ts, values * scale), strict=True):
        assert other == pytest.approx(one, rel=1e-9, abs=1e-12)
    assert max_drawdown(values * scale) == pytest.approx(max_drawdown(values), abs=1e-12)


def test_no_ratio_of_under_ten_days_after_ruin_or_without_variation() -> None:
    ts = START_US + DAY_US * np.arange(11)
    rising = 1 + 0.1 * np.arange(11.0) ** 1.5
    assert math.isfinite(sharpe(ts, rising))
    assert math.isnan(sharpe(ts[:10], rising[:10]))
    assert math.isnan(sharpe(ts, rising - 5))
    assert math.isnan(sharpe(ts, np.ones(11)))

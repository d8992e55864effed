"""The compiled engine and the slow reference play the same game to 1e-9 coin, trade by trade and step by step."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.backtest.result import BacktestResult
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Entry, Exit, Filters, Leg, Strategy
from tests.unit.backtest import reference
from tests.unit.backtest.worlds import World, random_world

TOLERANCE = 1e-9


def agree(result: BacktestResult, expected: reference.Outcome) -> None:
    """Trades, equity curve and decisions are those of the reference."""
    trades, fills = result.trades.to_pylist(), result.fills.to_pylist()
    assert [(t["opened_at"], t["closed_at"], t["exit"], t["instruments"]) for t in trades] == [
        (t["opened_at"], t["closed_at"], t["exit"], t["instruments"]) for t in expected.trades
    ]
    for trade, other in zip(trades, expected.trades, strict=True):
        mine = [f for f in fills if f["trade"] == trade["trade"]]
        prices = [f["price"] for f in mine]
        assert prices == pytest.approx(other["in"] + other["out"], abs=TOLERANCE)
        assert trade["contracts"] == pytest.approx(other["units"], abs=TOLERANCE)
        assert trade["fees_coin"] == pytest.approx(other["fees"], abs=TOLERANCE)
        assert trade["profit_coin"] == pytest.approx(other["profit"], abs=TOLERANCE)
        assert trade["profit_usd"] == pytest.approx(other["profit_usd"], abs=1e-5)
        assert trade["settlement"] == other.get("method")
        assert trade["settlement_price"] == pytest.approx(other.get("settlement_price"), abs=1e-6)
    equity = result.equity.to_pylist()
    assert [e["ts"] for e in equity] == [e["ts"] for e in expected.equity]
    assert [e["equity_coin"] for e in equity] == pytest.approx([e["coin"] for e in expected.equity], abs=TOLERANCE)
    assert [e["equity_usd"] for e in equity] == pytest.approx([e["usd"] for e in expected.equity], rel=1e-9)
    assert [e["open_positions"] for e in equity] == [e["open"] for e in expected.equity]
    decided = [(d["ts"], d["action"], d["reason"]) for d in result.decisions.to_pylist()]
    assert sorted(decided) == sorted(expected.decisions)


def both(world: World, strategy: Strategy, **settings: Any) -> BacktestResult:
    """Play both and compare."""
    full = {"capital_coin": 1.0, "latency_seconds": 0.0, "crossing": 1.0, **settings}
    full |= {"settlement_window_minutes": 30, "settlement_max_distance_minutes": 180}
    result = world.play(strategy, **full)
    agree(result, reference.play(world.quotes, world.prices, strategy.as_dict(), world.underlying, **full))
    return result


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_every_strategy_of_the_catalogue_agrees(name: str, underlying: str) -> None:
    result = both(random_world(7, underlying=underlying, snapshots=120), CATALOGUE[name], capital_coin=3.0)
    assert result.trades.num_rows > 3


LEGS = st.builds(
    Leg, side=st.sampled_from(["sell", "sell", "buy"]), right=st.sampled_from("CP"), target=st.sampled_from([0.1, 0.25, 0.4]),
    ratio=st.sampled_from([1.0, 2.0]),
)  # fmt: skip
EXITS = st.builds(
    Exit,
    take_profit=st.sampled_from([None, 0.2, 0.5]),
    stop_loss=st.sampled_from([None, 0.5, 2.0]),
    days_left=st.sampled_from([None, 0.0, 1.0]),
)
ENTRIES = st.builds(
    Entry,
    dte_min=st.sampled_from([0.0, 3.0]),
    dte_target=st.sampled_from([3.0, 7.0]),
    dte_max=st.sampled_from([7.0, 12.0]),
    hour_utc=st.sampled_from([0, 8, 20]),
    max_open=st.integers(1, 3),
)
FILTERS = st.builds(
    Filters,
    min_premium=st.sampled_from([0.0, 0.0005, 0.01]),
    max_spread=st.sampled_from([0.1, 0.5, 2.0]),
    min_open_interest=st.sampled_from([0.0, 10.0]),
    delta_tolerance=st.sampled_from([0.05, 0.3]),
)


@st.composite
def strategies(draw: st.DrawFn) -> Strategy:
    """Any strategy that the rules can say."""
    legs = tuple(draw(st.lists(LEGS, min_size=1, max_size=3)))
    sold = {leg.right for leg in legs if leg.side == "sell"}
    collateral = draw(st.sampled_from([c for c, barred in (("coin", "P"), ("cash", "C"), ("margin", "")) if barred not in sold]))
    share = draw(st.sampled_from([0.35, 1.0]))
    return Strategy("any", "any", "any", legs, draw(ENTRIES), draw(EXITS), draw(FILTERS), collateral, share)


@given(
    seed=st.integers(0, 10_000),
    hours=st.sampled_from([1.0, 6.0]),
    minutes=st.sampled_from([10, 60, 1_500]),
    strategy=strategies(),
    latency=st.sampled_from([0.0, 30.0, 5 * 3600.0]),
    crossing=st.sampled_from([1.0, 0.5, 0.0]),
    capital=st.sampled_from([1.0, 2.7]),
)
@hypothesis_settings(max_examples=50)
def test_any_strategy_agrees_in_any_market(
    seed: int, hours: float, minutes: int, strategy: Strategy, latency: float, crossing: float, capital: float
) -> None:
    world = random_world(seed, snapshots=40, hours=hours, index_minutes=minutes)
    both(world, strategy, latency_seconds=latency, crossing=crossing, capital_coin=capital)


def test_a_market_of_2018_pays_the_fees_of_2018() -> None:
    world = random_world(3)
    back = dt.timedelta(days=2_920)  # a whole number of weeks would do; days only have to stay days
    for row in world.quotes:
        for name in ("ts", "snapshot", "expiry"):
            row[name] -= back
    for row in world.prices:
        row["ts"] -= back
    result = both(world, CATALOGUE["short_strangle"])
    rates = {f["fee"] / abs(f["contracts"]) for f in result.fills.to_pylist() if f["kind"] == "open" and f["price"] > 0.002}
    assert {round(r, 9) for r in rates} == {0.0004}

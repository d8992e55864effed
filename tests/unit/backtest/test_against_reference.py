"""The compiled engine and the slow reference play the same game to 1e-9 coin, decision by decision, fill by fill and step by step."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Strategy
from tests.unit.backtest.reference_agreement import both
from tests.unit.backtest.reference_strategies import COLLATERALS, SETTINGS, strategies
from tests.unit.backtest.worlds import random_world

#: Every cost model at once, crossing and resting.
COSTLY: dict[str, Any] = {
    "latency_seconds": 900.0,
    "latency_sigma": 1.0,
    "crossing": 0.8,
    "impact": 0.3,
    "missing_quotes": "model",
}
COSTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "costly": COSTLY,
    "resting": {**COSTLY, "fills": "maker", "maker_patience_minutes": 800.0},
}


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("underlying", ["BTC", "BTC_USDC"])
def test_every_strategy_of_the_catalogue_agrees(name: str, underlying: str, costs: str) -> None:
    world = random_world(7, underlying=underlying, snapshots=100, listed=True, violence=0.02)
    both(world, CATALOGUE[name], {"capital_coin": 3.0, **COSTS[costs]}, seed=3)


@given(
    seed=st.integers(0, 10_000),
    underlying=st.sampled_from(["BTC", "BTC", "ETH", "BTC_USDC"]),
    hours=st.sampled_from([1.0, 6.0]),
    minutes=st.sampled_from([10, 60, 1_500]),
    listed=st.sampled_from([True, True, False]),
    violence=st.sampled_from([0.0, 0.05, 0.3]),
    strategy=strategies(),
    settings=SETTINGS,
)
@hypothesis_settings(max_examples=60)
def test_any_strategy_agrees_in_any_market(
    seed: int, underlying: str, hours: float, minutes: int, listed: bool, violence: float, strategy: Strategy, settings: dict[str, Any]
) -> None:
    world = random_world(seed, underlying=underlying, snapshots=40, hours=hours, index_minutes=minutes, listed=listed, violence=violence)
    both(world, strategy, settings, seed=seed)


@pytest.mark.parametrize("collateral", COLLATERALS)
@given(data=st.data(), seed=st.integers(0, 10_000), underlying=st.sampled_from(["BTC", "BTC_USDC"]), settings=SETTINGS)
@hypothesis_settings(max_examples=15)
def test_an_account_used_to_the_full_agrees_in_a_violent_market(
    collateral: str, data: st.DataObject, seed: int, underlying: str, settings: dict[str, Any]
) -> None:
    """Assignments, liquidations, ladders that run out of capital."""
    world = random_world(seed, underlying=underlying, snapshots=50, hours=8.0, listed=True, violence=0.25, missing=0.05)
    both(world, data.draw(strategies((collateral,), eager=True)), settings, seed=seed)


@pytest.mark.parametrize(("days", "rate"), [(-2_920, 0.0004), (0, 0.0003)])
def test_a_market_of_2018_pays_the_fees_of_2018(days: int, rate: float) -> None:
    world = random_world(3, listed=True)
    back = dt.timedelta(days=days)  # days only have to stay days
    for row in world.quotes:
        for name in ("ts", "snapshot", "expiry"):
            row[name] += back
    for rows in (world.prices, world.funding):
        for row in rows:
            row["ts"] += back
    result = both(world, CATALOGUE["short_strangle"], {}, seed=1)
    rates = {f["fee"] / abs(f["contracts"]) for f in result.fills.to_pylist() if f["kind"] == "open" and f["price"] > 0.002}
    assert {round(r, 9) for r in rates} == {rate}

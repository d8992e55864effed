"""The compiled engine and the slow reference play the same game to 1e-9 coin, decision by decision, fill by fill and step by step."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.backtest.engine import Directions
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Strategy
from tests.unit.backtest.reference_agreement import both, snapshots_of
from tests.unit.backtest.reference_strategies import COLLATERALS, SETTINGS, strategies
from tests.unit.backtest.worlds import World, random_world


@lru_cache
def market_of(seed: int, underlying: str, hours: float, minutes: int, listed: bool, violence: float) -> World:
    """A few are enough, and building one is slow."""
    return random_world(seed, underlying=underlying, snapshots=40, hours=hours, index_minutes=minutes, listed=listed, violence=violence)


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


@lru_cache
def catalogue_market(underlying: str) -> World:
    """Some weeks in which every strategy has something to do."""
    return random_world(7, underlying=underlying, snapshots=100, listed=True, violence=0.02)


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("underlying", ["BTC", "BTC_USDC"])
def test_every_strategy_of_the_catalogue_agrees(name: str, underlying: str, costs: str) -> None:
    both(catalogue_market(underlying), CATALOGUE[name], {"capital_coin": 3.0, **COSTS[costs]}, seed=3)


#: (seed, underlying, hours between snapshots, minutes between prices, whether contracts stay listed, chance of a jump)
MARKETS: list[tuple[int, str, float, int, bool, float]] = [
    (1, "BTC", 6.0, 60, True, 0.0),
    (2, "BTC", 6.0, 10, True, 0.3),
    (3, "BTC", 1.0, 10, False, 0.05),
    (4, "BTC", 8.0, 1_500, True, 0.05),
    (5, "ETH", 6.0, 10, True, 0.05),
    (6, "BTC_USDC", 6.0, 60, True, 0.05),
    (7, "BTC_USDC", 8.0, 10, True, 0.3),
    (8, "BTC", 8.0, 60, False, 0.0),
]


@given(market=st.sampled_from(MARKETS), strategy=strategies(), settings=SETTINGS, seed=st.integers(0, 99))
@hypothesis_settings(max_examples=80)
def test_any_strategy_agrees_in_any_market(
    market: tuple[int, str, float, int, bool, float], strategy: Strategy, settings: dict[str, Any], seed: int
) -> None:
    both(market_of(*market), strategy, settings, seed=seed)


@given(
    market=st.sampled_from(MARKETS), strategy=strategies(), settings=SETTINGS, seed=st.integers(0, 99), often=st.sampled_from([0.1, 0.5])
)
@hypothesis_settings(max_examples=40)
def test_what_is_directed_from_outside_is_done_and_no_exit_rule_besides(
    market: tuple[int, str, float, int, bool, float], strategy: Strategy, settings: dict[str, Any], seed: int, often: float
) -> None:
    world, random = market_of(*market), np.random.default_rng(seed)
    count = snapshots_of(world)
    directions = Directions(random.random(count) > often, random.random(count) < often)
    result = both(world, strategy, settings, seed=seed, directions=directions)
    assert {d["reason"] for d in result.decisions.to_pylist() if d["action"] in {"close", "roll"}} <= {"directed", "front_expired"}


@pytest.mark.parametrize("collateral", COLLATERALS)
@given(data=st.data(), seed=st.integers(0, 3), underlying=st.sampled_from(["BTC", "BTC_USDC"]), settings=SETTINGS)
@hypothesis_settings(max_examples=30)
def test_an_account_used_to_the_full_agrees_in_a_violent_market(
    collateral: str, data: st.DataObject, seed: int, underlying: str, settings: dict[str, Any]
) -> None:
    """Assignments, liquidations, ladders that run out of capital."""
    both(violent_market(seed, underlying), data.draw(strategies((collateral,), eager=True)), settings, seed=seed)


@lru_cache
def violent_market(seed: int, underlying: str) -> World:
    """Jumps of a fifth every other day; the exchange publishes most of its delivery prices, some at once and some too late to count."""
    world = random_world(seed, underlying=underlying, snapshots=50, hours=8.0, listed=True, violence=0.25, missing=0.05)
    random, spot = np.random.default_rng(seed), world.prices[0]["price"]
    for expiry in sorted({q["expiry"] for q in world.quotes}):
        if random.random() < 0.7:
            world.price(expiry + dt.timedelta(minutes=int(random.choice([0, 0, 5, 45, 90]))), spot * random.uniform(0.9, 1.1), "delivery")
    world.prices.sort(key=lambda p: p["ts"])
    return world


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

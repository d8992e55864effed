"""Attribution sums to the ledger and to the equity, and its terms are the pricing model's derivatives."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.pricing.black76 import coin_price_scalar
from options_agent.research.attribution.book import attribute, grouped, shares
from options_agent.research.attribution.terms import derivatives, terms
from options_agent.research.attribution.trades import COMPONENTS
from options_agent.strategies.catalogue import CATALOGUE
from options_agent.strategies.rules import Filters, Hedge
from tests.unit.backtest.reference_agreement import features_of
from tests.unit.backtest.reference_strategies import SETTINGS, strategies
from tests.unit.backtest.worlds import World, random_world

ORDERS = {
    "f": (1, 0, 0),
    "ff": (2, 0, 0),
    "fff": (3, 0, 0),
    "v": (0, 1, 0),
    "vv": (0, 2, 0),
    "fv": (1, 1, 0),
    "t": (0, 0, 1),
    "tt": (0, 0, 2),
    "ft": (1, 0, 1),
    "vt": (0, 1, 1),
}


def exact(call: bool, linear: bool, strike: float):
    """Value as a function of forward, volatility and years, in high precision."""

    def value(f: mp.mpf, v: mp.mpf, y: mp.mpf) -> mp.mpf:
        s = v * mp.sqrt(y)
        d1 = mp.log(f / strike) / s + s / 2
        coin = mp.ncdf(d1) - strike / f * mp.ncdf(d1 - s)
        coin = coin if call else coin - 1 + strike / f
        return coin * f if linear else coin

    return value


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("call", [False, True])
@pytest.mark.parametrize(
    ("forward", "strike", "years", "vol"), [(90_000.0, 95_000.0, 0.02, 0.55), (3_000.0, 2_700.0, 0.3, 0.9), (50.0, 50.0, 0.003, 0.4)]
)
def test_derivatives_are_those_of_forty_digits(linear: bool, call: bool, forward: float, strike: float, years: float, vol: float) -> None:
    found = derivatives(*(np.array([x]) for x in (forward, strike, years, vol)), np.array([call]), linear=linear)
    with mp.workdps(40):
        for name, order in ORDERS.items():
            sign = (-1) ** order[2]  # time that passes takes from what is left
            slow = sign * mp.diff(exact(call, linear, strike), (mp.mpf(forward), mp.mpf(vol), mp.mpf(years)), order)
            assert float(found[name][0]) == pytest.approx(float(slow), rel=1e-9), name


@given(st.floats(-0.01, 0.01), st.floats(-0.02, 0.02), st.floats(0, 0.0002), st.booleans())
def test_the_terms_of_a_small_step_leave_next_to_nothing(move: float, vol: float, years: float, call: bool) -> None:
    f, k, y, v = 90_000.0, 92_000.0, 0.05, 0.6
    by = derivatives(*(np.array([x]) for x in (f, k, y, v)), np.array([call]), linear=False)
    told = terms(by, np.array([f * move]), np.array([vol]), np.array([years]))
    changed = coin_price_scalar(f * (1 + move), k, y - years, v + vol, call) - coin_price_scalar(f, k, y, v, call)
    assert sum(float(t[0]) for t in told.values()) == pytest.approx(changed, abs=2e-5)


@lru_cache
def market(seed: int, underlying: str, hours: float) -> World:
    return random_world(seed, underlying=underlying, hours=hours, snapshots=40, listed=True, violence=0.05)


def check(world: World, play, settings, seed: int = 0) -> None:
    result = world.play(play, features=features_of(world, seed), seed=seed, **settings)
    found = attribute(result, world.history())
    trades = {t["trade"]: t for t in result.trades.to_pylist()}
    own = [sum(row[name] for name in COMPONENTS) for row in found.trades.to_pylist()]
    cash: dict[int, float] = {}
    for entry in result.ledger.to_pylist():
        if entry["trade"] is not None:
            cash[entry["trade"]] = cash.get(entry["trade"], 0.0) + entry["amount"]
    unit = float(world.history().index[0]) if found.currency == "usd" else 1.0
    for row, profit in zip(found.trades.to_pylist(), own, strict=True):
        if trades[row["trade"]]["closed_at"] is not None:
            assert profit / unit == pytest.approx(cash[row["trade"]] / unit, abs=1e-12)
            if found.currency == "coin":
                assert profit == pytest.approx(trades[row["trade"]]["profit_coin"], abs=1e-12)
    assert sum(found.total.values()) / unit == pytest.approx(found.change / unit, abs=1e-10)
    usd = sum(found.components_usd.values()) + found.fx
    assert usd == pytest.approx(found.change_usd, abs=1e-4)
    for by in ("right", "tenor"):
        parts = grouped(found, by)
        for name in COMPONENTS:
            whole = float(np.sum(found.steps[name].to_numpy())) if found.steps.num_rows else 0.0
            assert sum(p[name] for p in parts.values()) / unit == pytest.approx(whole / unit, abs=1e-12)
    assert sum(abs(v) for v in shares(found).values()) <= 1.01


@pytest.mark.parametrize("underlying", ["BTC", "BTC_USDC"])
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_strategy_of_the_catalogue_sums_to_its_ledger(name: str, underlying: str) -> None:
    check(market(3, underlying, 6.0), CATALOGUE[name], {"capital_coin": 3.0, "latency_seconds": 600.0})


@given(
    st.sampled_from([(1, "BTC", 6.0), (2, "BTC", 1.0), (5, "ETH", 6.0), (6, "BTC_USDC", 8.0)]), strategies(), SETTINGS, st.integers(0, 9)
)
@hypothesis_settings(max_examples=40)
def test_any_run_sums_to_its_ledger(kind, play, settings, seed) -> None:
    check(market(*kind), play, settings, seed)


def test_a_linear_book_that_only_hedges_is_accounted_in_usd() -> None:
    nothing_sold = replace(CATALOGUE["short_strangle_hedged"], filters=Filters(min_premium=1e9))
    nothing_sold = replace(nothing_sold, hedge=Hedge(neutral_in="coin", band=0.0))
    world = market(6, "BTC_USDC", 8.0)
    check(world, nothing_sold, {"capital_coin": 1.0})
    assert attribute(world.play(nothing_sold, capital_coin=1.0), world.history()).currency == "usd"

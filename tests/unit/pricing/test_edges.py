"""Pricing where nothing is ordinary: wings that no market quotes, hours that are over, numbers that are none."""

from __future__ import annotations

import math
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest

from options_agent.pricing.black76 import delta_premium_adjusted, greeks
from options_agent.pricing.implied import implied_volatility

mpmath.mp.dps = 60


def one(forward: float, strike: float, years: float, vol: float, call: bool) -> list[float]:
    """Price, delta, gamma, vega and theta of an option."""
    return [float(column[0]) for column in greeks([forward], [strike], [years], [vol], [call])]


def exact(forward: float, strike: float, years: float, vol: float, call: bool) -> tuple[Any, Any]:
    """Price (coin) and delta."""
    f, k, v = mpmath.mpf(forward), mpmath.mpf(strike), mpmath.mpf(vol) * mpmath.sqrt(mpmath.mpf(years))
    d1 = mpmath.log(f / k) / v + v / 2
    side = 1 if call else -1
    above, below = (mpmath.erfc(-side * d / mpmath.sqrt(2)) / 2 for d in (d1, d1 - v))
    return side * (above - k / f * below), side * above


@pytest.mark.parametrize("total", [1e-4, 0.02, 0.1, 0.7, 1.64, 5.0])
@pytest.mark.parametrize("deviations", [8, 20, 30, 34, 35, 36, 36.5, 37])
@pytest.mark.parametrize("call", [True, False])
def test_prices_and_deltas_keep_their_digits_as_far_out_as_there_are_doubles(total: float, deviations: float, call: bool) -> None:
    years = 0.3
    vol, strike = total / math.sqrt(years), 60_000.0 * math.exp((1 if call else -1) * deviations * total)
    price, delta, *_ = one(60_000.0, strike, years, vol, call)
    wanted = exact(60_000.0, strike, years, vol, call)
    if wanted[0] > 1e-300 and abs(wanted[1]) > 1e-300:
        assert abs(price / wanted[0] - 1) < 1e-12
        assert abs(delta / wanted[1] - 1) < 1e-12


@pytest.mark.parametrize("years", [0.0, -1.0, 1e-300])
def test_an_option_whose_time_is_over_is_worth_what_it_pays(years: float) -> None:
    assert one(60_000.0, 50_000.0, years, 0.5, True) == [pytest.approx(1 / 6, rel=1e-15), 1.0, 0.0, 0.0, 0.0]
    assert one(60_000.0, 50_000.0, years, 0.5, False)[:2] == [0.0, 0.0]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_prices_nothing(place: int, wrong: float) -> None:
    asked = [60_000.0, 50_000.0, 0.1, 0.5]
    asked[place] = wrong
    forward, strike, years, vol = asked
    assert np.isnan(one(forward, strike, years, vol, True)).all()
    assert np.isnan(delta_premium_adjusted([forward], [strike], [years], [vol], [True])).all()


@pytest.mark.parametrize("price", [-0.1, 0.0, 0.1, 1 / 6, 1.0, 2.0, math.nan, math.inf])
def test_a_price_that_no_volatility_gives_has_none(price: float) -> None:
    found = implied_volatility([price], [60_000.0], [50_000.0], [1.0], [True])
    assert np.isnan(found).all()


@pytest.mark.parametrize("vol", [0.001, 0.05, 0.5, 3.0, 10.0])
@pytest.mark.parametrize("deviations", [1e-9, 0.5, 5.0, 15.0, 30.0])
def test_a_volatility_comes_back_from_its_price_far_out_and_near(vol: float, deviations: float) -> None:
    strike = 60_000.0 * math.exp(min(deviations * vol, 500.0))
    price = one(60_000.0, strike, 1.0, vol, True)[0]
    if 1e-290 < price < 0.9:
        found = implied_volatility([price], [60_000.0], [strike], [1.0], [True])
        assert found[0] == pytest.approx(vol, rel=1e-12)

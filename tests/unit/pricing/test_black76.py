"""The kernels against fifty digits, the exchange's own figures, and the laws of prices."""

from __future__ import annotations

import math
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from options_agent.pricing import black76
from options_agent.pricing.implied import implied_volatility
from options_agent.pricing.normal import scaled_tail, scaled_tail_slope
from tests.unit.pricing.reference import black76 as exact

HOURS = 1 / 8_760
YEARS = (HOURS, 1 / 365, 7 / 365, 0.25, 1.0, 2.0)
VOLS = (0.05, 0.2, 0.8, 1.5, 3.0)
SIGMAS = (*np.linspace(-6, 6, 25), 1e-3, -1e-3, 1e-6)


def _one(years: float, vol: float, sigmas: float, *, is_call: bool) -> tuple[float, float, float, float, np.ndarray]:
    forward = 90_000.0
    return forward, forward * math.exp(sigmas * vol * math.sqrt(years)), years, vol, np.array([is_call])


@pytest.mark.parametrize("years", YEARS)
@pytest.mark.parametrize("vol", VOLS)
def test_prices_and_greeks_agree_with_fifty_digits_to_1e_11(years: float, vol: float) -> None:
    for sigmas in SIGMAS:
        for is_call in (True, False):
            forward, strike, *_ = arguments = _one(years, vol, sigmas, is_call=is_call)
            arrays = [np.array([a]) for a in arguments[:4]]
            got = black76.greeks(*arrays, arguments[4])
            want = exact(forward, strike, years, vol, is_call)
            for name, value in zip(("coin", "delta", "gamma", "vega", "theta"), got, strict=True):
                assert abs(value[0] / float(want[name]) - 1) < 1e-11, (name, sigmas, is_call)
            assert abs(black76.price_usd(*arrays, arguments[4])[0] / float(want["usd"]) - 1) < 1e-11
            adjusted = black76.delta_premium_adjusted(*arrays, arguments[4])[0]
            assert abs(adjusted / float(want["delta"] - want["coin"]) - 1) < 1e-11, (sigmas, is_call)


@given(st.integers(0, 2**31))
@hypothesis_settings(max_examples=15)
def test_any_point_of_the_range_agrees_with_fifty_digits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 50
    years = np.exp(rng.uniform(math.log(HOURS), math.log(2), n))
    vol = np.exp(rng.uniform(math.log(0.05), math.log(3), n))
    sigmas = np.where(rng.random(n) < 0.2, 10.0 ** rng.uniform(-9, -1, n), rng.uniform(-6, 6, n))
    forward = rng.uniform(100, 300_000, n)
    strike = forward * np.exp(sigmas * vol * np.sqrt(years))
    is_call = rng.random(n) < 0.5
    arrays = (forward, strike, years, vol, is_call)
    got = dict(zip(("coin", "delta", "gamma", "vega", "theta"), black76.greeks(*arrays), strict=True))
    got["usd"], got["adjusted"] = black76.price_usd(*arrays), black76.delta_premium_adjusted(*arrays)
    out_of_the_money = is_call == (strike >= forward)
    price = np.empty(n)
    for i in range(n):
        want = exact(*(float(a[i]) for a in arrays[:4]), bool(is_call[i]))
        want["adjusted"] = want["delta"] - want["coin"]
        price[i] = want["coin"]
        for name, values in got.items():
            assert abs(values[i] / float(want[name]) - 1) < 1e-11, (name, sigmas[i], bool(is_call[i]))
    implied = implied_volatility(price, forward, strike, years, is_call)
    assert (np.abs(implied / vol - 1)[out_of_the_money] < 1e-10).all()
    # in the money the price's own last digit, over vega, is what a double can tell: 1e-10 where that allows, in step with it elsewhere
    last_digit = price * np.finfo(float).eps / (100 * got["vega"] / forward * vol)
    told = last_digit < 1e-3
    assert (np.abs(implied / vol - 1)[told] < np.maximum(1e-10, 64 * last_digit)[told]).all()
    assert (last_digit < 1e-12)[np.abs(sigmas) < 2].all()


@pytest.mark.parametrize("years", YEARS)
@pytest.mark.parametrize("vol", VOLS)
def test_implied_volatility_agrees_with_fifty_digits_to_1e_10_and_never_fails(years: float, vol: float) -> None:
    for sigmas in SIGMAS:
        forward, strike, *_ = arguments = _one(years, vol, sigmas, is_call=sigmas >= 0)
        price = np.array([float(exact(forward, strike, years, vol, sigmas >= 0)["coin"])])
        got = implied_volatility(price, np.array([forward]), np.array([strike]), np.array([years]), arguments[4])
        assert abs(got[0] / vol - 1) < 1e-10, sigmas


@pytest.mark.parametrize("years", [HOURS, 1 / 365, 7 / 365, 30 / 365, 1.0])
@pytest.mark.parametrize("vol", [0.05, 0.2, 0.6, 1.5, 3.0])
def test_hard_points_up_to_eight_deviations_out_have_their_volatility(years: float, vol: float) -> None:
    for sigmas in np.linspace(0, 8, 17):
        forward, strike, *_ = arguments = _one(years, vol, float(sigmas), is_call=True)
        price = np.array([float(exact(forward, strike, years, vol, True)["coin"])])
        got = implied_volatility(price, np.array([forward]), np.array([strike]), np.array([years]), arguments[4])
        assert abs(got[0] / vol - 1) < 1e-10, sigmas


@pytest.mark.parametrize("h", [0.0, -1e-9, -0.3, -2.9999, -3.0001, -6.0, -20.0, -38.0])
def test_the_scaled_tail_and_its_slope_agree_with_fifty_digits(h: float) -> None:
    ratio = mp.npdf(h) ** -1 * mp.erfc(-mp.mpf(h) / mp.sqrt(2)) / 2
    assert abs(scaled_tail(h) / float(ratio) - 1) < 2e-15
    assert abs(scaled_tail_slope(h) / float(1 + mp.mpf(h) * ratio) - 1) < 1e-14


def test_the_golden_row_of_the_exchange() -> None:
    at, expiry = 1_591_574_399.413, 1_591_689_600.0
    years = (expiry - at) / (365 * 86_400)
    arrays = [np.array([x]) for x in (9_756.36, 9_875.0, years, 0.6289)]
    price, delta, gamma, vega, theta = (x[0] for x in black76.greeks(*arrays, np.array([False])))
    assert price == pytest.approx(0.0221002, abs=6e-6)
    assert delta == pytest.approx(-0.617523, abs=1e-5)
    assert gamma == pytest.approx(0.0010287, abs=1e-7)
    assert vega == pytest.approx(2.24963, abs=1e-4)
    assert theta == pytest.approx(-53.05443, abs=1e-2)


forwards = st.floats(100, 300_000)
moneyness = st.floats(-1.5, 1.5)
years_left = st.floats(HOURS, 2)
vols = st.floats(0.05, 3)


@given(forwards, moneyness, years_left, vols)
def test_put_call_parity_holds_in_coin(forward: float, k: float, years: float, vol: float) -> None:
    arrays = [np.array([x, x]) for x in (forward, forward * math.exp(k), years, vol)]
    call, put = black76.price_coin(*arrays, np.array([True, False]))
    assert call - put == pytest.approx(1 - math.exp(k), abs=1e-13 * max(1, math.exp(k)))


@given(forwards, moneyness, years_left, vols, st.floats(1.001, 1.5), st.booleans())
def test_price_rises_with_volatility_and_stays_within_its_bounds(
    forward: float, k: float, years: float, vol: float, up: float, is_call: bool
) -> None:
    strike = forward * math.exp(k)
    arrays = [np.array([x, x]) for x in (forward, strike, years)]
    low, high = black76.price_coin(*arrays, np.array([vol, vol * up]), np.array([is_call, is_call]))
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0) / forward
    assert intrinsic <= low * (1 + 1e-14)
    assert low <= high * (1 + 1e-14)
    assert high <= (1.0 if is_call else strike / forward)


@given(forwards, st.floats(-5, 5), years_left, vols)
def test_implied_volatility_inverts_the_price(forward: float, sigmas: float, years: float, vol: float) -> None:
    strike = forward * math.exp(sigmas * vol * math.sqrt(years))
    is_call = np.array([sigmas >= 0])
    arrays = [np.array([x]) for x in (forward, strike, years)]
    price = black76.price_coin(*arrays, np.array([vol]), is_call)
    assert implied_volatility(price, *arrays, is_call)[0] == pytest.approx(vol, rel=1e-10)


@given(forwards, moneyness, years_left, vols, st.booleans())
def test_premium_adjusted_delta_is_delta_less_the_premium(forward: float, k: float, years: float, vol: float, is_call: bool) -> None:
    arrays = [np.array([x]) for x in (forward, forward * math.exp(k), years, vol)]
    price, delta, *_ = black76.greeks(*arrays, np.array([is_call]))
    assert black76.delta_premium_adjusted(*arrays, np.array([is_call]))[0] == pytest.approx(delta[0] - price[0], abs=1e-14)


def test_prices_no_volatility_gives_have_none() -> None:
    forward, strike, years = (np.full(6, x) for x in (100.0, 90.0, 0.5))
    price = np.array([0.05, 0.1, 1.0, 1.1, -0.1, np.nan])  # under intrinsic, intrinsic, the bound, over it, negative, unknown
    assert np.isnan(implied_volatility(price, forward, strike, years, np.full(6, True))).all()


@given(forwards, st.floats(-7, 7), years_left, st.booleans(), st.floats(0, 3))
def test_no_price_at_or_over_the_bound_has_a_volatility(forward: float, k: float, years: float, is_call: bool, over: float) -> None:
    strike = forward * math.exp(k)
    bound = (1.0 if is_call else strike / forward) * (1 + over)
    arrays = [np.array([x]) for x in (bound, forward, strike, years)]
    assert np.isnan(implied_volatility(*arrays, np.array([is_call]))[0])


@given(st.lists(st.floats(allow_nan=True), min_size=4, max_size=4), st.booleans())
def test_no_input_whatever_raises_or_gives_a_negative_volatility(values: list[float], is_call: bool) -> None:
    arrays = [np.array([v]) for v in values]
    black76.greeks(*arrays, np.array([is_call]))
    black76.delta_premium_adjusted(*arrays, np.array([is_call]))
    implied = implied_volatility(*arrays, np.array([is_call]))[0]
    assert math.isnan(implied) or implied >= 0


def test_without_time_or_volatility_the_price_is_intrinsic() -> None:
    arrays = [np.array(x) for x in ([100.0, 100.0], [90.0, 90.0], [0.0, 1.0], [0.5, 0.0])]
    price, delta, gamma, vega, theta = black76.greeks(*arrays, np.array([True, False]))
    assert price.tolist() == [0.1, 0.0]
    assert delta.tolist() == [1.0, 0.0]
    assert not gamma.any()
    assert not vega.any()
    assert not theta.any()


def test_nan_in_nan_out() -> None:
    nan = np.array([np.nan])
    ones = np.array([1.0])
    for position in range(4):
        arrays = [ones, ones, ones, ones]
        arrays[position] = nan
        assert all(np.isnan(x[0]) for x in black76.greeks(*arrays, np.array([True])))


@pytest.mark.data
def test_marks_of_real_chains_follow_from_their_mark_iv(market_data: Path) -> None:
    import polars as pl

    columns = ["timestamp", "expiry_datetime", "underlying", "strike", "option_type", "implied_volatility", "mark_price"]
    rows = pl.concat([pl.read_parquet(f, columns=columns) for f in sorted((market_data / "deribit_6h_2026").glob("*.parquet"))])
    rows = rows.drop_nulls().filter(pl.col("expiry_datetime") > pl.col("timestamp"))
    assert rows.height == 769_346
    years = (rows["expiry_datetime"] - rows["timestamp"]).dt.total_microseconds().to_numpy() / 1e6 / (365 * 86_400)
    arrays = [rows[c].to_numpy() for c in ("underlying", "strike")]
    price = black76.price_coin(*arrays, years, rows["implied_volatility"].to_numpy(), (rows["option_type"] == "call").to_numpy())
    mark = rows["mark_price"].to_numpy()
    error = np.abs(price - mark)
    assert np.median(error) <= 5e-6
    assert np.quantile(error, 0.99) <= 5e-4
    assert np.median(error[mark > 0]) <= 5.5e-6  # without the 1 % of rows marked 0, which any tiny price meets

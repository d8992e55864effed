"""The vector kernels on hard points against fifty digits, and that they stay vectors, whole and independent of place."""

from __future__ import annotations

import importlib.util
import itertools
import math
import platform
from pathlib import Path

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numba import njit

from options_agent.pricing import chain_greeks, chain_implied, elementary, mills
from options_agent.pricing.black76 import greeks, greeks_scalar, price_coin, price_usd
from options_agent.pricing.implied import implied_scalar, implied_volatility
from tests.unit.pricing.reference import black76 as exact

NAMES = ("coin", "delta", "gamma", "vega", "theta")
YEARS = (1 / 8_760, 1 / 365, 7 / 365, 30 / 365, 1.0)
VOLS = (0.05, 0.2, 0.6, 1.5, 3.0)
SIGMAS = (0.0, 1e-9, 1e-6, 1e-3, *np.arange(0.5, 8.01, 0.5))


def _hard_points() -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """1 hour to 1 year, 5 to 300 % volatility, 0 to 8 deviations to both sides, calls and puts, and their exact figures."""
    rows = []
    for years, vol, sigmas, side, is_call in itertools.product(YEARS, VOLS, SIGMAS, (1, -1), (True, False)):
        rows.append((90_000.0, 90_000.0 * math.exp(side * sigmas * vol * math.sqrt(years)), years, vol, is_call))
    columns = tuple(np.array(column) for column in zip(*rows, strict=True))
    truths = [exact(*row[:4], row[4]) for row in rows]
    return columns, {name: np.array([float(truth[name]) for truth in truths]) for name in NAMES}


@pytest.fixture(scope="module")
def hard() -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    return _hard_points()


def test_hard_points_have_price_and_greeks_to_1e_12(hard: tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]) -> None:
    columns, truth = hard
    for name, values in zip(NAMES, greeks(*columns), strict=True):
        assert np.abs(values / truth[name] - 1).max() < 1e-12, name


def test_hard_points_out_of_the_money_have_their_volatility_to_1e_12(hard: tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]) -> None:
    (forward, strike, years, vol, is_call), truth = hard
    out = is_call == (strike >= forward)
    got = implied_volatility(truth["coin"][out], forward[out], strike[out], years[out], is_call[out])
    assert np.abs(got / vol[out] - 1).max() < 1e-12


def test_hard_points_in_the_money_have_what_the_digits_of_their_price_tell(
    hard: tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]],
) -> None:
    (forward, strike, years, vol, is_call), truth = hard
    inside = is_call != (strike >= forward)
    price = truth["coin"][inside]
    got = implied_volatility(price, forward[inside], strike[inside], years[inside], is_call[inside])
    last_digit = price * np.finfo(float).eps / (100 * truth["vega"][inside] / forward[inside] * vol[inside])
    told = last_digit < 1e-3
    assert (np.abs(got / vol[inside] - 1)[told] < np.maximum(1e-12, 8 * last_digit[told])).all()
    assert told.mean() > 0.6


def test_few_hard_points_need_the_scalar_functions(hard: tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]) -> None:
    (forward, strike, years, vol, is_call), truth = hard
    assert chain_greeks.fill_greeks(forward, strike, years, vol, is_call, np.empty((5, forward.size))) < 0.02 * forward.size
    out = is_call == (strike >= forward)
    columns = (*(column[out] for column in (truth["coin"], forward, strike, years, is_call)), np.empty(out.sum()))
    assert chain_implied.fill_implied(*columns) < 0.07 * out.sum()  # strikes 256 forwards away among them


@given(st.integers(0, 2**31), st.integers(0, 400), st.integers(0, 400))
@hypothesis_settings(max_examples=30)
def test_no_figure_depends_on_a_row_s_place_or_neighbours(seed: int, n: int, skip: int) -> None:
    rng = np.random.default_rng(seed)
    years, vol, forward = rng.uniform(1e-4, 2, n), rng.uniform(0.02, 3, n), rng.uniform(1, 1e5, n)
    strike = forward * np.exp(rng.uniform(-6, 6, n) * vol * np.sqrt(years))
    is_call = rng.random(n) < 0.5
    vol[rng.random(n) < 0.05] = np.nan
    whole = greeks(forward, strike, years, vol, is_call)
    part = greeks(forward[skip:], strike[skip:], years[skip:], vol[skip:], is_call[skip:])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[skip:], b)
    solved = implied_volatility(whole[0], forward, strike, years, is_call)
    alone = implied_volatility(whole[0][skip:], forward[skip:], strike[skip:], years[skip:], is_call[skip:])
    np.testing.assert_array_equal(solved[skip:], alone)


def test_unusual_rows_are_what_the_scalar_functions_say() -> None:
    values = (0.0, -1.0, 1e-320, 1e-200, 1e-8, 0.3, 1.0, 30.0, 1e200, math.inf, -math.inf, math.nan)
    rows = list(itertools.product((90_000.0, *values), (80_000.0, *values), (0.1, *values), (0.6, *values), (True, False)))
    columns = tuple(np.array(column) for column in zip(*rows, strict=True))
    got = np.array(greeks(*columns))
    want = np.array([greeks_scalar(*row) for row in rows]).T
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-290)
    forward, strike, years, price, is_call = columns
    solved = implied_volatility(price, forward, strike, years, is_call)
    alone = np.array([implied_scalar(row[3], *row[:3], row[4]) for row in rows])
    np.testing.assert_allclose(solved, alone, rtol=1e-11)


@given(st.integers(0, 2**31), st.sampled_from([1.0, 3.0, 9.0]))
@hypothesis_settings(max_examples=10)
def test_whatever_the_price_the_volatility_is_the_scalar_solver_s(seed: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    n = 1_000
    years, forward = np.exp(rng.uniform(math.log(1e-6), math.log(3), n)), np.exp(rng.uniform(0, 13, n))
    strike = forward * np.exp(rng.uniform(-reach, reach, n) * np.exp(rng.uniform(-4, 1.6, n)) * np.sqrt(years))
    is_call = rng.random(n) < 0.5
    price = np.where(is_call, 1.0, strike / forward) * rng.random(n)
    rows = zip(price, forward, strike, years, is_call, strict=True)
    want = np.array([implied_scalar(*row) for row in rows])
    np.testing.assert_allclose(implied_volatility(price, forward, strike, years, is_call), want, rtol=1e-12)


def test_any_layout_of_the_columns_will_do() -> None:
    forward, strike, years, vol = (np.linspace(a, b, 600) for a, b in ((90.0, 110.0), (100.0, 101.0), (0.1, 1.0), (0.3, 0.9)))
    is_call = np.arange(600) % 2 == 0
    want = price_coin(forward[::2].copy(), strike[::2].copy(), years[::2].copy(), vol[::2].copy(), is_call[::2].copy())
    locked = strike[::2].copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(price_coin(forward[::2], locked, list(years[::2]), vol[::2], is_call[::2].astype(int)), want)
    np.testing.assert_array_equal(price_usd(forward[::2], locked, years[::2], vol[::2], is_call[::2]), want * forward[::2])
    assert [x.size for x in greeks([], [], [], [], [])] == [0] * 5
    assert implied_volatility([], [], [], [], []).size == 0


def test_columns_of_different_length_are_refused() -> None:
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(ValueError, match="one length"):
        greeks(one, two, one, one, one > 0)
    with pytest.raises(ValueError, match="one length"):
        implied_volatility(one, one, one, one, two > 0)


def test_the_tables_are_what_their_script_makes() -> None:
    path = Path(__file__).resolve().parents[3] / "scripts" / "pricing_coefficients.py"
    spec = importlib.util.spec_from_file_location("pricing_coefficients", path)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, table in script.tables().items():
        assert table == getattr(mills if name.startswith("MILLS") else elementary, name), name


@njit(error_model="numpy")
def _logarithm(x: float, y: float) -> float:
    near, exponent = elementary.octaves(x, y)
    return elementary.logarithm((x - near) / (x + near), exponent)


@given(st.floats(1e-90, 1e90), st.one_of(st.floats(1e-90, 1e90), st.floats(0.5, 2.0)))
def test_the_logarithm_agrees_with_fifty_digits(x: float, ratio: float) -> None:
    y = x / ratio
    want = mp.log(mp.mpf(x) / mp.mpf(y))
    assert abs(_logarithm(x, y) - want) <= 5e-16 * abs(want)


@given(st.floats(-40, 40))
def test_the_density_agrees_with_fifty_digits(d: float) -> None:
    want = mp.npdf(d)
    got = elementary.density(d)
    assert got == 0.0 if want < 1e-308 else abs(got / want - 1) < 5e-16 * (1 + d * d) or want < 4e-308


@given(st.floats(-1, 40), st.floats(1e-7, 60))
def test_the_mills_ratio_and_its_divided_difference_agree_with_fifty_digits(a: float, apart: float) -> None:
    b = a + apart
    apart = b - a
    if apart <= 0:
        return
    n_a, n_ab, d_a, d_ab = mills.numerator_and_denominator(a, b)
    ratio = [mp.erfc(mp.mpf(z) / mp.sqrt(2)) / 2 / mp.npdf(z) for z in (a, b)]
    n_b, d_b = n_a + apart * n_ab, d_a + apart * d_ab
    assert abs(n_a / d_a / ratio[0] - 1) < 1e-14
    assert abs(n_b / d_b / ratio[1] - 1) < 1e-14
    difference = (n_a * d_ab - n_ab * d_a) / (d_a * d_b) * apart
    assert abs(difference / (ratio[0] - ratio[1]) - 1) < 2e-13


@given(st.floats(-7, math.log(1.6)), st.floats(0, 10))
def test_the_solver_starts_so_near_that_one_step_is_enough(log_v: float, a: float) -> None:
    v = math.exp(log_v)
    x = a * v
    if 0.5 * v - a > 1:
        return
    h, t = mp.mpf(-a), mp.mpf(v) / 2
    b = mp.exp(h * t) * mp.ncdf(h + t) - mp.exp(-h * t) * mp.ncdf(h - t)
    assert abs(chain_implied.start(x, float(mp.log(b)), float(b)) / v - 1) < 1.4e-3


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads this processor's instructions")
@pytest.mark.parametrize("kernel", [chain_greeks.fill_greeks, chain_implied.fill_implied], ids=["greeks", "implied"])
def test_the_kernels_are_vector_instructions_without_calls(kernel: object) -> None:
    fresh = njit(error_model="numpy")(kernel.py_func)  # type: ignore[attr-defined]
    rows = chain_greeks.BLOCK
    numbers = [np.full(rows, 0.25) for _ in range(4)]
    fresh(*numbers, np.ones(rows, np.bool_), np.empty((5, rows)) if kernel is chain_greeks.fill_greeks else np.empty(rows))
    (assembly,) = fresh.inspect_asm().values()
    lines = assembly.splitlines()
    packed, single = (sum(word in line for line in lines) for word in ("divpd", "divsd"))
    assert packed >= 3
    assert packed > single
    assert not any("call" in line and name in line for line in lines for name in ("$log", "$exp", "$erfc"))

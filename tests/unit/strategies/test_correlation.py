"""Correlation as known at each time: against a slow reference, without a look ahead; and the sizes made of it."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from options_agent.strategies.correlation import HOUR_US, LEAST_COVERAGE, causal_correlation, size_factor

START = 1_767_571_200_000_000
DAY = 24 * HOUR_US


def walk(seed: int, days: int = 30, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hourly times and two prices that move together by half."""
    random = np.random.default_rng(seed)
    ts = START + np.arange(24 * days, dtype=np.int64) * HOUR_US
    common, own = random.normal(0, 0.01, ts.size), random.normal(0, 0.01, (2, ts.size))
    a, b = 90_000 * np.exp(np.cumsum(common + own[0])), 3_000 * np.exp(np.cumsum(common + own[1]))
    kept = random.random(ts.size) >= missing
    return ts[kept], a[kept], b[kept]


def slow(at: int, ts: list[int], a: list[float], b: list[float], window_days: float, step_hours: float) -> float:
    """Pearson's over the steps of the window that had ended by `at`, one by one."""
    step = int(step_hours * HOUR_US)

    def price(when: int, prices: list[float]) -> float | None:
        known = [(t, p) for t, p in zip(ts, prices, strict=True) if t <= when]
        return known[-1][1] if known and when - known[-1][0] < step else None

    width = round(window_days * DAY / step)
    first, last = ts[0] // step, at // step
    pairs = []
    for n in range(max(first + 1, last - width + 1), last + 1):
        ends = [price(when, prices) for prices in (a, b) for when in ((n - 1) * step, n * step)]
        if None not in ends:
            known = [math.log(p) for p in ends if p is not None]
            pairs.append((known[1] - known[0], known[3] - known[2]))
    if len(pairs) < LEAST_COVERAGE * width:
        return math.nan
    return statistics.correlation([x for x, _ in pairs], [y for _, y in pairs])


@limits(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), missing=st.sampled_from([0.0, 0.2, 0.6]), step=st.sampled_from([1.0, 4.0, 8.0]))
def test_it_agrees_with_the_slow_reference(seed: int, missing: float, step: float) -> None:
    ts, a, b = walk(seed, 12, missing)
    known_at = START + np.array([1, 30, 90, 150, 222, 288, 300], np.int64) * HOUR_US + 1_234
    found = causal_correlation(known_at, ts, a, ts, b, 5.0, step)
    expected = [slow(int(at), ts.tolist(), a.tolist(), b.tolist(), 5.0, step) for at in known_at]
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


@limits(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(100, 600))
def test_the_future_changes_nothing(seed: int, cut: int) -> None:
    ts, a, b = walk(seed)
    known_at = START + np.arange(0, 720, 7, dtype=np.int64) * HOUR_US
    before = causal_correlation(known_at, ts, a, ts, b, 10.0)
    later = np.where(np.arange(ts.size) > cut, np.random.default_rng(seed + 1).uniform(0.2, 3.0, ts.size), 1.0)
    after = causal_correlation(known_at, ts, a * later, ts, b / later, 10.0)
    known = known_at <= ts[cut]
    assert np.array_equal(before[known], after[known], equal_nan=True)
    assert not np.array_equal(before, after, equal_nan=True)
    short = causal_correlation(known_at[known], ts[: cut + 1], a[: cut + 1], ts[: cut + 1], b[: cut + 1], 10.0)
    assert np.array_equal(before[known], short, equal_nan=True)


def test_a_price_with_itself_is_one_and_with_its_inverse_minus_one() -> None:
    ts, a, _ = walk(3)
    at = ts[-1:]
    assert causal_correlation(at, ts, a, ts, 7 * a) == pytest.approx([1.0])
    assert causal_correlation(at, ts, a, ts, 7 / a) == pytest.approx([-1.0])


def test_it_is_unknown_where_there_is_too_little() -> None:
    ts, a, b = walk(4)
    none = np.empty(0, np.int64)
    assert np.isnan(causal_correlation(ts[-1:], ts, a, none, np.empty(0))).all()
    assert causal_correlation(none, ts, a, ts, b).size == 0
    early = causal_correlation(ts, ts, a, ts, b, 20.0, 1.0)
    assert np.isnan(early[: 24 * 10]).all()
    assert np.isfinite(early[24 * 10 + 1 :]).all()
    assert np.isnan(causal_correlation(ts[-1:] + 40 * DAY, ts, a, ts, b, 20.0)).all()


def test_a_price_that_stands_still_has_none() -> None:
    ts, a, b = walk(5, 60)
    b = np.where(np.arange(ts.size) > 480, b[480], b)
    found = causal_correlation(ts, ts, a, ts, b, 10.0)
    assert np.isfinite(found[300])
    assert np.isnan(found[24 * 32 :]).all()


@limits(deadline=None)
@given(
    known=st.lists(st.floats(-1, 1) | st.just(math.nan), min_size=1, max_size=20),
    full_below=st.floats(-0.5, 0.95),
    least=st.floats(0, 1),
)
def test_a_size_is_whole_below_and_least_at_one(known: list[float], full_below: float, least: float) -> None:
    found = size_factor(np.array(known), full_below, least)
    for one, factor in zip(known, found, strict=True):
        assert least - 1e-12 <= factor <= 1
        if math.isnan(one) or one == 1:
            assert factor == pytest.approx(least)
        elif one <= full_below:
            assert factor == 1
        else:
            assert factor == pytest.approx(1 - (1 - least) * (one - full_below) / (1 - full_below))
    ordered = size_factor(np.sort(np.array([k for k in known if not math.isnan(k)])), full_below, least)
    assert (np.diff(ordered) <= 1e-12).all()


def test_sizes_of_the_defaults() -> None:
    assert size_factor(np.array([-1.0, 0.5, 0.75, 1.0, math.nan])).tolist() == [1.0, 1.0, 0.75, 0.5, 0.5]

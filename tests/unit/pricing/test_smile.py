"""The smile fit follows a smooth smile and is not dragged by bad points."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from options_agent.pricing.smile import LEAST_POINTS, smile_residuals


def _smile(k: np.ndarray, level: float = 0.6) -> np.ndarray:
    return level * np.exp(-0.15 * np.arctan(k / 0.2) + 0.08 * np.arctan(k / 0.2) ** 2)


@given(st.integers(0, 2**31), st.integers(12, 80), st.floats(0.3, 1.5))
def test_a_few_wild_points_stand_out_and_leave_the_fit_alone(seed: int, n: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    k = np.sort(rng.uniform(-0.8, 0.8, n))
    iv = _smile(k, level) * np.exp(0.003 * rng.standard_normal(n))
    wild = rng.choice(n, max(1, n // 12), replace=False)
    spoilt = iv.copy()
    spoilt[wild] *= rng.choice([0.4, 2.0], wild.size)
    fitted, _ = smile_residuals(np.array([0, n]), k, spoilt, np.ones(n))
    good = np.setdiff1d(np.arange(n), wild)
    assert np.median(np.abs(np.log(fitted[good] / iv[good]))) < 0.02
    assert (np.abs(np.log(spoilt[wild] / fitted[wild])) > 0.3).all()


def test_too_few_points_give_no_verdict() -> None:
    k = np.linspace(-0.1, 0.1, LEAST_POINTS - 1)
    fitted, scale = smile_residuals(np.array([0, k.size]), k, _smile(k), np.ones(k.size))
    assert np.isnan(fitted).all()
    assert np.isnan(scale).all()


def test_groups_do_not_see_each_other() -> None:
    k = np.linspace(-0.5, 0.5, 20)
    both = np.concatenate([_smile(k, 0.5), _smile(k, 1.2)])
    fitted, _ = smile_residuals(np.array([0, 20, 40]), np.concatenate([k, k]), both, np.ones(40))
    alone, _ = smile_residuals(np.array([0, 20]), k, both[:20], np.ones(20))
    assert (fitted[:20] == alone).all()


def test_a_row_without_iv_still_gets_the_fitted_value() -> None:
    k = np.linspace(-0.5, 0.5, 20)
    iv = _smile(k)
    iv[7] = np.nan
    fitted, _ = smile_residuals(np.array([0, 20]), k, iv, np.ones(20))
    assert abs(fitted[7] / _smile(k)[7] - 1) < 0.01


def test_a_wild_point_at_a_lonely_end_does_not_throw_out_its_good_neighbours() -> None:
    k = np.array([-0.79, -0.62, -0.43, -0.19, -0.18, 0.07, 0.13, 0.57, 0.67, 0.70, 0.72, 0.76])
    spoilt = _smile(k, 1.0)
    spoilt[0] *= 2.0
    fitted, _ = smile_residuals(np.array([0, k.size]), k, spoilt, np.ones(k.size))
    assert np.abs(np.log(fitted / _smile(k, 1.0))).max() < 0.05

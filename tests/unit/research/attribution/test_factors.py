"""The factor regression against an independent one, and its honest refusals."""

from __future__ import annotations

import numpy as np
import pytest

from options_agent.research.attribution.factors import regress


def newey_west(y: np.ndarray, x: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and errors by the formula, with the small-sample correction n / (n - k)."""
    n, k = x.shape
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ y
    scores = x * (y - x @ beta)[:, None]
    middle = scores.T @ scores
    for lag in range(1, lags + 1):
        cross = scores[lag:].T @ scores[:-lag]
        middle += (1 - lag / (lags + 1)) * (cross + cross.T)
    return beta, np.sqrt(np.diag(inverse @ middle @ inverse) * n / (n - k))


def test_coefficients_and_errors_are_the_formulas() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=150), random.normal(size=150)
    y = 0.01 * a - 0.02 * b + 0.01 * np.convolve(random.normal(size=152), [1, 1, 1], "valid")[:150]
    found = regress(y, {"index_return": a, "skew_change": b})
    scaled = np.column_stack([np.ones(150), (a - a.mean()) / a.std(), (b - b.mean()) / b.std()])
    beta, error = newey_west(y, scaled, found.lags)
    for n, name in enumerate(("constant", "index_return", "skew_change")):
        assert found.rows[name]["coefficient"] == pytest.approx(beta[n], rel=1e-9)
        assert found.rows[name]["error"] == pytest.approx(error[n], rel=1e-9)
        assert found.rows[name]["t"] == pytest.approx(beta[n] / error[n], rel=1e-9)


def test_what_is_unknown_or_still_is_left_out_and_few_days_support_nothing() -> None:
    random = np.random.default_rng(3)
    y, a = random.normal(size=60), random.normal(size=60)
    found = regress(y, {"index_return": a, "funding": np.full(60, np.nan), "skew_change": np.ones(60)})
    assert set(found.rows) == {"constant", "index_return"}
    assert found.left_out == {"funding": "known on 0 of 60 days", "skew_change": "it does not move"}
    few = regress(y[:12], {"index_return": a[:12]})
    assert few.rows == {}
    assert "12 days are too few" in few.left_out["index_return"]

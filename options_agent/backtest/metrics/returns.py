"""Metrics of daily returns. Each takes simple returns as decimals, oldest first, and is NaN where it is not defined."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from options_agent.backtest.metrics.drawdown import max_drawdown
from options_agent.backtest.metrics.grid import YEAR_DAYS, daily_returns
from options_agent.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Returns = NDArray[np.float64]


@compiled()
def growth(values: NDArray[np.float64]) -> float:
    """The last of a series over the first, less 1."""
    return values[-1] / values[0] - 1.0 if values.size else math.nan


def annual_return(returns: Returns) -> float:
    """Growth of the whole to the power of 365 over the days, less 1."""
    if returns.size == 0:
        return math.nan
    return float(np.exp(np.log1p(returns).sum() * YEAR_DAYS / returns.size) - 1)


def volatility(returns: Returns) -> float:
    """Sample deviation times sqrt(365)."""
    return float(returns.std(ddof=1) * math.sqrt(YEAR_DAYS)) if returns.size > 1 else math.nan


@compiled()
def _vary(values: Returns) -> bool:
    for value in values:  # noqa: SIM110 (compiled)
        if value != values[0]:
            return True
    return False


@compiled()
def sharpe_of(returns: Returns) -> float:
    """Mean over sample deviation, times sqrt(365); NaN without variation."""
    if returns.size < 2 or not _vary(returns):
        return math.nan
    mean, square = returns.sum() / returns.size, 0.0
    for one in returns:
        square += (one - mean) ** 2
    return mean / math.sqrt(square / (returns.size - 1)) * math.sqrt(YEAR_DAYS)


def sharpe(ts: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Annualised Sharpe ratio of daily returns of `values`; NaN under ten days, without variation, or after ruin."""
    return sharpe_of(daily_returns(ts, values))


@compiled()
def sortino(returns: Returns) -> float:
    """Mean over the root mean square of the losses (all days counted), times sqrt(365); NaN without a loss."""
    square = 0.0
    for one in returns:
        square += min(one, 0.0) ** 2
    if square == 0.0:
        return math.nan
    return returns.sum() / returns.size / math.sqrt(square / returns.size) * math.sqrt(YEAR_DAYS)


def calmar(returns: Returns) -> float:
    """Annual return over the largest drawdown of the daily equity; NaN without one."""
    deepest = max_drawdown(wealth(returns))
    return annual_return(returns) / deepest if deepest > 0 else math.nan


def omega(returns: Returns) -> float:
    """Sum of the gains over the sum of the losses; NaN without a loss."""
    lost = float(-returns[returns < 0].sum())
    return float(returns[returns > 0].sum()) / lost if lost > 0 else math.nan


def tail_ratio(returns: Returns) -> float:
    """95 % quantile over the size of the 5 % quantile; NaN where that is nothing."""
    if returns.size == 0:
        return math.nan
    low, high = np.quantile(returns, (0.05, 0.95))
    return float(abs(high) / abs(low)) if low != 0 else math.nan


@compiled()
def _moment(returns: Returns, power: int) -> float:
    if returns.size < 2 or not _vary(returns):
        return math.nan
    mean, square, high = returns.sum() / returns.size, 0.0, 0.0
    for one in returns:
        square += (one - mean) ** 2
        high += (one - mean) ** power
    return (high / returns.size) / (square / returns.size) ** (power / 2)


@compiled()
def skew(returns: Returns) -> float:
    """Third standardised moment of the sample (no correction for its size); NaN without variation."""
    return _moment(returns, 3)


@compiled()
def kurtosis(returns: Returns) -> float:
    """Fourth standardised moment of the sample less 3 (no correction for its size); NaN without variation."""
    return _moment(returns, 4) - 3


def value_at_risk(returns: Returns) -> float:
    """The 5 % quantile of daily returns, interpolated; a loss is negative."""
    return float(np.quantile(returns, 0.05)) if returns.size else math.nan


def expected_shortfall(returns: Returns) -> float:
    """Mean of the worst returns, of which there are 1 + the whole part of 5 % of (days - 1); a loss is negative."""
    if returns.size == 0:
        return math.nan
    return float(np.sort(returns)[: int((returns.size - 1) * 0.05) + 1].mean())


def best_day(returns: Returns) -> float:
    """Largest daily return."""
    return float(returns.max()) if returns.size else math.nan


def worst_day(returns: Returns) -> float:
    """Smallest daily return."""
    return float(returns.min()) if returns.size else math.nan


def up_days(returns: Returns) -> float:
    """Share of positive days among those that moved; NaN where none did."""
    moved = np.count_nonzero(returns)
    return float(np.count_nonzero(returns > 0) / moved) if moved else math.nan


def ulcer_index(returns: Returns) -> float:
    """Root of the sum of squared drawdowns of the daily equity over (days - 1)."""
    if returns.size < 2:
        return math.nan
    path = wealth(returns)
    depth = 1 - path / np.maximum.accumulate(path)
    return math.sqrt(float((depth**2).sum() / (returns.size - 1)))


def wealth(returns: Returns) -> NDArray[np.float64]:
    """What 1 becomes: 1, then after each return."""
    return np.concatenate(((1.0,), np.cumprod(1 + returns)))

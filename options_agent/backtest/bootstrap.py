"""The stationary bootstrap of a run's days: how far its headline numbers would move had the same days come in another order.

Politis and Romano 1994, with the block length of Politis and White 2004 as corrected by Patton, Politis and White 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.backtest.metrics.grid import LEAST_RETURNS, YEAR_DAYS, midnights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES: Final = 2_000
#: Of every interval: one for all, so that an interval moves only where its days do, and runs on the same days are drawn alike.
SEED: Final = 20_260_105
#: Numbers of one piece of work: what is held in memory at a time is a few arrays of this many.
_PIECE: Final = 500_000


@dataclass(frozen=True, slots=True)
class Days:
    """Days of an equity, each seen from the value it began with, so that days in any order make an equity with its drawdown.

    Attributes:
        growth: value at the end over the value at the start.
        high, low: largest and smallest value within the day over the value at the start.
        fall: largest drawdown within the day.
    """

    growth: Floats
    high: Floats
    low: Floats
    fall: Floats


@dataclass(frozen=True, slots=True)
class Resampled:
    """Headline numbers of each resample.

    Attributes:
        sharpe: annualised; NaN where a resample has no variation.
        growth: value at the end over the value at the start.
        drawdown: largest, as a share of the peak.
    """

    sharpe: Floats
    growth: Floats
    drawdown: Floats


def days_of(ts: NDArray[np.int64], values: Floats) -> Days | None:
    """Whole UTC days of an equity (times in microseconds, ascending); None of fewer than ten, or after ruin."""
    edges = midnights(ts)
    if edges.size <= LEAST_RETURNS or not (values > 0).all():
        return None
    last = np.searchsorted(ts, edges, side="right") - 1
    pieces = [values[a : b + 1] / values[a] for a, b in pairwise(last)]
    fall = [float(np.max(1 - piece / np.maximum.accumulate(piece))) for piece in pieces]
    return Days(
        values[last[1:]] / values[last[:-1]],
        np.array([piece.max() for piece in pieces]),
        np.array([piece.min() for piece in pieces]),
        np.array(fall),
    )


def block_length(values: Floats) -> float:
    """The mean block, in observations, that suits the series' own persistence; at least 1, and 1 without variation.

    Autocovariances count up to the lag from which five (or log10 n) autocorrelations in a row are insignificant, through a flat-top
    window; at most 3 sqrt(n) or a third of the series.
    """
    n = values.size
    if n < 2 or np.ptp(values) == 0:
        return 1.0
    centred = values - values.mean()
    in_a_row = max(5, int(math.log10(n)))
    most = min(math.ceil(math.sqrt(n)) + in_a_row, n - 2)
    covariance, correlation = np.zeros(most + 1), np.zeros(most + 1)
    for lag in range(most + 1):
        cross = float(centred[lag:] @ centred[: n - lag])
        # the norms leave out one observation more than the product does: the authors' own program, and arch, do so
        norm = math.sqrt(float(centred[lag + 1 :] @ centred[lag + 1 :]) * float(centred[: -(lag + 1)] @ centred[: -(lag + 1)]))
        covariance[lag] = cross / n
        correlation[lag] = abs(cross) / norm if norm > 0 else 0.0
    small = correlation < 2 * math.sqrt(math.log10(n) / n)
    ends = [lag for lag in range(in_a_row, most + 1) if small[lag - in_a_row : lag].all()]
    width = min(2 * max(ends[0] - in_a_row, 1), most) if ends else most
    lags = np.arange(1, width + 1)
    window = np.minimum(1.0, 2 * (1 - lags / width))
    slope = float((2 * window * lags * covariance[1 : width + 1]).sum())
    long_run = float(covariance[0] + (2 * window * covariance[1 : width + 1]).sum())
    if long_run == 0:
        return 1.0
    best = float(np.cbrt(slope**2 / long_run**2 * n))
    return max(1.0, min(best, math.ceil(min(3 * math.sqrt(n), n / 3))))


def indices(n: int, block: float, resamples: int, random: np.random.Generator) -> NDArray[np.int64]:
    """(resamples, n) places of 0..n-1: blocks of geometric length with mean `block` from anywhere, wrapped at the end."""
    places = np.arange(n)
    starts = random.integers(0, n, (resamples, n))
    begins = random.random((resamples, n)) < 1 / block
    begins[:, 0] = True
    since = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    return (np.take_along_axis(starts, since, axis=1) + places - since) % n


def resample(days: Days, block: float, seed: int, resamples: int = RESAMPLES) -> Resampled:
    """Sharpe ratio, growth and drawdown of the days in resampled order; the same seed gives the same bytes."""
    random, n = np.random.default_rng(seed), days.growth.size
    at_once = max(1, _PIECE // n)
    sizes = (min(at_once, resamples - done) for done in range(0, resamples, at_once))
    pieces = [headlines(days, indices(n, block, size, random)) for size in sizes]
    return Resampled(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


def headlines(days: Days, order: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Sharpe ratio, growth and drawdown of the days in each order (resamples, n), as in `Resampled`."""
    growth = days.growth[order]
    returns = growth - 1
    deviation = np.asarray(returns.std(axis=1, ddof=1))
    deviation[np.ptp(returns, axis=1) == 0] = np.nan
    sharpe = returns.mean(axis=1) / deviation * math.sqrt(YEAR_DAYS)
    ends = np.cumprod(growth, axis=1)
    first = np.ones((order.shape[0], 1))
    begins = np.concatenate((first, ends[:, :-1]), axis=1)
    peaks = np.maximum.accumulate(begins * days.high[order], axis=1)
    before = np.concatenate((first, peaks[:, :-1]), axis=1)
    falls = np.maximum(days.fall[order], 1 - begins * days.low[order] / before)
    deepest = falls.max(axis=1)
    return np.asarray(sharpe, np.float64), np.asarray(ends[:, -1], np.float64), np.asarray(deepest, np.float64)


def interval(values: Floats, confidence: float) -> tuple[float, float] | None:
    """Quantiles that leave half of the rest on either side; None where over a tenth of the values are not defined."""
    known = values[np.isfinite(values)]
    if known.size < 0.9 * values.size or known.size == 0:
        return None
    low, high = np.quantile(known, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)

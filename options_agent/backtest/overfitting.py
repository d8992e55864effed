"""How much of a number is luck and choice: probabilistic and deflated Sharpe ratio, and the probability of backtest overfitting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_NORMAL: Final = NormalDist()
_EULER: Final = 0.5772156649015329
#: Splits of one piece of work.
_PIECE: Final = 4_000_000


def probabilistic_sharpe(sharpe: float, observations: float, skew: float, kurtosis: float, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio is above `benchmark` (Bailey and Lopez de Prado 2012).

    Args:
        sharpe, benchmark: per observation (of daily returns: per day, not annualised); deviation of the population.
        observations: returns it was measured on.
        skew, kurtosis: of the returns; kurtosis less 3.

    Returns:
        NaN where an argument is not defined, or where the moments are too extreme for the approximation.
    """
    spread = 1 - skew * sharpe + (kurtosis + 2) / 4 * sharpe**2
    if not (spread > 0 and observations > 1 and math.isfinite(sharpe) and math.isfinite(benchmark)):
        return math.nan
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt((observations - 1) / spread))


def best_by_luck(trials: int, variance: float) -> float:
    """The Sharpe ratio that the best of `trials` skill-less ones is expected to show; 0 of one.

    Args:
        trials: how many were tried, 1 or more; correlated ones count for less, so that counting all is strict.
        variance: of the Sharpe ratios over trials, per observation.
    """
    if trials <= 1:
        return 0.0
    rare, rarer = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - _EULER) * rare + _EULER * rarer)


def deflated_sharpe(sharpe: float, observations: float, skew: float, kurtosis: float, trials: int, variance: float) -> float:
    """Probability that the true Sharpe ratio is above what luck alone gives the best of `trials` (Bailey and Lopez de Prado 2014)."""
    return probabilistic_sharpe(sharpe, observations, skew, kurtosis, best_by_luck(trials, variance))


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What choosing the best configuration in sample was worth out of it.

    Attributes:
        probability: share of splits where the best in sample came out below the median out of sample.
        slope: of its Sharpe ratio out of sample on that in sample, over the splits; below 0 the better in, the worse out.
        logits: of its rank out of sample, one a split; below 0 is below the median.
        chosen: which configuration was the best in sample, one a split.
    """

    probability: float
    slope: float
    logits: Floats
    chosen: NDArray[np.int64]


def backtest_overfitting(returns: Floats, at: NDArray[np.int64], blocks: int = 16) -> Overfitting:
    """Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu 2017), by Sharpe ratio.

    Args:
        returns: (observations, configurations), of one common clock.
        at: times of the observations, ascending. They are asked for because a transposed matrix gives a plausible wrong number.
        blocks: pieces the time is cut into, even; each choice of half of them is a split. 16 make 12,870.

    Raises:
        DataError: shapes do not fit, under two configurations, under two observations a block, odd blocks, or returns not finite.
    """
    _check(returns, at, blocks)
    observations, configurations = returns.shape
    # sums of squares lose no digits to the mean, nor to a configuration's scale
    mean, scale = returns.mean(axis=0), np.maximum(np.abs(returns).max(axis=0), np.finfo(float).tiny)
    centred = (returns - mean) / scale
    sizes = np.full(blocks, observations // blocks)
    sizes[: observations % blocks] += 1
    starts = np.append(0, np.cumsum(sizes)[:-1])
    sums, squares = np.add.reduceat(centred, starts, axis=0), np.add.reduceat(centred**2, starts, axis=0)
    splits = np.array(list(combinations(range(blocks), blocks // 2)))
    inside = np.ones((len(splits), blocks))
    np.put_along_axis(inside, splits, 0.0, axis=1)
    at_once = max(1, _PIECE // configurations)
    found = [_score(part, sizes, sums, squares, mean / scale) for part in np.array_split(inside, math.ceil(len(inside) / at_once))]
    chosen, rank, within, beyond = (np.concatenate(column) for column in zip(*found, strict=True))
    share = rank / (configurations + 1)
    logits = np.log(share / (1 - share))
    varied = float(np.var(within))
    slope = float(np.mean((within - within.mean()) * (beyond - beyond.mean())) / varied) if varied > 0 else math.nan
    return Overfitting(float(np.mean(logits < 0)), slope, logits, chosen.astype(np.int64))


def _score(inside: Floats, sizes: NDArray[np.int64], sums: Floats, squares: Floats, mean: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Of each split: best configuration inside, its rank outside (1 is worst, ties share), its Sharpe ratio inside and outside."""
    within, beyond = _sharpes(inside, sizes, sums, squares, mean), _sharpes(1 - inside, sizes, sums, squares, mean)
    chosen = np.argmax(within, axis=1)
    each = np.arange(len(chosen))
    own = beyond[each, chosen][:, None]
    equal = np.abs(beyond - own) <= 1e-12 * np.maximum(1.0, np.abs(own))
    rank = np.sum((beyond < own) & ~equal, axis=1) + (np.sum(equal, axis=1) + 1) / 2
    return chosen.astype(np.float64), rank, within[each, chosen], own[:, 0]


def _sharpes(picked: Floats, sizes: NDArray[np.int64], sums: Floats, squares: Floats, mean: Floats) -> Floats:
    """(splits, configurations) mean over sample deviation of the picked blocks; 0 without variation, so that it never wins."""
    count = (picked @ sizes)[:, None]
    total, square = picked @ sums, picked @ squares
    variance = (square - total**2 / count) / (count - 1)
    # what is left of a constant stretch is rounding
    varied = variance > 1e-13 * np.maximum(square / count, squares.sum(axis=0) / sizes.sum())
    return np.where(varied, (total / count + mean) / np.sqrt(np.where(varied, variance, 1.0)), 0.0)


def _check(returns: Floats, at: NDArray[np.int64], blocks: int) -> None:
    place, remedy = "backtest_overfitting", "pass (observations, configurations) with the time of each observation"
    if returns.ndim != 2 or at.shape != returns.shape[:1]:
        raise DataError(f"returns of shape {returns.shape} do not fit {at.size} times", place=place, remedy=remedy)
    if at.size > 1 and not (np.diff(at) > 0).all():
        raise DataError("times of the observations do not ascend", place=place, remedy=remedy)
    if blocks < 2 or blocks % 2:
        raise DataError(f"{blocks} blocks cannot be halved", place=place, remedy="an even number, 16 as a rule")
    if returns.shape[1] < 2 or returns.shape[0] < 2 * blocks:
        raise DataError(
            f"{returns.shape[0]} observations of {returns.shape[1]} configurations are too few for {blocks} blocks",
            place=place,
            remedy="two configurations and two observations a block at least",
        )
    if not np.isfinite(returns).all():
        raise DataError("returns are not all finite", place=place, remedy="cut to the range that all configurations share")

"""The rule-based labelling: trend (bull, bear, sideways) x weather (calm, stormy).

Rules a person can check by eye, on features that were known; where a feature is not, the label is `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.regimes.surface import Floats, Ints

UNKNOWN: Final = "unknown"
TRENDS: Final = ("bear", "sideways", "bull")
WEATHERS: Final = ("calm", "stormy")
REGIMES: Final = tuple(f"{t}-{w}" for t in ("bull", "sideways", "bear") for w in WEATHERS)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a market is trending, and when it is stormy.

    Attributes:
        trend_score: standard deviations of drift over the trend window that make a bull or a bear.
        stormy_quantile: where today's volatility must stand among those of the look-back to be stormy.
        lookback_days, least_days: how far that look-back goes, and how much of it must exist.
    """

    trend_score: float = 1.0
    stormy_quantile: float = 0.67
    lookback_days: float = 90.0
    least_days: float = 10.0


def trend_labels(score: Floats, thresholds: Thresholds) -> NDArray[np.str_]:
    """`bull`, `bear` or `sideways` per row; `unknown` where the score is NaN."""
    labels = np.where(score >= thresholds.trend_score, "bull", np.where(score <= -thresholds.trend_score, "bear", "sideways"))
    return np.where(np.isfinite(score), labels, UNKNOWN)


def weather_labels(ts: Ints, realised: Floats, implied: Floats, thresholds: Thresholds) -> NDArray[np.str_]:
    """`stormy` where the mean of realised and implied volatility stands high among its own past, else `calm`.

    Args:
        ts: (rows,) microseconds, ascending.
        realised, implied: decimal per year; where one is NaN the other decides alone.
    """
    both = np.where(np.isnan(realised), implied, np.where(np.isnan(implied), realised, 0.5 * (realised + implied)))
    day = 86_400_000_000.0
    rank = trailing_rank(ts, both, thresholds.lookback_days * day, thresholds.least_days * day)
    return np.where(np.isnan(rank), UNKNOWN, np.where(rank >= thresholds.stormy_quantile, "stormy", "calm"))


def regime_labels(trend: NDArray[np.str_], weather: NDArray[np.str_]) -> NDArray[np.str_]:
    """`bull-calm` and so on; `unknown` where either is."""
    known = (trend != UNKNOWN) & (weather != UNKNOWN)
    return np.where(known, np.char.add(np.char.add(trend, "-"), weather), UNKNOWN)


@njit(cache=True)
def trailing_rank(ts: Ints, values: Floats, lookback: float, least: float) -> Floats:
    """Share of the trailing window's values (this one included) that are not above this one.

    Args:
        ts: (rows,) ascending times.
        values: (rows,) NaN where unknown.
        lookback: window length in the unit of `ts`.
        least: how long the known values of the window must span.

    Returns:
        (rows,) in (0, 1], NaN where the value is unknown or the window too short.
    """
    out = np.full(values.size, np.nan)
    first = 0
    for i in range(values.size):
        while ts[i] - ts[first] > lookback:
            first += 1
        if np.isnan(values[i]):
            continue
        earliest = np.int64(-1)
        below = 0
        known = 0
        for j in range(first, i + 1):
            if np.isnan(values[j]):
                continue
            if earliest < 0:
                earliest = ts[j]
            known += 1
            if values[j] <= values[i]:
                below += 1
        if ts[i] - earliest >= least:
            out[i] = below / known
    return out

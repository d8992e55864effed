"""The rule-based labelling: trend (bull, bear, sideways) x weather (calm, stormy).

Rules a person can check by eye, on features that were known; where a feature is not, the label is `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from options_agent.strategies.ranking import trailing_rank

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

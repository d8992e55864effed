"""Falls from a running peak: how deep, when, for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from options_agent.backtest.metrics.grid import DAY_US
from options_agent.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of an equity. Times are microseconds UTC.

    Attributes:
        depth: share of the peak that was lost.
        peak_at: when the peak was left: the last time the equity stood at it.
        trough_at: when it stood lowest.
        recovered_at: when the peak was reached again; None where it never was.
        days: from leaving the peak to reaching it again, or to the end of the run.
    """

    depth: float
    peak_at: int
    trough_at: int
    recovered_at: int | None
    days: float


@compiled()
def max_drawdown(values: NDArray[np.float64]) -> float:
    """Largest fall from a running peak, as a share of the peak; of equity, so never beyond 1 while equity is positive."""
    if values.size == 0:
        return math.nan
    peak, deepest = values[0], 0.0
    for value in values:
        peak = max(peak, value)
        deepest = max(deepest, (peak - value) / peak)
    return deepest


def deepest(ts: NDArray[np.int64], values: NDArray[np.float64]) -> Drawdown | None:
    """The deepest fall with its dates, the first of equals; None where the equity never fell."""
    if values.size == 0:
        return None
    peak = np.maximum.accumulate(values)
    depth = (peak - values) / peak
    trough = int(np.argmax(depth))
    if not depth[trough] > 0:
        return None
    left = int(np.flatnonzero(values[:trough] == peak[trough])[-1])
    again = np.flatnonzero(values[trough:] >= peak[trough])
    back = trough + int(again[0]) if again.size else None
    end = ts[-1] if back is None else ts[back]
    return Drawdown(
        float(depth[trough]), int(ts[left]), int(ts[trough]), None if back is None else int(ts[back]), float(end - ts[left]) / DAY_US
    )


def max_drawdown_days(ts: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Days of the deepest fall, from its peak until that was reached again or the run ended; 0 where equity never fell."""
    if values.size == 0:
        return math.nan
    found = deepest(ts, values)
    return found.days if found else 0.0


def time_under_water(ts: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Share of the time that began below a former peak; a step counts by where it starts."""
    if ts.size < 2 or ts[-1] == ts[0]:
        return math.nan
    below = values < np.maximum.accumulate(values)
    return float(np.average(below[:-1], weights=np.diff(ts)))


def longest_under_water(ts: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Days of the longest time between leaving a peak and reaching it again, or the end of the run."""
    if ts.size == 0:
        return math.nan
    at_peak = np.flatnonzero(values >= np.maximum.accumulate(values))
    starts, ends = ts[at_peak], np.append(ts[at_peak[1:]], ts[-1])
    # a step from peak to peak was never under water, and the last peak counts only where something follows it
    under = np.diff(np.append(at_peak, ts.size)) > 1
    return float(np.max((ends - starts)[under])) / DAY_US if under.any() else 0.0

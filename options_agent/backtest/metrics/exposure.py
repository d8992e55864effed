"""What the account was exposed to, weighted by time: a step counts by the state it starts in. NaN where a run does not have it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from options_agent.backtest.metrics.grid import DAY_US, YEAR_DAYS
from options_agent.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


def over_time(ts: NDArray[np.int64], values: NDArray[np.float64] | NDArray[np.bool_] | None) -> float:
    """Mean over time of what stands in `values` from each time on; steps of unknown (NaN) value are left out."""
    return math.nan if values is None else float(held_over_time(ts, values))


@compiled()
def held_over_time(ts: NDArray[np.int64], values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """`over_time` of known values."""
    total, weight = 0.0, 0.0
    for n in range(ts.size - 1):
        if not math.isnan(values[n]):
            total += values[n] * (ts[n + 1] - ts[n])
            weight += ts[n + 1] - ts[n]
    return total / weight if weight > 0.0 else math.nan


def on_margin(ts: NDArray[np.int64], gained: float, shares: NDArray[np.float64] | None) -> float:
    """What was `gained` (share of the equity) over the mean share of the equity in use as margin while any was; NaN where none was."""
    used = over_time(ts, None if shares is None else np.where(shares > 0, shares, np.nan))
    return gained / used if used > 0 else math.nan


def peak(values: NDArray[np.float64] | NDArray[np.int64] | None) -> float:
    """The largest known value; NaN of none."""
    if values is None or values.size == 0 or np.isnan(values).all():
        return math.nan
    return float(np.nanmax(values))


def turnover(ts: NDArray[np.int64], equity: NDArray[np.float64], contracts: NDArray[np.float64]) -> float:
    """Contracts traded (one is an option on one coin) a year, over the mean equity in coin; NaN of no time or a mean not above 0."""
    if ts.size < 2:
        return math.nan
    years, held = float(ts[-1] - ts[0]) / DAY_US / YEAR_DAYS, over_time(ts, equity)
    return float(np.abs(contracts).sum()) / held / years if held > 0 else math.nan

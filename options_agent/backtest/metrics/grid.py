"""The regular daily grid that ratios are struck on: equity at UTC midnights, and the returns between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_US: Final = 86_400_000_000
YEAR_DAYS: Final = 365
#: Fewer daily returns than this make no ratio.
LEAST_RETURNS: Final = 10


def midnights(ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """UTC midnights within the range of `ts` (microseconds, ascending); the broken days at both ends are left out."""
    if ts.size == 0:
        return ts
    return np.arange(-(-ts[0] // DAY_US) * DAY_US, ts[-1] + 1, DAY_US, dtype=np.int64)


def daily(ts: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value last known at each UTC midnight of the range."""
    if values.size == 0:
        return values
    return values[np.searchsorted(ts, midnights(ts), side="right") - 1]


def daily_returns(ts: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (decimals) between midnights; none at all where there are fewer than `LEAST_RETURNS`, or after ruin."""
    grid = daily(ts, values)
    if grid.size <= LEAST_RETURNS or not (grid > 0).all():
        return np.empty(0)
    return grid[1:] / grid[:-1] - 1

"""Where a value stands among those of its past."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from options_agent.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


def trailing_rank(ts: NDArray[np.int64], values: NDArray[np.float64], lookback: float, least: float) -> NDArray[np.float64]:
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
    _rank(np.ascontiguousarray(ts), np.ascontiguousarray(values, np.float64), float(lookback), float(least), out)
    return out


@compiled()
def _rank(ts: NDArray[np.int64], values: NDArray[np.float64], lookback: float, least: float, out: NDArray[np.float64]) -> None:
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

"""Gamma, vega and theta of the options held, snapshot by snapshot: from the marks' own volatility, by Black-76."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from options_agent.backtest.codes import FILL_OPEN
from options_agent.compiled import compiled
from options_agent.contracts import SECONDS_PER_YEAR
from options_agent.pricing.black76 import greeks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from options_agent.backtest.history import History

YEAR_US: Final = SECONDS_PER_YEAR * 1e6
GREEKS: Final = ("gamma", "vega", "theta")


def greek_exposures(history: History, fills: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """(snapshots,) each: `gamma` (coins of delta per USD), `vega` (coin per point of volatility), `theta` (coin a day) of what is held.

    A leg counts from its opening fill to its closing or settlement, by its last row; one without a mark volatility or
    a forward counts for nothing.

    Args:
        history: what was played.
        fills: as the loop wrote them (`tape.Tape`).
    """
    n = history.snapshots
    total = {name: np.zeros(n) for name in GREEKS}
    size = _held(history.quotes, fills, n, *_room(0))
    rows, since, until, contracts = held_rows = _room(size)
    _held(history.quotes, fills, n, *held_rows)
    if size == 0:
        return total
    quotes, held = history.quotes[rows], history.contracts[history.quotes["contract"][rows]]
    years = (held["expiry"] - history.known_at[quotes["snapshot"]]) / YEAR_US
    usable = np.isfinite(quotes["mark_iv"]) & (quotes["mark_iv"] > 0) & (quotes["forward"] > 0) & (years > 0)
    quotes, held, years, since, until, contracts = (a[usable] for a in (quotes, held, years, since, until, contracts))
    if years.size == 0:
        return total
    _, _, gamma, vega, theta = greeks(quotes["forward"], held["strike"], years, quotes["mark_iv"], held["call"] == 1)
    index = np.asarray(history.index)[since]
    for name, values in (("gamma", gamma), ("vega", vega / index), ("theta", theta / index)):
        steps = np.zeros(n + 1)
        np.add.at(steps, since, contracts * values)
        np.subtract.at(steps, until, contracts * values)
        total[name] = np.cumsum(steps)[:n]
    return total


def _room(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    return np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)


@compiled()
def _held(
    quotes: NDArray[Any],
    fills: NDArray[np.float64],
    snapshots: int,
    rows: NDArray[np.int64],
    since: NDArray[np.int64],
    until: NDArray[np.int64],
    contracts: NDArray[np.float64],
) -> int:
    """Rows that legs were held on, as far as there is room: row, first snapshot it is the last known, the snapshot it is no more,
    signed contracts. Returns how many there are."""
    found = 0
    for n in range(len(fills)):
        if fills[n, 2] != FILL_OPEN:
            continue
        end: Any = np.int64(snapshots)
        for later in range(n + 1, len(fills)):
            if fills[later, 0] == fills[n, 0] and fills[later, 1] == fills[n, 1]:
                end = np.int64(fills[later, 3])
                break
        row: Any = np.int64(fills[n, 4])
        first: Any = np.int64(fills[n, 3])
        while row >= 0 and first < end:
            following = np.int64(quotes[row].next)
            last = np.int64(quotes[following].snapshot) if following >= 0 else np.int64(snapshots)
            if found < rows.size:
                rows[found], since[found], until[found], contracts[found] = row, first, min(last, end), fills[n, 6]
            found += 1
            row, first = following, last
    return found

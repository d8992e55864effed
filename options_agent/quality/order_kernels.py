"""Compiled passes over rows in order of snapshot: what was said twice, what goes back in time, where each chain begins.

A series is one instrument from one harvester, a small code; arrays by series are as long as there are codes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Bools = NDArray[np.bool_]

NEVER: Final = -(2**63)


def _read(dtype: types.Type) -> types.Array:
    return types.Array(dtype, 1, "C", readonly=True)


_I, _C, _B = _read(types.int64), _read(types.int32), _read(types.boolean)
_INTS, _BOOLS = types.Array(types.int64, 1, "C"), types.Array(types.boolean, 1, "C")
_PAIR: Any = types.UniTuple(_INTS, 2)  # type: ignore[no-untyped-call]


@njit(types.int64(_I, _I, _I, types.int64, _BOOLS), cache=True, error_model="numpy", nogil=True)
def mark_repeated(order: Ints, series: Ints, snapshot: Ints, codes: int, repeated: Bools) -> int:
    """Mark every row whose (series, snapshot) another row has too; how many those are.

    Args:
        order: row numbers in order of snapshot; empty where the rows lie so.
        codes: how many series there are.
        repeated: (rows,) all false, filled in.
    """
    at, last = np.full(codes, NEVER), np.full(codes, -1)
    seen = np.zeros(codes, np.bool_)
    found = 0
    for n in range(series.size):
        i = order[n] if order.size else n
        s = series[i]
        if seen[s] and at[s] == snapshot[i]:
            if not repeated[last[s]]:
                repeated[last[s]] = True
                found += 1
            repeated[i] = True
            found += 1
        seen[s], at[s], last[s] = True, snapshot[i], i
    return found


@njit(types.int64(_I, _I, _I, _I, _B, _INTS, _INTS), cache=True, error_model="numpy", nogil=True)
def mark_backwards(order: Ints, series: Ints, snapshot: Ints, ts: Ints, believed: Bools, newest: Ints, before: Ints) -> int:
    """For believed rows: the latest ts of a believed row of an earlier snapshot of its series, where that is not before its own.

    Args:
        order: row numbers in order of snapshot; empty where the rows lie so.
        newest: (series,) latest ts of all that came before, `NEVER` for none; brought up to date.
        before: (rows,) all `NEVER`, filled in.

    Returns:
        How many rows go back.
    """
    pending, at = np.full(newest.size, NEVER), np.full(newest.size, NEVER)
    found = 0
    for n in range(series.size):
        i = order[n] if order.size else n
        if not believed[i]:
            continue
        s = series[i]
        if snapshot[i] != at[s]:
            newest[s], at[s] = max(newest[s], pending[s]), snapshot[i]
        if newest[s] != NEVER and ts[i] <= newest[s]:
            before[i] = newest[s]
            found += 1
        else:
            pending[s] = max(pending[s], ts[i])
    for s in range(newest.size):
        newest[s] = max(newest[s], pending[s])
    return found


@njit(_PAIR(_I, _B, _I, _I, _C, _I), cache=True, error_model="numpy", nogil=True)
def chains_in(order: Ints, believed: Bools, harvester: Ints, snapshot: Ints, family: Codes, expiry: Ints) -> tuple[Ints, Ints]:
    """Believed rows in the given order, and the bounds (chains + 1,) of each run of one harvester, snapshot, family and expiry."""
    rows, bounds = np.empty(order.size, np.int64), np.empty(order.size + 1, np.int64)
    count, groups, h = 0, 0, 0
    for n in range(order.size):
        i = order[n]
        if not believed[i]:
            continue
        same = snapshot[i] == snapshot[h] and expiry[i] == expiry[h] and family[i] == family[h] and harvester[i] == harvester[h]
        if count == 0 or not same:
            bounds[groups] = count
            groups += 1
        rows[count], h = i, i
        count += 1
    bounds[groups] = count
    return rows[:count].copy(), bounds[: groups + 1].copy()

"""Compiled passes over a chunk of rows: what `row_checks` asks, all of it at once, a bit a rule; and orders rows already have.

Columns come as they lie in Arrow's buffers, read-only and uncopied; missing numbers are NaN, missing times `NO_TIME`.
The signatures are explicit so that read-only and writable columns share one compilation.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Kinds = NDArray[np.int8]
Bools = NDArray[np.bool_]
Flags = NDArray[np.uint32]

#: Bits of `Flags`, one a rule.
MISSING_FIELD: Final = 1
NOT_POSITIVE: Final = 2
UNKNOWN_INSTRUMENT: Final = 4
EXPIRED: Final = 8
STALE: Final = 16
LATE: Final = 32
CROSSED: Final = 64
LOCKED: Final = 128
OFF_TICK: Final = 256
ABSURD_IV: Final = 512
MARK_BAND: Final = 1024

_NO_TIME: Final = -(2**63)
_MICROSECONDS: Final = 1e6
#: By how much a delta may miss its range: sources round.
_DELTA_NOISE: Final = 1e-6
_WHOLE: Final = 2.0**51
#: Added and taken away again, it leaves the nearest whole number of a double under 2**51.
_ROUND: Final = 1.5 * 2.0**52


def _read(dtype: types.Type, dimensions: int = 1) -> types.Array:
    return types.Array(dtype, dimensions, "C", readonly=True)


_F, _I, _C, _K, _B = _read(types.float64), _read(types.int64), _read(types.int32), _read(types.int8), _read(types.boolean)
_FLAGS = types.Array(types.uint32, 1, "C")
_INTS = types.Array(types.int64, 1, "C")


@njit(types.int64(_F, _FLAGS, types.boolean, types.uint32), cache=True, error_model="numpy", nogil=True)
def flag_signs(values: Floats, flags: Flags, zero_too: bool, bit: int) -> int:
    """Flag values under zero (and zero itself with `zero_too`); how many of the values are no finite numbers."""
    odd = 0
    for i in range(values.size):
        value = values[i]
        below = value <= 0.0 if zero_too else value < 0.0
        flags[i] |= np.uint32(bit) if below else np.uint32(0)
        odd += 0 if abs(value) < math.inf else 1
    return odd


@njit(types.int64(_F), cache=True, error_model="numpy", nogil=True)
def odd_values(values: Floats) -> int:
    """How many of the values are no finite numbers."""
    odd = 0
    for i in range(values.size):
        odd += 0 if abs(values[i]) < math.inf else 1
    return odd


@njit(types.void(_F, _F, _F, _F, _F, _F, _F, _F, _K, types.float64, types.float64, _FLAGS), cache=True, error_model="numpy", nogil=True)
def flag_values(
    bid: Floats,
    ask: Floats,
    mark: Floats,
    mark_iv: Floats,
    forward: Floats,
    index: Floats,
    delta: Floats,
    strike: Floats,
    right: Kinds,
    iv_min: float,
    iv_max: float,
    flags: Flags,
) -> None:
    """Rules on values alone, straight-line so that it vectorises: missing, not positive, crossed, locked, absurd IV."""
    none = np.uint32(0)
    for i in range(flags.size):
        b, a, m, v, f, x, k, d = bid[i], ask[i], mark[i], mark_iv[i], forward[i], index[i], strike[i], delta[i]
        no_price = math.isnan(m) & math.isnan(v) & (math.isnan(b) | math.isnan(a))
        missing = no_price | (math.isnan(f) & math.isnan(x))
        other = ((right[i] == 0) & (d < -_DELTA_NOISE)) | ((right[i] == 1) & (d > _DELTA_NOISE)) | (abs(d) > 1.0 + _DELTA_NOISE)
        signs = (b <= 0.0) | (a <= 0.0) | (f <= 0.0) | (x <= 0.0) | (k <= 0.0) | (m < 0.0) | (v < 0.0) | other
        flags[i] |= (
            (np.uint32(MISSING_FIELD) if missing else none)
            | (np.uint32(NOT_POSITIVE) if signs else none)
            | (np.uint32(CROSSED) if b - a > 0.0 else none)
            | (np.uint32(LOCKED) if b == a else none)
            | (np.uint32(ABSURD_IV) if (v < iv_min) | (v > iv_max) else none)
        )


@njit(types.void(_I, _I, _I, types.float64, types.float64, _FLAGS), cache=True, error_model="numpy", nogil=True)
def flag_times(ts: Ints, snapshot: Ints, expiry: Ints, stale: float, late: float, flags: Flags) -> None:
    """Known at or after expiry, long before, or long after the grid time."""
    none = np.uint32(0)
    for i in range(flags.size):
        t, s, e = ts[i], snapshot[i], expiry[i]
        known = (t != _NO_TIME) & (s != _NO_TIME)
        flags[i] |= (
            (np.uint32(EXPIRED) if (t >= e) & (e != _NO_TIME) else none)
            | (np.uint32(STALE) if known & ((s - t) / _MICROSECONDS > stale) else none)
            | (np.uint32(LATE) if known & ((t - s) / _MICROSECONDS > late) else none)
        )


@njit(types.float64(types.float64, types.int32, _F, _F, _F), cache=True, error_model="numpy", nogil=True)
def tick_of(price: float, family: int, base: Floats, above: Floats, step: Floats) -> float:
    """Tick of a family at a price; `above` and `step` hold an equal number of steps for each family."""
    tick = base[family]
    steps = above.size // base.size
    for j in range(family * steps, (family + 1) * steps):
        if price > above[j]:
            tick = step[j]
    return float(tick)


@njit(types.float64(types.float64), inline="always", cache=True, error_model="numpy", nogil=True)
def from_whole(steps: float) -> float:
    """Distance from the nearest whole number, ties to even; NaN beyond 2**51, where there are no halves."""
    return float(abs(steps - ((steps + _ROUND) - _ROUND))) if abs(steps) < _WHOLE else math.nan


@njit(
    types.void(_F, _F, _F, _C, _F, _F, _F, types.float64, types.float64, types.float64, _FLAGS), cache=True, error_model="numpy", nogil=True
)
def flag_ticks(
    bid: Floats,
    ask: Floats,
    mark: Floats,
    family: Codes,
    base: Floats,
    above: Floats,
    step: Floats,
    tolerance: float,
    band_ticks: float,
    band_share: float,
    flags: Flags,
) -> None:
    """Bids and asks off their family's grid, and marks far outside the quote. A family without a tick (NaN) is not judged."""
    of, tick, once, many = -1, math.nan, math.inf, math.nan
    steps = above.size // max(base.size, 1)
    for i in range(flags.size):
        if family[i] != of:  # the family's first step, as most have one; more of them are asked one by one
            of = family[i]
            tick = base[of]
            once, many = (above[of * steps], step[of * steps]) if steps else (math.inf, tick)
        if math.isnan(tick):
            continue
        b, a, m = bid[i], ask[i], mark[i]
        if steps <= 1:
            tick_b, tick_a = (many if b > once else tick), (many if a > once else tick)
        else:
            tick_b, tick_a = tick_of(b, of, base, above, step), tick_of(a, of, base, above, step)
        if (from_whole(b / tick_b) > tolerance) | (from_whole(a / tick_a) > tolerance):
            flags[i] |= np.uint32(OFF_TICK)
        under, over = b - m, m - a
        beyond = max(under, over)
        if beyond > band_share * m and not math.isnan(under + over) and beyond / tick_of(m, of, base, above, step) > band_ticks:
            flags[i] |= np.uint32(MARK_BAND)


@njit(types.void(_C, _I, _F, _K, _C, _K, _I, _F, _K, _C, _K, _FLAGS), cache=True, error_model="numpy", nogil=True)
def flag_names(
    code: Codes,
    named_expiry: Ints,
    named_strike: Floats,
    named_right: Kinds,
    named_family: Codes,
    family_settles: Kinds,
    expiry: Ints,
    strike: Floats,
    right: Kinds,
    family: Codes,
    settles: Kinds,
    flags: Flags,
) -> None:
    """Rows whose name says another family, expiry, strike, right or settlement than they do, or is no option's.

    Args:
        code: (rows,) which name; `named_*` (names,) say what each name says, a right of -2 for one that is no option's.
        family_settles: (families,) what each family settles in. Kinds of the rows are -1 where null or unheard of.
    """
    for i in range(flags.size):
        n = code[i]
        if not (
            named_expiry[n] == expiry[i]
            and abs(strike[i] - named_strike[n]) <= 1e-9 * named_strike[n]
            and named_family[n] == family[i]
            and named_right[n] == right[i]
            and family_settles[family[i]] == settles[i]
        ):
            flags[i] |= np.uint32(UNKNOWN_INSTRUMENT)


@njit(types.boolean(_I), cache=True, error_model="numpy", nogil=True)
def ascends(values: Ints) -> bool:
    """Whether no value is smaller than the one before it."""
    i = 1
    while i < values.size and values[i] >= values[i - 1]:
        i += 1
    return i >= values.size


@njit(types.boolean(_I, _I, _C, _I, _F, _B, _INTS), cache=True, error_model="numpy", nogil=True)
def order_by_expiry(harvester: Ints, snapshot: Ints, family: Codes, expiry: Ints, strike: Floats, is_call: Bools, order: Ints) -> bool:
    """Fill `order` with (harvester, snapshot, family, expiry, strike, right), stable, puts first, where only rights may be out of it.

    False where rows are out of order in more than that; `order` is then worth nothing.
    """
    first = 0
    for i in range(harvester.size):
        h, same = i - 1, False
        if i == 0:
            later = True
        elif harvester[i] != harvester[h]:
            later = harvester[i] > harvester[h]
        elif snapshot[i] != snapshot[h]:
            later = snapshot[i] > snapshot[h]
        elif family[i] != family[h]:
            later = family[i] > family[h]
        elif expiry[i] != expiry[h]:
            later = expiry[i] > expiry[h]
        else:
            same = strike[i] == strike[h]
            later = strike[i] >= strike[h]  # NaN: not known to be
        if not later:
            return False
        if not same:
            first = i
        order[i] = i
        j = i
        while j > first and is_call[order[j - 1]] and not is_call[i]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    return True

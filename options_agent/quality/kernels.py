"""Compiled loops that compare a row with its neighbours: in the smile, across strikes, over time.

Rows come in order of (harvester, snapshot, expiry, strike, right); `offsets` (groups + 1,) bound each chain of one
expiry in one snapshot. Prices are in coin (linear ones divided by the chain's forward).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_WINDOW = 4
_EPSILON = 1e-12


@njit(cache=True, error_model="numpy", nogil=True)
def _median(values: Floats, count: int) -> float:
    """Median of the first few values, which are sorted in place."""
    for i in range(1, count):
        value = values[i]
        j = i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return float(0.5 * (values[(count - 1) // 2] + values[count // 2]))


@njit(cache=True, error_model="numpy", nogil=True)
def far_from_neighbours(offsets: Ints, strike: Floats, iv: Floats, points: float, least: int) -> Bools:
    """Groups in which some row's IV lies `points` or more from the median of its four rows on either side.

    Cheap and blind to curvature: it only says where a smile is worth fitting. Groups with an IV at fewer than `least`
    strikes are never worth it: four parameters would follow any row. Shape (groups,).
    """
    suspicious = np.zeros(offsets.size - 1, dtype=np.bool_)
    window = np.empty(2 * _WINDOW)
    for g in range(offsets.size - 1):
        strikes, at = 0, math.nan
        for i in range(offsets[g], offsets[g + 1]):
            if not math.isnan(iv[i]) and strike[i] != at:
                strikes, at = strikes + 1, strike[i]
        if strikes < least:
            continue
        for i in range(offsets[g], offsets[g + 1]):
            if math.isnan(iv[i]):
                continue
            found = 0
            for j in range(max(offsets[g], i - _WINDOW), min(offsets[g + 1], i + _WINDOW + 1)):
                if j != i and not math.isnan(iv[j]):
                    window[found] = iv[j]
                    found += 1
            if found and abs(iv[i] - _median(window, found)) >= points:
                suspicious[g] = True
                break
    return suspicious


@njit(cache=True, error_model="numpy", nogil=True)
def two_strikes(first: int, last: int, i: int, step: int, strike: Floats, iv: Floats) -> tuple[int, float, float, float, float]:
    """The nearest two strikes with an IV above (`step` 1) or below (-1) row i's.

    Returns: how many there are, ln strike and mean IV of the nearest, and of the next (NaN where there is none).
    """
    x, total, seen = np.full(2, np.nan), np.zeros(2), np.zeros(2)
    found = -1
    at = strike[i]
    j = i + step
    while first <= j < last:
        if strike[j] != at and not math.isnan(iv[j]):
            if found == 1:
                break
            found += 1
            at = strike[j]
            x[found] = math.log(at)
        if found >= 0 and strike[j] == at and not math.isnan(iv[j]):
            total[found] += iv[j]
            seen[found] += 1.0
        j += step
    return found + 1, x[0], total[0] / seen[0], x[1], total[1] / seen[1]


@njit(cache=True, error_model="numpy", nogil=True)
def distance_from_span(first: int, last: int, i: int, strike: Floats, iv: Floats) -> float:
    """Distance of row i's IV from the span of its neighbours' (two other strikes to either side); 0 inside it.

    A far wing that bends faster than any cubic still lies between its own neighbours. The outermost strike has them on
    one side only: there the span reaches to the straight line through them in ln strike, and the distance counts half,
    for the last listed strike may lie far out and exchanges' wings have kinks. The other right of the same strike does
    not speak for a row: exchanges give both one IV.
    """
    below, x1, v1, x2, v2 = two_strikes(first, last, i, -1, strike, iv)
    above, y1, w1, y2, w2 = two_strikes(first, last, i, 1, strike, iv)
    if below + above < 2:
        return 0.0
    low, high = math.inf, -math.inf
    for v in (v1, v2, w1, w2):
        if not math.isnan(v):
            low, high = min(low, v), max(high, v)
    if below > 0 and above > 0:
        return float(max(low - iv[i], iv[i] - high, 0.0))
    x1, v1, x2, v2 = (y1, w1, y2, w2) if below == 0 else (x1, v1, x2, v2)
    line = v1 + (v2 - v1) / (x2 - x1) * (math.log(strike[i]) - x1)
    low, high = min(low, line), max(high, line)
    return 0.5 * float(max(low - iv[i], iv[i] - high, 0.0))


@njit(cache=True, error_model="numpy", nogil=True)
def far_from_span(offsets: Ints, strike: Floats, iv: Floats) -> Floats:
    """`distance_from_span` of every row, shape (rows,)."""
    out = np.zeros(iv.size)
    for g in range(offsets.size - 1):
        for i in range(offsets[g], offsets[g + 1]):
            if not math.isnan(iv[i]):
                out[i] = distance_from_span(offsets[g], offsets[g + 1], i, strike, iv)
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def earlier_than_before(series: Ints, snapshot: Ints, ts: Ints, believed: Bools) -> Ints:
    """For rows in order of (series, snapshot): the latest ts of a believed row of an earlier snapshot, where not before ts.

    A series is one instrument from one harvester. Returns that earlier row's ts, or the smallest integer where time
    moved on as it should. Shape (rows,).
    """
    none = np.iinfo(np.int64).min
    out = np.full(ts.size, none)
    newest, pending, at = none, none, none
    for i in range(ts.size):
        if i == 0 or series[i] != series[i - 1]:
            newest, pending, at = none, none, snapshot[i]
        if snapshot[i] != at:
            newest, at = max(newest, pending), snapshot[i]
        if not believed[i]:
            continue
        if newest != none and ts[i] <= newest:
            out[i] = newest
        else:
            pending = max(pending, ts[i])
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def hull_below(strike: Floats, ask: Floats, rows: Ints, is_call: bool, hull: Ints) -> int:
    """The cheapest way to own each payoff: the monotone lower convex hull of asks, as row numbers in `hull`.

    Coin payoffs max(1 - K/S, 0) and max(K/S - 1, 0) are convex in K, falling for calls and rising for puts, whatever S
    is; so a bid above the hull is sold at once against the hull's rows. -1 stands for the strike 0: a call there is the
    coin itself (price 1), a put is nothing (price 0). `rows` ascend in strike and have an ask. Returns the hull's size.
    """
    hull[0] = -1
    size = 1
    for n in range(rows.size):
        row = rows[n]
        x, y = strike[row], ask[row]
        while size > 1:
            b = hull[size - 1]
            a = hull[size - 2]
            ax, ay = 0.0 if a < 0 else strike[a], (1.0 if is_call else 0.0) if a < 0 else ask[a]
            if (strike[b] - ax) * (y - ay) - (ask[b] - ay) * (x - ax) <= 0.0:
                size -= 1  # b is on or above the line from a to the new point
            else:
                break
        hull[size] = row
        size += 1
    return size


@njit(cache=True, error_model="numpy", nogil=True)
def excess_over_hull(strike: Floats, ask: Floats, hull: Ints, size: int, is_call: bool, x: float, y: float) -> tuple[float, int, int]:
    """How far a bid `y` at strike `x` is above the hull, and the one or two rows that would be bought (-1: none)."""
    best, left, right = (1.0 if is_call else math.inf), -1, -1  # a call is never worth more than the coin
    for n in range(size):
        a = hull[n]
        ax, ay = 0.0 if a < 0 else strike[a], (1.0 if is_call else 0.0) if a < 0 else ask[a]
        if (ax <= x if is_call else ax >= x) and a >= 0 and ay < best:
            best, left, right = ay, a, -1  # a lower call, or a higher put, pays at least as much
        if n + 1 < size:
            b = hull[n + 1]
            if ax <= x <= strike[b]:
                share = (x - ax) / (strike[b] - ax)
                value = ay + share * (ask[b] - ay)
                if value < best:
                    best, left, right = value, a, b
    return y - best, left, right


@njit(cache=True, error_model="numpy", nogil=True)
def blame_arbitrage(
    offsets: Ints,
    strike: Floats,
    is_call: Bools,
    bid: Floats,
    ask: Floats,
    fair: Floats,
    forward: Floats,
    arbitrage: float,
    parity: float,
    profit: Floats,
    only_look: bool,
) -> Bools:
    """Rows blamed for riskless profit at executable prices; `profit` (rows,) gets what each would have given, coin.

    Within each right, a bid above the hull of asks by more than `arbitrage`; across rights, call minus put against
    1 - K/F beyond `parity`. Of the rows of a trade the one whose traded price is farthest from `fair` is blamed and
    left out, and the chain is looked at again, until nothing is left to win. With `only_look` the first row found is
    marked and the group left, which says where a fair value is needed at all.
    """
    blamed = np.zeros(strike.size, dtype=np.bool_)
    for g in range(offsets.size - 1):
        first, last = offsets[g], offsets[g + 1]
        hull = np.empty(last - first + 1, dtype=np.int64)
        rows = np.empty(last - first, dtype=np.int64)
        for _ in range(last - first):
            worst, culprit = 0.0, -1
            for call in (True, False):
                asks = 0
                for i in range(first, last):
                    if is_call[i] == call and not blamed[i] and not math.isnan(ask[i]):
                        rows[asks] = i
                        asks += 1
                if asks == 0:
                    continue
                size = hull_below(strike, ask, rows[:asks], call, hull)
                for i in range(first, last):
                    if is_call[i] != call or blamed[i] or math.isnan(bid[i]):
                        continue
                    gain, a, b = excess_over_hull(strike, ask, hull, size, call, strike[i], bid[i])
                    if gain > arbitrage + _EPSILON and gain > worst:
                        worst, culprit = gain, i
                        off = bid[i] - fair[i]
                        for j in (a, b):
                            if j >= 0 and fair[j] - ask[j] > off:
                                off, culprit = fair[j] - ask[j], j
            for i in range(first, last - 1):
                j = i + 1  # a put follows the call of its strike
                if strike[j] != strike[i] or is_call[i] == is_call[j] or blamed[i] or blamed[j]:
                    continue
                c, p = (i, j) if is_call[i] else (j, i)
                parted = 1.0 - strike[i] / (0.5 * (forward[i] + forward[j]))
                gain = bid[c] - ask[p] - parted
                if gain > parity + _EPSILON and gain > worst:
                    worst, culprit = gain, c if bid[c] - fair[c] >= fair[p] - ask[p] else p
                gain = parted - ask[c] + bid[p]
                if gain > parity + _EPSILON and gain > worst:
                    worst, culprit = gain, p if bid[p] - fair[p] >= fair[c] - ask[c] else c
            for i in range(first, last):
                if blamed[i] or math.isnan(ask[i]):
                    continue
                parted = 1.0 - strike[i] / forward[i]
                gain = (parted if is_call[i] else -parted) - ask[i]
                if gain > parity + _EPSILON and gain > worst:
                    worst, culprit = gain, i
            if culprit < 0:
                break
            blamed[culprit] = True
            profit[culprit] = worst
            if only_look:
                break
    return blamed

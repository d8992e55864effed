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
#: By how much the first look is wider than the verdict, so that rounding cannot part them.
_SLACK = 1e-9


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
def far_from_neighbours(offsets: Ints, strike: Floats, iv: Floats, points: Floats, least: int) -> Bools:
    """Groups in which some row's IV lies `points` (groups,) or more from the median of its four rows on either side.

    Cheap and blind to curvature: it only says where a smile is worth fitting. Groups with an IV at fewer than `least`
    strikes are never worth it: four parameters would follow any row. Shape (groups,).
    """
    suspicious = np.zeros(offsets.size - 1, dtype=np.bool_)
    window = np.empty(2 * _WINDOW)
    for g in range(offsets.size - 1):
        first, last = offsets[g], offsets[g + 1]
        strikes, at, low, high = 0, math.nan, math.inf, -math.inf
        for i in range(first, last):
            if not math.isnan(iv[i]):
                low, high = min(low, iv[i]), max(high, iv[i])
                if strike[i] != at:
                    strikes, at = strikes + 1, strike[i]
        if strikes < least or high - low < points[g]:
            continue
        for i in range(first, last):
            if math.isnan(iv[i]):
                continue
            found, low, high = 0, math.inf, -math.inf
            for j in range(max(first, i - _WINDOW), min(last, i + _WINDOW + 1)):
                if j != i and not math.isnan(iv[j]):
                    window[found] = iv[j]
                    low, high = min(low, iv[j]), max(high, iv[j])
                    found += 1
            if max(iv[i] - low, high - iv[i]) < points[g]:
                continue  # the median lies between them
            if found and abs(iv[i] - _median(window, found)) >= points[g]:
                suspicious[g] = True
                break
    return suspicious


@njit(cache=True, error_model="numpy", nogil=True)
def two_strikes(first: int, last: int, i: int, step: int, strike: Floats, iv: Floats) -> tuple[int, float, float, float, float]:
    """The nearest two strikes with an IV above (`step` 1) or below (-1) row i's.

    Returns: how many there are, the nearest strike and its mean IV, and the next's (NaN where there is none).
    """
    near, near_sum, near_count = math.nan, 0.0, 0.0
    far, far_sum, far_count = math.nan, 0.0, 0.0
    j = i + step
    while first <= j < last:
        if not math.isnan(iv[j]) and strike[j] != strike[i]:
            if near_count == 0.0 or strike[j] == near:
                near = strike[j]
                near_sum += iv[j]
                near_count += 1.0
            elif far_count == 0.0 or strike[j] == far:
                far = strike[j]
                far_sum += iv[j]
                far_count += 1.0
            else:
                break
        j += step
    return int(near_count > 0.0) + int(far_count > 0.0), near, near_sum / near_count, far, far_sum / far_count


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
    line = v1 + (v2 - v1) / (math.log(x2) - math.log(x1)) * (math.log(strike[i]) - math.log(x1))
    low, high = min(low, line), max(high, line)
    return 0.5 * float(max(low - iv[i], iv[i] - high, 0.0))


@njit(cache=True, error_model="numpy", nogil=True)
def far_from_span(offsets: Ints, strike: Floats, iv: Floats, points: Floats, groups: Bools) -> Floats:
    """`distance_from_span` of every row of the marked `groups`, shape (rows,); 0 elsewhere.

    `groups` without a row of `points` (groups,) or more, or rights so far apart, are unmarked: nothing in them can be an outlier.
    """
    out = np.zeros(iv.size)
    for g in range(offsets.size - 1):
        if not groups[g]:
            continue
        groups[g] = False
        for i in range(offsets[g], offsets[g + 1]):
            if not math.isnan(iv[i]):
                out[i] = distance_from_span(offsets[g], offsets[g + 1], i, strike, iv)
                groups[g] |= out[i] >= points[g]
                if i + 1 < offsets[g + 1] and strike[i + 1] == strike[i] and abs(iv[i + 1] - iv[i]) >= points[g]:
                    groups[g] = True  # the two rights of a strike disagree: `apart_from_twin` may blame one
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def apart_from_twin(offsets: Ints, strike: Floats, iv: Floats, fitted: Floats) -> Floats:
    """How far a row's IV is from that of the other right of its strike, where it is the farther of the two from the smile; else 0."""
    out = np.zeros(iv.size)
    for g in range(offsets.size - 1):
        for i in range(offsets[g], offsets[g + 1] - 1):
            if strike[i + 1] == strike[i]:
                far = i if abs(iv[i] - fitted[i]) > abs(iv[i + 1] - fitted[i + 1]) else i + 1
                apart = abs(iv[i + 1] - iv[i])
                out[far] = apart if not math.isnan(apart) else 0.0
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def distances_from_span(offsets: Ints, strike: Floats, iv: Floats) -> Floats:
    """`distance_from_span` of every row, shape (rows,); NaN without an IV."""
    out = np.full(iv.size, math.nan)
    for g in range(offsets.size - 1):
        for i in range(offsets[g], offsets[g + 1]):
            if not math.isnan(iv[i]):
                out[i] = distance_from_span(offsets[g], offsets[g + 1], i, strike, iv)
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
def may_have_arbitrage(
    offsets: Ints, strike: Floats, is_call: Bools, bid: Floats, ask: Floats, forward: Floats, arbitrage: float, parity: float
) -> Bools:
    """Groups that `blame_arbitrage` has to look at, shape (groups,): none with a gain for it is left out, few without are in.

    Its tests once over, in one pass up the strikes, all `_SLACK` easier to fail.
    """
    out = np.zeros(offsets.size - 1, dtype=np.bool_)
    longest = 0
    for g in range(offsets.size - 1):
        longest = max(longest, offsets[g + 1] - offsets[g])
    hull, rows = np.empty(longest + 1, dtype=np.int64), np.empty(longest, dtype=np.int64)
    for g in range(offsets.size - 1):
        first, last = offsets[g], offsets[g + 1]
        for call in (True, False):
            asks = 0
            for i in range(first, last):
                if is_call[i] == call and not math.isnan(ask[i]):
                    rows[asks] = i
                    asks += 1
            if asks:
                size = hull_below(strike, ask, rows[:asks], call, hull)
                out[g] |= bid_over_hull(first, last, strike, is_call, bid, ask, hull, size, call, arbitrage - _SLACK)
        for i in range(first, last):
            parted = 1.0 - strike[i] / forward[i]
            if (parted if is_call[i] else -parted) - ask[i] > parity - _SLACK:
                out[g] = True
            j = i + 1
            if j < last and strike[j] == strike[i] and is_call[i] != is_call[j]:
                c, p = (i, j) if is_call[i] else (j, i)
                parted = 1.0 - strike[i] / (0.5 * (forward[i] + forward[j]))
                if bid[c] - ask[p] - parted > parity - _SLACK or parted - ask[c] + bid[p] > parity - _SLACK:
                    out[g] = True
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def bid_over_hull(
    first: int, last: int, strike: Floats, is_call: Bools, bid: Floats, ask: Floats, hull: Ints, size: int, call: bool, least: float
) -> bool:
    """Whether some bid of a right lies more than `least` above its hull of asks: `excess_over_hull` for all bids in one sweep."""
    cheapest, n = (1.0 if call else math.inf), 0  # of the hull's rows up to the strike, for calls
    for i in range(first, last):
        if is_call[i] != call or math.isnan(bid[i]):
            continue
        x = strike[i]
        while n + 1 < size and strike[hull[n + 1]] <= x:
            n += 1
            if call:
                cheapest = min(cheapest, ask[hull[n]])
        value = cheapest if call else math.inf
        a = hull[n]
        if not call and a >= 0 and strike[a] == x:
            value = min(value, ask[a])
        if not call:
            for m in range(n + 1, size):
                value = min(value, ask[hull[m]])
        if n + 1 < size:
            b = hull[n + 1]
            ax, ay = 0.0 if a < 0 else strike[a], (1.0 if call else 0.0) if a < 0 else ask[a]
            value = min(value, ay + (x - ax) / (strike[b] - ax) * (ask[b] - ay))
        if bid[i] - value > least:
            return True
    return False


@njit(cache=True, error_model="numpy", nogil=True)
def blame_arbitrage(
    offsets: Ints,
    strike: Floats,
    is_call: Bools,
    bid: Floats,
    ask: Floats,
    forward: Floats,
    fair: Floats,
    arbitrage: float,
    parity: float,
    profit: Floats,
) -> Bools:
    """Rows blamed for riskless profit at executable prices; `profit` (rows,) gets what each would have given, coin.

    Within each right, a bid above the hull of asks by more than `arbitrage`; across rights, call minus put against
    1 - K/F beyond `parity`. Of the rows of a trade the one whose traded price is farthest from `fair` is blamed and
    left out, and the chain is looked at again, until nothing is left to win.
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
    return blamed

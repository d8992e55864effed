"""A robust smile per expiry: a low-order polynomial in standardised moneyness that single bad quotes cannot drag.

Made for judging quotes against their neighbours, and for a smooth look at a surface; not an arbitrage-free surface.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from options_agent.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Fewer usable points than this give no verdict.
LEAST_POINTS = 7
_ORDER = 4  # a constant and three powers
_ROUNDS = 12
_TUKEY = 4.685  # 95 % efficiency on normal errors


@compiled(keep=False)
def smile_residuals(offsets: Ints, moneyness: Floats, iv: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Fitted IV of every row and the robust scale of its group's residuals.

    Iterated reweighted least squares (Tukey's biweight on residuals over 1.4826 times their median absolute value) of
    ln(iv) on 1, u, u^2, u^3, u = arctan of moneyness over the group's own spread, so that far wings have bounded leverage. The first
    round starts from equal weights on a median-based fit of the level.

    Args:
        offsets: (groups + 1,) bounds of each (snapshot, expiry).
        moneyness: (rows,) ln(strike / forward).
        iv: (rows,) decimal per year, NaN where unknown.
        weights: (rows,) prior trust, 0 to leave a row out of the fit (it still gets a fitted value).

    Returns:
        fitted: (rows,) decimal per year; NaN where the group has under `LEAST_POINTS` usable points.
        scale: (rows,) robust standard deviation of the group's residuals, decimal; NaN likewise.
    """
    fitted = np.empty(iv.size)
    scale = np.empty(iv.size)
    for i in range(iv.size):
        fitted[i] = scale[i] = math.nan
    for g in range(offsets.size - 1):
        first, last = offsets[g], offsets[g + 1]
        usable = 0
        spread = 0.0
        for i in range(first, last):
            if weights[i] > 0.0 and iv[i] > 0.0 and math.isfinite(moneyness[i]) and math.isfinite(iv[i]):
                usable += 1
                spread += abs(moneyness[i])
        if usable < LEAST_POINTS:
            continue
        spread = max(spread / usable, 1e-4)
        u = np.empty(usable)
        y = np.empty(usable)
        prior = np.empty(usable)
        j = 0
        for i in range(first, last):
            if weights[i] > 0.0 and iv[i] > 0.0 and math.isfinite(moneyness[i]) and math.isfinite(iv[i]):
                u[j], y[j], prior[j] = math.atan(moneyness[i] / spread), math.log(iv[i]), weights[i]
                j += 1
        beta, spread_y = _robust_fit(u, y, prior)
        for i in range(first, last):
            if math.isfinite(moneyness[i]):
                value = math.exp(_evaluate(beta, math.atan(moneyness[i] / spread)))
                fitted[i] = value
                scale[i] = value * spread_y
    return fitted, scale


@compiled(keep=False)
def _robust_fit(u: Floats, y: Floats, prior: Floats) -> tuple[Floats, float]:
    n = u.size
    weight = np.empty(n)
    residual = np.empty(n)
    level = _median(y)
    for j in range(n):
        residual[j] = abs(y[j] - level)
    limit = 4.0 * max(1.4826 * _median(residual), 0.05)
    for j in range(n):  # a wild point must not steer the first round: it starts with little say
        weight[j] = prior[j] * (0.05 if residual[j] > limit else 1.0)
    beta = np.empty(_ORDER)
    spread = 0.0
    trusted = 0.08
    for r in range(_ROUNDS):
        # a cubic can bend to a lone wild point at an end and throw out the good ones beside it: a line cannot, and by the
        # time the cubic comes such a point has no say; a scale not yet to be trusted is not taken for small
        beta = _weighted_least_squares(u, y, weight, min(2 + r // 3, _ORDER))
        for j in range(n):
            residual[j] = abs(y[j] - _evaluate(beta, u[j]))
        spread = max(1.4826 * _median(residual), trusted, 1e-4)
        trusted *= 0.4
        for j in range(n):
            z = residual[j] / (_TUKEY * spread)
            weight[j] = prior[j] * (1.0 - z * z) ** 2 if z < 1.0 else 0.0
    return beta, spread


@compiled(keep=False)
def _median(values: Floats) -> float:
    """The median by Hoare's selection: numpy's, which numba has too, takes four times as long to compile."""
    x = values.copy()
    low, high, middle = 0, x.size - 1, x.size // 2
    while low < high:
        pivot = x[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while x[i] < pivot:
                i += 1
            while x[j] > pivot:
                j -= 1
            if i <= j:
                x[i], x[j] = x[j], x[i]
                i += 1
                j -= 1
        if j < middle:
            low = i
        if i > middle:
            high = j
    if x.size % 2:
        return float(x[middle])
    below = x[0]
    for j in range(1, middle):
        below = max(below, x[j])
    return float(0.5 * (below + x[middle]))


@compiled(keep=False)
def _weighted_least_squares(u: Floats, y: Floats, weight: Floats, order: int) -> Floats:
    """Normal equations of the first `order` powers with a whisper of ridge, by elimination with pivots: always solvable."""
    a = np.empty((order, order + 1))
    for p in range(order):
        for q in range(order + 1):
            a[p, q] = 0.0
    power = np.empty(order)
    for j in range(u.size):
        power[0] = 1.0
        for p in range(1, order):
            power[p] = power[p - 1] * u[j]
        for p in range(order):
            for q in range(order):
                a[p, q] += weight[j] * power[p] * power[q]
            a[p, order] += weight[j] * power[p] * y[j]
    trace = 0.0
    for p in range(order):
        trace += a[p, p]
    for p in range(1, order):
        a[p, p] += 1e-6 * trace + 1e-12
    a[0, 0] += 1e-12
    for p in range(order):
        best = p
        for r in range(p + 1, order):
            if abs(a[r, p]) > abs(a[best, p]):
                best = r
        for q in range(order + 1):
            a[p, q], a[best, q] = a[best, q], a[p, q]
        for r in range(p + 1, order):
            factor = a[r, p] / a[p, p]
            for q in range(p, order + 1):
                a[r, q] -= factor * a[p, q]
    beta = np.empty(_ORDER)
    for p in range(order, _ORDER):
        beta[p] = 0.0
    for p in range(order - 1, -1, -1):
        total = a[p, order]
        for q in range(p + 1, order):
            total -= a[p, q] * beta[q]
        beta[p] = total / a[p, p]
    return beta


@compiled(keep=False)
def _evaluate(beta: Floats, u: float) -> float:
    total = beta[_ORDER - 1]
    for p in range(_ORDER - 2, -1, -1):
        total = total * u + beta[p]
    return float(total)

"""Implied volatility from coin prices: solved on the out-of-the-money side, in the logarithm of the price.

NaN where no volatility gives the price: below intrinsic, or at or above the bound.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from options_agent.pricing.normal import INV_SQRT_2PI, log_ratio, out_of_the_money

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MAX_STEPS = 60
_TOLERANCE = 4e-15


@njit(cache=True)
def implied_scalar(price: float, forward: float, strike: float, years: float, is_call: bool) -> float:
    """Volatility (decimal per year) at which Black-76 gives `price` (coin per contract); NaN where none does."""
    if not (price >= 0.0 and forward > 0.0 and strike > 0.0 and years > 0.0):
        return math.nan
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0.0) / forward
    x = -abs(log_ratio(forward, strike))
    target = (price - intrinsic) * math.sqrt(forward / strike)
    bound = math.exp(0.5 * x)
    if not 0.0 < target < bound:
        return math.nan
    return total_volatility(target, x) / math.sqrt(years)


@njit(cache=True)
def total_volatility(target: float, x: float) -> float:
    """sigma sqrt(T) of a normalised out-of-the-money price `target` at x = -|ln(F/K)|.

    Halley steps on ln b(v) - ln target, kept inside a shrinking bracket. ln b is concave where b is small, so steps from
    the left never overshoot into nothing; a step that leaves the bracket is replaced by bisection.
    """
    low, high = 0.0, 40.0
    goal = math.log(target)
    v = _guess(target, x)
    for _ in range(_MAX_STEPS):
        b = out_of_the_money(x, v)
        if b <= 1e-300:
            low = v
            v = 0.5 * (v + high) if high < 40.0 else 1.5 * v
            continue
        gap = math.log(b) - goal
        if gap > 0.0:
            high = min(high, v)
        else:
            low = max(low, v)
        h = x / v
        vega = INV_SQRT_2PI * math.exp(-0.5 * (h * h + 0.25 * v * v))
        slope = vega / b
        if slope <= 0.0:
            v = 0.5 * (low + high)
            continue
        newton = gap / slope
        curvature = (h * h / v - 0.25 * v) - slope  # second over first derivative of ln b
        damp = 1.0 - 0.5 * newton * curvature
        step = newton / damp if damp > 0.3 else newton
        following = v - step
        if not low < following < high:
            following = 0.5 * (low + high) if high < 40.0 else max(2.0 * v, low * 1.5)
        if abs(following - v) <= _TOLERANCE * v:
            return following
        v = following
    return v


@njit(cache=True)
def _guess(target: float, x: float) -> float:
    """A start that is right to a few percent at the money and in the far tail."""
    if x > -1e-8:
        return max(target * 2.5066282746310002, 1e-12)
    tail = -math.log(target)
    far = -x / math.sqrt(2.0 * max(tail, 1e-3))
    near = math.sqrt(-2.0 * x)  # where the price turns from concave to convex in v
    at_turn = out_of_the_money(x, near)
    if target < at_turn:
        return min(far, near)
    room = max(math.exp(0.5 * x) - target, 1e-16) / max(math.exp(0.5 * x) - at_turn, 1e-16)
    return near + math.sqrt(max(-8.0 * math.log(room), 0.0)) * 0.5


@njit(cache=True)
def implied_volatility(price: Floats, forward: Floats, strike: Floats, years: Floats, is_call: Bools) -> Floats:
    """Volatility of each option, decimal per year, shape (n,); NaN where none gives the price.

    Args:
        price: (n,) coin per contract.
        forward, strike: (n,) USD.
        years: (n,) years of 365 days.
        is_call: (n,).
    """
    out = np.empty(price.size)
    for i in range(price.size):
        out[i] = implied_scalar(price[i], forward[i], strike[i], years[i], is_call[i])
    return out

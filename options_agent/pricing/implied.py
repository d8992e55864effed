"""Implied volatility from coin prices: solved on the out-of-the-money side, in the logarithm of the price.

NaN where no volatility gives the price: below intrinsic, or at or above the bound. Arrays are solved by the vector kernel of
`options_agent.pricing.chain_implied`; the solver here takes the rows it leaves, step by step until they settle.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from options_agent.compiled import compiled
from options_agent.pricing.chain_implied import fill_implied
from options_agent.pricing.columns import columns
from options_agent.pricing.normal import INV_SQRT_2PI, LOG_SQRT_2PI, is_tail, log_ratio, tail_difference, tail_sum

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MAX_STEPS = 60
#: A step of the fourth order this small, relative, leaves an error of its fourth power: nothing.
_TOLERANCE = 1e-5


@compiled(error_model="numpy")
def implied_scalar(price: float, forward: float, strike: float, years: float, is_call: bool) -> float:
    """Volatility (decimal per year) at which Black-76 gives `price` (coin per contract); NaN where none does."""
    if not (price >= 0.0 and forward > 0.0 and strike > 0.0 and years > 0.0):
        return math.nan
    if not price < (1.0 if is_call else strike / forward):
        return math.nan
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0.0) / forward
    x = -abs(log_ratio(forward, strike))
    target = (price - intrinsic) * math.sqrt(forward / strike)
    if not 0.0 < target < math.exp(0.5 * x):
        return math.nan
    return total_volatility(target, x) / math.sqrt(years)


@compiled(error_model="numpy")
def total_volatility(target: float, x: float) -> float:
    """sigma sqrt(T) of a normalised out-of-the-money price `target` at x = -|ln(F/K)|.

    Householder steps of the fourth order on ln b(v) - ln target, kept inside a shrinking bracket; a step that leaves it
    is replaced by bisection. With b = n(h) exp(-t^2/2) D where the price is a tail (see `normal.tail_difference`), ln b
    needs no exponential and cannot underflow.
    """
    low, high = 0.0, 40.0
    goal = math.log(target)
    bound = math.exp(0.5 * x)
    v = _guess(target, x, bound)
    for _ in range(_MAX_STEPS):
        h, t = x / v, 0.5 * v
        if is_tail(h, t):
            difference = tail_difference(h, t)
            gap = math.log(difference) - 0.5 * (h * h + t * t) - LOG_SQRT_2PI - goal
            slope = 1.0 / difference
        else:
            vega = INV_SQRT_2PI * math.exp(-0.5 * (h * h + t * t))
            b = bound - vega * tail_sum(h, t)
            gap = math.log(b / target)
            slope = vega / b
        if gap > 0.0:
            high = min(high, v)
        else:
            low = max(low, v)
        newton = -gap / slope
        bend = h * h / v - 0.25 * v  # the logarithmic derivative of vega
        second = bend - slope
        third = second * (bend - 2.0 * slope) - 3.0 * (h / v) ** 2 - 0.25
        step = newton * (1.0 + 0.5 * newton * second) / (1.0 + newton * (second + newton * third / 6.0))
        following = v + step
        if not 0.2 <= step / newton <= 5.0:  # far off, where the fourth order is no guide
            following = v + newton
        if not low <= following <= high:
            following = 0.5 * (low + high) if high < 40.0 else max(2.0 * v, low * 1.5)
        elif abs(step) <= _TOLERANCE * v:
            return following
        v = following
    return v


@compiled(error_model="numpy")
def _guess(target: float, x: float, bound: float) -> float:
    """A start within some tenths, mostly within hundredths.

    Low prices: b = n(h) v Y'(h) for small v, with Y'(-a) near 1 / (1 + 0.9 a + a^2) and v = |x| / a. Its logarithm rises
    with ln a, so Newton's steps on it do not fail. High prices: from what they lack of the bound.
    """
    if x > -1e-8:
        return max(target * 2.5066282746310002, 1e-12)
    height = math.log(-x / target) - LOG_SQRT_2PI
    y = 0.5 * math.log(2.0 * height) if height > 1.5 else min(height, 0.55)
    for _ in range(3):
        a = math.exp(y)
        q = 1.0 + a * (0.9 + a)
        y -= (0.5 * a * a + y + math.log(q) - height) / (a * a + 1.0 + a * (0.9 + 2.0 * a) / q)
    v = -x * math.exp(-y)
    if v < 1.0:
        return v
    return max(1.0, math.sqrt(max(-8.0 * math.log(max(bound - target, 1e-16) / bound), 0.0)))


def implied_volatility(price: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, is_call: ArrayLike) -> Floats:
    """Volatility of each option, decimal per year, shape (n,); NaN where none gives the price.

    Args:
        price: (n,) coin per contract.
        forward, strike: (n,) USD.
        years: (n,) years of 365 days.
        is_call: (n,).

    Raises:
        ValueError: the columns differ in length.
    """
    made, rows = columns((price, forward, strike, years), is_call)
    out = np.empty(made[0].size)
    arguments = (*made, out)
    if fill_implied(*arguments):
        _fill_unusual(*arguments)
    return out[:rows]


@compiled(error_model="numpy")
def _fill_unusual(price: Floats, forward: Floats, strike: Floats, years: Floats, is_call: Bools, out: Floats) -> None:
    for i in range(price.size):
        if math.isnan(out[i]):
            out[i] = implied_scalar(price[i], forward[i], strike[i], years[i], is_call[i])

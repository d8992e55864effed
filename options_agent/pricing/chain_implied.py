"""Implied volatilities of whole arrays, in blocks of straight-line arithmetic that compile to vector instructions.

Solved as in `options_agent.pricing.implied`, on the out-of-the-money side and in the logarithm of the price, but by Householder's step
of the fifth order, from a start so near (0.12 % where sigma sqrt(T) is under 1.6) that one step is enough. A block with a row that
is not settled by it takes another, which leaves the settled rows alone. The start is Bachelier's implied volatility by a
rational function of how far out of the money the price is, with a term for what Black's differs from it. Rows that are out of
the ordinary, have no answer, or have not settled come back as NaN, for the caller to ask
`options_agent.pricing.implied.implied_scalar` about.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from options_agent.compiled import compiled
from options_agent.pricing.elementary import BLOCK, LOG_SQRT_2PI, blocks_of_9, fused, logarithm, mantissa, octaves
from options_agent.pricing.mills import LEAST_ARGUMENT, numerator_and_denominator

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: A step, relative to the volatility, under which what it leaves (its fifth power) is below the double's last digits.
_SETTLED: Final = 1.5e-3
_STEPS: Final = 2
#: Octaves between forward and strike beyond which the start is no start, and a step can seem small far from any answer.
_FARTHEST: Final = 8.0

#: ln m on [0.75, 1.5), within 2e-4: for the start alone.
_ROUGH_LOG: Final = (-2.0184, 3.72331, -2.5648, 1.03337, -0.17344)
#: (v0 / (b + |x|))^2 in L = ln((b + |x|) / b), lowest first: v0 within 5e-4 of Bachelier's volatility, a fit of the least worst error.
_START_NUMERATOR: Final = (6.289408082241699, 0.6434761750645033, 0.1710808220922616, 0.009089006009127511)
_START_DENOMINATOR: Final = (1.0, 1.1210646917787706, 0.49958031602344394, 0.17082247571599551, 0.018093585733738055)
#: v / v0 - 1 = v0^2 / (24 + p a + q a^2 + r v0^2), a = |x| / v0: 24 by theory at the money, the rest a fit likewise.
_BEND: Final = (3.146882, 8.281535, -2.261077)


@compiled(error_model="numpy", forceinline=True)
def start(x: float, goal: float, price: float) -> float:
    """A first total volatility for a price b of logarithm `goal`, about `price`, at |ln(F/K)| = x: within 0.12 % for v < 1.6."""
    reach = price + x
    m, exponent = mantissa(reach)
    rough = fused(fused(fused(fused(_ROUGH_LOG[4], m, _ROUGH_LOG[3]), m, _ROUGH_LOG[2]), m, _ROUGH_LOG[1]), m, _ROUGH_LOG[0])
    far = fused(exponent, 0.6931471805599453, rough) - goal
    above, below = _START_NUMERATOR[3], _START_DENOMINATOR[4]
    for k in range(2, -1, -1):
        above = fused(above, far, _START_NUMERATOR[k])
    for k in range(3, -1, -1):
        below = fused(below, far, _START_DENOMINATOR[k])
    root = math.sqrt(above * below)
    inverse = 1.0 / (reach * above * below)
    v = reach * root * (reach * above * inverse)
    a = x * root * below * inverse
    w = v * v
    return fused(v, w / fused(_BEND[2], w, fused(fused(_BEND[1], a, _BEND[0]), a, 24.0)), v)


@compiled(error_model="numpy", forceinline=True)
def householder(v: float, h: float, per_v: float, difference: float, slope: float, gap: float) -> float:
    """The step of the fifth order for ln b(v), which misses its goal by `gap`: b = n(h) exp(-v^2/8) `difference`.

    `second`, `third` and `fourth` are the derivatives of ln b over the first, which is `slope`; `bend` is the logarithmic
    derivative of vega.
    """
    newton = -gap * difference
    turn = h * per_v
    bend = fused(h, turn, -0.25 * v)
    bending = fused(-3.0 * turn, turn, -0.25)
    second = bend - slope
    steep = slope * second
    third = fused(second, second - slope, bending)
    changing = fused(second - slope, bending - steep, fused(second, fused(-2.0, steep, bending), 12.0 * turn * turn * per_v))
    fourth = fused(second, third, changing)
    above = fused(newton, fused(newton * (1.0 / 6.0), third, second), 1.0)
    rest = fused(0.25 * second, second, fused(newton * (1.0 / 24.0), fourth, third * (1.0 / 3.0)))
    return newton * above / fused(newton, fused(newton, rest, 1.5 * second), 1.0)


@compiled(error_model="numpy")
def fill_implied(price: Floats, forward: Floats, strike: Floats, years: Floats, is_call: Bools, out: Floats) -> int:
    """Fill `out` (n,) with volatilities, decimal per year; NaN where it does not vouch, for whatever reason.

    Args:
        price, forward, strike, years, is_call: (n,) contiguous, n >= BLOCK; units as in `implied_volatility`. The last block overlaps
            the one before, so no row's result depends on where it stands.
        out: (n,).

    Returns:
        How many rows have NaN.
    """
    n = price.size
    scratch = blocks_of_9()
    x, goal, v, exponent = scratch[0], scratch[1], scratch[2], scratch[3]
    value, other, height, least, step = scratch[4], scratch[5], scratch[6], scratch[7], scratch[8]
    unknown = 0
    for first in range(0, n, BLOCK):
        begin = min(first, n - BLOCK)
        end = begin + BLOCK
        paid, f, k, t = price[begin:end], forward[begin:end], strike[begin:end], years[begin:end]
        call, vol = is_call[begin:end], out[begin:end]
        for i in range(BLOCK):  # one division for both logarithms' arguments
            inside = f[i] - k[i]
            value[i] = paid[i] - max(inside if call[i] else -inside, 0.0) / f[i]
            near, exponent[i] = octaves(f[i], k[i])
            m, other[i] = mantissa(value[i])
            inverse = 1.0 / ((f[i] + near) * (m + 1.0))
            x[i] = (f[i] - near) * ((m + 1.0) * inverse)
            goal[i] = (m - 1.0) * ((f[i] + near) * inverse)
        for i in range(BLOCK):
            apart = logarithm(x[i], exponent[i])
            goal[i] = fused(apart, 0.5, logarithm(goal[i], other[i]))
            fourth = fused(apart, 0.125, 1.0)
            other[i] = fourth * fourth * (fourth * fourth) * value[i]  # about b: its logarithm is known, its value need not be
            x[i] = -abs(apart)
        for i in range(BLOCK):
            v[i] = start(-x[i], goal[i], other[i])
            step[i] = v[i]
        for _ in range(_STEPS):
            for i in range(BLOCK):
                h = x[i] / v[i]
                a, b = -0.5 * v[i] - h, 0.5 * v[i] - h
                n_a, n_ab, d_a, d_ab = numerator_and_denominator(a, b)
                least[i] = a
                height[i] = (n_a * d_ab - n_ab * d_a) * v[i]
                other[i] = fused(v[i], d_ab, d_a) * d_a
            unsettled = 0
            for i in range(BLOCK):  # the difference is height / other
                now, top, bottom = v[i], height[i], other[i]
                near, power = octaves(top, bottom)
                both = top + near
                inverse = 1.0 / (top * bottom * (both * now))
                per_v = top * bottom * both * inverse
                h = x[i] * per_v
                log_difference = logarithm((top - near) * (top * bottom * (now * inverse)), power)
                missed = log_difference - fused(0.5 * h, h, fused(0.125 * now, now, goal[i] + LOG_SQRT_2PI))
                rest = both * now * inverse
                last = step[i]
                following = householder(now, h, per_v, top * top * rest, bottom * bottom * rest, missed)
                moves = abs(last) >= _SETTLED * now
                last = following if moves else last
                step[i] = last
                v[i] = now + (following if moves else 0.0)
                unsettled += 0 if abs(last) < _SETTLED * now else 1
            if unsettled == 0:
                break
        for i in range(BLOCK):
            total = v[i]
            answer = total / math.sqrt(t[i])
            settled = (abs(step[i]) < _SETTLED * total) & (least[i] >= LEAST_ARGUMENT)
            known = settled & (value[i] > 1e-290) & (t[i] > 0.0) & (f[i] > 1e-100) & (f[i] < 1e100) & (abs(exponent[i]) < _FARTHEST)
            unknown += 0 if known else 1
            vol[i] = answer if known else math.nan
    return unknown

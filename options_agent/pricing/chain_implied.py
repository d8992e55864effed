"""Implied volatilities of whole arrays, in blocks of straight-line arithmetic that compile to vector instructions.

Solved as in `options_agent.pricing.implied`: on the out-of-the-money side, in the logarithm of the price, by Householder's steps of the
fourth order; but always two of them, from a start within 2 %, so that no row waits for another and nothing branches. The start is
Bachelier's implied volatility by a rational function of how far out of the money the price is, with a term for what
Black's differs from it. Rows that are out of the ordinary, have no answer, or have not settled come back as NaN, for the caller to
ask `options_agent.pricing.implied.implied_scalar` about.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from options_agent.pricing.chain_greeks import BLOCK
from options_agent.pricing.elementary import LOG_SQRT_2PI, fused, logarithm, mantissa, octaves
from options_agent.pricing.mills import LEAST_ARGUMENT, numerator_and_denominator

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: The second step, relative to the volatility, under which its error (of its fourth power) is below a double's last digit.
_SETTLED: Final = 2e-4

#: ln m on [0.75, 1.5), within 2e-4: for the start alone.
_ROUGH_LOG: Final = (-2.0184, 3.72331, -2.5648, 1.03337, -0.17344)
#: (v0 / (b + |x|))^2 in L = ln((b + |x|) / b), within 2 %: least squares over Bachelier's formula.
_START_NUMERATOR: Final = (6.42052, 2.161678, 0.26074931)
_START_DENOMINATOR: Final = (1.0, 1.60448, 0.35286523, 0.51567419)
#: v / v0 - 1 = v0^2 / (24 + p a + q a^2 + r v0^2), a = |x| / v0: 24 by theory at the money, the rest by least squares.
_BEND: Final = (-1.413773, 9.783224, -1.839333)


@njit(error_model="numpy", forceinline=True)
def start(x: float, goal: float, price: float) -> float:
    """A first total volatility for a price b of logarithm `goal`, about `price`, at |ln(F/K)| = x: within 2 % for v < 3."""
    reach = price + x
    m, exponent = mantissa(reach)
    rough = fused(fused(fused(fused(_ROUGH_LOG[4], m, _ROUGH_LOG[3]), m, _ROUGH_LOG[2]), m, _ROUGH_LOG[1]), m, _ROUGH_LOG[0])
    far = fused(exponent, 0.6931471805599453, rough) - goal
    above = fused(fused(_START_NUMERATOR[2], far, _START_NUMERATOR[1]), far, _START_NUMERATOR[0])
    below = fused(fused(fused(_START_DENOMINATOR[3], far, _START_DENOMINATOR[2]), far, _START_DENOMINATOR[1]), far, _START_DENOMINATOR[0])
    root = math.sqrt(above * below)
    inverse = 1.0 / (reach * above * below)
    v = reach * root * (reach * above * inverse)
    a = x * root * below * inverse
    w = v * v
    return fused(v, w / fused(_BEND[2], w, fused(fused(_BEND[1], a, _BEND[0]), a, 24.0)), v)


@njit(error_model="numpy", forceinline=True)
def householder(v: float, h: float, per_v: float, difference: float, slope: float, gap: float) -> float:
    """The step of the fourth order for ln b(v), which misses its goal by `gap`: b = n(h) exp(-v^2/8) `difference`."""
    newton = -gap * difference
    turn = h * per_v
    bend = fused(h, turn, -0.25 * v)  # the logarithmic derivative of vega
    second = bend - slope
    third = fused(second, fused(-2.0, slope, bend), fused(-3.0 * turn, turn, -0.25))
    return newton * fused(0.5 * newton, second, 1.0) / fused(newton, fused(newton * (1.0 / 6.0), third, second), 1.0)


@njit(cache=True, error_model="numpy")
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
    scratch = np.empty((8, BLOCK))
    x, goal, v, exponent = scratch[0], scratch[1], scratch[2], scratch[3]
    value, other, step, least = scratch[4], scratch[5], scratch[6], scratch[7]
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
        for _ in range(2):
            for i in range(BLOCK):
                h = x[i] / v[i]
                a, b = -0.5 * v[i] - h, 0.5 * v[i] - h
                n_a, n_ab, d_a, d_ab = numerator_and_denominator(a, b)
                least[i] = a
                step[i] = (n_a * d_ab - n_ab * d_a) * v[i]
                other[i] = fused(v[i], d_ab, d_a) * d_a
            for i in range(BLOCK):  # the difference is step / other
                near, power = octaves(step[i], other[i])
                both = step[i] + near
                inverse = 1.0 / (step[i] * other[i] * (both * v[i]))
                per_v = step[i] * other[i] * both * inverse
                h = x[i] * per_v
                height = logarithm((step[i] - near) * (step[i] * other[i] * (v[i] * inverse)), power)
                missed = height - fused(0.5 * h, h, fused(0.125 * v[i], v[i], goal[i] + LOG_SQRT_2PI))
                rest = both * v[i] * inverse
                step[i] = householder(v[i], h, per_v, step[i] * step[i] * rest, other[i] * other[i] * rest, missed)
                v[i] += step[i]
        for i in range(BLOCK):
            total = v[i]
            answer = total / math.sqrt(t[i])
            settled = (abs(step[i]) < _SETTLED * total) & (least[i] >= LEAST_ARGUMENT)
            known = settled & (value[i] > 1e-290) & (t[i] > 0.0) & (f[i] > 1e-100) & (f[i] < 1e100) & (abs(exponent[i]) < 300.0)
            unknown += 0 if known else 1
            vol[i] = answer if known else math.nan
    return unknown

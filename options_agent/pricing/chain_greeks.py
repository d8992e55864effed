"""Black-76 prices and greeks over whole arrays, in blocks of straight-line arithmetic that compile to vector instructions.

Each loop below is one stage over a block that stays in the first-level cache: short enough that the processor overlaps
its iterations, without branches or calls, so that LLVM vectorises it. Rows out of the ordinary (no time, no volatility, NaN, far beyond
any market) come back as NaN, for the caller to ask `options_agent.pricing.black76.greeks_scalar` about.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from options_agent.compiled import compiled
from options_agent.pricing.elementary import BLOCK, blocks_of_10, density, fused, logarithm, octaves
from options_agent.pricing.mills import LEAST_ARGUMENT, numerator_and_denominator

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Some 34 deviations out.
LEAST_DENSITY: Final = 1e-250


@compiled(error_model="numpy")
def fill_greeks(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools, out: Floats) -> int:
    """Fill `out` (5, n) with coin price, delta, gamma, vega, theta, units as in `greeks_scalar`; NaN where it does not vouch.

    Args:
        forward, strike, years, vol, is_call: (n,) contiguous, n >= BLOCK. The last block overlaps the one before, so no row's
            result depends on where it stands.
        out: (5, n).

    Returns:
        How many rows have NaN for a price.
    """
    n = forward.size
    scratch = blocks_of_10()
    x, v, gap, total, rate, exponent = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    intrinsic, decay, vega_rate, value = scratch[6], scratch[7], scratch[8], scratch[9]
    unknown = 0
    for first in range(0, n, BLOCK):
        start = min(first, n - BLOCK)
        end = start + BLOCK
        f, k, t, s, call = forward[start:end], strike[start:end], years[start:end], vol[start:end], is_call[start:end]
        price, delta, gamma, vega, theta = out[0, start:end], out[1, start:end], out[2, start:end], out[3, start:end], out[4, start:end]
        for i in range(BLOCK):
            root = math.sqrt(t[i])
            near, exponent[i] = octaves(f[i], k[i])
            v[i] = s[i] * root
            gap[i], total[i] = f[i] - near, f[i] + near
            vega_rate[i] = 0.01 * f[i] * root
        for i in range(BLOCK):  # one division for both (F - K) / (F + K) and 1 / (F v)
            fv = f[i] * v[i]
            inverse = 1.0 / (fv * total[i])
            gap[i] *= inverse * fv
            rate[i] = inverse * total[i]
        for i in range(BLOCK):
            per_v, per_forward = f[i] * rate[i], v[i] * rate[i]
            x[i] = per_v * logarithm(gap[i], exponent[i])
            decay[i] = f[i] * min(s[i] * s[i] * (per_v * (0.5 / 365.0)), 0.5 * v[i])
            difference = f[i] - k[i]
            quotient = difference * per_forward
            intrinsic[i] = fused(fused(-quotient, f[i], difference), per_forward, quotient)
        for i in range(BLOCK):
            value[i] = density(fused(0.5, v[i], x[i]))
        for i in range(BLOCK):
            a, b = abs(x[i]) - 0.5 * v[i], abs(x[i]) + 0.5 * v[i]
            n_a, n_ab, d_a, d_ab = numerator_and_denominator(a, b)
            n_b, d_b = fused(v[i], n_ab, n_a), fused(v[i], d_ab, d_a)
            share = value[i] / (d_a * d_b)
            total[i] = (n_a * d_ab - n_ab * d_a) * (share * v[i])
            gap[i] = (n_a * d_b if x[i] < 0.0 else n_b * d_a) * share
        for i in range(BLOCK):
            up, inside, apart = call[i], intrinsic[i], x[i]
            below = apart < 0.0
            paid = total[i] + max(inside if up else -inside, 0.0)
            beyond = gap[i] if below == up else 1.0 - gap[i]
            delta[i] = beyond if up else -beyond
            reachable = (v[i] > 1e-7) & (abs(apart) - 0.5 * v[i] >= LEAST_ARGUMENT)
            # a smaller density over the denominators of both tails is no ordinary number any more
            known = reachable & (value[i] > LEAST_DENSITY) & (f[i] > 1e-100) & (f[i] < 1e100) & (abs(exponent[i]) < 300.0)
            unknown += 0 if known else 1
            price[i] = paid if known else math.nan
        for i in range(BLOCK):
            gamma[i] = value[i] * rate[i]
            vega[i] = value[i] * vega_rate[i]
            theta[i] = -value[i] * decay[i]
    return unknown

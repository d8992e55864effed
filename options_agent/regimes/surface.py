"""Points of the volatility surface per snapshot: at the money, 25-delta wings, constant maturities.

Compiled over flat arrays. Everything at a snapshot is made of that snapshot's rows alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A wing must be quoted on both sides of 25 delta, no further from it than this, for its IV to be read.
WING_DELTA = 0.25


@njit(cache=True)
def smile_points(offsets: Ints, moneyness: Floats, iv: Floats, delta: Floats, is_call: NDArray[np.bool_]) -> Floats:
    """At-the-money IV and 25-delta put and call IVs of each smile.

    Args:
        offsets: (groups + 1,) bounds of each (snapshot, expiry) in the row arrays; rows of a group ascend in strike.
        moneyness: (rows,) ln(strike / forward).
        iv: (rows,) decimal per year, NaN where unknown.
        delta: (rows,) plain delta, NaN where unknown.
        is_call: (rows,).

    Returns:
        (groups, 3): at-the-money IV (linear in moneyness between the nearest out-of-the-money options on both sides of
        the forward), 25-delta put IV and 25-delta call IV (linear in delta); NaN where the chain does not reach.
    """
    groups = offsets.size - 1
    out = np.full((groups, 3), np.nan)
    for g in range(groups):
        low_k, low_iv, high_k, high_iv = -np.inf, np.nan, np.inf, np.nan
        put_in_d, put_in_iv, put_out_d, put_out_iv = -np.inf, np.nan, 0.0, np.nan
        call_in_d, call_in_iv, call_out_d, call_out_iv = np.inf, np.nan, 0.0, np.nan
        for i in range(offsets[g], offsets[g + 1]):
            k, v, d = moneyness[i], iv[i], delta[i]
            if not (np.isfinite(k) and np.isfinite(v)):
                continue
            if is_call[i]:  # out-of-the-money side only: those quotes carry the smile
                if 0.0 <= k < high_k:
                    high_k, high_iv = k, v
                if np.isfinite(d):
                    if WING_DELTA <= d < call_in_d:
                        call_in_d, call_in_iv = d, v
                    elif call_out_d < d < WING_DELTA:
                        call_out_d, call_out_iv = d, v
            else:
                if low_k < k <= 0.0:
                    low_k, low_iv = k, v
                if np.isfinite(d):
                    if put_in_d < d <= -WING_DELTA:
                        put_in_d, put_in_iv = d, v
                    elif -WING_DELTA < d < put_out_d:
                        put_out_d, put_out_iv = d, v
        if np.isfinite(low_iv) and np.isfinite(high_iv):
            width = high_k - low_k
            out[g, 0] = low_iv if width == 0.0 else low_iv + (high_iv - low_iv) * (0.0 - low_k) / width
        if np.isfinite(put_in_iv) and np.isfinite(put_out_iv):
            out[g, 1] = put_in_iv + (put_out_iv - put_in_iv) * (-WING_DELTA - put_in_d) / (put_out_d - put_in_d)
        if np.isfinite(call_in_iv) and np.isfinite(call_out_iv):
            out[g, 2] = call_in_iv + (call_out_iv - call_in_iv) * (WING_DELTA - call_in_d) / (call_out_d - call_in_d)
    return out


@njit(cache=True)
def constant_maturity(offsets: Ints, years: Floats, iv: Floats, target: float) -> Floats:
    """IV at a constant maturity: total variance linear in time between the expiries around it.

    Args:
        offsets: (snapshots + 1,) bounds of each snapshot in the smile arrays; smiles of a snapshot ascend in expiry.
        years: (smiles,) time to expiry in years.
        iv: (smiles,) NaN where unknown.
        target: years.

    Returns:
        (snapshots,): decimal per year. Outside the listed expiries the nearest one's IV stands, if it is within half the
        target; NaN otherwise.
    """
    out = np.full(offsets.size - 1, np.nan)
    for s in range(offsets.size - 1):
        below_t, below_iv, above_t, above_iv = -1.0, np.nan, np.inf, np.nan
        for i in range(offsets[s], offsets[s + 1]):
            t, v = years[i], iv[i]
            if not np.isfinite(v) or t <= 0.0:
                continue
            if t <= target and t > below_t:
                below_t, below_iv = t, v
            if t >= target and t < above_t:
                above_t, above_iv = t, v
        if np.isfinite(below_iv) and np.isfinite(above_iv):
            if above_t == below_t:
                out[s] = below_iv
            else:
                w0, w1 = below_iv * below_iv * below_t, above_iv * above_iv * above_t
                out[s] = np.sqrt((w0 + (w1 - w0) * (target - below_t) / (above_t - below_t)) / target)
        elif np.isfinite(below_iv) and target - below_t <= 0.5 * target:
            out[s] = below_iv
        elif np.isfinite(above_iv) and above_t - target <= 0.5 * target:
            out[s] = above_iv
    return out

"""Black-76 in fifty digits with mpmath: slow, obvious, and no code shared with the kernels."""

from __future__ import annotations

import mpmath as mp

mp.mp.dps = 50


def black76(forward: float, strike: float, years: float, vol: float, is_call: bool) -> dict[str, mp.mpf]:
    f, k, t, s = (mp.mpf(x) for x in (forward, strike, years, vol))
    v = s * mp.sqrt(t)
    d1 = mp.log(f / k) / v + v / 2
    d2 = d1 - v
    density = mp.npdf(d1)

    def tail(x: mp.mpf) -> mp.mpf:
        return mp.erfc(-x / mp.sqrt(2)) / 2

    usd = f * tail(d1) - k * tail(d2) if is_call else k * tail(-d2) - f * tail(-d1)
    return {
        "coin": usd / f,
        "usd": usd,
        "delta": tail(d1) if is_call else -tail(-d1),
        "gamma": density / (f * v),
        "vega": f * density * mp.sqrt(t) / 100,
        "theta": -f * density * s / (2 * mp.sqrt(t)) * min(mp.mpf(1) / 365, t),
    }

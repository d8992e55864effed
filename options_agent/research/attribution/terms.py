"""Partial derivatives of an option's value in its settlement currency, and the terms of its change over a step.

Black (1976) on the forward, undiscounted. Inverse: value in coin, c = N(d1) - K/F N(d2) for a call, c - 1 + K/F for a put, so that delta
here is the coin value's own (K/F^2 N(d2)), not the exchange's. Linear: F c, in USD. A Taylor expansion about the step's start to the
second order, and the third in the forward (Taylor P&L explain; cross terms as in Castagna and Mercurio 2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GREEK_TERMS: Final = ("delta", "gamma", "vega", "theta", "higher_order")


def derivatives(forward: Floats, strike: Floats, years: Floats, vol: Floats, call: NDArray[np.bool_], *, linear: bool) -> dict[str, Floats]:
    """Derivatives by F (USD), volatility (decimal), and time passing (years): `f`, `ff`, `fff`, `v`, `vv`, `fv`, `t`, `tt`, `ft`, `vt`.

    Arrays of one length; NaN or infinite where there is no time or volatility.
    """
    from scipy.special import ndtr

    with np.errstate(all="ignore"):
        root = np.sqrt(years)
        s = vol * root
        d1 = np.log(forward / strike) / s + s / 2
        d2 = d1 - s
        n1, n2 = (np.exp(-d * d / 2) / np.sqrt(2 * np.pi) for d in (d1, d2))
        ratio = strike / forward
        # by years to expiry; time passing is its opposite
        d1_y, d2_y = (-np.log(forward / strike) / (2 * s * years) + sign * vol / (4 * root) for sign in (1, -1))
        side = np.where(call, ndtr(d2), ndtr(d2) - 1)  # a put's is the call's less K/F - 1
        f = ratio / forward * side
        ff = ratio / forward**2 * (n2 / s - 2 * side)
        fff = -3 / forward * ff + ratio / forward**3 * (-d2 * n2 / s**2 - 2 * n2 / s)
        v = n1 * root
        found = {
            "f": f,
            "ff": ff,
            "fff": fff,
            "v": v,
            "vv": v * d1 * d2 / vol,
            "fv": -d1 * n1 / (forward * vol),
            "t": -n1 * vol / (2 * root),
            "tt": vol / 2 * (-d1 * n1 * d1_y / root - n1 / (2 * years * root)),
            "ft": -ratio / forward * n2 * d2_y,
            "vt": -(n1 / (2 * root) - d1 * n1 * root * d1_y),
        }
        if not linear:
            return found
        value = np.where(call, ndtr(d1) - ratio * ndtr(d2), ratio * ndtr(-d2) - ndtr(-d1))
        return {
            "f": value + forward * f,
            "ff": 2 * f + forward * ff,
            "fff": 3 * ff + forward * fff,
            "v": forward * v,
            "vv": forward * found["vv"],
            "fv": v + forward * found["fv"],
            "t": forward * found["t"],
            "tt": forward * found["tt"],
            "ft": found["t"] + forward * found["ft"],
            "vt": forward * found["vt"],
        }


def terms(by: dict[str, Floats], forward: Floats, vol: Floats, years: Floats) -> dict[str, Floats]:
    """The terms of a change: `forward`, `vol`, `years` are how much each moved (time that passed is positive)."""
    higher = (
        by["fff"] * forward**3 / 6
        + by["vv"] * vol**2 / 2
        + by["tt"] * years**2 / 2
        + by["fv"] * forward * vol
        + by["ft"] * forward * years
        + by["vt"] * vol * years
    )
    return {
        "delta": by["f"] * forward,
        "gamma": by["ff"] * forward**2 / 2,
        "vega": by["v"] * vol,
        "theta": by["t"] * years,
        "higher_order": higher,
    }

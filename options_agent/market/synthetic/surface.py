"""The synthetic volatility surface and the quotes around it, free of static arbitrage by construction.

SSVI with the power-law phi = eta / (theta^gamma (1 + theta)^(1 - gamma)): no butterfly and no calendar arbitrage for gamma in
[0, 1/2] and eta (1 + |rho|) <= 2, with theta rising in T (J. Gatheral, A. Jacquier, "Arbitrage-free SVI volatility surfaces", 2014,
remark 4.4). theta is the integral of a mean-reverting variance, which rises.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from options_agent.pricing.black76 import greeks_scalar

Floats = NDArray[np.float64]

GAMMA = 0.42
ETA = 1.25
REVERSION = 9.0  # per year: how fast implied variance forgets today's
RHO_MAX = 0.55  # eta (1 + rho) = 1.94 <= 2


@njit(cache=True)
def at_the_money_variance(vol_now: float, vol_level: float, years: float) -> float:
    """theta(T): total variance at the money of a variance reverting from vol_now^2 to vol_level^2; rises in T."""
    now, level = vol_now * vol_now, vol_level * vol_level
    return float(level * years + (now - level) * (1.0 - math.exp(-REVERSION * years)) / REVERSION)


@njit(cache=True)
def total_variance(k: float, theta: float, rho: float) -> float:
    """SSVI total variance at log-moneyness k = ln(K/F)."""
    phi = ETA / (theta**GAMMA * (1.0 + theta) ** (1.0 - GAMMA))
    z = phi * k
    return float(0.5 * theta * (1.0 + rho * z + math.sqrt((z + rho) ** 2 + 1.0 - rho * rho)))


@njit(cache=True)
def uniform(seed: np.uint64, a: np.uint64, b: np.uint64, c: np.uint64) -> float:
    """A uniform in [0, 1) that is a function of its keys alone (splitmix64 finaliser over their mix)."""
    x = seed + np.uint64(0x9E3779B97F4A7C15) * (a + np.uint64(1))
    for part in (b, c, np.uint64(0)):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = (x ^ (x >> np.uint64(31))) + part * np.uint64(0xD1B54A32D192ED03)
    return float(x >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def tick_of(price: float) -> float:
    """Inverse options: 0.0001 up to 0.005, 0.0005 above."""
    return 0.0005 if price > 0.005 else 0.0001


@njit(cache=True)
def round_down(price: float) -> float:
    """To the tick below, on the decimal grid a double can name."""
    steps = float(math.floor(price * 10_000.0 + 1e-9))
    if steps > 50.0:
        steps = max(math.floor(steps / 5.0) * 5.0, 50.0)
    return steps / 10_000.0


@njit(cache=True)
def round_up(price: float) -> float:
    """To the tick above."""
    steps = float(math.ceil(price * 10_000.0 - 1e-9))
    if steps > 50.0:
        steps = math.ceil(steps / 5.0) * 5.0
    return steps / 10_000.0


@njit(cache=True)
def quote_rows(
    seed: np.uint64,
    snapshot_us: NDArray[np.int64],
    index: Floats,
    vol_now: Floats,
    vol_level: Floats,
    rho: Floats,
    basis: Floats,
    ts_us: NDArray[np.int64],
    expiry_us: NDArray[np.int64],
    strike: Floats,
    is_call: NDArray[np.bool_],
    contract_key: NDArray[np.uint64],
    missing_bid: float,
    missing_ask: float,
    out: Floats,
) -> None:
    """Fill `out` (rows, 14) with one quote a row; every input is (rows,), the market's state repeated for each row.

    Columns: bid, ask, mark, bid_size, ask_size, bid_iv, ask_iv, mark_iv, delta, gamma, vega, theta, forward, open_interest.
    NaN stands for null. Spreads follow vega with a floor of a tick and widen away from the money and near expiry.
    """
    for i in range(strike.size):
        years = (expiry_us[i] - ts_us[i]) / (365.0 * 86_400.0e6)
        forward = index[i] * math.exp(basis[i] * max(years, 0.0))
        out[i, 12] = forward
        k = math.log(strike[i] / forward)
        theta = at_the_money_variance(vol_now[i], vol_level[i], max(years, 1e-6))
        iv = math.sqrt(total_variance(k, theta, rho[i]) / max(years, 1e-6))
        mark_iv = math.floor(iv * 10_000.0 + 0.5) / 10_000.0  # the exchange shows IV to a hundredth of a point
        price, delta, gamma, vega, decay = greeks_scalar(forward, strike[i], years, mark_iv, is_call[i])
        mark = math.floor(price * 1e6 + 0.5) / 1e6
        stamp = np.uint64(snapshot_us[i])
        u_width = uniform(seed, contract_key[i], stamp, np.uint64(1))
        u_skew = uniform(seed, contract_key[i], stamp, np.uint64(2))
        u_bid = uniform(seed, contract_key[i], stamp, np.uint64(3))
        u_ask = uniform(seed, contract_key[i], stamp, np.uint64(4))
        days = years * 365.0
        points = (0.35 + 0.8 * u_width) * (1.0 + 3.0 * math.exp(-days / 2.0)) * (1.0 + 2.0 * abs(delta) ** 6)
        half = 0.5 * points * vega / forward + 0.3 * tick_of(price) * (0.4 + u_width) + 0.003 * price
        centre = price + (u_skew - 0.5) * 0.3 * half
        bid, ask = round_down(centre - half), round_up(centre + half)
        if ask <= bid:
            ask = round_up(bid + 1e-4)
        far = price < 0.0015
        no_bid = bid <= 0.0 or u_bid < (min(6.0 * missing_bid, 1.0) if far else 0.25 * missing_bid)
        no_ask = u_ask < missing_ask
        out[i, 0] = math.nan if no_bid else bid
        out[i, 1] = math.nan if no_ask else ask
        out[i, 2] = mark if mark > 0.0 else math.nan
        size = math.exp(3.2 * uniform(seed, contract_key[i], stamp, np.uint64(5)))
        other = math.exp(3.2 * uniform(seed, contract_key[i], stamp, np.uint64(6)))
        out[i, 3] = math.nan if no_bid else math.floor(size * 10.0) / 10.0
        out[i, 4] = math.nan if no_ask else math.floor(other * 10.0) / 10.0
        per_point = vega / forward
        out[i, 5] = math.nan if no_bid or per_point < 1e-7 else max(mark_iv + 0.01 * (bid - price) / per_point, 0.0)
        out[i, 6] = math.nan if no_ask or per_point < 1e-7 else min(mark_iv + 0.01 * (ask - price) / per_point, 9.0)
        if not no_bid and per_point < 1e-7:
            out[i, 5] = math.nan
        out[i, 7] = mark_iv
        out[i, 8] = math.floor(delta * 1e5 + 0.5) / 1e5
        out[i, 9] = math.floor(gamma * 1e7 + 0.5) / 1e7
        out[i, 10] = math.floor(vega * 1e5 + 0.5) / 1e5
        out[i, 11] = math.floor(decay * 1e5 + 0.5) / 1e5
        out[i, 13] = (
            math.floor(1_500.0 * math.exp(-6.0 * abs(k)) * uniform(seed, contract_key[i], np.uint64(0), np.uint64(7)) * 10.0) / 10.0
        )

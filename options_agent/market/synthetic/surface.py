"""The synthetic volatility surface and the quotes around it, free of static arbitrage by construction.

SSVI with the power-law phi = eta / (theta^gamma (1 + theta)^(1 - gamma)): no butterfly and no calendar arbitrage for gamma in
[0, 1/2] and eta (1 + |rho|) <= 2, with theta rising in T (J. Gatheral, A. Jacquier, "Arbitrage-free SVI volatility surfaces", 2014,
remark 4.4). theta is the integral of an expected variance, which rises.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from options_agent.compiled import compiled
from options_agent.pricing.black76 import greeks_scalar

Floats = NDArray[np.float64]

GAMMA = 0.42
ETA = 1.25
FORGETS_NOW = 70.0  # per year: how fast expected variance leaves today's for the level of these weeks
FORGETS_LEVEL = 19.0  # per year: how fast that leaves for the long run
RHO_MAX = 0.55  # eta (1 + rho) = 1.94 <= 2


@compiled(keep=False)
def at_the_money_variance(vol_now: float, vol_level: float, vol_long: float, years: float) -> float:
    """theta(T): total variance at the money, the integral of the expected variance over the next `years`.

    Expected variance goes from vol_now^2 to vol_level^2 to vol_long^2; at every time it is a mean of the three with positive weights
    (FORGETS_NOW > FORGETS_LEVEL), so theta rises in T whatever they are.
    """
    now, level, long = vol_now * vol_now, vol_level * vol_level, vol_long * vol_long
    soon = (1.0 - math.exp(-FORGETS_NOW * years)) / FORGETS_NOW
    later = (1.0 - math.exp(-FORGETS_LEVEL * years)) / FORGETS_LEVEL
    return float(long * years + (level - long) * later + (now - level) * soon)


@compiled(keep=False)
def total_variance(k: float, theta: float, rho: float) -> float:
    """SSVI total variance at log-moneyness k = ln(K/F)."""
    phi = ETA / (theta**GAMMA * (1.0 + theta) ** (1.0 - GAMMA))
    z = phi * k
    return float(0.5 * theta * (1.0 + rho * z + math.sqrt((z + rho) ** 2 + 1.0 - rho * rho)))


@compiled(keep=False)
def uniform(seed: np.uint64, a: np.uint64, b: np.uint64, c: np.uint64) -> float:
    """A uniform in [0, 1) that is a function of its keys alone (splitmix64 finaliser over their mix)."""
    x = seed + np.uint64(0x9E3779B97F4A7C15) * (a + np.uint64(1))
    for part in (b, c, np.uint64(0)):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = (x ^ (x >> np.uint64(31))) + part * np.uint64(0xD1B54A32D192ED03)
    return float(x >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled(keep=False)
def tick_of(price: float) -> float:
    """Inverse options: 0.0001 up to 0.005, 0.0005 above."""
    return 0.0005 if price > 0.005 else 0.0001


@compiled(keep=False)
def round_down(price: float) -> float:
    """To the tick below, on the decimal grid a double can name."""
    steps = float(math.floor(price * 10_000.0 + 1e-9))
    if steps > 50.0:
        steps = max(math.floor(steps / 5.0) * 5.0, 50.0)
    return steps / 10_000.0


@compiled(keep=False)
def round_up(price: float) -> float:
    """To the tick above."""
    steps = float(math.ceil(price * 10_000.0 - 1e-9))
    if steps > 50.0:
        steps = math.ceil(steps / 5.0) * 5.0
    return steps / 10_000.0


@compiled(keep=False)
def quote_rows(
    seed: np.uint64,
    snapshot_us: int,
    index: float,
    volatility: tuple[float, float, float],
    rho: float,
    basis: float,
    scale: float,
    ts_us: NDArray[np.int64],
    expiry_us: NDArray[np.int64],
    strike: Floats,
    is_call: NDArray[np.bool_],
    contract_key: NDArray[np.uint64],
    missing_bid: float,
    missing_ask: float,
    out: Floats,
) -> None:
    """Fill `out` (rows, 15) with the quotes of one snapshot; contracts are arrays (rows,), the market's state is scalar.

    Columns: bid, ask, mark, bid_size, ask_size, bid_iv, ask_iv, mark_iv, delta, gamma, vega, theta, forward, open_interest, volume_24h.
    NaN stands for null. `volatility` is (now, level, long) of `at_the_money_variance`, `scale` contracts per bitcoin's worth.
    Widths follow vega and the level of volatility, are relatively wider near expiry and never under a tick; a mark lies outside
    its quote now and then, as it lags on the exchange.
    """
    stamp = np.uint64(snapshot_us)
    for i in range(strike.size):
        key = contract_key[i]
        years = max((expiry_us[i] - ts_us[i]) / (365.0 * 86_400.0e6), 1e-6)
        forward = math.floor(index * math.exp(basis * years) * 100.0 + 0.5) / 100.0
        k = math.log(strike[i] / forward)
        theta = at_the_money_variance(volatility[0], volatility[1], volatility[2], years)
        iv = math.sqrt(total_variance(k, theta, rho) / years)
        mark_iv = math.floor(iv * 10_000.0 + 0.5) / 10_000.0  # the exchange shows IV to a hundredth of a point
        price, delta, gamma, vega, decay = greeks_scalar(forward, strike[i], years, mark_iv, is_call[i])
        u_width = uniform(seed, key, stamp, np.uint64(1))
        u_centre = uniform(seed, key, stamp, np.uint64(2))
        days = years * 365.0
        points = (0.30 + 0.7 * u_width) * (0.25 + 0.85 * math.exp(-days / 18.0)) * (1.0 + 2.0 * math.exp(-days / 1.5))
        points *= (1.0 + 2.0 * abs(delta) ** 6) * math.sqrt(theta / years) / 0.5
        half = 0.5 * points * vega / forward + 0.3 * tick_of(price) * (0.4 + u_width) + 0.003 * price
        side = 2.0 * u_centre - 1.0
        shift = 0.15 * half * side
        if uniform(seed, key, stamp, np.uint64(8)) < 0.04:
            shift = math.copysign(half + abs(side) * tick_of(price), side)
        centre = price + shift
        bid, ask = round_down(centre - half), max(round_up(centre + half), 1e-4)
        if price >= 2e-4:
            bid = max(bid, 1e-4)  # whatever is worth two ticks finds a bidder at one
        if ask <= bid:
            ask = round_up(bid + 1e-4)
        deep = abs(delta) > 0.95
        bid_gone = 2.5 if price < 3e-4 else (0.35 if deep else 0.03)
        ask_gone = 5.0 if deep else 0.35
        no_bid = bid <= 0.0 or uniform(seed, key, stamp, np.uint64(3)) < bid_gone * missing_bid
        no_ask = uniform(seed, key, stamp, np.uint64(4)) < ask_gone * missing_ask
        per_point = vega / forward
        bid_iv = math.nan if no_bid or per_point < 1e-7 else mark_iv + 0.01 * (bid - price) / per_point
        ask_iv = math.nan if no_ask or per_point < 1e-7 else mark_iv + 0.01 * (ask - price) / per_point
        out[i, 0] = math.nan if no_bid else bid
        out[i, 1] = math.nan if no_ask else ask
        mark = math.floor(price * 1e6 + 0.5) / 1e6
        out[i, 2] = mark if mark > 0.0 else math.nan
        out[i, 3] = math.nan if no_bid else lots(scale * math.exp(3.2 * uniform(seed, key, stamp, np.uint64(5))), scale)
        out[i, 4] = math.nan if no_ask else lots(scale * math.exp(3.2 * uniform(seed, key, stamp, np.uint64(6))), scale)
        out[i, 5] = (
            math.floor(bid_iv * 1e4 + 0.5) / 1e4 if 0.0 < bid_iv < 9.0 else math.nan
        )  # beyond what volatility can explain there is none
        out[i, 6] = math.floor(ask_iv * 1e4 + 0.5) / 1e4 if 0.0 < ask_iv < 9.0 else math.nan
        out[i, 7] = mark_iv
        out[i, 8] = math.floor(delta * 1e5 + 0.5) / 1e5
        out[i, 9] = math.floor(gamma * 1e7 + 0.5) / 1e7
        out[i, 10] = math.floor(vega * 1e5 + 0.5) / 1e5
        out[i, 11] = math.floor(decay * 1e5 + 0.5) / 1e5
        out[i, 12] = forward
        popular = uniform(seed, key, np.uint64(0), np.uint64(7))
        interest = 3_500.0 * scale * popular**4 * math.exp(-1.5 * abs(k)) * (1.0 - math.exp(-days))
        out[i, 13] = lots(interest, scale)
        hour = np.uint64(snapshot_us // 3_600_000_000)
        out[i, 14] = lots(0.25 * interest * uniform(seed, key, hour, np.uint64(9)) ** 3, scale)


@compiled(keep=False)
def lots(contracts: float, scale: float) -> float:
    """Rounded down to what can be traded: tenths of a bitcoin, whole ethers."""
    lot = 10.0 if scale <= 1.0 else 1.0
    return float(math.floor(contracts * lot) / lot)

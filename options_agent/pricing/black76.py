"""Black-76 on the forward, undiscounted: prices in coin and USD, and greeks by the exchange's conventions.

Arrays in, arrays out; the scalar functions are public so that other kernels inline them. Units: forward and strike in
USD, time in years of 365 days, volatility decimal per year, coin price per contract of one coin. Degenerate inputs (no time
left, no volatility) give the intrinsic value and its greeks; NaN in, NaN out.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from options_agent.pricing.normal import cdf, log_ratio, out_of_the_money, pdf

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DAYS_PER_YEAR = 365.0


@njit(cache=True)
def coin_price_scalar(forward: float, strike: float, years: float, vol: float, is_call: bool) -> float:
    """Price of one contract in coin: [N(d1) - (K/F) N(d2)] for a call; F. Black (1976) over the forward."""
    if not (forward > 0.0 and strike > 0.0) or math.isnan(years) or math.isnan(vol):
        return math.nan
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0.0) / forward
    v = vol * math.sqrt(max(years, 0.0))
    if v <= 0.0:
        return intrinsic
    x = log_ratio(forward, strike)
    return intrinsic + out_of_the_money(-abs(x), v) * math.sqrt(strike / forward)


@njit(cache=True)
def greeks_scalar(forward: float, strike: float, years: float, vol: float, is_call: bool) -> tuple[float, float, float, float, float]:
    """Coin price, delta (plain Black-76), gamma (per USD), vega (USD per volatility point), theta (USD per day).

    Theta is the decay to come within a day at the current rate, capped at the option's remaining life: the exchange shows
    the rate times min(1 day, time left).
    """
    price = coin_price_scalar(forward, strike, years, vol, is_call)
    if math.isnan(price):
        return math.nan, math.nan, math.nan, math.nan, math.nan
    root = math.sqrt(max(years, 0.0))
    v = vol * root
    if v <= 0.0:
        inside = forward > strike if is_call else forward < strike
        return price, (1.0 if is_call else -1.0) * (1.0 if inside else 0.0), 0.0, 0.0, 0.0
    d1 = log_ratio(forward, strike) / v + 0.5 * v
    density = pdf(d1)
    delta = cdf(d1) if is_call else -cdf(-d1)
    gamma = density / (forward * v)
    vega = forward * density * root * 0.01
    theta = -forward * density * vol / (2.0 * root) * min(1.0 / DAYS_PER_YEAR, years)
    return price, delta, gamma, vega, theta


@njit(cache=True)
def price_coin(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools) -> Floats:
    """Coin price of each option, shape (n,)."""
    out = np.empty(forward.size)
    for i in range(forward.size):
        out[i] = coin_price_scalar(forward[i], strike[i], years[i], vol[i], is_call[i])
    return out


@njit(cache=True)
def price_usd(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools) -> Floats:
    """USD price of each option, shape (n,): the coin price times the forward."""
    out = np.empty(forward.size)
    for i in range(forward.size):
        out[i] = coin_price_scalar(forward[i], strike[i], years[i], vol[i], is_call[i]) * forward[i]
    return out


@njit(cache=True)
def greeks(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Coin price, delta, gamma, vega, theta of each option, five arrays of shape (n,); units as in `greeks_scalar`."""
    n = forward.size
    price, delta, gamma, vega, theta = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        price[i], delta[i], gamma[i], vega[i], theta[i] = greeks_scalar(forward[i], strike[i], years[i], vol[i], is_call[i])
    return price, delta, gamma, vega, theta


@njit(cache=True)
def delta_premium_adjusted(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools) -> Floats:
    """Delta minus the premium held in coin, -(K/F) N(-d2) for a put: what hedges a coin account, shape (n,)."""
    out = np.empty(forward.size)
    for i in range(forward.size):
        price, delta, _, _, _ = greeks_scalar(forward[i], strike[i], years[i], vol[i], is_call[i])
        out[i] = delta - price
    return out

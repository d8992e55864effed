"""Black-76 on the forward, undiscounted: prices in coin and USD, and greeks by the exchange's conventions.

Arrays in, arrays out, by the vector kernel of `options_agent.pricing.chain_greeks`. The scalar functions take the rows it leaves,
and are public so that other kernels inline them. Units: forward and strike in
USD, time in years of 365 days, volatility decimal per year, coin price per contract of one coin. Degenerate inputs (no time
left, no volatility) give the intrinsic value and its greeks; what is no number or not finite gives NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from options_agent.compiled import compiled
from options_agent.pricing.chain_greeks import fill_greeks
from options_agent.pricing.columns import columns
from options_agent.pricing.normal import is_tail, log_ratio, pdf, scaled_tail, tail_difference, tail_sum

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DAYS_PER_YEAR = 365.0


@compiled(error_model="numpy")
def is_option(forward: float, strike: float, years: float, vol: float) -> bool:
    """Whether these are finite numbers, and prices above 0."""
    return 0.0 < forward < math.inf and 0.0 < strike < math.inf and math.isfinite(years) and math.isfinite(vol)


@compiled(error_model="numpy")
def time_value_scalar(forward: float, strike: float, density: float, h: float, t: float) -> float:
    """Coin price above intrinsic, for h = -|ln(F/K)|/v and t = v/2.

    `density` is n(d1), which serves both sides: F n(d1) = K n(d2). The value is bounded by min(1, K/F); a high one is what
    lacks of the bound.
    """
    if density == 0.0 and h + t <= 0.0:  # out of reach: the tails beside it may be no numbers
        return 0.0
    if is_tail(h, t):
        return density * tail_difference(h, t)
    return min(1.0, strike / forward) - density * tail_sum(h, t)


@compiled(error_model="numpy")
def coin_price_scalar(forward: float, strike: float, years: float, vol: float, is_call: bool) -> float:
    """Price of one contract in coin: [N(d1) - (K/F) N(d2)] for a call; F. Black (1976) over the forward."""
    if not is_option(forward, strike, years, vol):
        return math.nan
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0.0) / forward
    v = vol * math.sqrt(max(years, 0.0))
    if v <= 0.0:
        return intrinsic
    x = log_ratio(forward, strike)
    return intrinsic + time_value_scalar(forward, strike, pdf(x / v + 0.5 * v), -abs(x) / v, 0.5 * v)


@compiled(error_model="numpy")
def greeks_scalar(forward: float, strike: float, years: float, vol: float, is_call: bool) -> tuple[float, float, float, float, float]:
    """Coin price, delta (plain Black-76), gamma (per USD), vega (USD per volatility point), theta (USD per day).

    Theta is the decay to come within a day at the current rate, capped at the option's remaining life: the exchange shows
    the rate times min(1 day, time left).
    """
    if not is_option(forward, strike, years, vol):
        return math.nan, math.nan, math.nan, math.nan, math.nan
    intrinsic = max((forward - strike) if is_call else (strike - forward), 0.0) / forward
    root = math.sqrt(max(years, 0.0))
    v = vol * root
    if v <= 0.0:
        inside = forward > strike if is_call else forward < strike
        return intrinsic, (1.0 if is_call else -1.0) * (1.0 if inside else 0.0), 0.0, 0.0, 0.0
    x = log_ratio(forward, strike)
    d1 = x / v + 0.5 * v
    density = pdf(d1)
    price = intrinsic + time_value_scalar(forward, strike, density, -abs(x) / v, 0.5 * v)
    beyond = density * scaled_tail(-abs(d1))  # N(-|d1|)
    sign = 1.0 if is_call else -1.0
    delta = sign * (beyond if sign * d1 < 0.0 else 1.0 - beyond)
    gamma = density / (forward * v)
    vega = forward * density * root * 0.01
    theta = -forward * density * vol / (2.0 * root) * min(1.0 / DAYS_PER_YEAR, years)
    return price, delta, gamma, vega, theta


@compiled(error_model="numpy")
def delta_premium_adjusted_scalar(forward: float, strike: float, years: float, vol: float, is_call: bool) -> float:
    """Delta less the premium in coin: (K/F) N(d2) for a call, -(K/F) N(-d2) for a put, where no difference is taken."""
    if not is_option(forward, strike, years, vol):
        return math.nan
    sign = 1.0 if is_call else -1.0
    v = vol * math.sqrt(max(years, 0.0))
    if v <= 0.0:
        return sign * strike / forward if sign * (forward - strike) > 0.0 else 0.0
    d2 = log_ratio(forward, strike) / v - 0.5 * v
    beyond = pdf(d2) * scaled_tail(-abs(d2))
    return sign * strike / forward * (beyond if sign * d2 < 0.0 else 1.0 - beyond)


def price_coin(forward: ArrayLike, strike: ArrayLike, years: ArrayLike, vol: ArrayLike, is_call: ArrayLike) -> Floats:
    """Coin price of each option, shape (n,)."""
    return greeks(forward, strike, years, vol, is_call)[0]


def price_usd(forward: ArrayLike, strike: ArrayLike, years: ArrayLike, vol: ArrayLike, is_call: ArrayLike) -> Floats:
    """USD price of each option, shape (n,): the coin price times the forward."""
    return price_coin(forward, strike, years, vol, is_call) * np.asarray(forward, np.float64)


def greeks(
    forward: ArrayLike, strike: ArrayLike, years: ArrayLike, vol: ArrayLike, is_call: ArrayLike
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Coin price, delta, gamma, vega, theta of each option, five arrays of shape (n,); units as in `greeks_scalar`.

    Raises:
        ValueError: the columns differ in length.
    """
    made, rows = columns((forward, strike, years, vol), is_call)
    out = np.empty((5, made[0].size))
    arguments = (*made, out)
    if fill_greeks(*arguments):
        _fill_unusual(*arguments)
    price, delta, gamma, vega, theta = out[:, :rows]
    return price, delta, gamma, vega, theta


def delta_premium_adjusted(forward: ArrayLike, strike: ArrayLike, years: ArrayLike, vol: ArrayLike, is_call: ArrayLike) -> Floats:
    """Delta minus the premium held in coin: what hedges a coin account, shape (n,).

    Raises:
        ValueError: the columns differ in length.
    """
    made, rows = columns((forward, strike, years, vol), is_call)
    adjusted = np.empty(made[0].size)
    arguments = (*made, adjusted)
    _delta_premium_adjusted(*arguments)
    return adjusted[:rows]


@compiled(error_model="numpy")
def _fill_unusual(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools, out: Floats) -> None:
    for i in range(forward.size):
        if math.isnan(out[0, i]):
            out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = greeks_scalar(forward[i], strike[i], years[i], vol[i], is_call[i])


@compiled(error_model="numpy")
def _delta_premium_adjusted(forward: Floats, strike: Floats, years: Floats, vol: Floats, is_call: Bools, out: Floats) -> None:
    for i in range(forward.size):
        out[i] = delta_premium_adjusted_scalar(forward[i], strike[i], years[i], vol[i], is_call[i])

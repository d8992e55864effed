"""Scalar building blocks of Black-76 that keep relative accuracy in the tails."""

from __future__ import annotations

import math

from numba import njit

SQRT_2 = math.sqrt(2.0)
SQRT_2PI = math.sqrt(2.0 * math.pi)
INV_SQRT_2PI = 1.0 / SQRT_2PI
#: Below this half-width of total volatility the difference of two nearly equal tails is summed as a series.
SMALL_T = 0.06


@njit(cache=True, inline="always")
def cdf(x: float) -> float:
    """Standard normal distribution function, relatively accurate in the lower tail too."""
    return 0.5 * math.erfc(-x / SQRT_2)


@njit(cache=True, inline="always")
def pdf(x: float) -> float:
    """Standard normal density."""
    return INV_SQRT_2PI * math.exp(-0.5 * x * x)


@njit(cache=True, inline="always")
def log_ratio(forward: float, strike: float) -> float:
    """ln(forward / strike), exact to the last digits near the money, where the quotient's rounding would show."""
    return math.log1p((forward - strike) / strike) if abs(forward - strike) < 0.5 * strike else math.log(forward / strike)


@njit(cache=True)
def out_of_the_money(x: float, v: float) -> float:
    """Normalised Black price of the out-of-the-money option, undiscounted, over the root of forward times strike.

    With h = x/v and t = v/2 it is e^(x/2) N(h+t) - e^(-x/2) N(h-t) for x <= 0. The two terms nearly cancel where v is
    small, so there the difference of scaled tails Y = N/n is summed by its odd Taylor series in t, whose derivatives
    follow from Y' = 1 + hY (the representation is P. Jaeckel's, "Let's be rational", 2015, section 6).

    Args:
        x: -|ln(forward / strike)|, at most 0.
        v: total volatility, sigma sqrt(T), above 0.
    """
    h = x / v
    t = 0.5 * v
    if t < SMALL_T:
        return _series(h, t)
    if h + t > -5.0:
        return math.exp(0.5 * x) * cdf(h + t) - math.exp(-0.5 * x) * cdf(h - t)
    # both tails are far: a common factor keeps them from underflowing apart
    return INV_SQRT_2PI * math.exp(-0.5 * (h * h + t * t)) * (_scaled_tail(h + t) - _scaled_tail(h - t))


@njit(cache=True)
def _series(h: float, t: float) -> float:
    y = _scaled_tail(h)
    first = _first_derivative(h, y)
    h2 = h * h
    t2 = t * t
    # derivatives of Y: Y^(n+1) = h Y^(n) + n Y^(n-1), written through Y and Y' so that the tail keeps its accuracy
    y2 = h * first + y
    y3 = h * y2 + 2.0 * first
    if h < -3.0:
        total = _tail_series(h, t)
    else:
        y4 = h * y3 + 3.0 * y2
        y5 = h * y4 + 4.0 * y3
        y6 = h * y5 + 5.0 * y4
        y7 = h * y6 + 6.0 * y5
        y8 = h * y7 + 7.0 * y6
        y9 = h * y8 + 8.0 * y7
        total = 2.0 * t * (first + t2 * (y3 / 6.0 + t2 * (y5 / 120.0 + t2 * (y7 / 5_040.0 + t2 * y9 / 362_880.0))))
    return INV_SQRT_2PI * math.exp(-0.5 * (h2 + t2)) * total


@njit(cache=True)
def _tail_series(h: float, t: float) -> float:
    """Y(h+t) - Y(h-t) for h below -3, as the integral of exp(-u^2/2 + hu) 2 sinh(tu) du over u > 0.

    Every term is positive: with moments m_k = integral of u^k exp(-u^2/2 + hu), the sum of 2 t^k m_k / k! over odd k. The
    moments obey m_(k+1) = h m_k + k m_(k-1), unstable upwards, so the ratios r_k = m_k / m_(k-1) = k / (r_(k+1) - h) are
    taken downwards from far (a continued fraction).
    """
    a = -h
    ratio = 0.0
    for k in range(60, 8, -1):
        ratio = k / (a + ratio)
    r8 = 8.0 / (a + ratio)
    r7 = 7.0 / (a + r8)
    r6 = 6.0 / (a + r7)
    r5 = 5.0 / (a + r6)
    r4 = 4.0 / (a + r5)
    r3 = 3.0 / (a + r4)
    r2 = 2.0 / (a + r3)
    r1 = 1.0 / (a + r2)
    m0 = 1.0 / (a + r1)
    m1 = m0 * r1
    m3 = m1 * r2 * r3
    m5 = m3 * r4 * r5
    m7 = m5 * r6 * r7
    t2 = t * t
    return 2.0 * t * (m1 + t2 * (m3 / 6.0 + t2 * (m5 / 120.0 + t2 * m7 / 5_040.0)))


@njit(cache=True)
def _scaled_tail(h: float) -> float:
    """Y(h) = N(h) / n(h): by the error function near the middle, by its continued fraction in the lower tail."""
    if h > -3.0:
        return cdf(h) / pdf(h)
    a = -h
    ratio = 0.0
    for k in range(60, 0, -1):
        ratio = k / (a + ratio)
    return 1.0 / (a + ratio)


@njit(cache=True)
def _first_derivative(h: float, y: float) -> float:
    """Y'(h) = 1 + hY; in the lower tail the two nearly cancel and the continued fraction gives it directly."""
    if h > -3.0:
        return 1.0 + h * y
    a = -h
    ratio = 0.0
    for k in range(120, 1, -1):
        ratio = k / (a + ratio)
    r1 = 1.0 / (a + ratio)
    return r1 / (a + r1)

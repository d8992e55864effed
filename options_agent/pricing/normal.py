"""Scalar building blocks of Black-76 that keep relative accuracy in the tails."""

from __future__ import annotations

import math
from typing import Final

from options_agent.compiled import compiled

INV_SQRT_2PI: Final = 1.0 / math.sqrt(2.0 * math.pi)
LOG_SQRT_2PI: Final = 0.5 * math.log(2.0 * math.pi)
#: Below this half-width of total volatility the difference of two nearly equal tails is summed as a series.
SMALL_T: Final = 0.06

#: Polynomials in u = (a - 4) / (a + 4), even and odd powers apart, interpolating (a + 4) Y(-a) and (a + 4)^2 Y'(-a) at
#: Chebyshev points over a in [0, infinity), Y(h) = N(h) / n(h). Made with 60 digits; relative error under 6e-16 and 3e-15.
_TAIL_EVEN: Final = (
    1.8932190633084853,
    0.9704095548675884,
    0.15139176231244347,
    -0.008722295274260125,
    0.0003342446162328441,
    -4.783264259417208e-06,
    1.7963971214040778e-06,
    -1.5787665654677373e-06,
    6.829633831673466e-07,
    -2.1774195022039326e-07,
    5.3711037651589576e-08,
    -9.35134044482434e-09,
    8.53083886026053e-10,
)
_TAIL_ODD: Final = (
    -1.523770910819983,
    -0.4675409629983781,
    -0.018900450860304858,
    0.004087855661108637,
    -0.0005792691439164002,
    8.809493632053581e-05,
    -1.484070957232045e-05,
    2.563178850836918e-06,
    -3.922932522029295e-07,
    3.66737949934239e-08,
    3.5919778637323777e-09,
    -2.142295344399263e-09,
    2.946488876280441e-10,
)
_SLOPE_EVEN: Final = (
    3.416989974128468,
    4.313851553597915,
    0.8514610658629556,
    -0.08967105653186021,
    0.00822162367964019,
    -0.0010216592289746325,
    0.00021627865510898914,
    -6.211983096599871e-05,
    1.8263779003676145e-05,
    -4.816787538148039e-06,
    1.040612182067568e-06,
    -1.6107339332742246e-07,
    1.3137458615192951e-08,
)
_SLOPE_ODD: Final = (
    -4.988360931375142,
    -2.475730901243429,
    -0.06106893351155206,
    0.030028888287138344,
    -0.005744858185691798,
    0.0010355792716100695,
    -0.000185656293437605,
    3.005851340652346e-05,
    -3.1034222886280573e-06,
    -3.8037176475475713e-07,
    3.107935446911965e-07,
    -8.177009766729484e-08,
    9.307703767843687e-09,
)


@compiled(error_model="numpy", inline="always")
def pdf(x: float) -> float:
    """Standard normal density."""
    return INV_SQRT_2PI * math.exp(-0.5 * x * x)


@compiled(error_model="numpy", inline="always")
def log_ratio(forward: float, strike: float) -> float:
    """ln(forward / strike), exact to the last digits near the money, where the quotient's rounding would show."""
    if abs(forward - strike) < 0.5 * strike:
        return math.log1p((forward - strike) / strike)
    ratio = forward / strike
    return math.log(ratio) if 1e-300 < ratio < 1e300 else math.log(forward) - math.log(strike)


@compiled(error_model="numpy")
def scaled_tail(h: float) -> float:
    """Y(h) = N(h) / n(h), Mills' ratio of the lower tail, for h <= 0."""
    u = (-h - 4.0) / (4.0 - h)
    w = u * u
    even = odd = 0.0
    for k in range(len(_TAIL_EVEN) - 1, -1, -1):
        even = even * w + _TAIL_EVEN[k]
        odd = odd * w + _TAIL_ODD[k]
    return (even + u * odd) / (4.0 - h)


@compiled(error_model="numpy")
def scaled_tail_slope(h: float) -> float:
    """Y'(h) = 1 + hY for h <= 0, from its own polynomial: in the lower tail that sum nearly cancels."""
    u = (-h - 4.0) / (4.0 - h)
    w = u * u
    even = odd = 0.0
    for k in range(len(_SLOPE_EVEN) - 1, -1, -1):
        even = even * w + _SLOPE_EVEN[k]
        odd = odd * w + _SLOPE_ODD[k]
    return (even + u * odd) / ((4.0 - h) * (4.0 - h))


@compiled(error_model="numpy", inline="always")
def is_tail(h: float, t: float) -> bool:
    """Whether `tail_difference` gives the price: the strike is out of reach of its own volatility, or that is small."""
    return t < SMALL_T or h + t <= 0.0


@compiled(error_model="numpy")
def tail_difference(h: float, t: float) -> float:
    """Y(h + t) - Y(h - t) where `is_tail`: the time value over the density, without cancellation.

    With h = x/v <= 0 and t = v/2 it is the normalised Black price over n(h) exp(-t^2/2) (the representation is
    P. Jaeckel's, "Let's be rational", 2015, section 6). Small t: the odd Taylor series; Y' comes accurate, the higher
    derivatives by Y^(n+1) = hY^(n) + nY^(n-1), whose growing error their powers of t more than make up for.
    """
    if t >= SMALL_T:
        return scaled_tail(h + t) - scaled_tail(h - t)
    y0 = scaled_tail(h)
    y1 = scaled_tail_slope(h)
    y2 = h * y1 + y0
    y3 = h * y2 + 2.0 * y1
    y4 = h * y3 + 3.0 * y2
    y5 = h * y4 + 4.0 * y3
    y6 = h * y5 + 5.0 * y4
    y7 = h * y6 + 6.0 * y5
    y8 = h * y7 + 7.0 * y6
    y9 = h * y8 + 8.0 * y7
    w = t * t
    return 2.0 * t * (y1 + w * (y3 / 6.0 + w * (y5 / 120.0 + w * (y7 / 5_040.0 + w * y9 / 362_880.0))))


@compiled(error_model="numpy")
def tail_sum(h: float, t: float) -> float:
    """Y(-h - t) + Y(h - t) where not `is_tail`: what the time value lacks of its bound, over the density."""
    return scaled_tail(-h - t) + scaled_tail(h - t)

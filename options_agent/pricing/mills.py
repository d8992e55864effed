"""Mills' ratio R(a) = N(-a) / n(a) and its divided difference, without branches and without cancellation.

The time value of an option is its density times R(a) - R(b), b - a = sigma sqrt(T): a difference of nearly equal numbers where that
is small. Of a rational function N / D the divided difference is (N[a,b] D(b) - N(b) D[a,b]) / (D(a) D(b)), and Horner's scheme
gives a polynomial's value and divided difference together, from operations on like signs. What is left of cancellation, between
N[a,b] D(b) and N(b) D[a,b], costs a digit and a half at most, however small b - a.

The rational function is made by scripts/pricing_coefficients.py for a >= -1: relative error 3e-15. Its coefficients are
positive and its limit 1/a is exact. Below -1, where it would lose digits, callers use `options_agent.pricing.normal`.
"""

from __future__ import annotations

from typing import Final

from numba import njit

from options_agent.pricing.elementary import fused

#: The least argument the approximation is made for.
LEAST_ARGUMENT: Final = -1.0
#: The value at one argument follows from the other's and the divided difference; further apart, that loses digits.
MOST_APART: Final = 3.25

MILLS_NUMERATOR: Final = (
    2920160.772239907,
    4780577.175287793,
    3875790.0099248667,
    2009536.4559406233,
    730563.6090054909,
    193567.24916772533,
    37768.19309962585,
    5358.2755466520985,
    529.9905061879869,
    33.129131061826854,
    1.0,
)
MILLS_DENOMINATOR: Final = (
    2329951.1952323965,
    5673380.805988821,
    6454160.36487055,
    4536039.979680312,
    2192718.593660447,
    767281.8161656809,
    198859.26656007793,
    38296.18360440953,
    5391.404677723202,
    530.9905061879639,
    33.12913106182687,
    1.0,
)


@njit(error_model="numpy", forceinline=True)
def numerator_and_denominator(a: float, b: float) -> tuple[float, float, float, float]:
    """N(b), N[a, b], D(b), D[a, b] of R = N / D, [a, b] the divided differences, for -1 <= a <= b <= a + 3.25."""
    n, d = b + MILLS_NUMERATOR[9], b + MILLS_DENOMINATOR[10]
    slope_n, slope_d = 1.0, a + d
    d = fused(d, b, MILLS_DENOMINATOR[9])
    for k in range(8, -1, -1):
        slope_n = fused(slope_n, a, n)
        n = fused(n, b, MILLS_NUMERATOR[k])
        slope_d = fused(slope_d, a, d)
        d = fused(d, b, MILLS_DENOMINATOR[k])
    return n, slope_n, d, slope_d

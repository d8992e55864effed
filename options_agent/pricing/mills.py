"""Mills' ratio R(a) = N(-a) / n(a) and its divided difference, without branches and without cancellation.

The time value of an option is its density times R(a) - R(b), b - a = sigma sqrt(T): a difference of nearly equal numbers where that
is small. Of a rational function N / D the divided difference is (N[a,b] D(a) - N(a) D[a,b]) / (D(a) D(b)), and Horner's scheme
gives a polynomial's value and divided difference together. What is left of cancellation, between N[a,b] D(a) and N(a) D[a,b],
costs a digit and a half at most, however small b - a.

The rational function is made by scripts/pricing_coefficients.py in s = a + 1 for a >= -1: relative error 3e-15. Its
coefficients are positive, as s is, so that no sum loses digits; its limit 1/a is exact. Below -1 callers use
`options_agent.pricing.normal`.
"""

from __future__ import annotations

from typing import Final

from options_agent.compiled import compiled
from options_agent.pricing.elementary import fused

#: The least argument the approximation is made for.
LEAST_ARGUMENT: Final = -1.0

MILLS_NUMERATOR: Final = (
    575741.2897022229,
    910135.3414354542,
    762580.9999284211,
    428113.67239888536,
    174845.68044779752,
    53724.679216927194,
    12527.15143713134,
    2191.00021537397,
    276.82832663154517,
    23.129131061826858,
    1.0,
)
MILLS_DENOMINATOR: Final = (
    165583.17818684434,
    474959.79316896154,
    641482.4524953204,
    540038.9064879786,
    315952.7262628022,
    135445.67329741723,
    43637.22730865555,
    10635.108677971386,
    1938.3010198137367,
    254.69919556969523,
    22.129131061826865,
    1.0,
)


@compiled(error_model="numpy", forceinline=True)
def numerator_and_denominator(a: float, b: float) -> tuple[float, float, float, float]:
    """N(a), N[a, b], D(a), D[a, b] of R = N / D, [a, b] the divided differences, for a, b >= -1."""
    from_start, to_end = a - LEAST_ARGUMENT, b - LEAST_ARGUMENT
    n, d = from_start + MILLS_NUMERATOR[9], from_start + MILLS_DENOMINATOR[10]
    slope_n, slope_d = 1.0, to_end + d
    d = fused(d, from_start, MILLS_DENOMINATOR[9])
    for k in range(8, -1, -1):
        slope_n = fused(slope_n, to_end, n)
        n = fused(n, from_start, MILLS_NUMERATOR[k])
        slope_d = fused(slope_d, to_end, d)
        d = fused(d, from_start, MILLS_DENOMINATOR[k])
    return n, slope_n, d, slope_d

"""Make the coefficients of the pricing kernels' approximations, in sixty digits, and print them.

Run: python scripts/pricing_coefficients.py. The tables in `options_agent/pricing/elementary.py` and `options_agent/pricing/mills.py`
are its output; a test makes them again and compares. All are interpolations at Chebyshev points, which lose little against the
best possible approximation and need no iteration.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import mpmath as mp  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS = 60
#: The Mills ratio is approximated for arguments from -1 (above, `options_agent.pricing.mills` does not vouch) to infinity.
MILLS_START = -1
MILLS_DEGREE = 10
#: Scale of the map u = (s - 3) / (s + 3), s = a + 1, that takes [-1, infinity) onto [-1, 1).
MILLS_SCALE = 3
#: |s| of atanh: a ratio brought to within [0.70, 1.42] of one has at most 0.2.
ATANH_SQUARE = mp.mpf("0.0555")
ATANH_DEGREE = 7
EXP_DEGREE = 9


def chebyshev(n: int) -> list[mp.mpf]:
    """The n Chebyshev points of [-1, 1]."""
    return [mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]


def polynomial(f: Callable[[mp.mpf], mp.mpf], degree: int, low: mp.mpf, high: mp.mpf) -> list[mp.mpf]:
    """Coefficients, lowest first, of the polynomial through `f` at the Chebyshev points of [low, high]."""
    points = [(low + high) / 2 + (high - low) / 2 * u for u in chebyshev(degree + 1)]
    matrix = mp.matrix([[x**j for j in range(degree + 1)] for x in points])
    return list(mp.lu_solve(matrix, mp.matrix([f(x) for x in points])))


def mills(a: mp.mpf) -> mp.mpf:
    """N(-a) / n(a); by its continued fraction where erfc is far below one."""
    if a > 60:
        tail = mp.mpf(0)
        for k in range(400, 0, -1):
            tail = k / (a + tail)
        return 1 / (a + tail)
    return mp.erfc(a / mp.sqrt(2)) / 2 / mp.npdf(a)


def mills_rational() -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Numerator and denominator in s = a + 1, lowest first, both monic: R(a) = N(s) / D(s), degrees 10 and 11, 1/a at infinity.

    In s all coefficients are positive and so is s: sums of positive terms lose no digits.
    """
    n, unknowns = MILLS_DEGREE, 2 * MILLS_DEGREE + 1
    rows, right = [], []
    for u in chebyshev(unknowns):
        s = MILLS_SCALE * (1 + u) / (1 - u)
        ratio, weight = mills(s + MILLS_START), 1 / (s + MILLS_SCALE) ** n
        rows.append([weight * s**j for j in range(n)] + [-weight * ratio * s**j for j in range(n + 1)])
        right.append(weight * (ratio * s ** (n + 1) - s**n))
    solved = list(mp.lu_solve(mp.matrix(rows), mp.matrix(right)))
    return [*solved[:n], mp.mpf(1)], [*solved[n:], mp.mpf(1)]


def atanh_rest() -> list[mp.mpf]:
    """(2 atanh s - 2 s) / s^3 as a polynomial in w = s^2."""

    def rest(w: mp.mpf) -> mp.mpf:
        s = mp.sqrt(w)
        return (2 * mp.atanh(s) - 2 * s) / s**3

    return polynomial(rest, ATANH_DEGREE, mp.mpf(0), ATANH_SQUARE)


def exp_rest() -> list[mp.mpf]:
    """(exp r - 1 - r) / r^2 as a polynomial in r, |r| <= ln(2)/2 and a whisker."""
    reach = mp.log(2) / 2 * mp.mpf("1.0001")
    return polynomial(lambda r: (mp.exp(r) - 1 - r) / r**2, EXP_DEGREE, -reach, reach)


def tables() -> dict[str, tuple[float, ...]]:
    """Every table by the name it has in the package, rounded to double."""
    with mp.workdps(DIGITS):
        numerator, denominator = mills_rational()
        made = {"MILLS_NUMERATOR": numerator, "MILLS_DENOMINATOR": denominator, "ATANH_REST": atanh_rest(), "EXP_REST": exp_rest()}
        return {name: tuple(float(c) for c in table) for name, table in made.items()}


def main() -> None:
    """Print the tables as Python."""
    for name, table in tables().items():
        sys.stdout.write(f"{name}: Final = (\n" + "".join(f"    {c!r},\n" for c in table) + ")\n")


if __name__ == "__main__":
    main()

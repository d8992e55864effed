"""Logarithm and normal density without branches, so that a loop over them compiles to vector instructions.

Python's `math.log` and `math.exp` are calls, and a loop that calls anything stays scalar. These are arithmetic alone: inlined into a
loop over contiguous arrays, LLVM turns them into whatever vectors the processor has. Relative errors are under 4e-16, the
density's grows with its argument's square, as that of any density of a rounded argument. Where the processor fuses a
multiplication and an addition, they do; results on one without that differ in the last digits.

Arguments must be ordinary positive numbers (log) or finite (density): the kernels check, and ask elsewhere for the others.
The tables are made by scripts/pricing_coefficients.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from options_agent.compiled import compiled, intrinsic

ATANH_REST: Final = (
    0.6666666666666663,
    0.40000000000081837,
    0.28571428540525967,
    0.22222226659333189,
    0.18181506139657475,
    0.15396481569496376,
    0.13085386110263283,
    0.14408517915146551,
)
EXP_REST: Final = (
    0.5000000000000001,
    0.16666666666666669,
    0.04166666666662413,
    0.008333333333330062,
    0.0013888888917213717,
    0.00019841269863053618,
    2.4801521295954376e-05,
    2.7557268459997064e-06,
    2.7620088445409746e-07,
    2.510038549551032e-08,
)
#: ln 2 in two parts: multiples of the first, up to 2^11, are exact.
LN2_HIGH: Final = 0.6931471803691238
LN2_LOW: Final = 1.9082149292705877e-10
LOG_SQRT_2PI: Final = 0.9189385332046728
INV_LN2: Final = 1.4426950408889634

_EXPONENT: Final = -1 << 52  # sign and exponent of a double's bits
_SIGN: Final = -1 << 63
_HALF_OCTAVE: Final = 1 << 51
_THREE_QUARTERS: Final = 0x3FE8000000000000
#: 2^52 and, from its sum with the biased exponent in the low bits, what to take off.
_INTEGER: Final = 0x4330000000000000
_BIAS: Final = 4503599627370496.0 + 2048.0
#: 1.5 * 2^52: adding it rounds to an integer, which then stands in the low bits.
_ROUNDER: Final = 6755399441055744.0
#: Rows of a block: short enough to stay in the first-level cache.
BLOCK: Final = 128
#: Below this exponent the density is 0 rather than a denormal.
_SMALLEST: Final = -708.0


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    def fused(a: float, b: float, c: float) -> float:
        """a * b + c, in one rounding where the processor can."""

    def bits(x: float) -> int:
        """The bits of a double as an integer."""

    def from_bits(n: int) -> float:
        """The double of these bits."""

    def blocks_of_10() -> NDArray[np.float64]:
        """(10, BLOCK), on the stack: what a kernel that allocates needs is not kept for processes without numba."""

    def blocks_of_9() -> NDArray[np.float64]:
        """(9, BLOCK), on the stack."""

else:

    def _on_the_stack(rows: int) -> Any:
        """An array of a block's columns, of the caller's frame."""

        def typed(typing_context: Any) -> Any:
            from llvmlite import ir
            from numba import types
            from numba.core import cgutils
            from numba.np import arrayobj

            def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                data = cgutils.alloca_once(builder, ir.DoubleType(), size=rows * BLOCK)
                data.align = 64
                array = context.make_array(signature.return_type)(context, builder)
                shape, strides = ([context.get_constant(types.intp, n) for n in both] for both in ((rows, BLOCK), (8 * BLOCK, 8)))
                arrayobj.populate_array(array, data, shape, strides, context.get_constant(types.intp, 8), None)
                return array._getvalue()

            return types.Array(types.float64, 2, "C")(), build

        return intrinsic(typed)

    blocks_of_9, blocks_of_10 = _on_the_stack(9), _on_the_stack(10)

    @intrinsic
    def fused(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, in one rounding where the processor can."""
        from llvmlite import ir
        from numba import types

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            double = ir.DoubleType()
            function = builder.module.declare_intrinsic("llvm.fmuladd", [double], ir.FunctionType(double, [double] * 3))
            return builder.call(function, arguments)

        return types.float64(types.float64, types.float64, types.float64), build

    @intrinsic
    def bits(typing_context: Any, x: Any) -> Any:
        """The bits of a double as an integer."""
        from llvmlite import ir
        from numba import types

        return types.int64(types.float64), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], ir.IntType(64))

    @intrinsic
    def from_bits(typing_context: Any, n: Any) -> Any:
        """The double of these bits."""
        from llvmlite import ir
        from numba import types

        return types.float64(types.int64), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], ir.DoubleType())


@compiled(error_model="numpy", forceinline=True)
def octaves(numerator: float, denominator: float) -> tuple[float, float]:
    """The denominator times the power of two that brings it within a factor 1.42 of the numerator, and that power.

    The two then differ by an exact subtraction, so that the logarithm keeps its digits when the ratio is near one.
    """
    apart = bits(numerator) - bits(denominator) + _HALF_OCTAVE
    return from_bits(bits(denominator) + (apart & _EXPONENT)), from_bits((((apart ^ _SIGN) >> 52) & 0xFFF) | _INTEGER) - _BIAS


@compiled(error_model="numpy", forceinline=True)
def mantissa(x: float) -> tuple[float, float]:
    """x as m 2^e with m in [0.75, 1.5): (m, e)."""
    apart = bits(x) - _THREE_QUARTERS
    return from_bits(bits(x) - (apart & _EXPONENT)), from_bits((((apart ^ _SIGN) >> 52) & 0xFFF) | _INTEGER) - _BIAS


@compiled(error_model="numpy", forceinline=True)
def logarithm(s: float, exponent: float) -> float:
    """ln of (1 + s) / (1 - s) 2^exponent for |s| <= 0.2: s is (x - y) / (x + y) for a ratio x / y."""
    w = s * s
    rest = ATANH_REST[len(ATANH_REST) - 1]
    for k in range(len(ATANH_REST) - 2, -1, -1):
        rest = fused(rest, w, ATANH_REST[k])
    return fused(exponent, LN2_HIGH, fused(exponent, LN2_LOW, fused(w * s, rest, 2.0 * s)))


@compiled(error_model="numpy", forceinline=True)
def density(d: float) -> float:
    """exp(-d^2 / 2) / sqrt(2 pi), and 0 where that is under 1e-307."""
    y = fused(-0.5 * d, d, -LOG_SQRT_2PI)
    within = max(y, _SMALLEST)
    rounded = fused(within, INV_LN2, _ROUNDER)
    whole = rounded - _ROUNDER
    r = fused(whole, -LN2_LOW, fused(whole, -LN2_HIGH, within))
    w = r * r
    even, odd = EXP_REST[8], EXP_REST[9]
    for k in range(6, -1, -2):
        even = fused(even, w, EXP_REST[k])
        odd = fused(odd, w, EXP_REST[k + 1])
    power = fused(w, fused(odd, r, even), r) + 1.0
    return from_bits(bits(power) + (bits(rounded) << 52)) if y >= _SMALLEST else 0.0

"""Elementary functions that vectorise: exp, expm1, log, log1p, softplus, logistic, tanh.

The C library's exponential and logarithm take one number a call, and a loop that calls them is not
vectorised. These are polynomials without branches, with errors of at most 4 units in the last
place, or 8 of expm1 and tanh.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

FUSED = {"contract"}
"""Fast-math flags of the polynomials: fused multiply-add, but no reordering of sums."""

LOG2_E = 1 / math.log(2)
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
ROUNDS = 1.5 * 2.0**52
"""Added to a number of moderate size, it moves the nearest whole number to the lowest bits."""
ROUNDS_BITS = 0x4338000000000000
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
MANTISSA = 0x000FFFFFFFFFFFFF
SMALLEST, LARGEST = -708.0, 709.0
"""Arguments beyond which the exponential is set to 0 and to infinity."""
LEAST = -50.0
"""Argument below which ``e^x - 1`` is -1 in double precision."""

E3, E4, E5, E6, E7, E8, E9, E10, E11, E12 = (1 / math.factorial(j) for j in range(3, 13))


@intrinsic
def bits(_: Any, x: Any) -> Any:
    """Bits of a double, as a whole number."""

    def codegen(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def from_bits(_: Any, x: Any) -> Any:
    """Double with the bits of a whole number."""

    def codegen(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@register_jitable(fastmath=FUSED, forceinline=True)
def _reduced(x: float) -> tuple[float, float, float, float]:
    """``r``, ``r^2``, the terms of the series of ``e^r`` from ``r^4`` on, and ``2^k``.

    The argument, between ``SMALLEST`` and ``LARGEST``, is ``k log(2) + r`` with
    ``|r| < log(2) / 2``.
    """
    shifted = x * LOG2_E + ROUNDS
    k = shifted - ROUNDS
    r = x - k * LN2_HIGH
    r = r - k * LN2_LOW
    r2 = r * r
    r4 = r2 * r2
    high = (
        (E4 + r * E5) + r2 * (E6 + r * E7) + r4 * ((E8 + r * E9) + r2 * (E10 + r * E11 + r2 * E12))
    )
    return r, r2, r4 * high, from_bits((bits(shifted) + 1023) << 52)


@register_jitable(fastmath=FUSED, forceinline=True)
def exp(x: float) -> float:
    """Exponential, as ``2^k e^r`` with ``|r| < log(2) / 2`` and a Taylor polynomial for ``e^r``."""
    clipped = SMALLEST if x < SMALLEST else x
    clipped = LARGEST if clipped > LARGEST else clipped
    r, r2, rest, power = _reduced(clipped)
    low = (1.0 + r) + r2 * (0.5 + r * E3)
    value = (low + rest) * power
    value = 0.0 if x < SMALLEST else value
    return math.inf if x > LARGEST else value


@register_jitable(fastmath=FUSED, forceinline=True)
def log(x: float) -> float:
    """Log, as ``k log 2 + 2 artanh((m - 1) / (m + 1))`` with ``x = 2^k m``, ``1/2 < m^2 <= 2``.

    The argument must be positive and not subnormal.
    """
    shifted = bits(x) - SQRT_HALF_BITS
    m = from_bits((shifted & MANTISSA) + SQRT_HALF_BITS)
    k = from_bits((shifted >> 52) + ROUNDS_BITS) - ROUNDS
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    z2 = z * z
    z4 = z2 * z2
    low = (2 / 3 + z * (2 / 5)) + z2 * (2 / 7 + z * (2 / 9))
    high = (2 / 11 + z * (2 / 13)) + z2 * (2 / 15 + z * (2 / 17)) + z4 * (2 / 19 + z * (2 / 21))
    return k * LN2_HIGH + (s * (2.0 + z * (low + z4 * high)) + k * LN2_LOW)


@register_jitable(fastmath=FUSED, forceinline=True)
def log1p(x: float) -> float:
    """``log(1 + x)`` for ``x >= 0``, corrected for the rounding error of the sum."""
    total = 1.0 + x
    return log(total) + (x - (total - 1.0)) / total


@register_jitable(fastmath=FUSED, forceinline=True)
def softplus(x: float) -> float:
    """``log(1 + e^x)``."""
    return (x if x > 0.0 else 0.0) + log1p(exp(-abs(x)))


@register_jitable(fastmath=FUSED, forceinline=True)
def logistic(x: float) -> float:
    """``1 / (1 + e^-x)``, without loss of relative accuracy where it is small."""
    tail = exp(-abs(x))
    return (1.0 if x > 0.0 else tail) / (1.0 + tail)


@register_jitable(fastmath=FUSED, forceinline=True)
def expm1(x: float) -> float:
    """``e^x - 1``, as ``2^k (e^r - 1) + (2^k - 1)``; see :func:`exp`."""
    clipped = LEAST if x < LEAST else x
    clipped = LARGEST if clipped > LARGEST else clipped
    r, r2, rest, power = _reduced(clipped)
    low = r + r2 * (0.5 + r * E3)
    value = (low + rest) * power + (power - 1.0)
    return math.inf if x > LARGEST else value


@register_jitable(fastmath=FUSED, forceinline=True)
def tanh(x: float) -> float:
    """Hyperbolic tangent, ``-m / (m + 2)`` with ``m = e^(-2 |x|) - 1``."""
    m = expm1(-2.0 * abs(x))
    size = -m / (m + 2.0)
    return size if x > 0.0 else -size

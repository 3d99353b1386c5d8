"""Probabilities, densities and slopes of the families' distributions, one number at a time.

Probabilities have a small relative error in the tail: they are an exponential times a function that
varies slowly, which is a polynomial. For the normal distribution its coefficients are constants,
for others they are in the tables of :mod:`bayes_moe.kernels.tail_tables`. The density needs the
same exponential, so that it costs little more.
"""

from __future__ import annotations

import math
from typing import Any

from numba.extending import register_jitable

from bayes_moe.families.gamma_normaliser import SMALL_RATIO
from bayes_moe.kernels.elementary import FUSED, bits, exp, from_bits, log1p

HEAD_BITS = ~0x7FFFFFF
"""Bits of a double without the last 27: the square of what remains is exact."""

CENTRE = 5.0
"""The polynomial's variable is ``(z - CENTRE) / (z + CENTRE)``, between -1 and 1."""

NORMAL = (
    0.7691930497500625, -0.665382502890064, 0.49530561597001876, -0.3135331566706855,
    0.16502036616836238, -0.069118638722347, 0.020795066837799914, -0.0029933765884633257,
    -0.0007978697481862418, 0.0005448979621035521, -5.9373921211580694e-05, -4.9758833998492236e-05,
    1.6675602924287602e-05, 3.971813287151349e-06, -2.7584920978540595e-06, -3.231803873404715e-07,
    4.2049047976888687e-07, 2.9621048724948196e-08, -5.746056785937981e-08, -2.309775481990073e-09,
    5.003130354452878e-09,
)  # fmt: skip
"""Coefficients of ``(z + CENTRE) exp(z^2 / 2) P(Z > z)``, to 3e-15."""

FARTHEST = 40.0
"""Normal probabilities beyond are zero as doubles."""

ROOT_TWO_PI = math.sqrt(2 * math.pi)


@register_jitable(fastmath=FUSED, forceinline=True)
def polynomial(t: float, c: Any) -> float:
    """Polynomial with ``TERMS`` coefficients, in few steps that depend on each other."""
    t2 = t * t
    t4 = t2 * t2
    p0 = (c[0] + c[1] * t) + (c[2] + c[3] * t) * t2
    p1 = (c[4] + c[5] * t) + (c[6] + c[7] * t) * t2
    p2 = (c[8] + c[9] * t) + (c[10] + c[11] * t) * t2
    p3 = (c[12] + c[13] * t) + (c[14] + c[15] * t) * t2
    p4 = (c[16] + c[17] * t) + (c[18] + c[19] * t) * t2
    return (p0 + p1 * t4) + (t4 * t4) * ((p2 + p3 * t4) + (t4 * t4) * (p4 + c[20] * t4))


@register_jitable(fastmath=FUSED, forceinline=True)
def normal_tail(z: float) -> tuple[float, float]:
    """Probability up to ``z`` under the standard normal distribution, and its density."""
    size = abs(z)
    size = FARTHEST if size > FARTHEST else size
    head = from_bits(bits(size) & HEAD_BITS)
    rest = 0.5 * (size - head) * (size + head)
    rest = 1.0 - rest * (1.0 - rest * (0.5 - rest * (1 / 6)))
    height = exp(-0.5 * head * head) * rest
    inverse = 1.0 / (size + CENTRE)
    tail = height * polynomial(1.0 - 2.0 * CENTRE * inverse, NORMAL) * inverse
    return (tail if z < 0.0 else 1.0 - tail), height * (1 / ROOT_TWO_PI)


@register_jitable(fastmath=FUSED, forceinline=True)
def student_tail(z: float, p: Any, c: Any) -> tuple[float, float, float]:
    """Probability up to ``z``, density, and minus the slope of the log density by ``z``.

    ``p`` and ``c`` are the numbers and the coefficients of :func:`tail_tables.student_table`.
    """
    ratio = z * z * p[0]
    power = exp(-p[1] * log1p(ratio))
    inverse = 1.0 / (1.0 + ratio)
    root = math.sqrt(inverse)
    part = 1.0 / (abs(z) * p[2] * root + p[5])
    tail = power * polynomial(p[6] + p[7] * part, c) * part
    return (tail if z < 0.0 else 1.0 - tail), p[4] * power * root, p[3] * z * inverse


F2, F3, F4, F5, F6, F7, F8, F9, F10, F11 = (1 / math.factorial(j) for j in range(2, 12))


@register_jitable(fastmath=FUSED, forceinline=True)
def deviance(r: float) -> float:
    """``exp(r) - 1 - r``, by its series where the difference would cancel."""
    low = (F2 + r * F3) + r * r * (F4 + r * F5)
    high = (F6 + r * F7) + r * r * ((F8 + r * F9) + r * r * (F10 + r * F11))
    series = r * r * (low + (r * r) * (r * r) * high)
    return series if abs(r) < SMALL_RATIO else exp(r) - 1.0 - r


@register_jitable(fastmath=FUSED, forceinline=True)
def gamma_tail(r: float, p: Any, above: Any, below: Any) -> tuple[float, float, float]:
    """Tail beyond ``e^r`` times the mean on its side of it, ``E``, and ``e^r``.

    ``p``, ``above`` and ``below`` are of :func:`tail_tables.gamma_table`.
    """
    ratio = exp(r)
    power = exp(-p[0] * deviance(r))
    part = 1.0 / (abs(ratio - 1.0) + p[2])
    upper = polynomial(p[3] + p[4] * part, above)
    lower = polynomial(p[5] + p[6] * part, below)
    return power * part * (upper if r > 0.0 else lower), power, ratio

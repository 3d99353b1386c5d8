"""Special functions of families' formulas, without branches: for rows in vectorised loops.

Formulas and names are those of :mod:`bayes_moe.families.functions`. A function and its derivative
share most of their arithmetic, which the compiler evaluates once where both are used.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba.extending import register_jitable

from bayes_moe.families.circular_normaliser import I0, I1, LOG_2PI, REST, SLOPE, SPLIT
from bayes_moe.families.student_t import SERIES
from bayes_moe.kernels.elementary import FUSED, ROUNDS, bits, exp, expm1, log, log1p
from bayes_moe.kernels.tail_functions import CENTRE, NORMAL, ROOT_TWO_PI, polynomial

LOG_HALF = math.log(0.5)
SHIFT = 8
"""Shift of arguments to where asymptotic series are exact to rounding."""

SMALL = 0.1
"""Log ratio below which the deviance is the sum of its series."""
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
L0, L1, L2, L3, L4, L5, L6 = 1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156
"""Of ``log Gamma(b) - (b - 1/2) log b + b - log(2 pi) / 2`` in odd powers of ``1 / b``."""
P0, P1, P2, P3, P4, P5, P6 = 1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12
"""Of ``log b - 1 / (2 b) - psi(b)`` in even powers of ``1 / b``."""
PI_HIGH, PI_MIDDLE, PI_LOW = 3.1415926218032837, 3.1786509424591713e-08, 1.2246467991473532e-16
FARTHEST_ANGLE = 1e9
A3, A5, A7, A9, A11, A13, A15, A17, A19, A21 = (
    (-1.0) ** (j // 2) / math.factorial(j) for j in range(3, 22, 2)
)
"""Of the sine in odd powers."""
D2, D3, D4, D5, D6, D7, D8, D9, D10, D11 = (1 / math.factorial(j) for j in range(2, 12))
_MORE = (*SERIES, -929569 / 16, 3202291 / 2)
S0, S1, S2, S3, S4, S5, S6, S7, S8 = (0.5 * s for s in _MORE)
G0, G1, G2, G3, G4, G5, G6, G7, G8 = (-0.5 * s / (2 * j + 1) for j, s in enumerate(_MORE))


@register_jitable(fastmath=FUSED, forceinline=True)
def deviance(r: float) -> float:
    """``exp(r) - 1 - r``."""
    s = SMALL if r > SMALL else r
    s = -SMALL if r < -SMALL else s
    high = D7 + s * (D8 + s * (D9 + s * (D10 + s * D11)))
    series = s * s * (D2 + s * (D3 + s * (D4 + s * (D5 + s * (D6 + s * high)))))
    return series if abs(r) < SMALL else expm1(r) - r


@register_jitable(fastmath=FUSED, forceinline=True)
def log1mexp(x: float) -> float:
    """``log(1 - exp(x))`` for ``x < 0``."""
    near = x > LOG_HALF
    # Neither branch sees an argument for which the other is meant.
    small = expm1(x if near else LOG_HALF)
    return log(-small) if near else log1p(-exp(x if x < LOG_HALF else LOG_HALF))


@register_jitable(fastmath=FUSED, forceinline=True)
def log1mexp_slope(x: float) -> float:
    """Derivative of :func:`log1mexp`."""
    return -1.0 / expm1(-x)


@register_jitable(fastmath=FUSED, forceinline=True)
def log_ndtr(x: float) -> float:
    """Log of the standard normal probability up to ``x``."""
    inverse = 1.0 / (abs(x) + CENTRE)
    scaled = polynomial(1.0 - 2.0 * CENTRE * inverse, NORMAL) * inverse
    half = 0.5 * x * x
    return log(scaled) - half if x < 0.0 else log1p(-scaled * exp(-half))


@register_jitable(fastmath=FUSED, forceinline=True)
def log_mills(x: float) -> float:
    """Log of the normal probability above ``x`` times ``2 exp(x^2 / 2)``."""
    inverse = 1.0 / (abs(x) + CENTRE)
    scaled = polynomial(1.0 - 2.0 * CENTRE * inverse, NORMAL) * inverse
    half = 0.5 * x * x
    lower = log1p(-scaled * exp(-half)) + half
    return (lower if x < 0.0 else log(scaled)) - LOG_HALF


@register_jitable(fastmath=FUSED, forceinline=True)
def normal_hazard(x: float) -> float:
    """Standard normal density over the probability up to ``x``."""
    inverse = 1.0 / (abs(x) + CENTRE)
    scaled = polynomial(1.0 - 2.0 * CENTRE * inverse, NORMAL) * inverse
    height = exp(-0.5 * x * x)
    upper = height / (1.0 - scaled * height)
    return (1.0 / scaled if x < 0.0 else upper) * (1.0 / ROOT_TWO_PI)


@register_jitable(fastmath=FUSED, forceinline=True)
def gamma_normaliser_parts(log_alpha: float) -> tuple[float, float, float]:
    """Return ``alpha log alpha - alpha - log Gamma(alpha)``, and its derivative by ``log alpha``.

    Last, the derivative less one, which it is at zero.
    Small arguments are shifted by ``Gamma(x + 1) = x Gamma(x)`` to where Stirling's series is
    exact.
    """
    alpha = exp(log_alpha)
    large = alpha > SHIFT
    b = alpha if large else alpha + SHIFT
    q = 1.0 / b
    z = q * q
    tail = L0 + z * (L1 + z * (L2 + z * (L3 + z * (L4 + z * (L5 + z * L6)))))
    slope = P0 + z * (P1 + z * (P2 + z * (P3 + z * (P4 + z * (P5 + z * P6)))))
    c = 1.0 if large else alpha
    product = (c + 1) * (c + 2) * (c + 3) * (c + 4) * (c + 5) * (c + 6) * (c + 7)
    log_b = log_alpha if large else log(b)
    steps = (
        1.0 / (c + 1) + 1.0 / (c + 2) + 1.0 / (c + 3) + 1.0 / (c + 4)
        + 1.0 / (c + 5) + 1.0 / (c + 6) + 1.0 / (c + 7)
    )  # fmt: skip
    moved = (c + 1.0) * log_alpha - b * log_b + SHIFT + log(product)
    lifted = c * (log_alpha - log_b + steps)
    value = 0.5 * log_b - HALF_LOG_2PI - tail * q + (0.0 if large else moved)
    part = alpha * (0.5 * q + slope * z)
    return value, part + (0.0 if large else 1.0 + lifted), part + (-1.0 if large else lifted)


@register_jitable(fastmath=FUSED, forceinline=True)
def gamma_normaliser(log_alpha: float) -> float:
    """``alpha log alpha - alpha - log Gamma(alpha)``."""
    return gamma_normaliser_parts(log_alpha)[0]


@register_jitable(fastmath=FUSED, forceinline=True)
def gamma_normaliser_slope(log_alpha: float) -> float:
    """Derivative of :func:`gamma_normaliser`."""
    return gamma_normaliser_parts(log_alpha)[1]


@register_jitable(fastmath=FUSED, forceinline=True)
def _step(a: float, j: float) -> float:
    return 1.0 / ((a + j) * (a + j + 0.5))


@register_jitable(fastmath=FUSED, forceinline=True)
def _student_normaliser(log_nu: float) -> tuple[float, float]:
    """Return ``log G((nu + 1)/2) - log G(nu/2) - log(nu/2)/2`` and its derivative by ``log nu``.

    ``G`` is the gamma function. Small arguments are shifted by ``G(x + 1) = x G(x)`` to where the
    series of :mod:`bayes_moe.families.student_t` is exact.
    """
    nu = exp(log_nu)
    large = nu > 2.0 * SHIFT
    a = 0.5 * nu
    b = a if large else a + SHIFT
    q = 0.5 / b
    z = q * q
    gap = G0 + z * (G1 + z * (G2 + z * (G3 + z * (G4 + z * (G5 + z * (G6 + z * (G7 + z * G8)))))))
    score = S0 + z * (S1 + z * (S2 + z * (S3 + z * (S4 + z * (S5 + z * (S6 + z * (S7 + z * S8)))))))
    c = 1.0 if large else a
    over = (c + 1) * (c + 2) * (c + 3) * (c + 4) * (c + 5) * (c + 6) * (c + 7)
    half = c + 0.5
    under = (half + 1) * (half + 2) * (half + 3) * (half + 4) * (half + 5) * (half + 6) * (half + 7)
    ratio = over / (half * under)  # of gamma functions, without the factor a of the first step
    moved = 0.5 * log(c * b * ratio * ratio)
    steps = (
        _step(c, 1.0) + _step(c, 2.0) + _step(c, 3.0) + _step(c, 4.0)
        + _step(c, 5.0) + _step(c, 6.0) + _step(c, 7.0)
    )  # fmt: skip
    lifted = 0.5 * (a / b - 1.0 + 1.0 / half + c * steps)
    return gap * q + (0.0 if large else moved), score * q * (a / b) + (0.0 if large else lifted)


@register_jitable(fastmath=FUSED, forceinline=True)
def student_normaliser(log_nu: float) -> float:
    """``log G((nu + 1)/2) - log G(nu/2) - log(nu/2)/2``."""
    return _student_normaliser(log_nu)[0]


@register_jitable(fastmath=FUSED, forceinline=True)
def student_normaliser_slope(log_nu: float) -> float:
    """Derivative of :func:`student_normaliser`."""
    return _student_normaliser(log_nu)[1]


@register_jitable(fastmath=FUSED, forceinline=True)
def _circular_normaliser(log_kappa: float) -> tuple[float, float]:
    """Return ``kappa - log I_0(kappa)`` and its derivative by ``log kappa``.

    See :mod:`bayes_moe.families.circular_normaliser`.
    """
    kappa = exp(log_kappa)
    large = kappa > SPLIT
    t = 2.0 * SPLIT / (kappa if large else SPLIT) - 1.0
    small = SPLIT if large else kappa
    square = small * small
    total = polynomial(square, I0)
    value = 0.5 * (LOG_2PI + log_kappa) + polynomial(t, REST)
    slope = small * (1.0 - small * (polynomial(square, I1) / total))
    return value if large else small - log(total), polynomial(t, SLOPE) if large else slope


@register_jitable(fastmath=FUSED, forceinline=True)
def circular_normaliser(log_kappa: float) -> float:
    """``kappa - log I_0(kappa)``."""
    return _circular_normaliser(log_kappa)[0]


@register_jitable(fastmath=FUSED, forceinline=True)
def circular_normaliser_slope(log_kappa: float) -> float:
    """Derivative of :func:`circular_normaliser`."""
    return _circular_normaliser(log_kappa)[1]


@register_jitable(fastmath=FUSED, forceinline=True)
def absolute(x: float) -> float:
    """Absolute value."""
    return abs(x)


@register_jitable(fastmath=FUSED, forceinline=True)
def _sine(r: float, half_turns: float) -> float:
    """Sine of ``r``, between ``-pi / 2`` and ``pi / 2``, plus so many half turns."""
    s = r * r
    high = A11 + s * (A13 + s * (A15 + s * (A17 + s * (A19 + s * A21))))
    series = A3 + s * (A5 + s * (A7 + s * (A9 + s * high)))
    sign = 1.0 - 2.0 * (bits(half_turns + ROUNDS) & 1)
    return sign * (r + r * s * series)


@register_jitable(fastmath=FUSED, forceinline=True)
def sin(x: float) -> float:
    """Sine, to rounding of the argument; of numbers beyond a billion that of zero."""
    x = x if abs(x) < FARTHEST_ANGLE else 0.0 * x
    k = (x * (1.0 / math.pi) + ROUNDS) - ROUNDS
    return _sine(((x - k * PI_HIGH) - k * PI_MIDDLE) - k * PI_LOW, k)


@register_jitable(fastmath=FUSED, forceinline=True)
def cos(x: float) -> float:
    """Cosine, as :func:`sin`."""
    x = x if abs(x) < FARTHEST_ANGLE else 0.0 * x
    k = (x * (1.0 / math.pi) - 0.5 + ROUNDS) - ROUNDS
    odd = k + 0.5
    return -_sine(((x - odd * PI_HIGH) - odd * PI_MIDDLE) - odd * PI_LOW, k)


@register_jitable(fastmath=FUSED, forceinline=True)
def sqrt(x: float) -> float:
    """Square root."""
    return math.sqrt(x)


@register_jitable(fastmath=FUSED, forceinline=True)
def sign(x: float) -> float:
    """-1, 0 or 1."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)


@register_jitable(fastmath=FUSED, forceinline=True)
def student_tail(square: float, log_nu: float) -> float:
    """``(nu + 1) / 2 log(1 + z^2 / nu)``."""
    nu = exp(log_nu)
    return 0.5 * (nu + 1.0) * log1p(square / nu)


@register_jitable(fastmath=FUSED, forceinline=True)
def log_excess(ratio: float) -> float:
    """``log(1 + u) - u / (1 + u)``, to the rounding of its terms."""
    return log1p(ratio) - ratio / (1.0 + ratio)


@cache
def logsumexp(count: int) -> Any:
    """The function ``log(exp(x_1) + ... + exp(x_n))`` of ``count`` numbers."""
    names = [f"x{j}" for j in range(count)]
    lines = [
        f"def logsumexp({', '.join(names)}):",
        "    top = x0",
        *(f"    top = {x} if {x} > top else top" for x in names[1:]),
        f"    return top + log({' + '.join(f'exp({x} - top)' for x in names)})",
    ]
    namespace: dict[str, Any] = {"exp": exp, "log": log}
    exec("\n".join(lines), namespace)
    return register_jitable(fastmath=FUSED, forceinline=True)(namespace["logsumexp"])

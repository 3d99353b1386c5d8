"""The log normaliser of Student's t and its derivative by ``log nu``, without branches."""

from __future__ import annotations

from numba.extending import register_jitable

from bayes_moe.families.student_t import SERIES
from bayes_moe.kernels.elementary import FUSED, log

SHIFT = 8
"""Shift of the argument to where the asymptotic series is exact to rounding."""
_MORE = (*SERIES, -929569 / 16, 3202291 / 2)
S0, S1, S2, S3, S4, S5, S6, S7, S8 = (0.5 * s for s in _MORE)
G0, G1, G2, G3, G4, G5, G6, G7, G8 = (-0.5 * s / (2 * j + 1) for j, s in enumerate(_MORE))


@register_jitable(fastmath=FUSED, forceinline=True)
def _step(a: float, j: float) -> float:
    return 1.0 / ((a + j) * (a + j + 0.5))


@register_jitable(fastmath=FUSED, forceinline=True)
def normaliser(nu: float) -> tuple[float, float]:
    """Return ``log G((nu + 1)/2) - log G(nu/2) - log(nu/2)/2`` and its derivative by ``log nu``.

    ``G`` is the gamma function. Small arguments are shifted by ``G(x + 1) = x G(x)`` to where the
    series of :mod:`bayes_moe.families.student_t` is exact.
    """
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

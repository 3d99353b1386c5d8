"""Deviance and log normaliser of the gamma distribution, with derivatives, without branches."""

from __future__ import annotations

import math

from numba.extending import register_jitable

from bayes_moe.kernels.elementary import FUSED, expm1, log

SHIFT = 8
"""Shift of the argument to where Stirling's series is exact to rounding."""
SMALL = 0.1
"""Log ratio below which the deviance is the sum of its series."""
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
L0, L1, L2, L3, L4, L5, L6 = 1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156
"""Of ``log Gamma(b) - (b - 1/2) log b + b - log(2 pi) / 2`` in odd powers of ``1 / b``."""
P0, P1, P2, P3, P4, P5, P6 = 1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12
"""Of ``log b - 1 / (2 b) - psi(b)`` in even powers of ``1 / b``."""
D2, D3, D4, D5, D6, D7, D8, D9, D10, D11 = (1 / math.factorial(j) for j in range(2, 12))


@register_jitable(fastmath=FUSED, forceinline=True)
def deviance(r: float) -> tuple[float, float]:
    """Return ``exp(r) - 1 - r`` and its derivative ``exp(r) - 1``."""
    slope = expm1(r)
    s = SMALL if r > SMALL else r
    s = -SMALL if r < -SMALL else s
    high = D7 + s * (D8 + s * (D9 + s * (D10 + s * D11)))
    series = s * s * (D2 + s * (D3 + s * (D4 + s * (D5 + s * (D6 + s * high)))))
    return series if abs(r) < SMALL else slope - r, slope


@register_jitable(fastmath=FUSED, forceinline=True)
def normaliser(alpha: float, log_alpha: float) -> tuple[float, float]:
    """Return ``alpha log alpha - alpha - log Gamma(alpha)``, and its derivative by ``log alpha``.

    Small arguments are shifted by ``Gamma(x + 1) = x Gamma(x)`` to where Stirling's series is
    exact.
    """
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
    lifted = 1.0 + c * (log_alpha - log_b + steps)
    value = 0.5 * log_b - HALF_LOG_2PI - tail * q + (0.0 if large else moved)
    return value, alpha * (0.5 * q + slope * z) + (0.0 if large else lifted)

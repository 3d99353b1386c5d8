"""Tails of gamma and Student's t distributions with large shapes, as series about the normal's.

The density by ``w``, whose square is minus twice the log density but for a constant, is the
normal's times a power series in ``w`` (Temme 1979, "The asymptotic expansion of the incomplete
gamma functions", SIAM J. Math. Anal. 10, 757-766). Its integral is a sum of normal moments.
"""

from __future__ import annotations

import math
from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.elementary import FUSED, exp, log, log1p
from bayes_moe.kernels.special import (
    deviance,
    gamma_normaliser_parts,
    log_excess,
    log_mills,
    student_normaliser,
    student_normaliser_slope,
)

ROOT_HALF_PI = math.sqrt(0.5 * math.pi)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
GAMMA_SHAPE, GAMMA_REACH = 3e4, 0.05
"""Least shape, and largest ``w^2``, of a gamma's tail."""
STUDENT_NU, STUDENT_REACH = 1e3, 0.3
GAMMA = (
    1.0, -1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835, -139 / 777600, 1 / 25515,
    -2.185448510679992e-06, -1.85406221071516e-06, 8.296711340953087e-07, -1.7665952736826078e-07,
    6.707853543401498e-09, 1.0261809784240309e-08, -4.382036018453353e-09, 9.14769958223679e-10,
)  # fmt: skip
"""Of ``dr / dw`` in powers of ``w``, with ``w^2 / 2 = e^r - 1 - r``."""
STUDENT = (
    1.0, 0.0, 1 / 4, 0.0, 1 / 96, 0.0, -1 / 384, 0.0, -1 / 10240, 0.0, 19 / 368640, 0.0,
    1.2756024718915344e-06, 0.0, -1.110097087880291e-06, 0.0, -1.9670584004181822e-08, 0.0,
    2.4836319884715677e-08, 0.0, 3.3966619960386745e-10,
)  # fmt: skip
"""Of ``sqrt(w^2 / (1 - exp(-w^2)))``."""


@register_jitable(fastmath=FUSED)
def _normal_sums(coefs: Any, unit: float, v: float) -> tuple[float, float, float]:
    """Sums of coefficients times ``unit^k`` times moments, powers, and ``k / 2`` times moments.

    Moments are integrals of ``s^k exp(v^2 / 2 - s^2 / 2)`` over ``s > v``, powers are ``v^k``.
    """
    before, moment = 1.0, ROOT_HALF_PI * exp(log_mills(v))  # of k - 1 and k
    total, height, weighted, power, factor = moment, 1.0, 0.0, 1.0, 1.0
    for k in range(1, len(coefs)):
        if k == 1:
            before, moment = moment, 1.0
        else:
            before, moment = moment, power + (k - 1) * before
        power *= v
        factor *= unit
        term = coefs[k] * factor
        total += term * moment
        height += term * power
        weighted += 0.5 * k * term * moment
    return total, height, weighted


@register_jitable(fastmath=FUSED)
def large_gamma_tail(log_shape: float, r: float) -> tuple[float, float]:
    """Log of the tail beyond ``e^r`` times the mean, on its side, and derivative by log shape."""
    shape = exp(log_shape)
    height = shape * deviance(r)
    v, root = math.sqrt(2.0 * height), math.sqrt(shape)
    value, slope, _ = gamma_normaliser_parts(log_shape)
    total, edge, weighted = _normal_sums(GAMMA, -1.0 / root if r < 0.0 else 1.0 / root, v)
    moved = -root if v == 0.0 else -shape * r / v
    by_shape = slope - 0.5 - (edge * moved + weighted) / total
    return value - 0.5 * log_shape - height + log(total), by_shape


@register_jitable(fastmath=FUSED)
def large_student_tail(size: float, log_nu: float) -> tuple[float, float]:
    """Log of the probability beyond ``size``, and its derivative by ``log nu``."""
    nu = exp(log_nu)
    ratio = size * size / nu
    square = nu * log1p(ratio)
    w = math.sqrt(square)
    total, edge, weighted = _normal_sums(STUDENT, 1.0 / math.sqrt(nu), w)
    moved = 0.0 if w == 0.0 else 0.5 * nu * log_excess(ratio) / w
    value = student_normaliser(log_nu) - HALF_LOG_2PI - 0.5 * square + log(total)
    return value, student_normaliser_slope(log_nu) - (edge * moved + weighted) / total

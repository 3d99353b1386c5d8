"""Log of the probability up to a number under the skew normal distribution, for one row."""

from __future__ import annotations

import math

import numpy as np
from numba.extending import register_jitable

from bayes_moe.families.log_tails import CANCELS, NEAR
from bayes_moe.families.log_tails import NODES as FAR_NODES
from bayes_moe.families.log_tails import WEIGHTS as FAR_WEIGHTS
from bayes_moe.kernels.elementary import FUSED, exp, log
from bayes_moe.kernels.special import log_mills

NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
REACH = 8.7
"""Where ``exp(-x^2 / 2)`` is zero to rounding."""


@register_jitable(fastmath=FUSED)
def skew_tail(z: float, alpha: float) -> tuple[float]:
    """Log of the probability up to ``z``, with asymmetry ``alpha``.

    Below zero it is ``exp(-z^2 / 2)`` times an integral over ``x > alpha``, or that over all ``x``
    of one sign and those up to ``-alpha``; above it is what is left.
    """
    h, a = abs(z), abs(alpha)
    half = 0.5 * h * h
    normal = 0.5 * exp(log_mills(h))
    inner, outer = _parts(h, a, normal)
    if (z < 0.0) == (alpha < 0.0):
        tail = log(normal + inner) - half
    elif outer >= CANCELS * normal or a * h < NEAR:
        tail = log(outer) - half
    else:
        tail = _far(h, a)
    return (tail if z < 0.0 else math.log1p(-exp(tail)),)


@register_jitable(fastmath=FUSED)
def _parts(h: float, a: float, normal: float) -> tuple[float, float]:
    """Integrals of ``exp(-h^2 x^2 / 2) / (pi (1 + x^2))`` over ``x`` up to ``a``, and beyond.

    ``normal`` is their sum. They are related to those of ``a h`` and ``1 / a``, see Owen (1956).
    """
    if a <= 1.0:
        inner = _integral(h, a)
        return inner, normal - inner
    far = a * h
    other = 0.5 * exp(log_mills(far))
    central = 1.0 - 2.0 * normal * exp(-0.5 * h * h)
    outer = exp(0.5 * h * h * (1.0 - a) * (1.0 + a)) * (_integral(far, 1.0 / a) - other * central)
    return normal - outer, outer


@register_jitable(fastmath=FUSED)
def _integral(h: float, a: float) -> float:
    """Integral of ``exp(-h^2 x^2 / 2) / (pi (1 + x^2))`` over ``0 < x < a``, for ``a <= 1``."""
    end = a if a * h < REACH else REACH / h
    total = 0.0
    for i in range(NODES.size):
        x = 0.5 * end * (1.0 + NODES[i])
        total += WEIGHTS[i] * exp(-0.5 * (h * x) * (h * x)) / (1.0 + x * x)
    return total * end / (2.0 * math.pi)


@register_jitable(fastmath=FUSED)
def _far(h: float, a: float) -> float:
    """Log of ``exp(-h^2 / 2)`` times the integral over ``x > a``, far from zero."""
    square, inverse, total = a * a, 1.0 / (h * h), 0.0
    for i in range(FAR_NODES.size):
        at = square + 2.0 * FAR_NODES[i] * inverse
        total += FAR_WEIGHTS[i] / ((1.0 + at) * math.sqrt(at))
    return log(total * inverse / math.pi) - 0.5 * h * h * (1.0 + square)

"""Coordinates of a model to the coefficients of its predictors, and derivatives back to these."""

from __future__ import annotations

import math
from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED, call_prior, doubles
from bayes_moe.kernels.linear_layout import (
    ACROSS,
    ALONG,
    BASIS,
    COEF,
    COUNT,
    DIRECTIONS,
    JACOBIAN,
    NUMBERS,
    OF,
    PRIOR,
    PRIOR_ARGUMENTS,
    ROW,
    SCALE,
    SLOT,
    SLOTS,
    WHERE,
    WIDE,
)


@register_jitable(fastmath=REORDERED)
def coefficients(p: Any, slots: int, x: Any, coefs: Any, intercepts: Any) -> None:
    """Coefficients and constants of every predictor, in the order of the rows of ``eta``."""
    for j in range(p[SLOTS]):
        s = slots + j * SLOT
        directions, experts, terms = p[s + DIRECTIONS], p[s + OF], p[s + WIDE]
        where, across, along, at = p[s + WHERE], p[s + ACROSS], p[s + ALONG], p[s + COEF]
        numbers = doubles(p[s + NUMBERS], 1 + terms)
        scale = math.exp(x[p[s + SCALE]]) if p[s + SCALE] >= 0 else 1.0
        if p[s + ROW] >= 0:
            for k in range(experts):
                intercepts[p[s + ROW] + k] = numbers[0]
        if p[s + BASIS] == 0:
            for k in range(experts):
                for t in range(terms):
                    value = x[where + k * across + t * along]
                    coefs[at + k * terms + t] = scale * numbers[1 + t] * value
        else:
            basis = doubles(p[s + BASIS], directions * experts)
            for k in range(experts):
                for t in range(terms):
                    total = 0.0
                    for d in range(directions):
                        total += basis[d * experts + k] * x[where + d * across + t * along]
                    coefs[at + k * terms + t] = scale * numbers[1 + t] * total


@register_jitable(fastmath=REORDERED)
def to_coordinates(p: Any, slots: int, coefs: Any, slopes: Any, x: Any, grad: Any) -> float:
    """Log prior; adds the gradient of the log posterior by the coordinates to ``grad``."""
    value = 0.0
    for j in range(p[SLOTS]):
        s = slots + j * SLOT
        directions, experts, terms = p[s + DIRECTIONS], p[s + OF], p[s + WIDE]
        where, across, along, at = p[s + WHERE], p[s + ACROSS], p[s + ALONG], p[s + COEF]
        numbers = doubles(p[s + NUMBERS], 1 + terms)
        scale = 1.0
        if p[s + SCALE] >= 0:
            scale = math.exp(x[p[s + SCALE]])
            total = 0.0
            for c in range(experts * terms):
                total += slopes[at + c] * coefs[at + c]
            grad[p[s + SCALE]] += total
        if p[s + BASIS] == 0:
            for k in range(experts):
                for t in range(terms):
                    slope = scale * numbers[1 + t] * slopes[at + k * terms + t]
                    grad[where + k * across + t * along] += slope
        else:
            basis = doubles(p[s + BASIS], directions * experts)
            for d in range(directions):
                for t in range(terms):
                    total = 0.0
                    for k in range(experts):
                        total += basis[d * experts + k] * slopes[at + k * terms + t]
                    grad[where + d * across + t * along] += scale * numbers[1 + t] * total
        at_x = x.ctypes.data + DOUBLE_SIZE * where
        at_grad = grad.ctypes.data + DOUBLE_SIZE * where
        count = p[s + COUNT]
        value += call_prior(p[s + PRIOR], at_x, p[s + PRIOR_ARGUMENTS], count, at_grad)
        if p[s + JACOBIAN]:
            value += call_prior(p[s + JACOBIAN], at_x, 0, count, at_grad)
    return value

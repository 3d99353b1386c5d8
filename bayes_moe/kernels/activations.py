"""Activation functions of hidden units on a chunk of rows, and their derivatives."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.elementary import expm1, softplus, tanh
from bayes_moe.kernels.mixture import row_of
from bayes_moe.kernels.network_layout import SOFTPLUS, TANH


@register_jitable(fastmath=REORDERED)
def activate(activation: int, units: Any, height: int, width: int) -> None:
    """Replace sums of inputs (unit, obs) by the units' values."""
    for row in range(height):
        h = row_of(units, row, width)
        if activation == TANH:
            for i in range(width):
                h[i] = tanh(h[i])
        elif activation == SOFTPLUS:
            for i in range(width):
                h[i] = softplus(h[i])
        else:
            for i in range(width):
                h[i] = h[i] if h[i] > 0.0 else 0.0


@register_jitable(fastmath=REORDERED)
def multiply_slopes(activation: int, units: Any, delta: Any, height: int, width: int) -> None:
    """Multiply ``delta`` (unit, obs) by the derivatives of the activation, from its values.

    With ``h`` the value, they are ``1 - h^2`` of tanh, and ``1 - e^-h`` of softplus.
    """
    for row in range(height):
        h, d = row_of(units, row, width), row_of(delta, row, width)
        if activation == TANH:
            for i in range(width):
                d[i] *= (1.0 - h[i]) * (1.0 + h[i])
        elif activation == SOFTPLUS:
            for i in range(width):
                d[i] *= -expm1(-h[i])
        else:
            for i in range(width):
                d[i] = d[i] if h[i] > 0.0 else 0.0

"""Pieces of the likelihood of whole arrays (expert, obs), for code written a model at a time.

:mod:`bayes_moe.graph.fused_op` puts them together for the graph.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.family_rows import WIDTH, Kernel, over_rows
from bayes_moe.kernels.mixture import mix

__all__ = ["copy", "fetch", "mix", "row_function", "store"]


@cache
def row_function(kernel: Kernel) -> Any:
    """Return the function (scratch, shared, packs) of a kernel, for use in another."""
    return register_jitable(fastmath=REORDERED)(over_rows(kernel))


@register_jitable(fastmath=REORDERED)
def copy(to: Any, of: Any, number: int) -> None:
    """Copy so many numbers."""
    for i in range(number):
        to[i] = of[i]


@register_jitable(fastmath=REORDERED)
def fetch(to: Any, of: Any, k: int, start: int, number: int, width: int) -> None:
    """Copy row ``k`` of an array, which has one number a row or one for all, and fill it up."""
    if of.shape[1] == 1:
        same = of[k, 0]
        for i in range(width):
            to[i] = same
    else:
        one = of[k, start : start + number]
        copy(to, one, number)
        last = one[number - 1]
        for i in range(number, width):
            to[i] = last


@register_jitable(fastmath=REORDERED)
def store(to: Any, k: int, start: int, number: int, of: Any, share: Any) -> None:
    """Copy numbers, times the responsibilities of expert ``k``, into its row of an array."""
    one, own = to[k, start : start + number], share[k * WIDTH : k * WIDTH + number]
    for i in range(number):
        one[i] = own[i] * of[i]

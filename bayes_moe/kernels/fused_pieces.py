"""Functions that the generated code of a fused mixture calls, on arrays (expert, obs).

:mod:`bayes_moe.graph.fused_numba` generates that code for the families of a model.
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
    """The function ``(scratch, shared, packs) -> 0`` of a kernel, callable from compiled code."""
    return register_jitable(fastmath=REORDERED)(over_rows(kernel))


@register_jitable(fastmath=REORDERED)
def copy(to: Any, of: Any, number: int) -> None:
    """Copy the first numbers of an array."""
    for i in range(number):
        to[i] = of[i]


@register_jitable(fastmath=REORDERED)
def fetch(to: Any, of: Any, k: int, start: int, number: int, width: int) -> None:
    """Copy a chunk of row ``k`` of (expert, obs) or (expert, 1), filled up to ``width``."""
    if of.shape[1] == 1:
        same = of[k, 0]
        for i in range(width):
            to[i] = same
    else:
        row = of[k, start : start + number]
        copy(to, row, number)
        last = row[number - 1]
        for i in range(number, width):
            to[i] = last


@register_jitable(fastmath=REORDERED)
def store(to: Any, k: int, start: int, number: int, of: Any, share: Any) -> None:
    """Copy scores, times the responsibilities of expert ``k``, into row ``k`` of an array."""
    row, weight = to[k, start : start + number], share[k * WIDTH : k * WIDTH + number]
    for i in range(number):
        row[i] = weight[i] * of[i]

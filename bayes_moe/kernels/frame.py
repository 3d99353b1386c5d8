"""A compiled log density in other coordinates, ``theta = centre + root z``.

The table of such a density has the address of the function, of its own table, and of the frame.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import COPY, DENSITY, VERSION, c_function, call_density, doubles

FUNCTION, TABLE, CENTRE, ROOT, POINT, RECORD = range(6)
"""Entries of the table, and their number: addresses of the function and of its table, of the centre
(coordinate,), of the root's rows (coordinate, frame coordinate), and the number of coordinates. A
square root is lower triangular."""


@register_jitable
def _to_point(p: Any, z: Any, theta: Any) -> None:
    """The point of the function at coordinates of the frame."""
    width, size = len(z), p[POINT]
    centre, root = doubles(p[CENTRE], size), doubles(p[ROOT], size * width)
    for i in range(size):
        total = centre[i]
        for j in range(i + 1 if width == size else width):
            total += root[i * width + j] * z[j]
        theta[i] = total


def _log_density() -> Any:
    version = VERSION

    def log_density(dim: int, z_: Any, grad_: Any, value_: Any, model: Any) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        p = carray(model, RECORD, int64)
        z, grad, value = carray(z_, dim), carray(grad_, dim), carray(value_, 1)
        size = p[POINT]
        work = np.empty((2, size))
        theta, slope = work[0], work[1]
        _to_point(p, z, theta)
        status = call_density(
            p[FUNCTION], size, theta.ctypes.data, slope.ctypes.data, value.ctypes.data, p[TABLE]
        )
        root = doubles(p[ROOT], size * dim)
        for j in range(dim):
            grad[j] = 0.0
        for i in range(size):
            for j in range(i + 1 if dim == size else dim):
                grad[j] += root[i * dim + j] * slope[i]
        return status

    return log_density


def _expand() -> Any:
    version = VERSION

    def expand(dim: int, expanded: int, z_: Any, out_: Any, model: Any) -> int:
        version  # noqa: B018
        _to_point(carray(model, RECORD, int64), carray(z_, dim), carray(out_, expanded))
        return 0

    return expand


@cache
def log_density() -> Any:
    """The compiled ``(size, coordinates, gradient, value, table) -> status of the function``."""
    return c_function(DENSITY, _log_density())


@cache
def expand() -> Any:
    """The compiled ``(size, size, coordinates, point, table) -> 0``."""
    return c_function(COPY, _expand())

"""A log density in coordinates of a normal approximation in which effects of groups are blocks.

A point is ``centre + moved``. Coordinates ``fixed`` are moved by ``root z``. Those of each group,
which are independent given these, are moved by ``its root z - its slope moved_fixed``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import (
    COPY,
    DENSITY,
    REORDERED,
    VERSION,
    c_function,
    call_density,
    doubles,
)

(
    FUNCTION,  # address of the log density of points
    TABLE,  # its model
    POINT,  # number of coordinates
    CENTRE,  # address (coordinate,)
    FIXED,  # number of fixed coordinates
    GROUPS,
    WIDTH,  # coordinates of a group
    FIXED_AT,  # address (fixed,) of positions among the coordinates
    GROUPS_AT,  # address (group, width) of positions
    FIXED_ROOT,  # address (fixed, fixed), lower triangular
    GROUPS_ROOT,  # address (group, width, width), lower triangular
    SLOPE,  # address (group, width, fixed)
) = range(12)
RECORD = 12


@register_jitable(fastmath=REORDERED)
def _to_point(p: Any, z: Any, theta: Any) -> None:
    """Fill a point from its coordinates."""
    size, groups, width = p[FIXED], p[GROUPS], p[WIDTH]
    centre, root = doubles(p[CENTRE], p[POINT]), doubles(p[FIXED_ROOT], size * size)
    at = doubles(p[FIXED_AT], size)
    moved = np.empty(size)
    for i in range(size):
        total = 0.0
        for j in range(i + 1):
            total += root[i * size + j] * z[int(at[j])]
        moved[i] = total
        theta[int(at[i])] = centre[int(at[i])] + total
    places = doubles(p[GROUPS_AT], groups * width)
    roots = doubles(p[GROUPS_ROOT], groups * width * width)
    slopes = doubles(p[SLOPE], groups * width * size)
    for row in range(groups * width):
        total = centre[int(places[row])]
        first = row // width * width
        for j in range(row - first + 1):
            total += roots[row * width + j] * z[int(places[first + j])]
        for j in range(size):
            total -= slopes[row * size + j] * moved[j]
        theta[int(places[row])] = total


@register_jitable(fastmath=REORDERED)
def _to_coordinates(p: Any, slope: Any, grad: Any) -> None:
    """Fill the derivatives by coordinates from those by the point."""
    size, groups, width = p[FIXED], p[GROUPS], p[WIDTH]
    at, root = doubles(p[FIXED_AT], size), doubles(p[FIXED_ROOT], size * size)
    places = doubles(p[GROUPS_AT], groups * width)
    roots = doubles(p[GROUPS_ROOT], groups * width * width)
    slopes = doubles(p[SLOPE], groups * width * size)
    by_moved = np.empty(size)
    for i in range(size):
        by_moved[i] = slope[int(at[i])]
    for i in range(grad.size):
        grad[i] = 0.0
    for row in range(groups * width):
        own = slope[int(places[row])]
        first = row // width * width
        for j in range(row - first + 1):
            grad[int(places[first + j])] += roots[row * width + j] * own
        for j in range(size):
            by_moved[j] -= slopes[row * size + j] * own
    for i in range(size):
        for j in range(i + 1):
            grad[int(at[j])] += root[i * size + j] * by_moved[i]


def _log_density() -> Any:
    version = VERSION

    def log_density(dim: int, z_: Any, grad_: Any, value_: Any, model: Any) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        p = carray(model, RECORD, int64)
        if dim != p[POINT]:
            return -1
        z, grad, value = carray(z_, dim), carray(grad_, dim), carray(value_, 1)
        work = np.empty((2, dim))
        theta, slope = work[0], work[1]
        _to_point(p, z, theta)
        status = call_density(
            p[FUNCTION], dim, theta.ctypes.data, slope.ctypes.data, value.ctypes.data, p[TABLE]
        )
        _to_coordinates(p, slope, grad)
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

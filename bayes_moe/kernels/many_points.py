"""A compiled log density at many points in one call."""

from __future__ import annotations

from typing import Any

from numba import carray, int64
from numba.types import CPointer

from bayes_moe.kernels.compile import DOUBLE_SIZE, VERSION, c_function, call_density, once


def _each() -> Any:
    version = VERSION

    def each(
        density: int, model: int, sizes_: Any, points: int, gradients: int, values: int
    ) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        sizes, failed = carray(sizes_, 3), 0
        count, size, slopes = sizes[0], sizes[1], sizes[2]
        for j in range(count):
            point, gradient = points + j * size * DOUBLE_SIZE, gradients + j * slopes * DOUBLE_SIZE
            value = values + 2 * j * DOUBLE_SIZE
            if call_density(density, size, point, gradient, value, model) != 0:
                failed += 1
        return failed

    return each


@once
def each() -> Any:
    """The compiled loop over points; it returns at how many of them a number is not finite.

    Its arguments are the addresses of the density and of its model, of the numbers of points, of
    numbers a point and of numbers a gradient, and of points, gradients, and values, two a point.
    """
    return c_function(int64(int64, int64, CPointer(int64), *[int64] * 3), _each())

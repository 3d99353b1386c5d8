"""A compiled log density at many points in one call."""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import int64

from bayes_moe.kernels.compile import DOUBLE_SIZE, VERSION, c_function, call_density


def _each() -> Any:
    version = VERSION

    def each(
        density: int, model: int, count: int, size: int, slopes: int, points: int, gradients: int,
        values: int,
    ) -> int:  # fmt: skip
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        failed = 0
        for j in range(count):
            point, gradient = points + j * size * DOUBLE_SIZE, gradients + j * slopes * DOUBLE_SIZE
            value = values + 2 * j * DOUBLE_SIZE
            if call_density(density, size, point, gradient, value, model) != 0:
                failed += 1
        return failed

    return each


@cache
def each() -> Any:
    """The compiled loop over points; it returns at how many of them a number is not finite.

    Its arguments are the addresses of the density and of its model; the numbers of points, of
    numbers a point, and of numbers a gradient; and the addresses of points, of gradients and of
    values, two a point.
    """
    return c_function(int64(*[int64] * 8), _each())

"""Steps of Adam on batches of rows, compiled.

The same steps as :class:`bayes_moe.optimize.adam.Adam`, each by a compiled density of a batch.
"""

from __future__ import annotations

import math
from typing import Any

from numba import carray, int64

from bayes_moe.kernels.compile import VERSION, c_function, call_density, doubles, once, pointer

(
    DENSITY,  # address of a compiled density
    TABLES,  # address of the addresses of the tables of a batch, one a step
    RATES,  # address of the learning rates, one a step
    STEPS,  # number of steps
    DONE,  # number of steps before
    SIZE,  # number of coordinates
    STATE,  # address of the numbers of a run, see below
    MOVING,  # address of 0 for coordinates that stay, 1 for others
    NUMBERS,  # address of the numbers below
) = range(9)
JOB = 9

(
    MEAN,  # decay of the mean of gradients
    SQUARE,  # decay of the mean of squared gradients
    TINY,  # added to its root
    AVERAGED,  # decay of the average of points
    RECENT,  # weight of a new point in the average, relative to the number of steps
    SHARE,  # factor of the gradient
) = range(6)
COUNT = 6


def _advance() -> Any:
    version = VERSION

    def advance(job: int) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        p = carray(pointer(job), JOB, int64)
        models = carray(pointer(p[TABLES]), p[STEPS], int64)
        rates, moving = doubles(p[RATES], p[STEPS]), doubles(p[MOVING], p[SIZE])
        c, size = doubles(p[NUMBERS], COUNT), p[SIZE]
        s = doubles(p[STATE], 5 * size + 3)
        # The point and the weight of its likelihood, the gradient, moments, average and values.
        x, slopes = s[: size + 1], s[size + 1 : 2 * size + 1]
        mean, square = s[2 * size + 1 : 3 * size + 1], s[3 * size + 1 : 4 * size + 1]
        average, value = s[4 * size + 1 : 5 * size + 1], s[5 * size + 1 :]
        at, to = x.ctypes.data, slopes.ctypes.data
        for t in range(p[STEPS]):
            call_density(p[DENSITY], size + 1, at, to, value.ctypes.data, models[t])
            done = p[DONE] + t + 1
            first, second = 1 - c[MEAN] ** done, 1 - c[SQUARE] ** done
            new = max(1 - c[AVERAGED], c[RECENT] / (c[RECENT] + done))
            for j in range(size):
                slope = slopes[j] * c[SHARE] * moving[j]
                if not math.isfinite(slope):
                    slope = 0.0
                mean[j] += (1 - c[MEAN]) * (slope - mean[j])
                square[j] += (1 - c[SQUARE]) * (slope * slope - square[j])
                x[j] += rates[t] / first * mean[j] / (math.sqrt(square[j] / second) + c[TINY])
                average[j] += new * (x[j] - average[j])
        return 0

    return advance


@once
def advance() -> Any:
    """The compiled function of the address of a job, whose numbers are above; it returns 0."""
    return c_function(int64(int64), _advance())

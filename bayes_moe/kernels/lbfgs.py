"""L-BFGS on a compiled log density, as one C function: no step of a run returns to Python.

The direction is that of the two-loop recursion, and a step satisfies the strong Wolfe conditions.

References
----------
Nocedal, J., & Wright, S. J. (2006). Numerical optimization, 2nd ed. Springer. Algorithms 7.4, 7.5.

Lewis, A. S., & Overton, M. L. (2013). Nonsmooth optimization via quasi-Newton methods. Mathematical
Programming, 141, 135-163. Its line search keeps an interval that contains an acceptable step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import boolean, carray, float64, int64
from numba.extending import register_jitable
from numba.types import CPointer

from bayes_moe.kernels.compile import REORDERED, VERSION, c_function, call_density, once

DECREASE, CURVATURE = 1e-4, 0.9
"""Constants of the Wolfe conditions."""
TRIALS = 30
"""Most trial steps of an iteration."""
NEAR = 0.1
"""Least distance of a trial step from the ends of its interval, as a share of it."""
WIDEN = 4.0
"""Largest factor between successive trial steps."""
NO_VALUE = 1e300
"""Minus log density where it is not finite."""


@register_jitable(fastmath=REORDERED)
def _dot(a: Any, b: Any) -> float:
    total = 0.0
    for c in range(a.size):
        total += a[c] * b[c]
    return total


@register_jitable(fastmath=REORDERED)
def _evaluate(density: int, model: int, moving: Any, x: Any, gradient: Any, value: Any) -> float:
    """Minus log density at a point, with its gradient by the coordinates that move."""
    at, slopes, to = x.ctypes.data, gradient.ctypes.data, value.ctypes.data
    if call_density(density, x.size, at, slopes, to, model) != 0:
        return NO_VALUE
    for c in range(x.size):
        gradient[c] = -gradient[c] if moving[c] else 0.0
    return -value[0]


@register_jitable(fastmath=REORDERED)
def _direction(s: Any, y: Any, rho: Any, last: int, kept: int, gradient: Any, d: Any) -> None:
    """Fill ``d`` with the quasi-Newton direction of the last ``kept`` steps."""
    memory = rho.size
    alpha = np.empty(memory)
    for c in range(d.size):
        d[c] = -gradient[c]
    if kept == 0:
        return
    for j in range(kept):
        i = (last - j) % memory
        a = rho[i] * _dot(s[i], d)
        alpha[i] = a
        change = y[i]
        for c in range(d.size):
            d[c] -= a * change[c]
    scale = 1.0 / (rho[last] * _dot(y[last], y[last]))
    for c in range(d.size):
        d[c] *= scale
    for j in range(kept - 1, -1, -1):
        i = (last - j) % memory
        b = alpha[i] - rho[i] * _dot(y[i], d)
        step = s[i]
        for c in range(d.size):
            d[c] += b * step[c]


@register_jitable(fastmath=REORDERED)
def _between(a: float, f_a: float, g_a: float, b: float, f_b: float, g_b: float) -> float:
    """Minimum of the cubic through values and slopes at ``a < b``, not too near to either."""
    width = b - a
    if f_b >= NO_VALUE:
        return a + NEAR * width
    first = g_a + g_b - 3.0 * (f_b - f_a) / width
    square = first * first - g_a * g_b
    step = a + 0.5 * width
    if square >= 0.0:
        second = np.sqrt(square)
        below = g_b - g_a + 2.0 * second
        if below > 0.0:
            step = b - width * (g_b + second - first) / below
    return min(max(step, a + NEAR * width), b - NEAR * width)


@register_jitable(fastmath=REORDERED)
def _further(a: float, g_a: float, b: float, g_b: float) -> float:
    """Step beyond ``b`` at which the slope would be zero if it were linear, not too far."""
    step = WIDEN * b
    if g_b > g_a:
        step = b - g_b * (b - a) / (g_b - g_a)
    return min(max(step, 1.5 * b), WIDEN * b)


@register_jitable(fastmath=REORDERED)
def _search(line: Any, f: float, slope: float, step: float, new: Any, gradient: Any) -> float:
    """Minus log density at an acceptable step, which fills ``new`` and ``gradient`` there.

    It is ``NO_VALUE`` if none was found. ``line`` are density, model, coordinates that move, point,
    direction, and room for a value.
    """
    density, model, moving, x, d, value = line
    low, f_low, g_low = 0.0, f, slope
    high, f_high, g_high = 0.0, f, slope  # no upper end yet
    for trial in range(TRIALS + 1):
        if trial == TRIALS:
            if low == 0.0:
                return NO_VALUE
            step = low  # the density has risen there
        for c in range(x.size):
            new[c] = x[c] + step * d[c]
        f_new = _evaluate(density, model, moving, new, gradient, value)
        g_new = _dot(gradient, d) if f_new < NO_VALUE else 0.0
        if trial == TRIALS:
            return f_new
        if f_new > f + DECREASE * step * slope or f_new >= NO_VALUE:
            high, f_high, g_high = step, f_new, g_new
        elif abs(g_new) <= -CURVATURE * slope:
            return f_new
        elif g_new > 0.0:
            high, f_high, g_high = step, f_new, g_new
        else:
            ahead = _further(low, g_low, step, g_new)
            low, f_low, g_low = step, f_new, g_new
            if high == 0.0:
                step = ahead
                continue
        step = _between(low, f_low, g_low, high, f_high, g_high)
    return NO_VALUE


@register_jitable(fastmath=REORDERED)
def _largest(a: Any) -> float:
    found = 0.0
    for c in range(a.size):
        found = max(found, abs(a[c]))
    return found


@register_jitable(fastmath=REORDERED)
def _run(function: Any, x: Any, gradient: Any, path: Any, memory: int, limits: Any) -> int:
    """Number of iterations of a run, which moves ``x`` and fills ``gradient`` and ``path``.

    ``function`` are density, model, and coordinates that move.
    """
    density, model, moving = function
    size = x.size
    s, y, rho = np.empty((memory, size)), np.empty((memory, size)), np.empty(memory)
    d, new, slope_new, value = np.empty(size), np.empty(size), np.empty(size), np.empty(2)
    line = (density, model, moving, x, d, value)
    f = _evaluate(density, model, moving, x, gradient, value)
    path[0] = -f
    iterations, kept, last = 0, 0, memory - 1
    while f < NO_VALUE and iterations < path.size - 1 and _largest(gradient) > limits[1]:
        _direction(s, y, rho, last, kept, gradient, d)
        slope = _dot(gradient, d)
        f_new = NO_VALUE
        if slope < 0.0:
            step = 1.0 if kept > 0 else min(1.0, 1.0 / np.sqrt(-slope))
            f_new = _search(line, f, slope, step, new, slope_new)
        if f_new >= NO_VALUE:
            if kept == 0:
                break
            kept = 0  # along the gradient next
            continue
        place = (last + 1) % memory
        for c in range(size):
            s[place, c] = new[c] - x[c]
            y[place, c] = slope_new[c] - gradient[c]
            x[c] = new[c]
            gradient[c] = slope_new[c]
        product = _dot(s[place], y[place])
        if product > 1e-16 * _dot(y[place], y[place]):
            rho[place] = 1.0 / product
            last, kept = place, min(kept + 1, memory)
        gained, f = f - f_new, f_new
        iterations += 1
        path[iterations] = -f
        if gained <= limits[0] * max(abs(f), 1.0):
            break
    return iterations


def _maximise() -> Any:
    version = VERSION

    def maximise(
        density: int, model: int, sizes_: Any, moving_: Any, points_: Any, path_: Any, limits_: Any
    ) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        sizes = carray(sizes_, 3)
        size, most, memory = sizes[0], sizes[1], sizes[2]
        moving, points = carray(moving_, size), carray(points_, (2, size))
        path, limits = carray(path_, most + 1), carray(limits_, 2)
        x, gradient = points[0], points[1]
        iterations = _run((density, model, moving), x, gradient, path, memory, limits)
        for c in range(size):
            gradient[c] = -gradient[c]
        return iterations

    return maximise


@once
def maximise() -> Any:
    """The compiled run from a point, which it moves; it returns the number of iterations.

    Its arguments are the addresses of the density and of its model, and of arrays: the numbers of
    coordinates, of iterations at most, and of steps in the memory; whether each coordinate moves;
    the point, and room for the gradient there; room for the log densities before the first and
    after each iteration; and two limits, the relative gain of an iteration and the largest
    coordinate of the gradient, below which a run ends.
    """
    arrays = [int64, boolean, *[float64] * 3]
    return c_function(int64(int64, int64, *map(CPointer, arrays)), _maximise())

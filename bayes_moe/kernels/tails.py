"""Tails of the predictive distribution: sums over draws and experts, with their derivatives.

The probability of a response up to ``y``, or beyond, is summed with the density and its slope.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from numba import int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED, VERSION, c_function, doubles
from bayes_moe.kernels.elementary import log
from bayes_moe.kernels.evaluation import whole_numbers
from bayes_moe.kernels.tail_functions import gamma_tail, normal_tail, student_tail
from bayes_moe.kernels.tail_tables import GAMMA, STUDENT, TERMS

ROWS = GAMMA + 2 * TERMS
"""Numbers that a count's kernel reads of a row."""


@register_jitable(fastmath=REORDERED, inline="always")
def coefficients(row: Any) -> Any:
    """The coefficients of a polynomial, as numbers that stay in registers."""
    return (
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10],
        row[11], row[12], row[13], row[14], row[15], row[16], row[17], row[18], row[19], row[20],
    )  # fmt: skip


@register_jitable(fastmath=REORDERED)
def add_normal(sums: Any, at: Any, w: Any, mu: Any, given: Any) -> None:
    """Add weight times probability, density and slope (3 * obs) of an expert in one draw.

    Parameters
    ----------
    sums : array (3 * obs,)
    at : tuple
        ``y`` (obs,), the sign of the tail, and a table of the rows (number * obs,) or nothing.
    w, mu : array (obs,)
        Weights, and predictors of the location.
    given : tuple
        Inverse scale (obs,) or (1,), and a table of the expert and draw (number,) or nothing.
    """
    y, sign, _ = at
    inverse, _ = given
    obs = y.size
    below, density, slope = sums[:obs], sums[obs : 2 * obs], sums[2 * obs : 3 * obs]
    if inverse.size == 1:
        b = inverse[0]
        for i in range(obs):
            z = (y[i] - mu[i]) * b
            tail, height = normal_tail(sign * z)
            height *= w[i] * b
            below[i] += w[i] * tail
            density[i] += height
            slope[i] -= height * z * b
    else:
        for i in range(obs):
            z = (y[i] - mu[i]) * inverse[i]
            tail, height = normal_tail(sign * z)
            height *= w[i] * inverse[i]
            below[i] += w[i] * tail
            density[i] += height
            slope[i] -= height * z * inverse[i]


@register_jitable(fastmath=REORDERED)
def add_student(sums: Any, at: Any, w: Any, mu: Any, given: Any) -> None:
    """As :func:`add_normal`, of Student's t."""
    y, sign, _ = at
    inverse, row = given
    obs = y.size
    below, density, slope = sums[:obs], sums[obs : 2 * obs], sums[2 * obs : 3 * obs]
    p = (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
    c = coefficients(row[STUDENT:])
    if inverse.size == 1:
        b = inverse[0]
        for i in range(obs):
            tail, height, fall = student_tail(sign * (y[i] - mu[i]) * b, p, c)
            height *= w[i] * b
            below[i] += w[i] * tail
            density[i] += height
            slope[i] -= height * fall * sign * b
    else:
        for i in range(obs):
            tail, height, fall = student_tail(sign * (y[i] - mu[i]) * inverse[i], p, c)
            height *= w[i] * inverse[i]
            below[i] += w[i] * tail
            density[i] += height
            slope[i] -= height * fall * sign * inverse[i]


@register_jitable(fastmath=REORDERED)
def add_gamma(sums: Any, at: Any, w: Any, mu: Any, given: Any) -> None:
    """As :func:`add_normal`, of a gamma distribution, for positive ``y``."""
    y, sign, _ = at
    _, row = given
    obs = y.size
    below, density, slope = sums[:obs], sums[obs : 2 * obs], sums[2 * obs : 3 * obs]
    p = (row[0], row[1], row[2], row[3], row[4], row[5], row[6])
    above, under = coefficients(row[GAMMA:]), coefficients(row[GAMMA + TERMS :])
    for i in range(obs):
        r = log(y[i]) - mu[i]
        tail, power, ratio = gamma_tail(r, p, above, under)
        height = w[i] * p[1] * power / y[i]
        below[i] += w[i] * (tail if (r > 0.0) == (sign < 0.0) else 1.0 - tail)
        density[i] += height
        slope[i] -= height * (1.0 + p[0] * (ratio - 1.0)) / y[i]


@register_jitable(fastmath=REORDERED)
def add_poisson(sums: Any, at: Any, w: Any, mu: Any, given: Any) -> None:
    """As :func:`add_normal`, of a Poisson distribution: its cdf is a gamma's of the rate.

    ``y`` are logs of the counts plus 1, the shapes of these gammas; slopes are zero.
    """
    y, sign, table = at
    obs = y.size
    below, density = sums[:obs], sums[obs : 2 * obs]
    for i in range(obs):
        r = mu[i] - y[i]
        p = (
            table[i], table[obs + i], table[2 * obs + i], table[3 * obs + i],
            table[4 * obs + i], table[5 * obs + i], table[6 * obs + i],
        )  # fmt: skip
        above = columns(table[GAMMA * obs :], i, obs)
        under = columns(table[(GAMMA + TERMS) * obs :], i, obs)
        tail, power, ratio = gamma_tail(r, p, above, under)
        below[i] += w[i] * (tail if (r > 0.0) == (sign > 0.0) else 1.0 - tail)
        density[i] += w[i] * p[1] * power / (p[0] * ratio)


@register_jitable(fastmath=REORDERED, inline="always")
def columns(t: Any, i: int, n: int) -> Any:
    """The coefficients of row ``i`` of ``n`` in a table (power * obs)."""
    return (
        t[i], t[n + i], t[2 * n + i], t[3 * n + i], t[4 * n + i], t[5 * n + i], t[6 * n + i],
        t[7 * n + i], t[8 * n + i], t[9 * n + i], t[10 * n + i], t[11 * n + i], t[12 * n + i],
        t[13 * n + i], t[14 * n + i], t[15 * n + i], t[16 * n + i], t[17 * n + i], t[18 * n + i],
        t[19 * n + i], t[20 * n + i],
    )  # fmt: skip


ADD = {
    "normal": (add_normal, 0, 0),
    "studentt": (add_student, STUDENT + TERMS, 0),
    "gamma": (add_gamma, GAMMA + 2 * TERMS, 0),
    "poisson": (add_poisson, 0, ROWS),
}
"""By family: what adds an expert's sums, and how many numbers it reads of an expert and draw, and
of a row."""


@cache
def tails(family: str) -> Any:
    """The C function ``(arrays, sums, sizes) -> 0`` that adds a block of experts to the sums.

    ``sums`` (level, 3, obs) are of weight times probability, density and its slope. ``arrays`` are
    addresses of ``y`` (level, obs), sign (level) -- 1 for the probability up to ``y``, -1 for that
    beyond --, weights (sample, expert, obs), location (sample, expert, obs), inverse scale, of that
    shape or (sample, expert, 1), table (sample, expert, number), and table of the rows (level,
    number, obs). ``sizes`` are samples, experts of the block, rows, numbers from a draw to the next
    in the weights, levels, and whether the scale is the same for all rows.
    """
    add, width, of_row = ADD[family]
    version = VERSION

    def fill(arrays_: int, sums_: int, sizes_: int) -> int:
        version  # noqa: B018
        arrays, sizes = whole_numbers(arrays_, 7), whole_numbers(sizes_, 6)
        samples, experts, obs, stride, levels = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
        count, narrow, long = samples * experts, 1 if sizes[5] else obs, of_row * obs
        y, sign = doubles(arrays[0], levels * obs), doubles(arrays[1], levels)
        w = doubles(arrays[2], (samples - 1) * stride + experts * obs)
        mu, inverse = doubles(arrays[3], count * obs), doubles(arrays[4], count * narrow)
        table, rows = doubles(arrays[5], count * width), doubles(arrays[6], levels * long)
        sums = doubles(sums_, levels * 3 * obs)
        for j in range(count):
            start = (j // experts) * stride + (j % experts) * obs
            own_w, own_mu = w[start : start + obs], mu[j * obs : (j + 1) * obs]
            scale, row = inverse[j * narrow : (j + 1) * narrow], table[j * width : (j + 1) * width]
            for v in range(levels):
                at = y[v * obs : (v + 1) * obs], sign[v], rows[v * long : (v + 1) * long]
                add(sums[3 * v * obs : 3 * (v + 1) * obs], at, own_w, own_mu, (scale, row))
        return 0

    compiled = c_function(int64(int64, int64, int64), fill)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(compiled.address)

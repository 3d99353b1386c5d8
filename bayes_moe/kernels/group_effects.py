"""Effects of groups in the predictors of a model, and derivatives by what these consist of.

A group has one effect for each column of a group term's design, ``scale * factor @ z``. The lower
``factor`` of their correlation matrix consists of partial correlations, as
:func:`bayes_moe.predictors.group_effects.lower_factor` has it. No table has a column for each
group: the work of a row is that of its own group's effects.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED, doubles
from bayes_moe.kernels.family_rows import PACK
from bayes_moe.kernels.linear_layout import (
    CODES,
    COLUMNS,
    DESIGN,
    EFFECT,
    EFFECTS,
    EFFECTS_SIZE,
    GROUPS,
    LOG_SCALE,
    OUTPUTS,
    OWN,
    PARTIAL,
    ROWS,
    TO,
    UNIT,
)
from bayes_moe.kernels.mixture import row_of


@register_jitable(fastmath=REORDERED)
def _factor(p: Any, r: int, x: Any, output: int, factor: Any) -> None:
    """Fill the lower factor (column, column) of the correlation matrix of an output's effects."""
    size = p[r + COLUMNS]
    at = p[r + PARTIAL] + p[r + OWN] * output * (size * (size - 1) // 2)
    for i in range(size):
        left = 1.0
        if p[r + PARTIAL] >= 0:
            for j in range(i):
                factor[i * size + j] = left * math.tanh(0.5 * x[at])
                left /= math.cosh(0.5 * x[at])
                at += 1
        factor[i * size + i] = left


@register_jitable(fastmath=REORDERED)
def effects(p: Any, records: int, x: Any, coefs: Any) -> None:
    """Fill the effects of all groups from coordinates and ``z``."""
    for n in range(p[EFFECTS]):
        r = records + n * EFFECTS_SIZE
        size, groups = p[r + COLUMNS], p[r + GROUPS]
        factor = np.empty(size * size)
        for k in range(p[r + OUTPUTS]):
            _factor(p, r, x, k, factor)
            log_scale = x[p[r + LOG_SCALE] + p[r + OWN] * k * size :]
            z = coefs[p[r + UNIT] + k * groups * size :]
            own = coefs[p[r + EFFECT] + k * groups * size :]
            for j in range(size):
                first = 0 if p[r + PARTIAL] >= 0 else j
                scale = math.exp(log_scale[j])
                for g in range(groups):
                    total = 0.0
                    for i in range(first, j + 1):
                        total += factor[j * size + i] * z[g * size + i]
                    own[g * size + j] = scale * total


@register_jitable(fastmath=REORDERED)
def add_effects(p: Any, records: int, w: Any, start: int, width: int) -> None:
    """Add the effects of rows' groups to the predictors of a chunk of rows."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for n in range(p[EFFECTS]):
        r = records + n * EFFECTS_SIZE
        size, groups = p[r + COLUMNS], p[r + GROUPS]
        codes = doubles(p[r + CODES] + DOUBLE_SIZE * start, width)
        for k in range(p[r + OUTPUTS]):
            eta = row_of(w.eta, p[r + TO] + k, width)
            for j in range(size):
                values = doubles(p[r + DESIGN] + DOUBLE_SIZE * (j * stride + start), width)
                own = w.coefs[p[r + EFFECT] + k * groups * size + j :]
                for i in range(width):
                    eta[i] += values[i] * own[int(codes[i]) * size]


@register_jitable(fastmath=REORDERED)
def gather_effects(p: Any, records: int, w: Any, start: int, width: int) -> None:
    """Add a chunk's derivatives by the effects to ``slopes``."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for n in range(p[EFFECTS]):
        r = records + n * EFFECTS_SIZE
        size, groups = p[r + COLUMNS], p[r + GROUPS]
        codes = doubles(p[r + CODES] + DOUBLE_SIZE * start, width)
        for k in range(p[r + OUTPUTS]):
            score = row_of(w.score, p[r + TO] + k, width)
            for j in range(size):
                values = doubles(p[r + DESIGN] + DOUBLE_SIZE * (j * stride + start), width)
                slopes = w.slopes[p[r + EFFECT] + k * groups * size + j :]
                for i in range(width):
                    slopes[int(codes[i]) * size] += values[i] * score[i]


@register_jitable(fastmath=REORDERED)
def to_units(p: Any, records: int, x: Any, w: Any, grad: Any) -> None:
    """Add the derivatives by ``z`` to ``slopes``, and those by scales and correlations to ``grad``.

    ``slopes`` has those by the effects.
    """
    for n in range(p[EFFECTS]):
        r = records + n * EFFECTS_SIZE
        size, groups = p[r + COLUMNS], p[r + GROUPS]
        factor, by_factor = np.empty(size * size), np.empty(size * size)
        for k in range(p[r + OUTPUTS]):
            _factor(p, r, x, k, factor)
            scales = p[r + LOG_SCALE] + p[r + OWN] * k * size
            unit = p[r + UNIT] + k * groups * size
            effect = p[r + EFFECT] + k * groups * size
            for j in range(size):
                first = 0 if p[r + PARTIAL] >= 0 else j
                scale, slope = math.exp(x[scales + j]), 0.0
                for g in range(groups):
                    slope += w.slopes[effect + g * size + j] * w.coefs[effect + g * size + j]
                grad[scales + j] += slope
                for i in range(first, j + 1):
                    total = 0.0
                    for g in range(groups):
                        own = scale * w.slopes[effect + g * size + j]
                        w.slopes[unit + g * size + i] += factor[j * size + i] * own
                        total += own * w.coefs[unit + g * size + i]
                    by_factor[j * size + i] = total
            if p[r + PARTIAL] >= 0:
                pairs = p[r + PARTIAL] + p[r + OWN] * k * (size * (size - 1) // 2)
                _to_partial(size, x[pairs:], by_factor, grad[pairs:])


@register_jitable(fastmath=REORDERED)
def _to_partial(size: int, x: Any, by_factor: Any, grad: Any) -> None:
    """Add the derivatives by the coordinates of partial correlations to ``grad``."""
    left, at = np.empty(size), 0
    for i in range(1, size):
        left[0] = 1.0
        for j in range(i):
            left[j + 1] = left[j] / math.cosh(0.5 * x[at + j])
        slope = by_factor[i * size + i]
        for j in range(i - 1, -1, -1):
            partial, rest = math.tanh(0.5 * x[at + j]), 1.0 / math.cosh(0.5 * x[at + j])
            own = by_factor[i * size + j]
            grad[at + j] += 0.5 * left[j] * rest * (own * rest - slope * partial)
            slope = own * partial + slope * rest
        at += i

"""The log density of a mixture whose predictors are linear, with its gradient, as one C function.

For every chunk of :data:`~bayes_moe.kernels.family_rows.WIDTH` rows: features -> predictors -> each
expert's log density and derivatives -> responsibilities -> sums of features. No array of the size
of the data is stored.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import (
    COPY,
    DENSITY,
    DOUBLE_SIZE,
    REORDERED,
    VERSION,
    c_function,
    doubles,
)
from bayes_moe.kernels.coordinates import coefficients, to_coordinates
from bayes_moe.kernels.experts import evaluate_experts, weigh
from bayes_moe.kernels.family_rows import (
    PACK,
    SCRATCH,
    WIDTH,
)
from bayes_moe.kernels.gate_splits import mix_splits, responsibilities
from bayes_moe.kernels.group_effects import add_effects, effects, gather_effects, to_units
from bayes_moe.kernels.linear_layout import (
    ADDED,
    ADDEND,
    ADDENDS,
    AT,
    BLOCK,
    BLOCKS,
    BRANCH,
    BRANCHES,
    COEF,
    COEFS,
    COUNT_UNITS,
    EACH,
    EFFECTS,
    EFFECTS_SIZE,
    EXPERTS,
    FEATURES,
    FIRST,
    GATE,
    HEAD,
    LAST,
    LEADS,
    LIMITS,
    OF,
    ONTO,
    PREDICTORS,
    ROW,
    ROWS,
    SHARED,
    SIZE,
    SLOT,
    SLOTS,
    SPLIT,
    SPLITS,
    TABLE,
    TABLES,
    TERMS,
    UNITS,
    UNTIL,
    WEIGHTS,
)
from bayes_moe.kernels.linear_products import fill, gather_sums, predict_rows, sum_of
from bayes_moe.kernels.mixture import mix, row_of
from bayes_moe.kernels.shared_rows import add_to_groups, count_gate, leave_known, read_groups

LARGEST_DOUBLE = sys.float_info.max
INVALID = 3
"""What the C function returns where the density or a derivative is not finite: nutpie takes a
positive code for a divergence, and stops at a negative one."""


class Offsets(NamedTuple):
    """Positions in the table of a model at which the records of each kind start."""

    effects: int
    tables: int
    slots: int
    blocks: int
    limits: int
    splits: int


class Workspace(NamedTuple):
    """Arrays of one evaluation; those of a chunk have rows of ``WIDTH`` numbers.

    ``coefs``, ``intercepts`` and ``slopes`` are the model's coefficients, its predictors' constants
    and the derivatives by the coefficients. ``eta`` and ``score`` are the predictors and the
    derivatives by them, ``joint`` the log densities of the experts (and of the gate's splits), then
    their responsibilities. ``scratch`` belongs to one expert, ``work`` and ``room`` to the gate.
    ``kept`` are the derivatives of the density, beside those of the probability of limits.
    """

    coefs: Any
    intercepts: Any
    slopes: Any
    eta: Any
    score: Any
    joint: Any
    scratch: Any
    work: Any
    room: Any
    kept: Any


@register_jitable(fastmath=REORDERED)
def offsets_of(p: Any) -> Any:
    """Offsets of the records, from the head of the table."""
    first = HEAD + ADDEND * p[ADDED]
    tables = first + EFFECTS_SIZE * p[EFFECTS]
    slots = tables + TABLE * p[TABLES]
    blocks = slots + SLOT * p[SLOTS]
    limits = blocks + BLOCK * p[BLOCKS]
    return Offsets(first, tables, slots, blocks, limits, limits + BLOCK * p[LIMITS])


@register_jitable(fastmath=REORDERED)
def workspace_of(p: Any) -> Any:
    """Arrays for an evaluation of the model of a table; predictors have a last row of zeros."""
    experts, predictors = p[EXPERTS], p[PREDICTORS]
    high = predictors + 1 if p[SPLITS] else predictors
    w = Workspace(
        np.empty(p[COEFS]),
        np.empty(predictors),
        np.zeros(p[COEFS]),
        np.empty(high * WIDTH),
        np.empty(high * WIDTH),
        np.empty((experts + p[SPLITS]) * WIDTH),
        np.empty(SCRATCH),
        np.empty(4 * WIDTH),
        np.empty(3 * experts * WIDTH if p[SPLITS] else 0),
        np.empty(predictors * WIDTH if p[LIMITS] else 0),
    )
    fill(w.eta[predictors * WIDTH :], 0.0)
    return w


@register_jitable(fastmath=REORDERED)
def fill_shared(p: Any, slots: int, w: Any) -> None:
    """Fill the predictors that are the same for every row."""
    for j in range(p[SLOTS]):
        s = slots + j * SLOT
        if p[s + SHARED]:
            for k in range(p[s + OF]):
                row = p[s + ROW] + k
                fill(row_of(w.eta, row, WIDTH), w.intercepts[row] + w.coefs[p[s + COEF] + k])


@register_jitable(fastmath=REORDERED)
def predict(p: Any, tables: int, w: Any, start: int, width: int) -> None:
    """Predictors of a chunk of rows from the tables of features."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for j in range(p[TABLES]):
        t = tables + j * TABLE
        terms, first, count = p[t + TERMS], p[t + FIRST], p[t + LAST] - p[t + FIRST]
        f = doubles(p[t + FEATURES], terms * stride)[start:]
        for row in range(first, first + count):
            fill(row_of(w.eta, row, width), w.intercepts[row])
        predict_rows(w.eta[first * WIDTH :], w.coefs[p[t + AT] :], terms, count, f, width, stride)


@register_jitable(fastmath=REORDERED)
def add_offsets(p: Any, w: Any, start: int, width: int) -> None:
    """Add the offsets of formulas to the predictors of a chunk of rows."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for j in range(p[ADDED]):
        a = HEAD + j * ADDEND
        for row in range(p[a + ONTO], p[a + UNTIL]):
            at = start + (row - p[a + ONTO]) * stride * p[a + EACH]
            added = doubles(p[a + ADDENDS] + DOUBLE_SIZE * at, width)
            eta = row_of(w.eta, row, width)
            for i in range(width):
                eta[i] += added[i]


@register_jitable(fastmath=REORDERED)
def log_mixture(
    p: Any, offsets: Any, w: Any, limits: Any, start: int, number: int, width: int
) -> float:
    """Log likelihood of a chunk of rows whose experts were evaluated; see :func:`mix_experts`.

    Of rows that were only recorded because the response is between limits, the log probability of
    these is taken off. Of groups it is in ``limits``, as their log densities are.
    """
    value = mix_experts(p, offsets, w, start, number, width)
    if p[LIMITS]:
        count = p[PREDICTORS] * WIDTH
        for i in range(count):
            w.kept[i] = w.score[i]
        evaluate_experts(p, offsets.limits, w, start, width)
        if p[UNITS]:
            read_groups(p, w, limits, start, width)
        to = Offsets(
            offsets.effects, offsets.tables, offsets.slots, offsets.limits, 0, offsets.splits
        )
        value -= mix_experts(p, to, w, start, number, width)
        for i in range(count):
            w.score[i] = w.kept[i] - w.score[i]
    return value


@register_jitable(fastmath=REORDERED)
def mix_experts(p: Any, offsets: Any, w: Any, start: int, number: int, width: int) -> float:
    """Sum of the log densities of a chunk; ``joint`` holds responsibilities afterwards.

    If rows share an expert by group, ``joint`` holds the groups' log densities before.
    """
    experts = p[EXPERTS]
    value = 0.0
    if p[SPLITS]:
        mix_splits(p[offsets.splits :], p[SPLITS], w, experts, width)
        value = _sum_of_rows(p, row_of(w.joint, experts + p[SPLITS] - 1, number), start)
        responsibilities(p[offsets.splits :], p[SPLITS], w, experts, width)
        weigh(p, offsets.blocks, w, width)
    elif experts > 1:
        gate = max(p[GATE], 0) * WIDTH
        value = mix(w.eta[gate:], w.joint, w.score[gate:], w.work, experts, number, width)
        if p[WEIGHTS] or p[UNITS]:
            value = _sum_of_rows(p, row_of(w.work, 0, number), start)
        weigh(p, offsets.blocks, w, width)
    else:
        value = _sum_of_rows(p, w.joint[:number], start)
    if p[UNITS]:
        count_gate(p, offsets, w, start, width)
    elif p[WEIGHTS]:
        weights = doubles(p[WEIGHTS] + DOUBLE_SIZE * start, width)
        for row in range(p[PREDICTORS]):
            slope = row_of(w.score, row, width)
            for i in range(width):
                slope[i] *= weights[i]
    return value


@register_jitable(fastmath=REORDERED)
def _sum_of_rows(p: Any, values: Any, start: int) -> float:
    """Sum of values of the rows from ``start`` on, by their weights, or of groups."""
    if not (p[WEIGHTS] or p[UNITS]):
        return sum_of(values)
    address = p[LEADS] if p[UNITS] else p[WEIGHTS]
    weights = doubles(address + DOUBLE_SIZE * start, values.size)
    total = 0.0
    for i in range(values.size):
        total += values[i] * weights[i]
    return total


@register_jitable(fastmath=REORDERED)
def drop_copies(p: Any, w: Any, number: int, width: int) -> None:
    """Set the scores of the copies of a row, with which the last pack is filled up, to zero."""
    if number < width:
        for row in range(p[PREDICTORS]):
            fill(row_of(w.score, row, width)[number:], 0.0)


@register_jitable(fastmath=REORDERED)
def gather(p: Any, offsets: Any, w: Any, start: int, width: int) -> None:
    """Add a chunk's derivatives by the coefficients to ``slopes``."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for j in range(p[TABLES]):
        t = offsets.tables + j * TABLE
        terms, first, count = p[t + TERMS], p[t + FIRST], p[t + LAST] - p[t + FIRST]
        f = doubles(p[t + FEATURES], terms * stride)[start:]
        gather_sums(w.score[first * WIDTH :], w.slopes[p[t + AT] :], terms, count, f, width, stride)
    for j in range(p[SLOTS]):
        s = offsets.slots + j * SLOT
        if p[s + SHARED]:
            for k in range(p[s + OF]):
                row = p[s + ROW] + k
                w.slopes[p[s + COEF] + k] += sum_of(row_of(w.score, row, width))
    gather_effects(p, offsets.effects, w, start, width)


@register_jitable(fastmath=REORDERED)
def _densities(p: Any, offsets: Any, w: Any, start: int, width: int) -> None:
    """Log densities of the experts in a chunk of rows, and their derivatives by predictors."""
    predict(p, offsets.tables, w, start, width)
    add_offsets(p, w, start, width)
    add_effects(p, offsets.effects, w, start, width)
    evaluate_experts(p, offsets.blocks, w, start, width)
    leave_known(p, w, start, width)


@register_jitable(fastmath=REORDERED)
def _log_likelihood(p: Any, offsets: Any, w: Any) -> float:
    """Log likelihood of all rows, a chunk at a time; its derivatives are added to ``slopes``."""
    value = 0.0
    sums = np.zeros(p[COUNT_UNITS] * p[EXPERTS])
    limits = np.zeros(sums.size if p[LIMITS] else 0)
    if p[UNITS]:  # once for the log densities of groups, then for their derivatives
        for start in range(0, p[ROWS], WIDTH):
            number = min(WIDTH, p[ROWS] - start)
            width = (number + PACK - 1) // PACK * PACK
            _densities(p, offsets, w, start, width)
            add_to_groups(p, w, sums, start, number)
            if p[LIMITS]:
                evaluate_experts(p, offsets.limits, w, start, width)
                add_to_groups(p, w, limits, start, number)
    for start in range(0, p[ROWS], WIDTH):
        number = min(WIDTH, p[ROWS] - start)
        width = (number + PACK - 1) // PACK * PACK
        _densities(p, offsets, w, start, width)
        if p[UNITS]:
            read_groups(p, w, sums, start, width)
        value += log_mixture(p, offsets, w, limits, start, number, width)
        drop_copies(p, w, number, width)
        gather(p, offsets, w, start, width)
    return value


@register_jitable(fastmath=REORDERED)
def status(value: float, grad: Any) -> int:
    """0 if a log density and its gradient are finite, else ``INVALID``."""
    sound = abs(value) <= LARGEST_DOUBLE  # `isfinite` is not safe where sums are reordered
    for c in range(grad.size):
        sound = sound and abs(grad[c]) <= LARGEST_DOUBLE
    return 0 if sound else INVALID


def _log_density() -> Any:
    version = VERSION

    def log_density(dim: int, x_: Any, grad_: Any, value_: Any, model: Any) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        p = carray(model, HEAD, int64)
        if dim != p[SIZE]:
            return -1
        offsets = offsets_of(p)
        p = carray(model, offsets.splits + SPLIT * p[SPLITS] + BRANCH * p[BRANCHES], int64)
        x, grad = carray(x_, dim), carray(grad_, dim)
        w = workspace_of(p)
        coefficients(p, offsets.slots, x, w.coefs, w.intercepts)
        fill_shared(p, offsets.slots, w)
        effects(p, offsets.effects, x, w.coefs)
        value = _log_likelihood(p, offsets, w)
        fill(grad, 0.0)
        to_units(p, offsets.effects, x, w, grad)
        value += to_coordinates(p, offsets.slots, w.coefs, w.slopes, x, grad)
        carray(value_, 1)[0] = value
        return status(value, grad)

    return log_density


def _copy() -> Any:
    version = VERSION

    def copy(dim: int, expanded: int, x_: Any, out_: Any, model: Any) -> int:
        version  # noqa: B018
        x, out = carray(x_, dim), carray(out_, expanded)
        for c in range(dim):
            out[c] = x[c]
        return 0

    return copy


@cache
def log_density() -> Any:
    """The compiled ``(size, point, gradient, value, model) -> status``; 0 if all is finite."""
    return c_function(DENSITY, _log_density())


@cache
def copy() -> Any:
    """The compiled ``(size, size, point, copy, model) -> 0`` by which nutpie stores a draw."""
    return c_function(COPY, _copy())

"""The log density of a mixture whose predictors are linear, with its gradient, as one C function.

For every :data:`~bayes_moe.kernels.family_rows.WIDTH` rows: features -> predictors -> each expert's
log density and derivatives -> responsibilities -> sums of features. Nothing of the size of the
table is stored in between.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numba import carray, float64, int64, uint64
from numba.extending import register_jitable
from numba.types import CPointer, voidptr

from bayes_moe.kernels.compile import (
    REORDERED,
    VERSION,
    c_function,
    call_prior,
    call_rows,
    doubles,
)
from bayes_moe.kernels.family_rows import (
    BASE,
    ETA,
    KNOWN,
    PACK,
    SCORE,
    SCRATCH,
    VALUE,
    WIDTH,
    Y,
)
from bayes_moe.kernels.gate_splits import BRANCH, SPLIT, branch_out
from bayes_moe.kernels.linear_layout import (
    ADD,
    ALL_SHARED,
    AT,
    BASIS,
    BLOCK,
    BLOCKS,
    BRANCHES,
    COEF,
    COEFS,
    COUNTS,
    DIRECTIONS,
    ETAS,
    EXPERTS,
    FEATURES,
    FIRST,
    GATE,
    HEAD,
    JACOBIAN,
    KERNEL,
    LAST,
    LOG_BASE,
    NUMBERS,
    OF,
    PARAMETERS,
    PREDICTORS,
    PRIOR,
    PRIOR_ARGUMENTS,
    RESPONSE,
    ROW,
    ROWS,
    SHARED,
    SIZE,
    SLOT,
    SLOTS,
    SPLITS,
    START,
    STOP,
    TABLE,
    TABLES,
    TERMS,
    WHERE,
    WIDE,
)
from bayes_moe.kernels.linear_products import fill, gather_sums, predict_rows, sum_of
from bayes_moe.kernels.mixture import mix, row_of

# Positions in the table that describes a model to the compiled function. It begins with HEAD
# whole numbers; then come records of tables of features, of slots, of blocks of experts, and of the
# gate's splits and their branches (see `kernels.branches`) unless it is one softmax of all experts.
# A row of predictors is one expert's predictor of one parameter; coefficients stand in their order.


LARGEST_DOUBLE = sys.float_info.max
INVALID = 3
"""What the C function returns where the density or a derivative is not finite: nutpie takes a
positive code for a divergence, and stops at a negative one."""


@register_jitable(fastmath=REORDERED)
def _coefficients(p: Any, slots: int, x: Any, coefs: Any, offsets: Any) -> None:
    """Coefficients of every predictor, in the order of the rows of ``eta``."""
    for j in range(p[SLOTS]):
        s = slots + j * SLOT
        directions, experts, terms = p[s + DIRECTIONS], p[s + OF], p[s + WIDE]
        where, at = p[s + WHERE], p[s + COEF]
        numbers = doubles(p[s + NUMBERS], 2)
        unit = numbers[0]
        for k in range(experts):
            offsets[p[s + ROW] + k] = numbers[1]
        if p[s + BASIS] == 0:
            for c in range(experts * terms):
                coefs[at + c] = unit * x[where + c]
        else:
            basis = doubles(p[s + BASIS], directions * experts)
            for k in range(experts):
                for t in range(terms):
                    total = 0.0
                    for d in range(directions):
                        total += basis[d * experts + k] * x[where + d * terms + t]
                    coefs[at + k * terms + t] = unit * total


@register_jitable(fastmath=REORDERED)
def _to_coordinates(p: Any, slots: int, slopes: Any, x: Any, grad: Any) -> float:
    """Gradient by the coordinates; the log prior, whose gradient is added to it."""
    value = 0.0
    for j in range(p[SLOTS]):
        s = slots + j * SLOT
        directions, experts, terms = p[s + DIRECTIONS], p[s + OF], p[s + WIDE]
        where, at = p[s + WHERE], p[s + COEF]
        unit = doubles(p[s + NUMBERS], 2)[0]
        count = directions * terms
        if p[s + BASIS] == 0:
            for c in range(count):
                grad[where + c] = unit * slopes[at + c]
        else:
            basis = doubles(p[s + BASIS], directions * experts)
            for d in range(directions):
                for t in range(terms):
                    total = 0.0
                    for k in range(experts):
                        total += basis[d * experts + k] * slopes[at + k * terms + t]
                    grad[where + d * terms + t] = unit * total
        own, added = x.ctypes.data + 8 * where, grad.ctypes.data + 8 * where
        value += call_prior(p[s + PRIOR], own, p[s + PRIOR_ARGUMENTS], count, added)
        if p[s + JACOBIAN]:
            for c in range(count):
                value += x[where + c]
                grad[where + c] += 1.0
    return value


@register_jitable(fastmath=REORDERED)
def _experts(
    p: Any, blocks: int, eta: Any, score: Any, joint: Any, scratch: Any, start: int, width: int
) -> None:
    """Log density of every expert into ``joint``, its derivatives into ``score``."""
    for j in range(p[BLOCKS]):
        b = blocks + j * BLOCK
        y = doubles(p[b + RESPONSE] + 8 * start, width)
        for i in range(width):
            scratch[Y + i] = y[i]
        base = doubles(p[b + LOG_BASE] + 8 * start, width)
        for i in range(width):
            scratch[BASE + i] = base[i]
        if p[b + COUNTS] != 0:
            counts = doubles(p[b + COUNTS] + 8 * start, width)
            for i in range(width):
                scratch[KNOWN + i] = counts[i]
        for k in range(p[b + START], p[b + STOP]):
            for q in range(p[b + PARAMETERS]):
                of = row_of(eta, p[b + ETAS + q] + k - p[b + START], width)
                to = scratch[ETA + q * WIDTH : ETA + (q + 1) * WIDTH]
                for i in range(width):
                    to[i] = of[i]
            call_rows(p[b + KERNEL], scratch.ctypes.data, p[b + ALL_SHARED], width // PACK)
            to = row_of(joint, k, width)
            if p[b + ADD]:
                for i in range(width):
                    to[i] += scratch[VALUE + i]
            else:
                for i in range(width):
                    to[i] = scratch[VALUE + i]
            for q in range(p[b + PARAMETERS]):
                to = row_of(score, p[b + ETAS + q] + k - p[b + START], width)
                of = scratch[SCORE + q * WIDTH : SCORE + (q + 1) * WIDTH]
                for i in range(width):
                    to[i] = of[i]


@register_jitable(fastmath=REORDERED)
def _weigh(p: Any, blocks: int, score: Any, shares: Any, width: int) -> None:
    """Multiply each expert's derivatives by its responsibilities."""
    for j in range(p[BLOCKS]):
        b = blocks + j * BLOCK
        for k in range(p[b + START], p[b + STOP]):
            share = row_of(shares, k, width)
            for q in range(p[b + PARAMETERS]):
                own = row_of(score, p[b + ETAS + q] + k - p[b + START], width)
                for i in range(width):
                    own[i] *= share[i]


def _log_density() -> Any:
    version = VERSION

    def log_density(dim: int, x_: Any, grad_: Any, value_: Any, model: Any) -> int:
        version  # noqa: B018
        p = carray(model, HEAD, int64)
        if dim != p[SIZE]:
            return -1
        tables = HEAD
        slots = tables + TABLE * p[TABLES]
        blocks = slots + SLOT * p[SLOTS]
        splits = blocks + BLOCK * p[BLOCKS]
        p = carray(model, splits + SPLIT * p[SPLITS] + BRANCH * p[BRANCHES], int64)
        x, grad = carray(x_, dim), carray(grad_, dim)
        rows, experts, predictors = p[ROWS], p[EXPERTS], p[PREDICTORS]
        long = (rows + PACK - 1) // PACK * PACK
        coefs, offsets = np.empty(p[COEFS]), np.empty(predictors)
        slopes = np.zeros(p[COEFS])
        high = predictors + 1 if p[SPLITS] else predictors
        eta, score = np.empty(high * WIDTH), np.empty(high * WIDTH)
        joint, scratch = np.empty((experts + p[SPLITS]) * WIDTH), np.empty(SCRATCH)
        work, gate = np.empty(4 * WIDTH), max(p[GATE], 0) * WIDTH
        room = np.empty(3 * experts * WIDTH if p[SPLITS] else 0)
        fill(eta[predictors * WIDTH :], 0.0)
        _coefficients(p, slots, x, coefs, offsets)
        for j in range(p[SLOTS]):
            s = slots + j * SLOT
            if p[s + SHARED]:
                for k in range(p[s + OF]):
                    row = p[s + ROW] + k
                    fill(row_of(eta, row, WIDTH), offsets[row] + coefs[p[s + COEF] + k])
        value = 0.0
        for start in range(0, rows, WIDTH):
            number = min(WIDTH, rows - start)
            width = (number + PACK - 1) // PACK * PACK
            for j in range(p[TABLES]):
                t = tables + j * TABLE
                terms, first, many = p[t + TERMS], p[t + FIRST], p[t + LAST] - p[t + FIRST]
                f = doubles(p[t + FEATURES], terms * long)[start:]
                for row in range(first, first + many):
                    fill(row_of(eta, row, width), offsets[row])
                predict_rows(eta[first * WIDTH :], coefs[p[t + AT] :], terms, many, f, width, long)
            _experts(p, blocks, eta, score, joint, scratch, start, width)
            if p[SPLITS]:
                numbers = p[splits:]
                value += branch_out(
                    numbers, p[SPLITS], eta, joint, score, work, room, experts, number, width
                )
                _weigh(p, blocks, score, joint, width)
            elif experts > 1:
                value += mix(eta[gate:], joint, score[gate:], work, experts, number, width)
                _weigh(p, blocks, score, joint, width)
            else:
                value += sum_of(joint[:number])
            if number < width:
                for row in range(predictors):
                    fill(row_of(score, row, width)[number:], 0.0)
            for j in range(p[TABLES]):
                t = tables + j * TABLE
                terms, first, many = p[t + TERMS], p[t + FIRST], p[t + LAST] - p[t + FIRST]
                f = doubles(p[t + FEATURES], terms * long)[start:]
                gather_sums(
                    score[first * WIDTH :], slopes[p[t + AT] :], terms, many, f, width, long
                )
            for j in range(p[SLOTS]):
                s = slots + j * SLOT
                if p[s + SHARED]:
                    for k in range(p[s + OF]):
                        row = p[s + ROW] + k
                        slopes[p[s + COEF] + k] += sum_of(row_of(score, row, width))
        value += _to_coordinates(p, slots, slopes, x, grad)
        carray(value_, 1)[0] = value
        sound = abs(value) <= LARGEST_DOUBLE  # `isfinite` is not safe where sums are reordered
        for c in range(dim):
            sound = sound and abs(grad[c]) <= LARGEST_DOUBLE
        return 0 if sound else INVALID

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


DOUBLES = CPointer(float64)


@cache
def log_density() -> Any:
    """Return the compiled (size, point, gradient, value, model) -> 0, or else what went wrong."""
    return c_function(int64(uint64, DOUBLES, DOUBLES, DOUBLES, voidptr), _log_density())


@cache
def copy() -> Any:
    """Return the compiled (size, size, point, copy, model) -> 0, by which a draw is stored."""
    return c_function(int64(uint64, uint64, DOUBLES, DOUBLES, voidptr), _copy())

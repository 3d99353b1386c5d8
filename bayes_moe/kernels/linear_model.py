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
    LARGEST,
    PACK,
    SCORE,
    SCRATCH,
    VALUE,
    WIDTH,
    Y,
)
from bayes_moe.kernels.gate_splits import BRANCH, SPLIT, branch_out
from bayes_moe.kernels.mixture import mix, row_of

# Positions in the table that describes a model to the compiled function. It begins with HEAD
# whole numbers; then come records of tables of features, of slots, of blocks of experts, and of the
# gate's splits and their branches (see `kernels.branches`) unless it is one softmax of all experts.
# A row of predictors is one expert's predictor of one parameter; coefficients stand in their order.

(
    SIZE,  # coordinates
    ROWS,  # of the data
    EXPERTS,
    PREDICTORS,  # rows of predictors
    COEFS,  # coefficients
    GATE,  # first row of the predictors of a gate without splits
    TABLES,  # how many records follow of each kind
    SLOTS,
    BLOCKS,
    SPLITS,
    BRANCHES,
) = range(11)
HEAD = 11
(
    FEATURES,  # address (term, obs)
    TERMS,
    FIRST,  # row of predictors that reads the table
    LAST,  # one past the last such row
    AT,  # first coefficient
) = range(5)
TABLE = 5
(
    WHERE,  # first coordinate
    DIRECTIONS,  # free directions over the experts
    OF,  # experts
    WIDE,  # terms
    ROW,  # first row of predictors
    COEF,  # first coefficient
    NUMBERS,  # address of unit and offset
    BASIS,  # address (direction, expert), or 0
    PRIOR,  # address of the compiled formula
    PRIOR_ARGUMENTS,  # address (argument, coordinate)
    JACOBIAN,  # whether a coordinate is a logarithm whose Jacobian is added
    SHARED,  # whether predictors are the same for all rows
) = range(12)
SLOT = 12
(
    KERNEL,  # address of the compiled rows
    PARAMETERS,
    ALL_SHARED,  # whether all predictors but the first are the same for all rows
    START,  # first expert
    STOP,  # one past the last
    RESPONSE,  # address (obs,)
    ADD,  # whether the log density is added to that of the blocks before
    LOG_BASE,  # address (obs,)
    COUNTS,  # address of known counts (obs,), or 0
    ETAS,  # first row of predictors, of each parameter
) = range(10)
BLOCK = ETAS + LARGEST

LARGEST_DOUBLE = sys.float_info.max
INVALID = 3
"""What the C function returns where the density or a derivative is not finite: nutpie takes a
positive code for a divergence, and stops at a negative one."""


@register_jitable(fastmath=REORDERED)
def _fill(numbers: Any, value: float) -> None:
    for i in range(numbers.size):
        numbers[i] = value


@register_jitable(fastmath=REORDERED)
def _sum(numbers: Any) -> float:
    total = 0.0
    for i in range(numbers.size):
        total += numbers[i]
    return total


@register_jitable(fastmath=REORDERED)
def _predict(
    eta: Any, coefs: Any, terms: int, rows: int, features: Any, width: int, long: int
) -> None:
    """``eta += coefs . features`` for some rows of the table.

    Two predictors and three features at a time, or what is left: each number that is loaded serves
    several products, and no loop writes and reads more arrays than a compiler tells apart.
    """
    row = 0
    while row < rows:
        pair = row + 1 < rows
        e0, c0 = row_of(eta, row, width), coefs[row * terms : (row + 1) * terms]
        e1, c1 = e0, c0
        if pair:
            e1, c1 = row_of(eta, row + 1, width), coefs[(row + 1) * terms : (row + 2) * terms]
        t = 0
        while t < terms:
            f0 = features[t * long : t * long + width]
            if pair and t + 3 <= terms:
                f1 = features[(t + 1) * long : (t + 1) * long + width]
                f2 = features[(t + 2) * long : (t + 2) * long + width]
                a0, a1, a2, b0, b1, b2 = c0[t], c0[t + 1], c0[t + 2], c1[t], c1[t + 1], c1[t + 2]
                for i in range(width):
                    e0[i] += a0 * f0[i] + a1 * f1[i] + a2 * f2[i]
                    e1[i] += b0 * f0[i] + b1 * f1[i] + b2 * f2[i]
                t += 3
            else:
                a0, b0 = c0[t], c1[t]
                for i in range(width):
                    e0[i] += a0 * f0[i]
                if pair:
                    for i in range(width):
                        e1[i] += b0 * f0[i]
                t += 1
        row += 2 if pair else 1


@register_jitable(fastmath=REORDERED)
def _gather(
    score: Any, slopes: Any, terms: int, rows: int, features: Any, width: int, long: int
) -> None:
    """``slopes += features . score`` for some rows of the table; see :func:`_predict`."""
    row = 0
    while row < rows:
        pair = row + 1 < rows
        g = row * terms
        s0 = row_of(score, row, width)
        s1 = row_of(score, row + 1, width) if pair else s0
        t = 0
        while t < terms:
            f0 = features[t * long : t * long + width]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
            if t + 4 <= terms:
                f1 = features[(t + 1) * long : (t + 1) * long + width]
                f2 = features[(t + 2) * long : (t + 2) * long + width]
                f3 = features[(t + 3) * long : (t + 3) * long + width]
                for i in range(width):
                    a0 += s0[i] * f0[i]
                    a1 += s0[i] * f1[i]
                    a2 += s0[i] * f2[i]
                    a3 += s0[i] * f3[i]
                    b0 += s1[i] * f0[i]
                    b1 += s1[i] * f1[i]
                    b2 += s1[i] * f2[i]
                    b3 += s1[i] * f3[i]
                slopes[g + t + 1] += a1
                slopes[g + t + 2] += a2
                slopes[g + t + 3] += a3
                if pair:
                    slopes[g + terms + t + 1] += b1
                    slopes[g + terms + t + 2] += b2
                    slopes[g + terms + t + 3] += b3
            else:
                for i in range(width):
                    a0 += s0[i] * f0[i]
                    b0 += s1[i] * f0[i]
            slopes[g + t] += a0
            if pair:
                slopes[g + terms + t] += b0
            t += 4 if t + 4 <= terms else 1
        row += 2 if pair else 1


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
        _fill(eta[predictors * WIDTH :], 0.0)
        _coefficients(p, slots, x, coefs, offsets)
        for j in range(p[SLOTS]):
            s = slots + j * SLOT
            if p[s + SHARED]:
                for k in range(p[s + OF]):
                    row = p[s + ROW] + k
                    _fill(row_of(eta, row, WIDTH), offsets[row] + coefs[p[s + COEF] + k])
        value = 0.0
        for start in range(0, rows, WIDTH):
            number = min(WIDTH, rows - start)
            width = (number + PACK - 1) // PACK * PACK
            for j in range(p[TABLES]):
                t = tables + j * TABLE
                terms, first, many = p[t + TERMS], p[t + FIRST], p[t + LAST] - p[t + FIRST]
                f = doubles(p[t + FEATURES], terms * long)[start:]
                for row in range(first, first + many):
                    _fill(row_of(eta, row, width), offsets[row])
                _predict(eta[first * WIDTH :], coefs[p[t + AT] :], terms, many, f, width, long)
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
                value += _sum(joint[:number])
            if number < width:
                for row in range(predictors):
                    _fill(row_of(score, row, width)[number:], 0.0)
            for j in range(p[TABLES]):
                t = tables + j * TABLE
                terms, first, many = p[t + TERMS], p[t + FIRST], p[t + LAST] - p[t + FIRST]
                f = doubles(p[t + FEATURES], terms * long)[start:]
                _gather(score[first * WIDTH :], slopes[p[t + AT] :], terms, many, f, width, long)
            for j in range(p[SLOTS]):
                s = slots + j * SLOT
                if p[s + SHARED]:
                    for k in range(p[s + OF]):
                        row = p[s + ROW] + k
                        slopes[p[s + COEF] + k] += _sum(row_of(score, row, width))
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

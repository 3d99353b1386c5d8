"""Responsibilities of some rows under a gate of several softmaxes, with the log density.

A split of the gate mixes what lies below its branches, experts or further splits: with predictors
``eta_c``, ``log p = logsumexp_c(eta_c + log p_c) - logsumexp_c(eta_c)``. So densities go up from
the experts to the root, a split at a time, and leave each branch's responsibility within its split;
multiplied from the root down, these are the responsibilities of the experts.

Arrays have rows of ``WIDTH`` numbers, of which ``width`` are used.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.elementary import exp, log
from bayes_moe.kernels.family_rows import WIDTH
from bayes_moe.kernels.mixture import mix, row_of

# Positions in the records of splits, children before parents, and in those of all their branches,
# which follow. A place is a row of joint log densities: the experts', then the splits'.

(
    FROM,  # first branch
    WAYS,  # branches
) = range(2)
SPLIT = 2
(
    LOGIT,  # row of predictors; one past the last is zero
    PLACE,  # of what is below
) = range(2)
BRANCH = 2


@register_jitable(fastmath=REORDERED)
def branch_out(
    records: Any,
    splits: int,
    eta: Any,
    joint: Any,
    score: Any,
    work: Any,
    room: Any,
    experts: int,
    number: int,
    width: int,
) -> float:
    """Return the sum of the log densities of rows ``0 .. number`` of a chunk.

    Parameters
    ----------
    records : array of int
        Of splits and branches.
    eta : array
        Predictors, and a last row of zeros.
    joint : array
        Log densities of the experts, replaced by responsibilities; then a row a split.
    score : array
        Filled with the derivatives by the gate's predictors; a last row belongs to nobody.
    work, room : array
        Working space: four rows, and three rows an expert.
    """
    branches = records[splits * SPLIT :]
    for j in range(splits):
        own, ways = branches[records[j * SPLIT + FROM] * BRANCH :], records[j * SPLIT + WAYS]
        if ways == 2:
            _pair(own, eta, joint, score, work, experts + j, width)
        else:
            _many(own, ways, eta, joint, score, work, room, experts + j, width)
    value, root = 0.0, row_of(joint, experts + splits - 1, number)
    for i in range(number):
        value += root[i]
    for j in range(splits - 2, -1, -1):
        own, ways = branches[records[j * SPLIT + FROM] * BRANCH :], records[j * SPLIT + WAYS]
        held = row_of(joint, experts + j, width)
        for c in range(ways):
            _multiply(row_of(joint, own[c * BRANCH + PLACE], width), held)
            _multiply(row_of(score, own[c * BRANCH + LOGIT], width), held)
    return value


@register_jitable(fastmath=REORDERED)
def _pair(
    branches: Any, eta: Any, joint: Any, score: Any, work: Any, place: int, width: int
) -> None:
    """Mix the two branches of a split into its place; with half of :func:`mix`'s exponentials."""
    first, second = branches[LOGIT], branches[BRANCH + LOGIT]
    eta_0, eta_1 = row_of(eta, first, width), row_of(eta, second, width)
    own_0 = row_of(joint, branches[PLACE], width)
    own_1 = row_of(joint, branches[BRANCH + PLACE], width)
    slope_0, slope_1 = row_of(score, first, width), row_of(score, second, width)
    mixed = row_of(joint, place, width)
    gap, both = row_of(work, 0, width), row_of(work, 1, width)
    a, b = row_of(work, 2, width), row_of(work, 3, width)
    for i in range(width):
        gap[i] = eta_0[i] - eta_1[i]
    for i in range(width):
        both[i] = gap[i] + (own_0[i] - own_1[i])
    for i in range(width):
        up = gap[i] if gap[i] > 0.0 else 0.0
        mixed[i] = own_0[i] + (gap[i] - up) if both[i] > 0.0 else own_1[i] - up
    for i in range(width):
        a[i] = exp(-abs(gap[i]))
    for i in range(width):
        b[i] = exp(-abs(both[i]))
    for i in range(width):
        below, total = 1.0 + a[i], 1.0 + b[i]
        inverse = 1.0 / (below * total)
        weight = (1.0 if gap[i] > 0.0 else a[i]) * total * inverse
        gap[i] = (1.0 if both[i] > 0.0 else b[i]) * below * inverse
        b[i] = (b[i] if both[i] > 0.0 else 1.0) * below * inverse
        both[i] = gap[i] - weight
        a[i] = total * total * inverse
    for i in range(width):
        mixed[i] += log(a[i])
    _copy(own_0, gap)
    _copy(own_1, b)
    _copy(slope_0, both)
    for i in range(width):
        slope_1[i] = -both[i]


@register_jitable(fastmath=REORDERED)
def _many(
    branches: Any,
    ways: int,
    eta: Any,
    joint: Any,
    score: Any,
    work: Any,
    room: Any,
    place: int,
    width: int,
) -> None:
    """Mix the branches of a split into its place."""
    logits, own = room[: ways * WIDTH], room[ways * WIDTH : 2 * ways * WIDTH]
    slopes = room[2 * ways * WIDTH : 3 * ways * WIDTH]
    for c in range(ways):
        row, below = branches[c * BRANCH + LOGIT], branches[c * BRANCH + PLACE]
        _copy(row_of(logits, c, width), row_of(eta, row, width))
        _copy(row_of(own, c, width), row_of(joint, below, width))
    mix(logits, own, slopes, work, ways, width, width)
    for c in range(ways):
        row, below = branches[c * BRANCH + LOGIT], branches[c * BRANCH + PLACE]
        _copy(row_of(score, row, width), row_of(slopes, c, width))
        _copy(row_of(joint, below, width), row_of(own, c, width))
    _copy(row_of(joint, place, width), row_of(work, 0, width))


@register_jitable(fastmath=REORDERED)
def _copy(to: Any, numbers: Any) -> None:
    for i in range(to.size):
        to[i] = numbers[i]


@register_jitable(fastmath=REORDERED)
def _multiply(numbers: Any, factors: Any) -> None:
    for i in range(numbers.size):
        numbers[i] *= factors[i]

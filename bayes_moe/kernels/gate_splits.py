"""Responsibilities of a chunk of rows under a gate of several softmaxes, with the log density.

A split of the gate is a mixture of its branches, which are experts or further splits: with
predictors ``eta_c``, ``log p = logsumexp_c(eta_c + log p_c) - logsumexp_c(eta_c)``. The log
densities are computed from the experts up to the root, a split at a time, with each branch's
responsibility within its split; the products of these from the root down are the responsibilities
of the experts.

Arrays have rows of ``WIDTH`` numbers, of which ``width`` are used.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.elementary import exp, log
from bayes_moe.kernels.family_rows import WIDTH
from bayes_moe.kernels.linear_layout import BRANCH, FROM, LOGIT, PLACE, SPLIT, WAYS
from bayes_moe.kernels.mixture import mix, row_of


@register_jitable(fastmath=REORDERED)
def mix_splits(records: Any, splits: int, w: Any, experts: int, width: int) -> None:
    """Log densities of every split, from those of the experts up to the root.

    ``joint`` holds responsibilities within their split afterwards, but for the log densities of the
    root, its last row; ``score`` the derivatives of each split's log density by its predictors.

    Parameters
    ----------
    records : array of int
        Of splits and branches.
    w : Workspace
        Of :mod:`bayes_moe.kernels.linear_model`: ``eta`` has a last row of zeros, and the last row
        of ``score`` belongs to no predictor; ``work`` has four rows, ``room`` three an expert.
    """
    branches = records[splits * SPLIT :]
    for j in range(splits):
        first, ways = records[j * SPLIT + FROM] * BRANCH, records[j * SPLIT + WAYS]
        if ways == 2:
            _pair(branches[first:], w, experts + j, width)
        else:
            _many(branches[first:], ways, w, experts + j, width)


@register_jitable(fastmath=REORDERED)
def responsibilities(records: Any, splits: int, w: Any, experts: int, width: int) -> None:
    """Multiply responsibilities and derivatives from the root down to the experts."""
    branches = records[splits * SPLIT :]
    for j in range(splits - 2, -1, -1):
        ways_of = branches[records[j * SPLIT + FROM] * BRANCH :]
        above = row_of(w.joint, experts + j, width)
        for c in range(records[j * SPLIT + WAYS]):
            _multiply(row_of(w.joint, ways_of[c * BRANCH + PLACE], width), above)
            _multiply(row_of(w.score, ways_of[c * BRANCH + LOGIT], width), above)


@register_jitable(fastmath=REORDERED)
def _pair(branches: Any, w: Any, place: int, width: int) -> None:
    """Log density of a split of two branches, with half as many exponentials as :func:`mix`."""
    eta, joint, score, work = w.eta, w.joint, w.score, w.work
    first, second = branches[LOGIT], branches[BRANCH + LOGIT]
    eta_0, eta_1 = row_of(eta, first, width), row_of(eta, second, width)
    below_0 = row_of(joint, branches[PLACE], width)
    below_1 = row_of(joint, branches[BRANCH + PLACE], width)
    slope_0, slope_1 = row_of(score, first, width), row_of(score, second, width)
    mixed = row_of(joint, place, width)
    gap, both = row_of(work, 0, width), row_of(work, 1, width)
    a, b = row_of(work, 2, width), row_of(work, 3, width)
    for i in range(width):
        gap[i] = eta_0[i] - eta_1[i]
    for i in range(width):
        both[i] = gap[i] + (below_0[i] - below_1[i])
    for i in range(width):
        up = gap[i] if gap[i] > 0.0 else 0.0
        mixed[i] = below_0[i] + (gap[i] - up) if both[i] > 0.0 else below_1[i] - up
    for i in range(width):
        a[i] = exp(-abs(gap[i]))
    for i in range(width):
        b[i] = exp(-abs(both[i]))
    for i in range(width):
        gate, total = 1.0 + a[i], 1.0 + b[i]
        inverse = 1.0 / (gate * total)
        weight = (1.0 if gap[i] > 0.0 else a[i]) * total * inverse
        gap[i] = (1.0 if both[i] > 0.0 else b[i]) * gate * inverse
        b[i] = (b[i] if both[i] > 0.0 else 1.0) * gate * inverse
        both[i] = gap[i] - weight
        a[i] = total * total * inverse
    for i in range(width):
        mixed[i] += log(a[i])
    _copy(below_0, gap)
    _copy(below_1, b)
    _copy(slope_0, both)
    for i in range(width):
        slope_1[i] = -both[i]


@register_jitable(fastmath=REORDERED)
def _many(branches: Any, ways: int, w: Any, place: int, width: int) -> None:
    """Log density of a split of more than two branches."""
    eta, joint, score, work, room = w.eta, w.joint, w.score, w.work, w.room
    logits, below = room[: ways * WIDTH], room[ways * WIDTH : 2 * ways * WIDTH]
    slopes = room[2 * ways * WIDTH : 3 * ways * WIDTH]
    for c in range(ways):
        row, child = branches[c * BRANCH + LOGIT], branches[c * BRANCH + PLACE]
        _copy(row_of(logits, c, width), row_of(eta, row, width))
        _copy(row_of(below, c, width), row_of(joint, child, width))
    mix(logits, below, slopes, work, ways, width, width)
    for c in range(ways):
        row, child = branches[c * BRANCH + LOGIT], branches[c * BRANCH + PLACE]
        _copy(row_of(score, row, width), row_of(slopes, c, width))
        _copy(row_of(joint, child, width), row_of(below, c, width))
    _copy(row_of(joint, place, width), row_of(work, 0, width))


@register_jitable(fastmath=REORDERED)
def _copy(to: Any, numbers: Any) -> None:
    for i in range(to.size):
        to[i] = numbers[i]


@register_jitable(fastmath=REORDERED)
def _multiply(numbers: Any, factors: Any) -> None:
    for i in range(numbers.size):
        numbers[i] *= factors[i]

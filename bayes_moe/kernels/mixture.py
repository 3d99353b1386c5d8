"""Responsibilities of some rows, in one pass with the log density of the mixture."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.elementary import exp, log
from bayes_moe.kernels.family_rows import WIDTH


@register_jitable(fastmath=REORDERED)
def row_of(numbers: Any, row: int, width: int) -> Any:
    """The first numbers of a row of ``WIDTH``."""
    return numbers[row * WIDTH : row * WIDTH + width]


@register_jitable(fastmath=REORDERED)
def mix(
    logits: Any, joint: Any, slopes: Any, work: Any, experts: int, number: int, width: int
) -> float:
    """Return the sum of the log densities of rows ``0 .. number`` of a chunk.

    ``log p = logsumexp_k(logit_k + log f_k) - logsumexp_k(logit_k)``. Arrays have rows of ``WIDTH``
    numbers, of which ``width`` are used.

    Parameters
    ----------
    logits : array
        Of the gate, a row an expert.
    joint : array
        ``log f_k``, replaced by responsibilities.
    slopes : array
        Filled with the derivatives by the logits: responsibilities less weights.
    work : array
        Four rows of working space; the first holds the rows' log densities afterwards.
    """
    top, peak = work[:width], work[WIDTH : WIDTH + width]
    below, total = work[2 * WIDTH : 2 * WIDTH + width], work[3 * WIDTH : 3 * WIDTH + width]
    logit, own = logits[:width], joint[:width]
    for i in range(width):
        top[i] = logit[i]
        peak[i] = logit[i] + own[i]
    for k in range(1, experts):
        logit, own = logits[k * WIDTH : k * WIDTH + width], joint[k * WIDTH : k * WIDTH + width]
        for i in range(width):
            both = logit[i] + own[i]
            top[i] = logit[i] if logit[i] > top[i] else top[i]
            peak[i] = both if both > peak[i] else peak[i]
    for i in range(width):
        below[i] = 0.0
        total[i] = 0.0
    for k in range(experts):
        logit, own = logits[k * WIDTH : k * WIDTH + width], joint[k * WIDTH : k * WIDTH + width]
        weight = slopes[k * WIDTH : k * WIDTH + width]
        for i in range(width):
            own[i] = exp((logit[i] + own[i]) - peak[i])
        for i in range(width):
            weight[i] = exp(logit[i] - top[i])
        for i in range(width):
            total[i] += own[i]
        for i in range(width):
            below[i] += weight[i]
    for i in range(width):
        top[i] = (peak[i] - top[i]) + log(total[i] / below[i])
    for i in range(width):
        total[i] = 1.0 / total[i]
    for i in range(width):
        below[i] = 1.0 / below[i]
    for k in range(experts):
        own, weight = joint[k * WIDTH : k * WIDTH + width], slopes[k * WIDTH : k * WIDTH + width]
        for i in range(width):
            own[i] *= total[i]
        for i in range(width):
            weight[i] = own[i] - weight[i] * below[i]
    value = 0.0
    for i in range(number):
        value += top[i]
    return value

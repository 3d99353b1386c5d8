"""Responsibilities of a chunk of rows, in one pass with the log density of the mixture."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.elementary import exp, log
from bayes_moe.kernels.family_rows import WIDTH


@register_jitable(fastmath=REORDERED)
def row_of(numbers: Any, row: int, width: int) -> Any:
    """View of the first ``width`` numbers of a row of ``WIDTH``."""
    return numbers[row * WIDTH : row * WIDTH + width]


@register_jitable(fastmath=REORDERED)
def mix(
    logits: Any, joint: Any, slopes: Any, work: Any, experts: int, number: int, width: int
) -> float:
    """Sum of the log densities of rows ``0 .. number`` of a chunk.

    ``log p = logsumexp_k(logit_k + log f_k) - logsumexp_k(logit_k)``. Arrays have rows of ``WIDTH``
    numbers, of which ``width`` are used.

    Parameters
    ----------
    logits : array
        Gate logits, a row an expert.
    joint : array
        Log densities ``log f_k``, replaced by responsibilities.
    slopes : array
        Filled with the derivatives by the logits: responsibilities minus gate weights.
    work : array
        Work space of four rows; the first holds the rows' log densities afterwards.
    """
    gate_max, joint_max = row_of(work, 0, width), row_of(work, 1, width)
    gate_sum, total = row_of(work, 2, width), row_of(work, 3, width)
    logit, density = row_of(logits, 0, width), row_of(joint, 0, width)
    for i in range(width):
        gate_max[i] = logit[i]
        joint_max[i] = logit[i] + density[i]
    for k in range(1, experts):
        logit, density = row_of(logits, k, width), row_of(joint, k, width)
        for i in range(width):
            both = logit[i] + density[i]
            gate_max[i] = logit[i] if logit[i] > gate_max[i] else gate_max[i]
            joint_max[i] = both if both > joint_max[i] else joint_max[i]
    for i in range(width):
        gate_sum[i] = 0.0
        total[i] = 0.0
    for k in range(experts):
        logit, density = row_of(logits, k, width), row_of(joint, k, width)
        weight = row_of(slopes, k, width)
        for i in range(width):
            density[i] = exp((logit[i] + density[i]) - joint_max[i])
        for i in range(width):
            weight[i] = exp(logit[i] - gate_max[i])
        for i in range(width):
            total[i] += density[i]
        for i in range(width):
            gate_sum[i] += weight[i]
    for i in range(width):
        gate_max[i] = (joint_max[i] - gate_max[i]) + log(total[i] / gate_sum[i])
    for i in range(width):
        total[i] = 1.0 / total[i]
    for i in range(width):
        gate_sum[i] = 1.0 / gate_sum[i]
    for k in range(experts):
        density, weight = row_of(joint, k, width), row_of(slopes, k, width)
        for i in range(width):
            density[i] *= total[i]
        for i in range(width):
            weight[i] = density[i] - weight[i] * gate_sum[i]
    value = 0.0
    for i in range(number):
        value += gate_max[i]
    return value

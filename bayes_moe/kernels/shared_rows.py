"""Rows that share an expert by group, and known experts, in a compiled density.

A chunk's log densities of rows are added to those of their groups in a first pass over the rows. In
a second they are read back, so that a row has the responsibilities of its group; the derivatives of
the gate count at a group's first row alone.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED, doubles
from bayes_moe.kernels.family_rows import WIDTH
from bayes_moe.kernels.linear_layout import (
    BLOCK,
    BLOCKS,
    BRANCH,
    BRANCHES,
    ETAS,
    EXPERTS,
    GATE,
    KNOWN,
    LEADS,
    LOGIT,
    PARAMETERS,
    PREDICTORS,
    SPLIT,
    SPLITS,
    START,
    STOP,
    UNITS,
    WEIGHTS,
)
from bayes_moe.kernels.mixture import row_of

LOWEST = -1e300
"""Log density of an expert that a row cannot have: finite, since differences of two are taken."""


@register_jitable(fastmath=REORDERED)
def leave_known(p: Any, w: Any, start: int, width: int) -> None:
    """Set log densities of a chunk of rows far below zero but for the experts that are known."""
    if p[KNOWN]:
        known = doubles(p[KNOWN] + DOUBLE_SIZE * start, width)
        for k in range(p[EXPERTS]):
            density = row_of(w.joint, k, width)
            for i in range(width):
                density[i] = LOWEST if known[i] >= 0.0 and known[i] != k else density[i]


@register_jitable(fastmath=REORDERED)
def add_to_groups(p: Any, w: Any, sums: Any, start: int, number: int) -> None:
    """Add log densities of a chunk of rows to those of their groups, (group, expert) in a row."""
    unit = doubles(p[UNITS] + DOUBLE_SIZE * start, number)
    experts = p[EXPERTS]
    for i in range(number):
        at = int(unit[i]) * experts
        for k in range(experts):
            sums[at + k] += w.joint[k * WIDTH + i]


@register_jitable(fastmath=REORDERED)
def read_groups(p: Any, w: Any, sums: Any, start: int, width: int) -> None:
    """Put the log densities of their groups in the places of those of a chunk of rows."""
    unit = doubles(p[UNITS] + DOUBLE_SIZE * start, width)
    experts = p[EXPERTS]
    for i in range(width):
        at = int(unit[i]) * experts
        for k in range(experts):
            w.joint[k * WIDTH + i] = sums[at + k]


@register_jitable(fastmath=REORDERED)
def count_gate(p: Any, offsets: Any, w: Any, start: int, width: int) -> None:
    """Multiply derivatives by weights: of the gate by those of groups, at their first rows."""
    if p[WEIGHTS]:
        weights = doubles(p[WEIGHTS] + DOUBLE_SIZE * start, width)
        for j in range(p[BLOCKS]):
            b = offsets.blocks + j * BLOCK
            for k in range(p[b + STOP] - p[b + START]):
                for q in range(p[b + PARAMETERS]):
                    times(row_of(w.score, p[b + ETAS + q] + k, width), weights)
    leads = doubles(p[LEADS] + DOUBLE_SIZE * start, width)
    if p[SPLITS]:
        branches = offsets.splits + SPLIT * p[SPLITS]
        for c in range(p[BRANCHES]):
            row = p[branches + c * BRANCH + LOGIT]
            if row < p[PREDICTORS]:
                times(row_of(w.score, row, width), leads)
    else:
        for k in range(p[EXPERTS]):
            times(row_of(w.score, max(p[GATE], 0) + k, width), leads)


@register_jitable(fastmath=REORDERED)
def times(numbers: Any, factors: Any) -> None:
    """Multiply numbers in place."""
    for i in range(numbers.size):
        numbers[i] *= factors[i]

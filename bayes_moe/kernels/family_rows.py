"""The loop of a family's kernel over the rows of a chunk, for one expert.

A kernel is one function of numbers,

``(y, base, known, eta_1, ..., eta_P) -> (log f, d log f / d eta_1, ..., d log f / d eta_P)``,

with ``eta_p`` the linear predictors of the family's parameters, ``known`` the known count of the
row (number of trials), and ``base`` the part of the log density without parameters,
:meth:`bayes_moe.families.Family.log_base`. There are at most three predictors, and one known
count. A kernel must be free of branches (``a if c else b`` compiles to a select) and call only
:mod:`bayes_moe.kernels.elementary`, or the loop over rows does not vectorise. Where all predictors
but the first are the same for every row, the compiler hoists what depends on them out of the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numba import int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import VERSION, c_function, doubles
from bayes_moe.kernels.elementary import FUSED

WIDTH = 256
"""Rows of a chunk: its arrays fit into the processor's first-level cache."""
PACK = 16
"""Loops run over whole packs of rows; the last pack is filled up with copies of a row."""
LARGEST = 3
"""Largest number of parameters of a kernel."""

Y, BASE, KNOWN, ETA = 0, WIDTH, 2 * WIDTH, 3 * WIDTH
VALUE = ETA + LARGEST * WIDTH
SCORE = VALUE + WIDTH
SCRATCH = SCORE + LARGEST * WIDTH
"""Numbers in the scratch space of one expert; constant offsets, so that loops vectorise."""
ETA_2, ETA_3, SCORE_2, SCORE_3 = ETA + WIDTH, ETA + 2 * WIDTH, SCORE + WIDTH, SCORE + 2 * WIDTH


@dataclass(frozen=True)
class Kernel:
    """The kernel of a family, and its number of linear predictors."""

    row: Callable[..., tuple[float, ...]]
    parameters: int

    @cached_property
    def address(self) -> int:
        """Address of the compiled function ``(scratch, shared, packs) -> 0``."""
        return int(c_function(int64(int64, int64, int64), over_rows(self)).address)


def kernel(parameters: int) -> Callable[[Callable[..., tuple[float, ...]]], Kernel]:
    """Decorator that turns a function of one row into a kernel with so many linear predictors."""
    if not 1 <= parameters <= LARGEST:
        raise ValueError(f"A kernel has 1 to {LARGEST} linear predictors; this has {parameters}.")

    def make(row: Callable[..., tuple[float, ...]]) -> Kernel:
        return Kernel(register_jitable(fastmath=FUSED, forceinline=True)(row), parameters)

    return make


def over_rows(kernel: Kernel) -> Callable[[int, int, int], int]:
    """The loop of a kernel over the rows of a scratch space, not yet compiled.

    Its arguments are the address of the space, whether all predictors but the first are the same
    for every row, and the number of packs.
    """
    row: Any = kernel.row
    parameters, version = kernel.parameters, VERSION

    def loop(scratch: int, shared: int, packs: int) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        s = doubles(scratch, SCRATCH)
        rows = packs * PACK
        if parameters == 1:
            for i in range(rows):
                s[VALUE + i], s[SCORE + i] = row(s[Y + i], s[BASE + i], s[KNOWN + i], s[ETA + i])
        elif parameters == 2:
            if shared:
                second = s[ETA_2]
                for i in range(rows):
                    s[VALUE + i], s[SCORE + i], s[SCORE_2 + i] = row(
                        s[Y + i], s[BASE + i], s[KNOWN + i], s[ETA + i], second
                    )
            else:
                for i in range(rows):
                    s[VALUE + i], s[SCORE + i], s[SCORE_2 + i] = row(
                        s[Y + i], s[BASE + i], s[KNOWN + i], s[ETA + i], s[ETA_2 + i]
                    )
        else:
            if shared:
                second, third = s[ETA_2], s[ETA_3]
                for i in range(rows):
                    s[VALUE + i], s[SCORE + i], s[SCORE_2 + i], s[SCORE_3 + i] = row(
                        s[Y + i], s[BASE + i], s[KNOWN + i], s[ETA + i], second, third
                    )
            else:
                for i in range(rows):
                    s[VALUE + i], s[SCORE + i], s[SCORE_2 + i], s[SCORE_3 + i] = row(
                        s[Y + i], s[BASE + i], s[KNOWN + i], s[ETA + i], s[ETA_2 + i], s[ETA_3 + i]
                    )
        return 0

    return loop

"""Log densities of the experts of a model for a chunk of rows, with their derivatives."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED, call_rows, doubles
from bayes_moe.kernels.family_rows import (
    BASE,
    ETA,
    PACK,
    REST,
    SCORE,
    STEP,
    VALUE,
    WIDTH,
    T,
    U,
)
from bayes_moe.kernels.linear_layout import (
    ADD,
    ALL_SHARED,
    BLOCK,
    BLOCKS,
    DATA_MORE,
    DATA_T,
    DATA_U,
    ETAS,
    FURTHER,
    KERNEL,
    LOG_BASE,
    PARAMETERS,
    ROWS,
    START,
    STOP,
)
from bayes_moe.kernels.mixture import row_of


@register_jitable(fastmath=REORDERED)
def _load_block(p: Any, b: int, scratch: Any, start: int, width: int) -> None:
    """Copy what a block's density reads of the rows."""
    t = doubles(p[b + DATA_T] + DOUBLE_SIZE * start, width)
    for i in range(width):
        scratch[T + i] = t[i]
    u = doubles(p[b + DATA_U] + DOUBLE_SIZE * start, width)
    for i in range(width):
        scratch[U + i] = u[i]
    base = doubles(p[b + LOG_BASE] + DOUBLE_SIZE * start, width)
    for i in range(width):
        scratch[BASE + i] = base[i]
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for j in range(p[b + FURTHER]):
        more = doubles(p[b + DATA_MORE] + DOUBLE_SIZE * (j * stride + start), width)
        for i in range(width):
            scratch[REST + j * WIDTH + i] = more[i]


@register_jitable(fastmath=REORDERED)
def evaluate_experts(p: Any, blocks: int, w: Any, start: int, width: int) -> None:
    """Log density of every expert into ``joint``, its derivatives into ``score``."""
    scratch = w.scratch
    for j in range(p[BLOCKS]):
        b = blocks + j * BLOCK
        _load_block(p, b, scratch, start, width)
        for k in range(p[b + START], p[b + STOP]):
            for q in range(p[b + PARAMETERS]):
                of = row_of(w.eta, p[b + ETAS + q] + k - p[b + START], width)
                to = scratch[ETA + q * STEP : ETA + q * STEP + WIDTH]
                for i in range(width):
                    to[i] = of[i]
            call_rows(p[b + KERNEL], scratch.ctypes.data, p[b + ALL_SHARED], width // PACK)
            to = row_of(w.joint, k, width)
            if p[b + ADD]:
                for i in range(width):
                    to[i] += scratch[VALUE + i]
            else:
                for i in range(width):
                    to[i] = scratch[VALUE + i]
            for q in range(p[b + PARAMETERS]):
                to = row_of(w.score, p[b + ETAS + q] + k - p[b + START], width)
                of = scratch[SCORE + q * STEP : SCORE + q * STEP + WIDTH]
                for i in range(width):
                    to[i] = of[i]


@register_jitable(fastmath=REORDERED)
def weigh(p: Any, blocks: int, w: Any, width: int) -> None:
    """Multiply each expert's derivatives by its responsibilities."""
    for j in range(p[BLOCKS]):
        b = blocks + j * BLOCK
        for k in range(p[b + START], p[b + STOP]):
            share = row_of(w.joint, k, width)
            for q in range(p[b + PARAMETERS]):
                slope = row_of(w.score, p[b + ETAS + q] + k - p[b + START], width)
                for i in range(width):
                    slope[i] *= share[i]

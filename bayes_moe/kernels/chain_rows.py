"""Rows whose experts are a Markov chain, in a compiled density.

In a first pass over the rows, the experts' log densities and the logits of the gate's transitions
are stored in the order of time; :mod:`bayes_moe.kernels.chains` then puts smoothed probabilities
and derivatives by the logits in their places. In a second pass they are read back: a row has its
smoothed probabilities as responsibilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from bayes_moe.kernels.chains import STILL
from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED, call_chains, doubles
from bayes_moe.kernels.family_rows import WIDTH
from bayes_moe.kernels.linear_layout import (
    CHAIN,
    CHAIN_KIND,
    EXPERTS,
    GATE,
    PLACES,
    ROWS,
    SERIES,
    STARTS,
    STICKY,
)
from bayes_moe.kernels.linear_products import fill
from bayes_moe.kernels.mixture import row_of


@register_jitable(fastmath=REORDERED)
def chain_space(p: Any) -> tuple[int, int]:
    """Numbers of log densities and of logits of a model that are stored."""
    if not p[CHAIN]:
        return 0, 0
    size = p[EXPERTS] * p[EXPERTS]
    return p[ROWS] * p[EXPERTS], size if p[CHAIN_KIND] & STILL else p[ROWS] * size


@register_jitable(fastmath=REORDERED)
def store_chain(p: Any, w: Any, start: int, number: int) -> None:
    """Store log densities and logits of a chunk of rows."""
    experts = p[EXPERTS]
    size = experts * experts
    still = p[CHAIN_KIND] & STILL
    sticky = doubles(p[STICKY], 1)[0]
    places = doubles(p[PLACES] + DOUBLE_SIZE * start, number)
    for k in range(experts):
        density = row_of(w.joint, k, number)
        for i in range(number):
            w.states[int(places[i]) * experts + k] = density[i]
    if still and start > 0:
        return
    for c in range(size):
        stay = sticky if c % (experts + 1) == 0 else 0.0
        logit = row_of(w.eta, p[GATE] + c, number)
        for i in range(1 if still else number):
            at = 0 if still else int(places[i]) * size
            w.moves[at + c] = logit[i] + stay


@register_jitable(fastmath=REORDERED)
def run_chain(p: Any, w: Any) -> float:
    """Log likelihood of all series, from what is stored of all rows."""
    sizes = np.empty(4, np.int64)
    sizes[0], sizes[1], sizes[2], sizes[3] = p[ROWS], p[EXPERTS], p[SERIES], p[CHAIN_KIND]
    value = call_chains(
        p[CHAIN], sizes.ctypes.data, p[STARTS], w.states.ctypes.data, w.moves.ctypes.data
    )
    return value if sizes[0] else 0.0  # read here, so that the array is not freed before the call


@register_jitable(fastmath=REORDERED)
def read_chain(p: Any, w: Any, start: int, number: int) -> None:
    """Put a chunk's smoothed probabilities, and derivatives by logits, in their places."""
    experts = p[EXPERTS]
    size = experts * experts
    places = doubles(p[PLACES] + DOUBLE_SIZE * start, number)
    for k in range(experts):
        share = row_of(w.joint, k, WIDTH)
        for i in range(number):
            share[i] = w.states[int(places[i]) * experts + k]
        fill(share[number:], 0.0)
    for c in range(size):
        slope = row_of(w.score, p[GATE] + c, WIDTH)
        fill(slope, 0.0)
        if p[CHAIN_KIND] & STILL:  # that of all rows stands at the first
            slope[0] = w.moves[c] if start == 0 else 0.0
        else:
            for i in range(number):
                slope[i] = w.moves[int(places[i]) * size + c]

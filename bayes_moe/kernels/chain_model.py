"""The log density of a model whose experts are a Markov chain, with its gradient, as a C function.

In a first pass over the rows, the experts' log densities and the logits of the gate's transitions
are stored in the order of time; :mod:`bayes_moe.kernels.chains` then puts smoothed probabilities
and derivatives by the logits in their places. In a second pass they are read back: a row has its
smoothed probabilities as responsibilities.

It is a function of its own, with networks and cells or without, so that those of other models are
compiled as if there were no chains.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba.extending import register_jitable

from bayes_moe.kernels.cell_rows import (
    cells_of,
    gather_cells,
    run_cells,
    run_cells_back,
)
from bayes_moe.kernels.chains import STILL
from bayes_moe.kernels.compile import (
    DENSITY,
    DOUBLE_SIZE,
    REORDERED,
    c_function,
    call_chains,
    doubles,
)
from bayes_moe.kernels.experts import weigh
from bayes_moe.kernels.family_rows import PACK, WIDTH
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
from bayes_moe.kernels.linear_model import drop_copies, gather
from bayes_moe.kernels.linear_products import fill
from bayes_moe.kernels.mixture import row_of
from bayes_moe.kernels.network_model import backward, densities, density_of, nets_of, prepare


@register_jitable(fastmath=REORDERED)
def _log_likelihood(p: Any, offsets: Any, q: Any, w: Any) -> float:
    """Log likelihood of all series; its derivatives are added to ``slopes``."""
    value, nets = 0.0, nets_of(q)
    prepare(nets, w.coefs)
    cells = cells_of(p, q)
    run_cells(p, cells, w)
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    size = p[EXPERTS] * p[EXPERTS]
    states = np.empty(p[ROWS] * p[EXPERTS])
    moves = np.empty(size if p[CHAIN_KIND] & STILL else p[ROWS] * size)
    for reads in range(2):
        for start in range(0, p[ROWS], WIDTH):
            number = min(WIDTH, p[ROWS] - start)
            width = (number + PACK - 1) // PACK * PACK
            densities(p, offsets, nets, cells, w, start, width)
            if reads:
                _read(p, w, states, moves, start, number)
                weigh(p, offsets.blocks, w, width)
                drop_copies(p, w, number, width)
                gather(p, offsets, w, start, width)
                backward(nets, w, start, width, stride)
                gather_cells(p, cells, w, start, number, width)
            else:
                _store(p, w, states, moves, start, number)
        if not reads:
            value = _run(p, states, moves)
    run_cells_back(p, cells, w)
    return value


@register_jitable(fastmath=REORDERED)
def _store(p: Any, w: Any, states: Any, moves: Any, start: int, number: int) -> None:
    """Store log densities and logits of a chunk of rows."""
    experts = p[EXPERTS]
    size = experts * experts
    still = p[CHAIN_KIND] & STILL
    sticky = doubles(p[STICKY], 1)[0]
    places = doubles(p[PLACES] + DOUBLE_SIZE * start, number)
    for k in range(experts):
        density = row_of(w.joint, k, number)
        for i in range(number):
            states[int(places[i]) * experts + k] = density[i]
    if still and start > 0:
        return
    for c in range(size):
        stay = sticky if c % (experts + 1) == 0 else 0.0
        logit = row_of(w.eta, p[GATE] + c, number)
        for i in range(1 if still else number):
            at = 0 if still else int(places[i]) * size
            moves[at + c] = logit[i] + stay


@register_jitable(fastmath=REORDERED)
def _run(p: Any, states: Any, moves: Any) -> float:
    """Log likelihood of all series, from what is stored of all rows."""
    sizes = np.empty(4, np.int64)
    sizes[0], sizes[1], sizes[2], sizes[3] = p[ROWS], p[EXPERTS], p[SERIES], p[CHAIN_KIND]
    found: float = call_chains(p[CHAIN], sizes, p[STARTS], states, moves)
    return found


@register_jitable(fastmath=REORDERED)
def _read(p: Any, w: Any, states: Any, moves: Any, start: int, number: int) -> None:
    """Put a chunk's smoothed probabilities, and derivatives by logits, in their places."""
    experts = p[EXPERTS]
    size = experts * experts
    places = doubles(p[PLACES] + DOUBLE_SIZE * start, number)
    for k in range(experts):
        share = row_of(w.joint, k, WIDTH)
        for i in range(number):
            share[i] = states[int(places[i]) * experts + k]
        fill(share[number:], 0.0)
    for c in range(size):
        slope = row_of(w.score, p[GATE] + c, WIDTH)
        fill(slope, 0.0)
        if p[CHAIN_KIND] & STILL:  # that of all rows stands at the first
            slope[0] = moves[c] if start == 0 else 0.0
        else:
            for i in range(number):
                slope[i] = moves[int(places[i]) * size + c]


@cache
def log_density() -> Any:
    """As :func:`bayes_moe.kernels.network_model.log_density`, of a model with a Markov gate."""
    return c_function(DENSITY, density_of(_log_likelihood))

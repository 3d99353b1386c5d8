"""Recurrent cells in a compiled density: states of all rows first, then predictors of each chunk.

The loops over the rows of a series are those of :mod:`bayes_moe.kernels.recurrent`, called by
address. Predictors are linear in the states, which are stored as features are, (unit, obs).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from bayes_moe.kernels import recurrent
from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED, call_job
from bayes_moe.kernels.family_rows import PACK, WIDTH
from bayes_moe.kernels.linear_layout import ROWS
from bayes_moe.kernels.linear_products import fill, gather_sums, predict_rows
from bayes_moe.kernels.mixture import row_of
from bayes_moe.kernels.network_layout import (
    CELL,
    CELL_AT,
    CELL_BEFORE,
    CELL_BIAS,
    CELL_FEATURES,
    CELL_FIRST,
    CELL_INPUTS,
    CELL_LAST,
    CELL_RUN,
    CELL_TERMS,
    CELL_UNITS,
    CELL_WEIGHTS,
    CELLS,
    KIND,
    LAYER_SIZE,
    LAYERS,
    NETWORK,
    NETWORK_HEAD,
    NETWORKS,
)

NUMBERS = 4
"""Most numbers for each unit and row that backpropagation reads."""


class Cells(NamedTuple):
    """Recurrent cells of a model: their records, and arrays of one evaluation.

    ``states`` and ``slopes`` (obs, unit) of one cell after the other are the states and derivatives
    by them, ``kept`` what backpropagation reads. ``turned`` (1 + unit, obs) are ones and states, in
    rows of whole packs, and ``at`` the positions of each cell there, in units. ``coefs`` are
    transposed coefficients of one cell, ``delta`` derivatives by its units in a chunk of rows.
    """

    cells: int
    run: int
    records: Any
    at: Any
    states: Any
    slopes: Any
    kept: Any
    turned: Any
    coefs: Any
    delta: Any


@register_jitable(fastmath=REORDERED)
def cells_of(p: Any, q: Any) -> Any:
    """Recurrent cells of a model from its table of networks, and room for an evaluation."""
    count, rows = q[CELLS], p[ROWS]
    records = q[NETWORK_HEAD + NETWORK * q[NETWORKS] + LAYER_SIZE * q[LAYERS] :]
    stride = (rows + PACK - 1) // PACK * PACK
    at = np.zeros(count + 1, np.int64)
    most = widest = 0
    for j in range(count):
        c = records[j * CELL :]
        at[j + 1] = at[j] + c[CELL_UNITS]
        most = max(most, c[CELL_UNITS])
        widest = max(widest, c[CELL_UNITS] * (c[CELL_LAST] - c[CELL_FIRST]))
    units = at[count]
    return Cells(
        count,
        q[CELL_RUN],
        records,
        at,
        np.empty(rows * units),
        np.zeros(rows * units),
        np.empty(NUMBERS * rows * units),
        np.empty((units + count) * stride),
        np.empty(widest),
        np.empty(most * WIDTH),
    )


@register_jitable(fastmath=REORDERED)
def _job(p: Any, cells: Any, j: int, w: Any, numbers: Any) -> Any:
    """Numbers of the job of a cell, with addresses of weights in ``numbers`` (coefficient,)."""
    c, rows, at = cells.records[j * CELL :], p[ROWS], cells.at[j]
    job = np.zeros(recurrent.JOB, np.int64)
    job[recurrent.CELL] = c[KIND]
    job[recurrent.COPIES], job[recurrent.ROWS], job[recurrent.UNITS] = 1, rows, c[CELL_UNITS]
    job[recurrent.PREVIOUS] = c[CELL_BEFORE]
    job[recurrent.WEIGHTS] = w.coefs[c[CELL_WEIGHTS] :].ctypes.data
    job[recurrent.BIAS] = w.coefs[c[CELL_BIAS] :].ctypes.data
    job[recurrent.STATES] = cells.states.ctypes.data + DOUBLE_SIZE * rows * at
    job[recurrent.KEPT_AT] = cells.kept.ctypes.data + DOUBLE_SIZE * NUMBERS * rows * at
    job[recurrent.TERMS], job[recurrent.FEATURES] = c[CELL_TERMS], c[CELL_FEATURES]
    job[recurrent.INPUTS] = numbers[c[CELL_INPUTS] :].ctypes.data
    job[recurrent.BY_WEIGHTS] = numbers[c[CELL_WEIGHTS] :].ctypes.data
    job[recurrent.BY_BIAS] = numbers[c[CELL_BIAS] :].ctypes.data
    return job


@register_jitable(fastmath=REORDERED)
def run_cells(p: Any, cells: Any, w: Any) -> None:
    """States of all rows."""
    rows = p[ROWS]
    stride = (rows + PACK - 1) // PACK * PACK
    for j in range(cells.cells):
        job = _job(p, cells, j, w, w.coefs)
        call_job(cells.run, job)
        units, first = cells.at[j + 1] - cells.at[j], rows * cells.at[j]
        turned = cells.turned[(cells.at[j] + j) * stride :]
        fill(turned[:stride], 1.0)
        for i in range(stride):
            from_row = first + min(i, rows - 1) * units
            for u in range(units):
                turned[(1 + u) * stride + i] = cells.states[from_row + u]


@register_jitable(fastmath=REORDERED)
def predict_cells(p: Any, cells: Any, w: Any, start: int, width: int) -> None:
    """Predictors of a chunk of rows from the states."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for j in range(cells.cells):
        c = cells.records[j * CELL :]
        first, outputs = c[CELL_FIRST], c[CELL_LAST] - c[CELL_FIRST]
        turned = cells.turned[(cells.at[j] + j) * stride + start :]
        for row in range(first, first + outputs):
            fill(row_of(w.eta, row, width), w.intercepts[row])
        coefs, terms = w.coefs[c[CELL_AT] :], c[CELL_UNITS] + 1
        predict_rows(w.eta[first * WIDTH :], coefs, terms, outputs, turned, width, stride)


@register_jitable(fastmath=REORDERED)
def gather_cells(p: Any, cells: Any, w: Any, start: int, number: int, width: int) -> None:
    """Add a chunk's derivatives by coefficients, and store those by the states."""
    rows = p[ROWS]
    stride = (rows + PACK - 1) // PACK * PACK
    for j in range(cells.cells):
        c = cells.records[j * CELL :]
        first, outputs, units = c[CELL_FIRST], c[CELL_LAST] - c[CELL_FIRST], c[CELL_UNITS]
        turned = cells.turned[(cells.at[j] + j) * stride + start :]
        score, coefs = w.score[first * WIDTH :], w.coefs[c[CELL_AT] :]
        gather_sums(score, w.slopes[c[CELL_AT] :], units + 1, outputs, turned, width, stride)
        for k in range(outputs):
            for u in range(units):
                cells.coefs[u * outputs + k] = coefs[k * (units + 1) + 1 + u]
        for u in range(units):
            fill(row_of(cells.delta, u, width), 0.0)
        predict_rows(cells.delta, cells.coefs, outputs, units, score, width, WIDTH)
        to = rows * cells.at[j] + start * units
        for u in range(units):
            delta = row_of(cells.delta, u, number)
            for i in range(number):
                cells.slopes[to + i * units + u] = delta[i]


@register_jitable(fastmath=REORDERED)
def run_cells_back(p: Any, cells: Any, w: Any) -> None:
    """Add derivatives by the weights of cells to ``slopes``, from those by the states."""
    for j in range(cells.cells):
        job = _job(p, cells, j, w, w.slopes)
        job[recurrent.SLOPES] = cells.slopes.ctypes.data + DOUBLE_SIZE * p[ROWS] * cells.at[j]
        call_job(cells.run, job)

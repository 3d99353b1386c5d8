"""Recurrent cells over series, and backpropagation through time, compiled.

A row's state follows from the state of the row before it in its series, and is zero before the
first row. With inputs ``a = W z + b`` of a row and the state ``h`` before it,

* ``"rnn"``: ``h' = tanh(a + U h)``,
* ``"gru"``, as PyTorch has it: ``r = logistic(a_r + U_r h)``, ``u = logistic(a_u + U_u h)``,
  ``c = tanh(a_c + r (U_c h + m))``, ``h' = (1 - u) c + u h``,

where ``r`` is the reset gate, ``u`` the update gate, ``c`` the candidate, and ``m`` a constant.
PyTorch's ``bias_hh`` of the two gates is a part of their ``b``, and that of the candidate is ``m``.

Rows may be in any order in which the rows of a series follow one another: ``previous`` (obs,) are
the positions of the rows before, -1 before the first one.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import carray, int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED, VERSION, c_function, doubles, once, pointer
from bayes_moe.kernels.elementary import logistic, tanh

RNN, GRU = range(2)
CELLS = {"rnn": RNN, "gru": GRU}
GATES = {"rnn": 1, "gru": 3}
"""Sums of inputs for each unit: of the candidate, or of reset gate, update gate and candidate."""
KEPT = {"rnn": 1, "gru": 4}
"""Numbers for each unit and row that backpropagation reads, and by which it returns derivatives."""

(
    CELL,  # one of the cells above
    COPIES,  # number of recurrences on the same rows, with weights of their own
    ROWS,
    UNITS,
    PREVIOUS,  # address of the positions of the rows before (obs,)
    WEIGHTS,  # address of U (copy, gate and unit, unit)
    BIAS,  # address of m (copy, unit)
    STATES,  # address of the states (copy, obs, unit)
    KEPT_AT,  # address of what backpropagation reads (copy, obs, number and unit)
    SLOPES,  # address of derivatives by the states (copy, obs, unit); 0 for the pass forward
    TERMS,  # number of features; 0 where products with these are not made here
    FEATURES,  # address of the features (obs, term)
    INPUTS,  # address of W (gate and unit, term), or of derivatives by it, which are added to
    BY_WEIGHTS,  # address of derivatives by U and m, which are added to
    BY_BIAS,
) = range(15)
JOB = 15


# --- the pass forward ----------------------------------------------------------------------------


@register_jitable(fastmath=REORDERED)
def forward(
    cell: int, previous: Any, weights: Any, bias: Any, states: Any, kept: Any, sums: Any
) -> None:
    """Fill ``states`` (obs, unit); ``kept`` begins with the sums of inputs (obs, gate and unit).

    ``weights`` are U' (unit before, gate and unit), ``sums`` is a place for twice as many numbers.
    Of a GRU ``kept`` (obs, 4 units) then has reset gates, update gates, candidates, and
    ``U_c h + m``.
    """
    units = states.shape[1]
    wide = units if cell == RNN else 3 * units
    of_rows, total = sums[wide : 2 * wide], sums[:wide]
    for t in range(len(previous)):
        for i in range(wide):
            total[i] = 0.0
        before = previous[t]
        if before >= 0:
            for j in range(units):
                h = states[before, j]
                row = weights[j]
                for i in range(wide):
                    total[i] += h * row[i]
        for i in range(wide):
            of_rows[i] = kept[t, i]
        state = states[t]
        if cell == RNN:
            for i in range(units):
                state[i] = tanh(of_rows[i] + total[i])
        else:
            values = kept[t]
            for i in range(2 * units):
                values[i] = logistic(of_rows[i] + total[i])
            for i in range(units):
                m = total[2 * units + i] + bias[i]
                values[3 * units + i] = m
                values[2 * units + i] = tanh(of_rows[2 * units + i] + values[i] * m)
            for i in range(units):
                h = states[before, i] if before >= 0 else 0.0
                c = values[2 * units + i]
                state[i] = c + values[units + i] * (h - c)


# --- backpropagation -----------------------------------------------------------------------------


@register_jitable(fastmath=REORDERED)
def backward(
    cell: int, previous: Any, weights: Any, states: Any, kept: Any, slopes: Any, below: Any
) -> None:
    """Replace ``kept`` by derivatives: by sums of inputs, and of a GRU then by ``U_c h + m``.

    ``slopes`` (obs, unit) are derivatives by the states as outputs; they become those by the states
    in all. ``weights`` are U (gate and unit, unit before), ``below`` is a place for ``units``
    numbers.
    """
    units = states.shape[1]
    for t in range(len(previous) - 1, -1, -1):
        before, slope, values = previous[t], slopes[t], kept[t]
        for j in range(units):
            below[j] = 0.0
        if cell == RNN:
            for i in range(units):
                h = states[t, i]
                values[i] = slope[i] * (1.0 - h) * (1.0 + h)
        else:
            for i in range(units):
                h = states[before, i] if before >= 0 else 0.0
                r, u = values[i], values[units + i]
                c, m = values[2 * units + i], values[3 * units + i]
                by_c = slope[i] * (1.0 - u) * (1.0 - c) * (1.0 + c)
                below[i] = slope[i] * u
                values[units + i] = slope[i] * (h - c) * u * (1.0 - u)
                values[i] = by_c * m * r * (1.0 - r)
                values[2 * units + i] = by_c
                values[3 * units + i] = by_c * r
        if before >= 0:
            for i in range(units if cell == RNN else 2 * units):
                d, row = values[i], weights[i]
                for j in range(units):
                    below[j] += d * row[j]
            for i in range(0 if cell == RNN else units):
                d, row = values[3 * units + i], weights[2 * units + i]
                for j in range(units):
                    below[j] += d * row[j]
            for j in range(units):
                slopes[before, j] += below[j]


# --- products with features, and of derivatives ---------------------------------------------------


@register_jitable(fastmath=REORDERED)
def sums_of_inputs(z: Any, inputs: Any, kept: Any, turned: Any) -> None:
    """Begin ``kept`` (obs, ...) with ``W z`` from features (obs, term) and W (gate and unit, term).

    ``turned`` is a place for W' (term, gate and unit).
    """
    wide = len(inputs)
    for k in range(z.shape[1]):
        for i in range(wide):
            turned[k, i] = inputs[i, k]
    for t in range(len(z)):
        row = kept[t]
        for i in range(wide):
            row[i] = 0.0
        for k in range(z.shape[1]):
            value, of_term = z[t, k], turned[k]
            for i in range(wide):
                row[i] += value * of_term[i]


@register_jitable(fastmath=REORDERED)
def add_slopes(
    cell: int, previous: Any, z: Any, states: Any, kept: Any, slopes: tuple[Any, Any, Any]
) -> None:
    """Add derivatives by W, U and m to ``slopes``, from ``kept`` after the pass backward."""
    by_inputs, by_weights, by_bias = slopes
    units = states.shape[1]
    wide = units if cell == RNN else 3 * units
    of_term, of_state = np.zeros((z.shape[1], wide)), np.zeros((units, wide))
    for t in range(len(z)):
        row, before = kept[t], previous[t]
        for k in range(z.shape[1]):
            value, to = z[t, k], of_term[k]
            for i in range(wide):
                to[i] += value * row[i]
        if before >= 0:
            # The candidate of a GRU reads the state through the product of its reset gate.
            last = 0 if cell == RNN else units
            for j in range(units):
                h, to = states[before, j], of_state[j]
                for i in range(wide - last):
                    to[i] += h * row[i]
                for i in range(last):
                    to[wide - last + i] += h * row[wide + i]
        if cell == GRU:
            for i in range(units):
                by_bias[i] += row[wide + i]
    for i in range(wide):
        for k in range(z.shape[1]):
            by_inputs[i, k] += of_term[k, i]
        for j in range(units):
            by_weights[i, j] += of_state[j, i]


# --- for C ---------------------------------------------------------------------------------------


def _run() -> Any:
    version = VERSION

    def run(job: int) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        p = carray(pointer(job), JOB, int64)
        cell, rows, units = p[CELL], p[ROWS], p[UNITS]
        wide = units if cell == RNN else 3 * units
        number = units if cell == RNN else 4 * units
        previous = carray(pointer(p[PREVIOUS]), rows, int64)
        place = np.empty(2 * wide)
        turned, terms = np.empty((units, wide)), p[TERMS]
        z = doubles(p[FEATURES], rows * terms).reshape((rows, terms))
        inputs = doubles(p[INPUTS], wide * terms).reshape((wide, terms))
        for copy in range(p[COPIES]):
            weights = doubles(p[WEIGHTS], p[COPIES] * wide * units)
            weights = weights[copy * wide * units :][: wide * units].reshape((wide, units))
            states = doubles(p[STATES], p[COPIES] * rows * units)
            states = states[copy * rows * units :][: rows * units].reshape((rows, units))
            kept = doubles(p[KEPT_AT], p[COPIES] * rows * number)
            kept = kept[copy * rows * number :][: rows * number].reshape((rows, number))
            if p[SLOPES] != 0:
                slopes = doubles(p[SLOPES], p[COPIES] * rows * units)
                slopes = slopes[copy * rows * units :][: rows * units].reshape((rows, units))
                backward(cell, previous, weights, states, kept, slopes, place)
                if terms > 0:
                    by_weights = doubles(p[BY_WEIGHTS], wide * units).reshape((wide, units))
                    by_bias = doubles(p[BY_BIAS], units)
                    add_slopes(cell, previous, z, states, kept, (inputs, by_weights, by_bias))
            else:
                if terms > 0:
                    sums_of_inputs(z, inputs, kept, np.empty((terms, wide)))
                for i in range(wide):
                    for j in range(units):
                        turned[j, i] = weights[i, j]
                bias = doubles(p[BIAS], p[COPIES] * units)[copy * units :]
                forward(cell, previous, turned, bias, states, kept, place)
        return 0

    return run


@once
def run() -> Any:
    """The compiled function of the address of a job, whose numbers are above; it returns 0."""
    return c_function(int64(int64), _run())


_prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def _call(cell: str, arrays: tuple[np.ndarray, ...], slopes: np.ndarray | None) -> None:
    copies, rows, units = arrays[3].shape  # of the states
    addresses = [a.ctypes.data for a in arrays]
    addresses.append(0 if slopes is None else slopes.ctypes.data)
    job = np.zeros(JOB, dtype=np.int64)
    job[: SLOPES + 1] = [CELLS[cell], copies, rows, units, *addresses]
    _prototype(run().address)(job.ctypes.data)


def states_of(
    cell: str, z: np.ndarray, previous: np.ndarray, inputs: np.ndarray, *rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States of recurrences on the same rows, and what :func:`slopes_of` reads of them.

    Parameters
    ----------
    cell : {"rnn", "gru"}
    z : array (obs, term)
        Features, a 1 for the constant among them.
    previous : array of int64 (obs,)
        Position of the row before in the series, which must be smaller; -1 at the first one.
    inputs : array (copy, gate, unit, term)
        Weights of the features: of a GRU of reset gate, update gate and candidate.
    *rest : arrays (copy, gate, unit, unit) and (copy, unit)
        Weights of the state before, and of a GRU the constant ``m``.

    Returns
    -------
    states : array (copy, obs, unit)
    kept : array (copy, obs, number)
    """
    copies, gates, units, terms = inputs.shape
    rows, number = len(z), KEPT[cell] * units
    kept = np.empty((copies, rows, number))
    turned = np.swapaxes(inputs.reshape(copies, gates * units, terms), -1, -2)
    kept[..., : gates * units] = np.matmul(z, turned)
    states = np.empty((copies, rows, units))
    weights = np.ascontiguousarray(rest[0], dtype=float)
    bias = np.ascontiguousarray(rest[1] if len(rest) > 1 else np.zeros((copies, units)))
    _call(cell, (np.ascontiguousarray(previous), weights, bias, states, kept), None)
    return states, kept


def slopes_of(
    cell: str,
    rows: tuple[np.ndarray, np.ndarray],
    recurrent: np.ndarray,
    states: np.ndarray,
    kept: np.ndarray,
    slopes: np.ndarray,
) -> list[np.ndarray]:
    """Derivatives of a function of the states by all weights.

    Parameters
    ----------
    cell : {"rnn", "gru"}
    rows : arrays (obs, term) and (obs,)
        Features, and positions of the rows before.
    recurrent : array (copy, gate, unit, unit)
        Weights of the state before.
    states, kept : arrays
        Results of :func:`states_of`.
    slopes : array (copy, obs, unit)
        Derivatives by the states.

    Returns
    -------
    list of arrays
        By the weights of features (copy, gate, unit, term), by those of the state before (copy,
        gate, unit, unit), and of a GRU by ``m`` (copy, unit).
    """
    z, previous = rows
    copies, gates, units, _ = recurrent.shape
    slopes, kept = np.array(slopes, dtype=float), kept.copy()
    weights = np.ascontiguousarray(recurrent, dtype=float)
    arrays = (np.ascontiguousarray(previous), weights, np.zeros(1), np.asarray(states), kept)
    _call(cell, arrays, slopes)
    wide = gates * units
    before = np.where((previous >= 0)[:, None], states[:, previous], 0.0)
    by_sums = np.swapaxes(kept[..., :wide], -1, -2)  # (copy, gate and unit, obs)
    found = [np.matmul(by_sums, z), np.matmul(by_sums, before)]
    if cell == "gru":
        by_product = np.swapaxes(kept[..., wide:], -1, -2)
        found[1][:, 2 * units :] = np.matmul(by_product, before)
        found.append(by_product.sum(axis=-1))
    shapes = [(copies, gates, units, -1)] * 2 + [(copies, units)]
    return [f.reshape(shape) for f, shape in zip(found, shapes, strict=False)]

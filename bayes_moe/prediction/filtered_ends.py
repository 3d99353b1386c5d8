r"""Probabilities of the experts of the last rows of series, given all rows, under a Markov gate.

Whatever the expert :math:`i` of a row, the filter of the rows after it gives probabilities
:math:`p_i` of the last row's expert, and the answer is an average of the :math:`p_i`. So where all
:math:`p_i` agree, the rows before need not be read: a few rows from the end are enough for most
draws, and others read more of them, up to the whole series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.path_matrix import PathMatrix
from bayes_moe.data.sequences import Sequences
from bayes_moe.gates.transitions import Transitions
from bayes_moe.model.chains import filters
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.structure import Structure

FIRST_ROWS = 64
"""Rows from the end that are read of all draws."""

AGREEMENT = 1e-14
"""Largest difference between probabilities that count as the same."""

MOST_NUMBERS = 2**23
"""Numbers of an array (draw, from, to, row) that is made at once."""


def filtered_ends(
    structure: Structure, draws: Values, rows: Rows, codes: Sequence[int]
) -> np.ndarray:
    """Probabilities (sample, expert, series) of the experts of the last rows of some series.

    ``rows`` are those that the model was fitted to, with their responses.
    """
    series = rows.observation.series
    assert series is not None
    samples = len(next(iter(draws.values())))
    found = np.empty((samples, structure.gate.n_experts, len(codes)))
    for j, code in enumerate(codes):
        found[..., j] = _end_of(structure, draws, rows.pick(np.flatnonzero(series == code)))
    return found


def transitions(structure: Structure, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
    """Probabilities of the moves (sample, from, to, obs) to the rows of some matrices.

    Where the gate's features are the same in all rows, so are the moves: (sample, from, to, 1).
    """
    gate = structure.gate
    own = {head.stem: matrices[head.stem] for head in gate.heads}
    recalls = any(getattr(head.predictor, "has_memory", False) for head in gate.heads)
    if not recalls and all(_is_constant(matrix) for matrix in own.values()):
        own = {stem: matrix.pick(slice(0, 1)) for stem, matrix in own.items()}
    found: np.ndarray = np.exp(_chain(structure).log_transitions(gate.eta(draws, own), NUMERIC))
    return found


def _is_constant(matrix: Matrix) -> bool:
    """Whether all rows have the same features."""
    if isinstance(matrix, PathMatrix) or matrix.groups:
        return False
    arrays = [matrix.values] if matrix.offset is None else [matrix.values, matrix.offset]
    return all(bool((values == values[:1]).all()) for values in arrays)


def _end_of(structure: Structure, draws: Values, rows: Rows) -> np.ndarray:
    """Probabilities (sample, expert) of the expert of the last row of one series."""
    samples, experts = len(next(iter(draws.values()))), structure.gate.n_experts
    found, left = np.empty((samples, experts)), np.arange(samples)
    count = FIRST_ROWS
    while len(left) and count < rows.size:
        tail = rows.pick(slice(rows.size - count, rows.size))
        step = max(1, MOST_NUMBERS // (experts**2 * count))
        undecided = []
        for start in range(0, len(left), step):
            some = left[start : start + step]
            ends = _from_each(structure, {n: v[some] for n, v in draws.items()}, tail)
            apart = np.ptp(ends, axis=1).max(axis=-1) > AGREEMENT
            found[some] = ends.mean(axis=1)
            undecided.append(some[apart])
        left, count = np.concatenate(undecided), 4 * count
    step = max(1, MOST_NUMBERS // (experts**2 * max(rows.size, 1)))
    for start in range(0, len(left), step):
        some = left[start : start + step]
        found[some] = _of_all(structure, {n: v[some] for n, v in draws.items()}, rows)
    return found


def _from_each(structure: Structure, draws: Values, rows: Rows) -> np.ndarray:
    """Probabilities (sample, expert of the first row, expert of the last row) of a series' tail."""
    moves, log_densities = (
        transitions(structure, draws, rows.matrices),
        _densities(structure, draws, rows),
    )
    moves = np.broadcast_to(moves, (*moves.shape[:3], rows.size))
    top = log_densities.max(axis=1, keepdims=True)
    likelihoods = np.exp(log_densities - np.where(np.isfinite(top), top, 0.0))
    state = np.broadcast_to(np.eye(moves.shape[1]), moves.shape[:3])
    for t in range(1, rows.size):
        state = np.matmul(state, moves[..., t]) * likelihoods[:, None, :, t]
        total = state.sum(axis=-1, keepdims=True)
        # An expert from which the rows cannot come has no say.
        state = np.divide(state, total, out=np.full_like(state, np.nan), where=total > 0)
    seen = np.isfinite(state).all(axis=-1)
    known = (
        np.where(seen[..., None], state, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)[:, None]
    )
    return np.where(seen[..., None], state, known[:, None])


def _of_all(structure: Structure, draws: Values, rows: Rows) -> np.ndarray:
    """Probabilities (sample, expert) of the expert of the last row, by the filter of all rows."""
    eta, log_densities = (
        structure.gate.eta(draws, rows.matrices),
        _densities(structure, draws, rows),
    )
    one = Sequences.of(None, rows.size)
    compiled = log_densities.size >= 2**20
    filtered = filters(_chain(structure), eta, log_densities, one, compiled=compiled)
    return np.asarray(np.exp(filtered.log_last[:, 0]))


def _densities(structure: Structure, draws: Values, rows: Rows) -> np.ndarray:
    """Log densities (sample, expert, obs) of rows under each expert."""
    samples, experts = len(next(iter(draws.values()))), structure.gate.n_experts
    params = tuple(block.evaluate(draws, rows.matrices) for block in structure.blocks)
    flat = np.zeros((samples, experts, rows.size))
    with np.errstate(all="ignore"):
        return Mixture(flat, structure.blocks, params).log_components(rows.observed)


def _chain(structure: Structure) -> Transitions:
    assert structure.gate.chain is not None
    return structure.gate.chain

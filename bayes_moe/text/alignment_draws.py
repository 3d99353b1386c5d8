"""Draws of translation tables and alignments from their joint posterior, by Gibbs sampling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayes_moe.core.progress import Progress
from bayes_moe.text.alignment_em import Cells
from bayes_moe.text.position_gates import PositionGate
from bayes_moe.text.translation import TranslationTable


def table_draws(
    cells: Cells,
    start: TranslationTable,
    gate: PositionGate,
    steps: int,
    rng: np.random.Generator,
    update: Progress,
) -> Iterator[np.ndarray]:
    """Yield tables (pair,) of a Markov chain whose stationary distribution is the posterior.

    In turn, given the others: the alignment of each word, independently of other words; the rows
    of the table, Dirichlet distributions; and the gate.
    """
    table, positions = start.mean()[0], gate.weights(cells.shapes)
    for step in range(steps):
        counts, places = _drawn_counts(cells, table, positions, rng)
        table = _drawn_table(cells, counts, start.concentration, rng)
        gate = gate.draw(cells.shapes, places, rng)
        positions = gate.weights(cells.shapes)
        update(step + 1, steps)
        yield table


def _drawn_counts(
    cells: Cells, table: np.ndarray, positions: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of word pairs (pair,) and positions (entry,) of a drawn alignment."""
    starts = cells.shapes.starts
    counts, places = np.zeros(len(table)), np.zeros(len(positions))
    for chunk in cells.chunks():
        chosen = []
        for g, numbers in chunk:
            entries = slice(starts[g], starts[g + 1])
            gate = positions[entries].reshape(numbers.shape[1:])
            sums = np.cumsum(table[numbers] * gate, axis=-1)
            level = rng.random((*numbers.shape[:2], 1)) * sums[..., -1:]
            which = (sums <= level).sum(axis=-1, keepdims=True)
            # A level rounded up to the sum is of the last position with a share.
            which = np.minimum(which, (sums < sums[..., -1:]).sum(axis=-1, keepdims=True))
            chosen.append(np.take_along_axis(numbers, which, axis=-1).ravel())
            place = which[..., 0] + np.arange(numbers.shape[1]) * numbers.shape[2]
            places[entries] += np.bincount(place.ravel(), minlength=gate.size)
        counts += np.bincount(np.concatenate(chosen), minlength=len(counts))
    return counts, places


def _drawn_table(
    cells: Cells, counts: np.ndarray, alpha: float, rng: np.random.Generator
) -> np.ndarray:
    """Table (pair,) drawn from the Dirichlet distributions of its rows.

    Logs of gamma variables are drawn, since those of small shapes are below the least float.
    """
    each = np.diff(cells.pairs.starts)
    rows = cells.pairs.starts[:-1]
    logs = _log_gamma(counts + alpha, rng)
    others = (cells.pairs.columns - each) * alpha
    rest = np.where(others > 0, _log_gamma(np.where(others > 0, others, 1.0), rng), -np.inf)
    top = np.maximum(np.maximum.reduceat(logs, rows), rest)
    values = np.exp(logs - np.repeat(top, each))
    total = np.add.reduceat(values, rows) + np.exp(rest - top)
    drawn: np.ndarray = values / np.repeat(total, each)
    # All words of a pair must be possible of some position; no probability is exactly zero.
    return np.maximum(drawn, np.finfo(float).tiny)


def _log_gamma(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logs of gamma variables: ``G(a) = G(a + 1) U^(1 / a)``."""
    logs: np.ndarray = np.log(rng.gamma(shape + 1)) + np.log1p(-rng.random(shape.shape)) / shape
    return logs

"""EM of word alignment: expected counts of word pairs and positions, exactly, in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayes_moe.core.progress import Progress, silent
from bayes_moe.text.cooccurrence import Group, Shapes, WordPairs, grouped, word_pairs
from bayes_moe.text.parallel_text import ParallelText
from bayes_moe.text.position_gates import PositionGate, UniformGate
from bayes_moe.text.translation import TranslationTable

CHUNK = 2**20
"""Cells that are held at once: some tens of megabytes."""


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of a parallel text, by group, with the number of the word pair of each."""

    shapes: Shapes
    groups: list[Group]
    pairs: WordPairs
    numbers: list[np.ndarray]

    @classmethod
    def of(cls, text: ParallelText) -> Cells:
        """Cells of the sentence pairs of a text."""
        shapes, groups = grouped(text.pairs)
        pairs, numbers = word_pairs(groups, text.source.size + 1, text.target.size)
        return cls(shapes, groups, pairs, numbers)

    @property
    def size(self) -> int:
        """How many cells there are."""
        return sum(part.size for part in self.numbers)

    @property
    def tokens(self) -> int:
        """How many target words there are."""
        return sum(group.target.size for group in self.groups)

    def chunks(self) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Yield lists of (group, numbers of word pairs) of some ``CHUNK`` cells each."""
        held: list[tuple[int, np.ndarray]] = []
        room = CHUNK
        for g, numbers in enumerate(self.numbers):
            per_pair = numbers[0].size
            at = 0
            while at < len(numbers):
                take = max(1, room // per_pair)
                part = numbers[at : at + take]
                held.append((g, part))
                at += len(part)
                room -= part.size
                if room < per_pair:
                    yield held
                    held, room = [], CHUNK
        if held:
            yield held


@dataclass(frozen=True, eq=False)
class Expected:
    """Log likelihood, and expected counts of word pairs (pair,) and positions (entry,)."""

    log_likelihood: float
    pairs: np.ndarray
    positions: np.ndarray


def expected_counts(cells: Cells, weights: np.ndarray, positions: np.ndarray) -> Expected:
    """E-step: the sum over all alignments is a product of sums over source positions.

    Parameters
    ----------
    cells : Cells
        Of the text.
    weights : numpy.ndarray
        Factors ``T(t | s)`` of word pairs (pair,).
    positions : numpy.ndarray
        Probabilities of source positions (entry,).
    """
    starts = cells.shapes.starts
    counts, places = np.zeros(cells.pairs.size), np.zeros(len(positions))
    log_likelihood = 0.0
    for chunk in cells.chunks():
        shares = np.empty(sum(part.size for _, part in chunk))
        at = 0
        for g, numbers in chunk:
            entries = slice(starts[g], starts[g + 1])
            share = shares[at : at + numbers.size].reshape(numbers.shape)
            at += numbers.size
            np.take(weights, numbers, out=share, mode="clip")
            share *= positions[entries].reshape(numbers.shape[1:])
            total = share.sum(axis=-1, keepdims=True)
            share /= total
            log_likelihood += float(np.log(total).sum())
            places[entries] += share.sum(axis=0).ravel()
        flat = np.concatenate([part.ravel() for _, part in chunk])
        counts += np.bincount(flat, shares, minlength=len(counts))
    return Expected(log_likelihood, counts, places)


@dataclass(frozen=True, eq=False)
class Run:
    """Where EM ended: tables, gate, objective after each iteration, and whether it settled."""

    table: TranslationTable
    gate: PositionGate
    trace: np.ndarray
    log_likelihood: float
    settled: bool


@dataclass(frozen=True)
class Settings:
    """Settings of a run."""

    concentration: float
    variational: bool
    start_iterations: int
    iterations: int
    tolerance: float


def run(cells: Cells, gate: PositionGate, settings: Settings, update: Progress = silent) -> Run:
    """EM from equal translation probabilities.

    A gate with parameters is kept at its start, uniform, during the first ``start_iterations``.
    """
    first = 0 if isinstance(gate, UniformGate) else settings.start_iterations
    steps = first + settings.iterations
    positions = gate.weights(cells.shapes)
    weights = np.full(cells.pairs.size, 1 / cells.pairs.columns)
    trace: list[float] = []
    expected = expected_counts(cells, weights, positions)
    settled = False
    for step in range(steps):
        table = TranslationTable(
            cells.pairs, expected.pairs, settings.concentration, settings.variational
        )
        if step >= first:
            gate = gate.step(cells.shapes, expected.positions)
            positions = gate.weights(cells.shapes)
        expected = expected_counts(cells, table.weights()[0], positions)
        trace.append(expected.log_likelihood + table.log_prior() + gate.log_prior())
        update(step + 1, steps)
        moving = step <= first or trace[-1] - trace[-2] > settings.tolerance * cells.tokens
        if not moving:
            settled = True
            break
    return Run(table, gate, np.array(trace), expected.log_likelihood, settled)

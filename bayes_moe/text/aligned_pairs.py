"""Responsibilities, links and log likelihoods of sentence pairs under fitted tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.text.alignment_em import Run
from bayes_moe.text.cooccurrence import Group, grouped
from bayes_moe.text.parallel_text import ParallelText, SentencePairs

if TYPE_CHECKING:
    import pandas as pd

Values = tuple[np.ndarray, np.ndarray]
"""Values of word pairs that occur together, and of the others by source word."""


def _terms(
    run: Run, text: ParallelText, pairs: SentencePairs, values: Values
) -> Iterator[tuple[Group, np.ndarray]]:
    """Yield ``a(i) T(t_j | s_i)`` (pair, target position, source position) by group.

    An unknown target word has ``T = 1``: the gate alone decides.
    """
    shapes, groups = grouped(pairs)
    positions, starts = run.gate.weights(shapes), shapes.starts
    columns = text.target.size
    for group in groups:
        # Numbers of unknown words are the sizes of the vocabularies, one past the known ones.
        at = run.table.pairs.find(group.keys(columns + 1))
        terms = np.where(at >= 0, values[0][at], values[1][group.source][:, None, :])
        terms[group.target == columns] = 1.0
        gate = positions[starts[group.shape] : starts[group.shape + 1]]
        yield group, terms * gate.reshape(group.size[1:])


def responsibilities(
    run: Run, text: ParallelText, pairs: SentencePairs
) -> Iterator[tuple[Group, np.ndarray]]:
    """Yield posterior probabilities (pair, target position, source position) by group.

    Where all terms of a target word are zero, as of new pairs under EM, they are the gate's.
    """
    for group, terms in _terms(run, text, pairs, run.table.weights()):
        total = terms.sum(axis=-1, keepdims=True)
        if not (total > 0).all():
            shapes, _ = grouped(SentencePairs([group.source[0, 1:]], [group.target[0]]))
            gate = run.gate.weights(shapes).reshape(group.size[1:])
            terms = np.where(total > 0, terms, gate)
            total = terms.sum(axis=-1, keepdims=True)
        yield group, terms / total


def links_of(
    run: Run, text: ParallelText, pairs: SentencePairs, threshold: float | None
) -> list[list[tuple[int, int]]]:
    """Links (source position, target position) by pair: Viterbi's, or those above a threshold."""
    links: list[list[tuple[int, int]]] = [[] for _ in range(pairs.size)]
    for group, shares in responsibilities(run, text, pairs):
        if threshold is None:
            best = shares.argmax(axis=-1)
            row, target = np.nonzero(best)
            source = best[row, target]
        else:
            row, target, source = np.nonzero(shares[:, :, 1:] >= threshold)
            source = source + 1
        for n, i, j in zip(group.rows[row].tolist(), source.tolist(), target.tolist(), strict=True):
            links[n].append((i - 1, j))
    return links


def log_likelihoods(run: Run, text: ParallelText, pairs: SentencePairs) -> pd.DataFrame:
    """Log likelihood, known target words and unknown ones by pair."""
    import pandas as pd

    values = np.zeros(pairs.size)
    known = np.zeros(pairs.size, dtype=np.int64)
    unknown = np.zeros(pairs.size, dtype=np.int64)
    for group, terms in _terms(run, text, pairs, run.table.mean()):
        is_known = group.target < text.target.size
        with np.errstate(divide="ignore"):  # a word of probability zero
            logs = np.log(terms.sum(axis=-1))
        values[group.rows] = np.where(is_known, logs, 0.0).sum(axis=1)
        known[group.rows] = is_known.sum(axis=1)
        unknown[group.rows] = (~is_known).sum(axis=1)
    index = pd.RangeIndex(pairs.size, name="pair")
    columns = {"log_likelihood": values, "words": known, "unknown": unknown}
    return pd.DataFrame(columns, index=index)

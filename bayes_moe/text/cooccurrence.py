"""Which words occur in a sentence pair together, and pairs of sentences grouped by their lengths.

A *cell* is a source position (0 is NULL) and a target position of one sentence pair. Cells of pairs
of the same lengths form dense arrays (pair, target position, source position), so that sums over
positions need no loop over sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.text.parallel_text import SentencePairs


@dataclass(frozen=True, eq=False)
class Shapes:
    """Lengths (shape,) of the pairs of sentences, and the flat layout of positions.

    Each shape has ``m (l + 1)`` entries, target position by source position, one shape after the
    other.
    """

    source: np.ndarray
    target: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """First entry of each shape, and the number of all (shape + 1,)."""
        return np.concatenate([[0], np.cumsum(self.target * (self.source + 1))])

    @property
    def row_lengths(self) -> np.ndarray:
        """Source positions, NULL included, of each target position of each shape (row,)."""
        return np.repeat(self.source + 1, self.target)

    @property
    def row_starts(self) -> np.ndarray:
        """First entry of each row (row,)."""
        lengths = self.row_lengths
        return np.cumsum(lengths) - lengths

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return source position, target position (from 1) and both lengths of each entry."""
        lengths = self.row_lengths
        l_row = np.repeat(self.source, self.target)
        m_row = np.repeat(self.target, self.target)
        first = np.cumsum(self.target) - self.target
        j_row = np.arange(len(lengths)) - np.repeat(first, self.target) + 1
        i = np.arange(lengths.sum()) - np.repeat(self.row_starts, lengths)
        return i, *(np.repeat(each, lengths) for each in (j_row, l_row, m_row))


@dataclass(frozen=True, eq=False)
class Group:
    """Pairs of one shape: their numbers, and their words (pair, position), NULL first."""

    shape: int
    rows: np.ndarray
    source: np.ndarray
    target: np.ndarray

    @property
    def size(self) -> tuple[int, int, int]:
        """Numbers of pairs, target positions and source positions."""
        return len(self.rows), self.target.shape[1], self.source.shape[1]

    def keys(self, columns: int) -> np.ndarray:
        """Return one number for each word pair (pair, target position, source position)."""
        keys: np.ndarray = self.source[:, None, :] * columns + self.target[:, :, None]
        return keys


def grouped(pairs: SentencePairs) -> tuple[Shapes, list[Group]]:
    """Sentence pairs by shape."""
    lengths = np.array([[len(s) for s in side] for side in (pairs.source, pairs.target)])
    shapes, which = np.unique(lengths, axis=1, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(which.ravel(), minlength=shapes.shape[1]))
    groups = []
    for shape, rows in enumerate(np.split(order, ends[:-1])):
        source = np.array([pairs.source[n] for n in rows])
        null = np.zeros((len(rows), 1), dtype=np.int64)
        target = np.array([pairs.target[n] for n in rows])
        groups.append(Group(shape, rows, np.concatenate([null, source], axis=1), target))
    return Shapes(*shapes), groups


@dataclass(frozen=True, eq=False)
class WordPairs:
    """Word pairs that occur together, sorted by source word and then by target word.

    ``starts`` (source + 1) are the first pair of each source word and the number of all, ``target``
    (pair,) the target words, and ``columns`` is the number of target words.
    """

    starts: np.ndarray
    target: np.ndarray
    columns: int

    @property
    def source(self) -> np.ndarray:
        """Source word of each pair (pair,)."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def size(self) -> int:
        """How many pairs there are."""
        return len(self.target)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the number of each word pair, -1 of those that do not occur together."""
        known = self.source * (self.columns + 1) + self.target
        at = np.searchsorted(known, keys)
        found = at < self.size
        found[found] = known[at[found]] == keys[found]
        return np.where(found, at, -1)


def word_pairs(
    groups: list[Group], sources: int, columns: int
) -> tuple[WordPairs, list[np.ndarray]]:
    """Word pairs of all cells, and the number of the pair of each cell, by group."""
    import pandas as pd

    keys = np.concatenate([group.keys(columns).ravel() for group in groups])
    # Hashing finds the few distinct numbers among many faster than sorting all.
    codes, distinct = pd.factorize(keys)
    order = np.argsort(distinct)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    source, target = np.divmod(distinct[order], columns)
    starts = np.searchsorted(source, np.arange(sources + 1))
    cells = rank[codes]
    sizes = np.cumsum([np.prod(group.size) for group in groups])
    parts = np.split(cells, sizes[:-1])
    shaped = [part.reshape(group.size) for part, group in zip(parts, groups, strict=True)]
    return WordPairs(starts, target, columns), shaped

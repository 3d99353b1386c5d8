"""Sums of regression trees as flat arrays, and their values on rows.

The trees of one draw and expert stand one after another, each in preorder: a node that splits is
followed by the subtree of the rows on its left, then by that of the rows on its right. ``split``
is the column by which a node splits, ``LEAF`` at a leaf, and ``NONE`` beyond the last tree;
``cut`` is the largest value that goes to the left, and at a leaf what the tree is there. So two
arrays (..., node) hold any number of trees of any shape.

Columns are numbers, and a row goes to the left if ``x <= cut``: the columns that a formula makes of
a category are 0 and 1, and a split parts one category from the others. No value is missing, since
a design has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

LEAF, NONE = -1, -2


@dataclass(frozen=True)
class Nodes:
    """Some trees: ``split`` and ``cut`` (node,)."""

    split: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True)
class History:
    """The trees of one chain and expert as they were replaced, one place after another.

    ``first`` are the trees before the first draw; each draw has the place of the first tree that it
    replaced, and the new trees of this and the following places.
    """

    first: tuple[Nodes, ...]
    replaced: tuple[tuple[int, tuple[Nodes, ...]], ...]

    def forests(self) -> Iterable[Nodes]:
        """All trees of each draw, one draw after another."""
        trees = list(self.first)
        for place, new in self.replaced:
            for j, tree in enumerate(new):
                trees[(place + j) % len(trees)] = tree
            yield Nodes(
                np.concatenate([t.split for t in trees]), np.concatenate([t.cut for t in trees])
            )


def packed(chains: Sequence[Sequence[History]], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``split`` and ``cut`` (chain, draw, expert, node) of histories by chain and expert.

    Draws of which no trees are known have ``cut`` NaN.
    """
    found = [[list(history.forests()) for history in experts] for experts in chains]
    sizes = [f.split.size for experts in found for forests in experts for f in forests]
    shape = (len(found), draws, len(found[0]), max(sizes, default=1))
    split, cut = np.full(shape, NONE, dtype=np.int16), np.full(shape, np.nan)
    for c, experts in enumerate(found):
        for k, forests in enumerate(experts):
            cut[c, : len(forests), k] = 0.0
            for d, f in enumerate(forests):
                split[c, d, k, : f.split.size] = f.split
                cut[c, d, k, : f.cut.size] = f.cut
    return split, cut


def forest_eta(split: np.ndarray, cut: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Sum of trees (..., obs) at the rows of ``features`` (obs, column).

    ``split`` and ``cut`` are (..., node).
    """
    flat = np.ascontiguousarray(split.reshape(-1, split.shape[-1]), dtype=np.int16)
    numbers = np.ascontiguousarray(cut.reshape(flat.shape), dtype=float)
    columns = np.ascontiguousarray(features.T, dtype=float)
    total = np.zeros((len(flat), len(features)))
    _compiled()(flat, numbers, columns, total)
    return total.reshape(*split.shape[:-1], len(features))


@cache
def _compiled() -> Callable[..., None]:
    import numba

    try:
        return _kept(numba.njit(cache=True, nogil=True))
    except RuntimeError:  # nowhere to keep it
        return _kept(numba.njit(nogil=True))


def _kept(compiler: Any) -> Callable[..., None]:
    found: Callable[..., None] = compiler(_add)
    return found


def _add(split: np.ndarray, cut: np.ndarray, columns: np.ndarray, total: np.ndarray) -> None:
    """Add the trees of each forest (forest, node) at rows (column, obs) to ``total``."""
    forests, nodes = split.shape
    right = np.empty(nodes, dtype=np.int64)
    roots = np.empty(nodes + 1, dtype=np.int64)
    for f in range(forests):
        # From the last node back, each split takes the two nearest subtrees behind it.
        many = 0
        for j in range(nodes - 1, -1, -1):
            if split[f, j] >= 0:
                many -= 1
                right[j] = roots[many - 1]
                roots[many - 1] = j
            elif split[f, j] == LEAF:
                roots[many] = j
                many += 1
        for t in range(many):
            for i in range(total.shape[1]):
                j = roots[t]
                while split[f, j] >= 0:
                    j = j + 1 if columns[split[f, j], i] <= cut[f, j] else right[j]
                total[f, i] += cut[f, j]


NO_COLUMN = 2**32 - 1
"""The column of a leaf in the sampler's trees."""


@dataclass(frozen=True)
class Cuts:
    """Columns for the sampler of trees: ``values`` (obs, column).

    Of a column that is given as ranks, ``levels`` are the values in their order; None of others.
    """

    values: np.ndarray
    levels: tuple[np.ndarray | None, ...]

    @property
    def rules(self) -> list[str]:
        """How pymc-bart splits by each column."""
        return ["ContinuousSplit" if own is None else "OneHotSplit" for own in self.levels]

    def nodes(self, column: Sequence[int], cut: Sequence[float], leaf: Sequence[float]) -> Nodes:
        """Return a tree that is stored as a heap: the children of node j are 2j + 1 and 2j + 2."""
        split, number, rest = [], [], [0]
        while rest:
            j = rest.pop()
            if column[j] == NO_COLUMN:
                split.append(LEAF)
                number.append(leaf[j])
            else:
                split.append(column[j])
                number.append(self._cut(column[j], cut[j]))
                rest += [2 * j + 2, 2 * j + 1]
        return Nodes(np.array(split, dtype=np.int16), np.array(number))

    def _cut(self, column: int, cut: float) -> float:
        """A cut between two values, where the sampler's is a rank."""
        own = self.levels[column]
        if own is None:
            return cut
        rank = int(cut)
        return float(own[rank : rank + 2].mean())


def cuts(features: np.ndarray) -> Cuts:
    """Return the columns that stand for ``features`` (obs, column)."""
    values, levels = [], []
    for x in features.T:
        different, ranks = np.unique(x, return_inverse=True)
        all_differ = different.size == x.size
        values.append(x if all_differ else ranks.astype(float))
        levels.append(None if all_differ else different)
    return Cuts(np.array(values).T.reshape(features.shape), tuple(levels))

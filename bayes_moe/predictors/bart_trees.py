"""Sums of regression trees as flat arrays, and their values on rows.

The trees of one draw and expert follow one another, each in preorder: a node that splits is
followed by the subtree of the rows on its left, then by that of the rows on its right. ``split``
is the column by which a node splits, ``LEAF`` at a leaf, and ``NONE`` beyond the last tree;
``cut`` is the largest value that goes to the left, and at a leaf the tree's value. So two
arrays (..., node) hold any number of trees of any shape.

Columns are numbers, and a row goes to the left if ``x <= cut``: the columns that a formula makes of
a category are 0 and 1, and a split separates one category from the others. No value is missing,
since a design has none.
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
    """Nodes of one or more trees: ``split`` and ``cut`` (node,)."""

    split: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True)
class History:
    """Trees of one chain and expert: the initial ones, and those that each draw replaced.

    ``first`` are the trees before the first draw; each draw has the position of the first tree that
    it replaced, and the new trees at this and the following positions.
    """

    first: tuple[Nodes, ...]
    replaced: tuple[tuple[int, tuple[Nodes, ...]], ...]

    def forests(self) -> Iterable[Nodes]:
        """Yield all trees of each draw."""
        trees = list(self.first)
        for start, new in self.replaced:
            for j, tree in enumerate(new):
                trees[(start + j) % len(trees)] = tree
            yield Nodes(
                np.concatenate([t.split for t in trees]), np.concatenate([t.cut for t in trees])
            )


def packed(chains: Sequence[Sequence[History]], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``split`` and ``cut`` (chain, draw, expert, node) of histories by chain and expert.

    Draws of which no trees are known have ``cut`` NaN.
    """
    unpacked = [[list(history.forests()) for history in experts] for experts in chains]
    sizes = [f.split.size for experts in unpacked for forests in experts for f in forests]
    shape = (len(unpacked), draws, len(unpacked[0]), max(sizes, default=1))
    split, cut = np.full(shape, NONE, dtype=np.int16), np.full(shape, np.nan)
    for c, experts in enumerate(unpacked):
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
    except RuntimeError:  # numba has no writable cache directory
        return _kept(numba.njit(nogil=True))


def _kept(compiler: Any) -> Callable[..., None]:
    compiled: Callable[..., None] = compiler(_add)
    return compiled


def _add(split: np.ndarray, cut: np.ndarray, columns: np.ndarray, total: np.ndarray) -> None:
    """Add the trees of each forest (forest, node) at rows (column, obs) to ``total``."""
    forests, nodes = split.shape
    right = np.empty(nodes, dtype=np.int64)
    roots = np.empty(nodes + 1, dtype=np.int64)
    for f in range(forests):
        # In preorder, the two subtrees of a split are the last two roots of a backward scan.
        count = 0
        for j in range(nodes - 1, -1, -1):
            if split[f, j] >= 0:
                count -= 1
                right[j] = roots[count - 1]
                roots[count - 1] = j
            elif split[f, j] == LEAF:
                roots[count] = j
                count += 1
        for t in range(count):
            for i in range(total.shape[1]):
                j = roots[t]
                while split[f, j] >= 0:
                    j = j + 1 if columns[split[f, j], i] <= cut[f, j] else right[j]
                total[f, i] += cut[f, j]


NO_COLUMN = 2**32 - 1
"""Column of a leaf in pymc-bart's trees."""


@dataclass(frozen=True)
class Cuts:
    """Columns for the sampler of trees: ``values`` (obs, column).

    ``levels`` are the sorted values of a column that is replaced by ranks, None of others.
    """

    values: np.ndarray
    levels: tuple[np.ndarray | None, ...]

    @property
    def rules(self) -> list[str]:
        """Split rule of pymc-bart for each column."""
        return ["ContinuousSplit" if values is None else "OneHotSplit" for values in self.levels]

    def nodes(self, column: Sequence[int], cut: Sequence[float], leaf: Sequence[float]) -> Nodes:
        """Return a tree that is stored as a heap: the children of node j are 2j + 1 and 2j + 2."""
        split, number, stack = [], [], [0]
        while stack:
            j = stack.pop()
            if column[j] == NO_COLUMN:
                split.append(LEAF)
                number.append(leaf[j])
            else:
                split.append(column[j])
                number.append(self._cut(column[j], cut[j]))
                stack += [2 * j + 2, 2 * j + 1]
        return Nodes(np.array(split, dtype=np.int16), np.array(number))

    def _cut(self, column: int, cut: float) -> float:
        """Cut on the column's scale: between two values, where the sampler's is a rank."""
        levels = self.levels[column]
        if levels is None:
            return cut
        rank = int(cut)
        return float(levels[rank : rank + 2].mean())


def cuts(features: np.ndarray) -> Cuts:
    """Return the columns for the sampler of trees from ``features`` (obs, column)."""
    values, levels = [], []
    for x in features.T:
        different, ranks = np.unique(x, return_inverse=True)
        all_differ = different.size == x.size
        values.append(x if all_differ else ranks.astype(float))
        levels.append(None if all_differ else different)
    return Cuts(np.array(values).T.reshape(features.shape), tuple(levels))

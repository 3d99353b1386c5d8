"""Columns as the sampler of trees is given them, so that it splits fitted rows as new ones.

pymc-bart adds noise to a column in which a value stands twice: fitted rows are then split by noisy
values, new rows by the true ones. So a column of different values is given as it is; of others the
sampler sees the ranks of the values, by the rule that pymc-bart has for whole numbers. In
pymc-bart 0.13 both rules send a row to the left if ``x <= cut``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayes_moe.predictors.bart_trees import LEAF, Nodes

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

"""Log weights as sums of log branch probabilities along paths: every gate of softmaxes is one.

A **split** shares a weight among its branches by a softmax of its rows of predictors; a branch
leads to further splits or to one expert. A flat softmax is one split with an expert under every
branch; a hierarchical gate is a tree of splits; stick-breaking is a chain of splits with two
branches, the second of which has the predictor zero.

With ``g_vc`` the probability of branch ``c`` at split ``v``, ``log w_k = sum log g_vc`` over the
branches on the path to expert ``k``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays, log_softmax


@dataclass(frozen=True)
class Split:
    """One softmax of a gate.

    Attributes
    ----------
    name : str
        ``"root"``, or the path of branches that leads here: ``"0"``, ``"0.1"``.
    stem : str
        Which linear predictor of the gate its rows belong to.
    rows : slice
        Its rows among the rows of all predictors of the gate.
    leaves : tuple of tuple of int
        Positions of the experts below each branch.
    labels : tuple of str
        Of the branches.
    depth : int
        Number of branches on the path from the root.
    """

    name: str
    stem: str
    rows: slice
    leaves: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    depth: int

    @property
    def branches(self) -> int:
        """Number of branches."""
        return len(self.leaves)

    @property
    def pinned(self) -> bool:
        """Whether the last branch has no row: its predictor is zero."""
        return self.rows.stop - self.rows.start < self.branches

    @property
    def below(self) -> tuple[int, ...]:
        """Positions of all experts below."""
        return tuple(k for leaves in self.leaves for k in leaves)


@dataclass(frozen=True)
class SplitTree:
    """All splits of a gate; the rows of predictors stand in their order."""

    splits: tuple[Split, ...]
    experts: int

    @property
    def rows(self) -> int:
        """Number of rows of predictors."""
        return max(s.rows.stop for s in self.splits)

    @property
    def is_single_softmax(self) -> bool:
        """Whether there is one split, with an expert under each of its branches in order."""
        in_order = tuple((k,) for k in range(self.experts))
        return (
            len(self.splits) == 1
            and self.splits[0].leaves == in_order
            and not (self.splits[0].pinned)
        )

    @cached_property
    def paths(self) -> np.ndarray:
        """Whether a branch is on the path to an expert (expert, branch), as numbers."""
        branches = [leaves for split in self.splits for leaves in split.leaves]
        found = np.zeros((self.experts, len(branches)))
        for b, leaves in enumerate(branches):
            found[list(leaves), b] = 1.0
        return found

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Where each split's branches stand among all."""
        ends = np.cumsum([0, *(s.branches for s in self.splits)])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))

    def log_branches(self, eta: Any, xp: Arrays) -> list[Any]:
        """Log probabilities (..., branch, obs) by split, from rows (..., row, obs)."""
        found = []
        for split in self.splits:
            own = eta[..., split.rows, :]
            if split.pinned:
                own = xp.concatenate([own, 0.0 * own[..., :1, :]], axis=-2)
            found.append(log_softmax(own, xp))
        return found

    def log_weights(self, eta: Any, xp: Arrays) -> Any:
        """Log weights (..., expert, obs) from rows of predictors (..., row, obs)."""
        parts = self.log_branches(eta, xp)
        if self.is_single_softmax:
            return parts[0]
        return xp.matmul(self.paths, xp.concatenate(parts, axis=-2))

    def permutation_index(self, orders: np.ndarray) -> np.ndarray:
        """Rows (sample, row) that come into each row's place with experts (sample, expert).

        ``orders[s, k]`` is the expert that comes into place ``k``; it moves whole branches, and
        only among splits of the same depth.
        """
        row_of = {
            (split.depth, k): split.rows.start + c
            for split in self.splits
            for c, leaves in enumerate(split.leaves)
            for k in leaves
        }
        found = np.empty((len(orders), self.rows), dtype=np.int64)
        for split in self.splits:
            at_depth = np.array([row_of.get((split.depth, k), -1) for k in range(self.experts)])
            for c, row in enumerate(range(split.rows.start, split.rows.stop)):
                found[:, row] = at_depth[orders[:, split.leaves[c][0]]]
        return found

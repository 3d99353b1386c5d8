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

from bayes_moe.core.arrays import NUMERIC, Arrays, log_softmax


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
    """All splits of a gate, and the order of the outputs of its predictors."""

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
        on_path = np.zeros((self.experts, len(branches)))
        for b, leaves in enumerate(branches):
            on_path[list(leaves), b] = 1.0
        return on_path

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Positions of each split's branches among all branches."""
        ends = np.cumsum([0, *(s.branches for s in self.splits)])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))

    def log_branches(self, eta: Any, xp: Arrays) -> list[Any]:
        """Log probabilities (..., branch, obs) by split, from rows (..., row, obs)."""
        log_probabilities = []
        for split in self.splits:
            outputs = eta[..., split.rows, :]
            if split.pinned:
                outputs = xp.concatenate([outputs, 0.0 * outputs[..., :1, :]], axis=-2)
            log_probabilities.append(log_softmax(outputs, xp))
        return log_probabilities

    def log_weights(self, eta: Any, xp: Arrays) -> Any:
        """Log weights (..., expert, obs) from rows of predictors (..., row, obs)."""
        parts = self.log_branches(eta, xp)
        if self.is_single_softmax:
            return parts[0]
        return xp.matmul(self.paths, xp.concatenate(parts, axis=-2))

    def outputs_of(self, logits: np.ndarray) -> np.ndarray:
        """Outputs of predictors (output, obs) that give some log weights (expert, obs)."""
        outputs = []
        for split in self.splits:
            branches = np.array(
                [NUMERIC.logsumexp(logits[list(leaves)], axis=0) for leaves in split.leaves]
            )
            reference = branches[-1] if split.pinned else branches.mean(axis=0)
            outputs.append((branches[:-1] if split.pinned else branches) - reference)
        order = np.argsort([split.rows.start for split in self.splits])
        return np.concatenate([outputs[j] for j in order])

    def permutation_index(self, orders: np.ndarray) -> np.ndarray:
        """Index (sample, output) of outputs under orders of the experts (sample, expert).

        ``orders[s, k]`` becomes expert ``k``. Whole branches are exchanged, and
        only among splits of the same depth.
        """
        row_of = {
            (split.depth, k): split.rows.start + c
            for split in self.splits
            for c, leaves in enumerate(split.leaves)
            for k in leaves
        }
        index = np.empty((len(orders), self.rows), dtype=np.int64)
        for split in self.splits:
            at_depth = np.array([row_of.get((split.depth, k), -1) for k in range(self.experts)])
            for c, row in enumerate(range(split.rows.start, split.rows.stop)):
                index[:, row] = at_depth[orders[:, split.leaves[c][0]]]
        return index

"""Branches of a gate's splits, by the gate's stacked outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.names import GATE
from bayes_moe.gates.splits import Split, SplitTree


class GateBranches:
    """Probabilities, log weights and responsibilities of the branches that gate outputs predict.

    Parameters
    ----------
    tree : SplitTree or None
        Splits of the gate; None for one expert.
    n_experts : int
        Number of experts.
    size : int
        Number of outputs of the gate, which come first among all stacked outputs.
    """

    def __init__(self, tree: SplitTree | None, n_experts: int, size: int) -> None:
        self.tree = tree
        self.splits: tuple[Split, ...] = () if tree is None else tree.splits
        self.n_experts = n_experts
        self.size = size

    def log_weights(self, predictors: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Log weights (point, expert, obs) and branch probabilities (point, output, obs)."""
        assert self.tree is not None
        obs = max(p.shape[2] for p in predictors)
        full = [np.broadcast_to(p, (*p.shape[:2], obs)) for p in predictors]
        eta = full[0] if len(full) == 1 else np.concatenate(full, axis=1)
        if self.tree.is_single_softmax and not self.splits[0].pinned:
            return softmax(eta)
        by_split = self.tree.log_branches(eta, NUMERIC)
        if self.tree.is_single_softmax:
            return by_split[0], np.exp(by_split[0])
        log_branches = np.concatenate(by_split, axis=1)
        return np.matmul(self.tree.paths, log_branches), np.exp(log_branches)[:, self._with_output]

    def responsibilities(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Responsibility (point, output, obs) of each output's branch, and of its split.

        ``r`` are those of the experts (point, expert, obs).
        """
        if self.tree is None or self.tree.is_single_softmax:
            return r, np.ones((1, 1, 1))
        return np.matmul(self._below_branch.T, r), np.matmul(self._below_split.T, r)

    @cached_property
    def root(self) -> slice:
        """Outputs of the root's split."""
        return next(split.rows for split in self.splits if split.depth == 0)

    @cached_property
    def deep(self) -> np.ndarray:
        """Outputs of all other splits."""
        outputs = np.arange(self.size)
        return outputs if not self.splits else np.delete(outputs, np.r_[self.root])

    @cached_property
    def _with_output(self) -> np.ndarray:
        """Positions of the branches that have an output: not the last ones of pinned splits."""
        assert self.tree is not None
        return np.concatenate(
            [
                np.arange(place.start, place.start + split.rows.stop - split.rows.start)
                for split, place in zip(self.tree.splits, self.tree.places, strict=True)
            ]
        )

    @cached_property
    def _below_branch(self) -> np.ndarray:
        """Indicator (expert, output) of the experts below an output's branch."""
        assert self.tree is not None
        return self.tree.paths[:, self._with_output]

    @cached_property
    def _below_split(self) -> np.ndarray:
        """Indicator (expert, output) of the experts below an output's split."""
        indicator = np.zeros((self.n_experts, self.size))
        for split in self.splits:
            indicator[list(split.below), split.rows] = 1.0
        return indicator


class ChainBranches(GateBranches):
    """Moves of a Markov chain of experts: a split for each expert that they come from.

    Parameters
    ----------
    n_experts : int
        Number of experts; the gate has an output for each pair of them.
    """

    def __init__(self, n_experts: int) -> None:
        super().__init__(None, n_experts, n_experts**2)
        rows = (slice(j * n_experts, (j + 1) * n_experts) for j in range(n_experts))
        own = tuple((k,) for k in range(n_experts))
        labels = tuple(map(str, range(n_experts)))
        self.splits = tuple(Split(str(j), GATE, s, own, labels, 1) for j, s in enumerate(rows))

    @cached_property
    def root(self) -> slice:
        return slice(0, 0)


def softmax(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of a softmax over the outputs of eta (point, output, obs), and the softmax.

    The exponentials are taken once.
    """
    top = eta.max(axis=1, keepdims=True)
    log_share = eta - np.where(np.isfinite(top), top, 0.0)
    share = np.exp(log_share)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    log_share -= np.log(total)
    return log_share, share

"""Transition probabilities of a Markov chain of experts, from the outputs of a gate's predictors.

``P(z_t = k | z_{t-1} = j, x_t) = softmax_k(sticky [j = k] + eta_jk(x_t))``. Outputs are in the
order (from, to): output ``j * K + k`` is ``eta_jk``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays, log_softmax
from bayes_moe.core.errors import SpecError

STATIONARY = "stationary"
INITIALS = (STATIONARY, "equal")


@dataclass(frozen=True)
class Transitions:
    """How outputs become log transitions, and with what probabilities a series begins.

    Attributes
    ----------
    n_experts : int
        Number of experts, the states of the chain.
    sticky : float
        What is added to the outputs of staying, as a log odds.
    initial : str
        ``"stationary"``: a series begins with the stationary distribution of its first row's
        transition matrix. ``"equal"``: with equal probabilities.
    """

    n_experts: int
    sticky: float
    initial: str = "stationary"

    @property
    def outputs(self) -> int:
        """Number of outputs: one a pair of experts."""
        return self.n_experts**2

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the outputs, such as ``"0->1"``."""
        experts = range(self.n_experts)
        return tuple(f"{j}->{k}" for j in experts for k in experts)

    @property
    def staying(self) -> np.ndarray:
        """What is added to the outputs (output,): ``sticky`` where a move stays."""
        return self.sticky * np.eye(self.n_experts).ravel()

    def log_transitions(self, eta: Any, xp: Arrays) -> Any:
        """Log probabilities (..., from, to, obs) from outputs (..., output, obs)."""
        rows, experts = [], self.n_experts
        for j in range(experts):
            stay = self.sticky * np.eye(experts)[:, j : j + 1]
            row = eta[..., j * experts : (j + 1) * experts, :] + stay
            rows.append(log_softmax(row, xp)[..., None, :, :])
        return xp.concatenate(rows, axis=-3)

    def outputs_of(self, logits: np.ndarray) -> np.ndarray:
        """Outputs (output, obs) whose moves have some log weights (expert, obs), wherever from.

        Beside the preference for staying, which is added to them.
        """
        centred = logits - logits.mean(axis=0)
        return np.tile(centred, (self.n_experts, 1))

    def permutation_index(self, orders: np.ndarray) -> np.ndarray:
        """Index (sample, output) of outputs under orders of the experts (sample, expert).

        ``orders[s, k]`` becomes expert ``k``: a move from ``j`` to ``k`` then is what the move from
        ``orders[s, j]`` to ``orders[s, k]`` was.
        """
        pairs = orders[:, :, None] * self.n_experts + orders[:, None, :]
        return pairs.reshape(len(orders), -1)

    def log_weights(self, eta: Any, xp: Arrays) -> Any:
        """Raise: weights of a chain depend on the rows before.

        Raises
        ------
        SpecError
            Always.
        """
        raise SpecError(
            "The weights of a Markov gate depend on the rows before: they are those of a model "
            "on whole series."
        )

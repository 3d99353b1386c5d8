"""Distributions of the first state of series, with derivatives by the outputs of their gate.

The stationary distribution ``pi`` of the moves ``P`` of a series' first row solves ``pi (I - P + E)
= 1'``, with ``E`` and ``1`` all ones. With ``Z = (I - P + E)^-1`` its differential is ``pi dP Z``,
and with ``P_j = softmax(eta_j)``

``d log pi_k / d eta_jl = pi_j P_jl (Z_lk - sum_m P_jm Z_mk) / pi_k``.

Second derivatives are differences of these along imaginary steps, which have no rounding error.

References
----------
Squire, W., & Trapp, G. (1998). Using complex variables to estimate derivatives of real functions.
SIAM Review, 40(1), 110-112.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

STEP = 1e-20
"""Imaginary step."""


@dataclass(frozen=True)
class InitialStates:
    """Distributions of first states.

    Attributes
    ----------
    moves : array (point, series, from, to)
        Probabilities of moves at the first rows of series.
    stationary : bool
        Whether these are stationary distributions; else all states have the same probability.
    """

    moves: np.ndarray
    stationary: bool

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities (point, series, state)."""
        experts = self.moves.shape[-1]
        if not self.stationary:
            return np.full(self.moves.shape[:-1], 1 / experts)
        return _stationary(self.moves)[0]

    @cached_property
    def scores(self) -> np.ndarray:
        """Derivatives (point, series, from * to, state) of log probabilities by outputs."""
        experts = self.moves.shape[-1]
        if not self.stationary:
            return np.zeros((*self.moves.shape[:2], experts**2, experts))
        return _scores(self.moves)

    def information(self, shares: np.ndarray) -> np.ndarray:
        """Minus the second derivatives (point, series, from * to, from * to).

        They are of the sum over states of log probabilities times ``shares`` (point, series,
        state).
        """
        points, series, experts = shares.shape
        square = experts**2
        if not self.stationary:
            return np.zeros((points, series, square, square))
        information = np.empty((points, series, square, square))
        for at in range(square):
            j, k = divmod(at, experts)
            moved = self.moves.astype(complex)
            row = self.moves[..., j, :]
            moved[..., j, :] += 1j * STEP * row[..., [k]] * (np.arange(experts) == k)
            moved[..., j, :] -= 1j * STEP * row[..., [k]] * row
            along = np.einsum("bsik,bsk->bsi", _scores(moved), shares).imag / STEP
            information[..., at, :] = -along
        return (information + np.swapaxes(information, -1, -2)) / 2


def _stationary(moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stationary distributions (..., state) and the matrices ``Z`` (..., state, state)."""
    experts = moves.shape[-1]
    inverse = np.linalg.inv(np.eye(experts) - moves + 1.0)
    return inverse.sum(axis=-2), inverse


def _scores(moves: np.ndarray) -> np.ndarray:
    """Derivatives (..., from * to, state) of log stationary probabilities by outputs."""
    experts = moves.shape[-1]
    share, inverse = _stationary(moves)
    mean = np.matmul(moves, inverse)  # (from, state)
    away = inverse[..., None, :, :] - mean[..., :, None, :]
    scores = share[..., :, None, None] * moves[..., None] * away / share[..., None, None, :]
    return scores.reshape(*moves.shape[:-2], experts**2, experts)

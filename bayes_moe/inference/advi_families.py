"""Normal families of PyMC's ADVI: free parameters, initial values and step sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from bayes_moe.core.linalg import inverse

LEAST_CURVATURE = 1.0
"""Least information for a coordinate's initial spread; that of a standard normal prior."""


class Form(ABC):
    """Family of normal distributions, with PyMC's free parameters of its spread.

    The free parameter of a standard deviation ``s`` is ``rho`` with ``s = log(1 + exp(rho))``.
    """

    method: str
    parameter: str

    @abstractmethod
    def begin(self, information: np.ndarray) -> np.ndarray:
        """Free parameters of the spread whose precision is the ``information`` at the mode."""

    @abstractmethod
    def units(self, spread: np.ndarray) -> np.ndarray:
        """Unit of each free parameter, for steps of one size relative to the spread."""

    @abstractmethod
    def root(self, spread: np.ndarray) -> np.ndarray:
        """Lower triangular root (coordinate, coordinate) of the covariance."""


class MeanField(Form):
    """Independent coordinates."""

    method, parameter = "ADVI", "rho"

    def begin(self, information: np.ndarray) -> np.ndarray:
        return _inverse_softplus(_independent(information))

    def units(self, spread: np.ndarray) -> np.ndarray:
        return _relative(spread)

    def root(self, spread: np.ndarray) -> np.ndarray:
        return np.diag(np.logaddexp(0.0, spread))


class FullRank(Form):
    """Any covariance."""

    method, parameter = "FullRankADVI", "L_tril"

    def begin(self, information: np.ndarray) -> np.ndarray:
        covariance = inverse(information)
        root = (
            np.diag(_independent(information))
            if covariance is None
            else np.linalg.cholesky(covariance)
        )
        free = root.copy()
        np.fill_diagonal(free, _inverse_softplus(np.diag(root)))
        return self._packed(free)

    def units(self, spread: np.ndarray) -> np.ndarray:
        free = self._unpacked(spread)
        sds = np.sqrt((self.root(spread) ** 2).sum(axis=1))
        units = np.repeat(sds[:, None], len(sds), axis=1)
        np.fill_diagonal(units, _relative(np.diag(free)))
        return self._packed(units)

    def root(self, spread: np.ndarray) -> np.ndarray:
        root = self._unpacked(spread)
        np.fill_diagonal(root, np.logaddexp(0.0, np.diag(root)))
        return root

    def _packed(self, matrix: np.ndarray) -> np.ndarray:
        """Lower triangle by rows, PyMC's order."""
        lower: np.ndarray = matrix[np.tril_indices(len(matrix))]
        return lower

    def _unpacked(self, packed: np.ndarray) -> np.ndarray:
        """Lower triangular matrix of a packed lower triangle."""
        size = int((np.sqrt(8 * len(packed) + 1) - 1) / 2)
        matrix = np.zeros((size, size))
        matrix[np.tril_indices(size)] = packed
        return matrix


def _independent(information: np.ndarray) -> np.ndarray:
    """Standard deviations of independent coordinates with the information's diagonal."""
    return 1 / np.sqrt(np.maximum(np.diag(information), LEAST_CURVATURE))


def _inverse_softplus(s: np.ndarray) -> np.ndarray:
    # log(exp(s) - 1) without overflow
    rho: np.ndarray = s + np.log(-np.expm1(-s))
    return rho


def _relative(rho: np.ndarray) -> np.ndarray:
    """Change of ``rho`` that changes ``log(1 + exp(rho))`` by its own size, to first order."""
    change: np.ndarray = np.logaddexp(0.0, rho) * (1 + np.exp(-rho))
    return change

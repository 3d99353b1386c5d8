"""Shared and held parameters of a parameter vector: an affine map to it from free coordinates.

Points keep all coordinates, ``theta = matrix @ free + offset``, so that what reads them needs not
know of constraints; steps and covariances are found in the free ones. Each free coordinate is one
of the coordinates, the first of those that are equal to it, and only these have a prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.em.prior_groups import PriorTerm


@dataclass(frozen=True, eq=False)
class Constraint:
    """The affine map from free coordinates to all.

    Attributes
    ----------
    matrix : array (coordinate, free)
    offset : array (coordinate,)
    at : array of int (free,)
        The coordinate that each free one is.
    variables : frozenset of str
        Variables with constrained entries, whose priors are ``prior_terms``.
    prior_terms : tuple of PriorTerm
        Priors of the free coordinates of these variables.
    """

    matrix: np.ndarray
    offset: np.ndarray
    at: np.ndarray
    variables: frozenset[str]
    prior_terms: tuple[PriorTerm, ...]

    def project(self, theta: np.ndarray) -> np.ndarray:
        """Points (point, coordinate) with the free coordinates of others."""
        return theta[:, self.at] @ self.matrix.T + self.offset

    def gradient(self, by_coordinate: np.ndarray) -> np.ndarray:
        """Derivatives (point, free) by free coordinates."""
        return by_coordinate @ self.matrix

    def curvature(self, by_coordinate: np.ndarray) -> np.ndarray:
        """Second derivatives (point, free, free) by free coordinates."""
        half = np.matmul(by_coordinate, self.matrix)
        return np.matmul(self.matrix.T, half)

    def step(self, free: np.ndarray) -> np.ndarray:
        """Step (point, coordinate) of a step of the free coordinates (point, free)."""
        return free @ self.matrix.T

    def covariance(self, of_free: np.ndarray) -> np.ndarray:
        """Covariance (coordinate, coordinate) from that of the free coordinates."""
        covariance: np.ndarray = self.matrix @ of_free @ self.matrix.T
        return covariance


def feasible(constraint: Constraint | None, theta: np.ndarray) -> np.ndarray:
    """Points (point, coordinate) that have what is shared and held, near others."""
    return theta if constraint is None else constraint.project(theta)


def root(constraint: Constraint | None, covariance: np.ndarray) -> np.ndarray:
    """Matrix ``A`` (coordinate, free) with ``A A'`` a covariance (coordinate, coordinate)."""
    factor: np.ndarray = np.linalg.cholesky(of_free(constraint, covariance))
    return factor if constraint is None else constraint.matrix @ factor


def of_free(constraint: Constraint | None, covariance: np.ndarray) -> np.ndarray:
    """The part of a covariance (coordinate, coordinate) of the free coordinates."""
    if constraint is None:
        return covariance
    return covariance[np.ix_(constraint.at, constraint.at)]

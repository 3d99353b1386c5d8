"""A compiled log density in other coordinates: of a normal approximation, or of free parameters.

In coordinates in which the posterior near a mode is a standard normal, a sampler's first mass
matrix, the identity, is right, so that little is left to adapt. Where parameters are shared or
held, coordinates are fewer than those of the density.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.em.constraint import Constraint
from bayes_moe.em.constraint import root as root_of
from bayes_moe.kernels import frame as kernel
from bayes_moe.model.compiled_table import CompiledDensity


@dataclass(frozen=True)
class Framed:
    """Log density of ``theta = centre + root z`` as a function of ``z``.

    It is that of ``z`` without the log determinant of the root, which is a constant.

    Attributes
    ----------
    density : CompiledDensity
        Compiled log density of ``theta``.
    centre : array (coordinate,)
        Point at ``z = 0``.
    root : array (coordinate, frame coordinate)
        Of a normal approximation, ``root root'`` is the covariance.
    at : array of int (frame coordinate,)
        Coordinates whose rows of the root are lower triangular.
    """

    density: CompiledDensity
    centre: np.ndarray
    root: np.ndarray
    at: np.ndarray

    @classmethod
    def constrained(cls, density: CompiledDensity, constraint: Constraint) -> Framed:
        """Free coordinates of a density of all."""
        offset, matrix = (np.ascontiguousarray(a) for a in (constraint.offset, constraint.matrix))
        return cls(density, offset, matrix, constraint.at)

    @classmethod
    def of(
        cls,
        density: CompiledDensity,
        centre: np.ndarray,
        covariance: np.ndarray,
        constraint: Constraint | None = None,
    ) -> Framed:
        """Coordinates of a normal approximation."""
        centre = np.ascontiguousarray(centre, dtype=float)
        if constraint is not None:
            root = np.ascontiguousarray(root_of(constraint, covariance))
            return cls(density, centre, root, constraint.at)
        try:
            root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            # Singular, where coordinates are fixed at the mode or the model has a symmetry.
            variance = np.diag(covariance)
            root = np.diag(np.sqrt(np.where(variance > 0, variance, 1.0)))
        return cls(density, centre, np.ascontiguousarray(root), np.arange(len(root)))

    @property
    def size(self) -> int:
        """Number of coordinates of the frame."""
        return self.root.shape[1]

    @cached_property
    def table(self) -> np.ndarray:
        """Addresses, for the compiled function."""
        entries = {
            kernel.FUNCTION: self.density.log_density.address,
            kernel.TABLE: self.density.table.ctypes.data,
            kernel.CENTRE: self.centre.ctypes.data,
            kernel.ROOT: self.root.ctypes.data,
            kernel.POINT: self.density.size,
        }
        return np.array([entries[j] for j in range(kernel.RECORD)], dtype=np.int64)

    @property
    def log_density(self) -> Any:
        """The compiled function; a sampler calls its ``address``."""
        return kernel.log_density()

    @property
    def copy(self) -> Any:
        """The compiled function by which a sampler stores a draw, as ``theta``."""
        return kernel.expand()

    def coordinates(self, theta: np.ndarray) -> np.ndarray:
        """``z`` (frame coordinate,) of a point (coordinate,)."""
        from scipy.linalg import solve_triangular

        z: np.ndarray = solve_triangular(
            self.root[self.at], (theta - self.centre)[self.at], lower=True
        )
        return z

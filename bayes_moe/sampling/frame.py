"""A compiled log density in coordinates in which the posterior near a mode is a standard normal.

A sampler begins with a unit mass matrix, which is right there, so that little is left to adapt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

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
    root : array (coordinate, coordinate)
        Lower triangular; ``root root'`` is the covariance of the normal approximation.
    """

    density: CompiledDensity
    centre: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, density: CompiledDensity, centre: np.ndarray, covariance: np.ndarray) -> Framed:
        """Coordinates of a normal approximation."""
        try:
            root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            # Singular, where coordinates are fixed at the mode or the model has a symmetry.
            variance = np.diag(covariance)
            root = np.diag(np.sqrt(np.where(variance > 0, variance, 1.0)))
        centre = np.ascontiguousarray(centre, dtype=float)
        return cls(density, centre, np.ascontiguousarray(root))

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.density.size

    @cached_property
    def table(self) -> np.ndarray:
        """Addresses, for the compiled function."""
        entries = {
            kernel.FUNCTION: self.density.log_density.address,
            kernel.TABLE: self.density.table.ctypes.data,
            kernel.CENTRE: self.centre.ctypes.data,
            kernel.ROOT: self.root.ctypes.data,
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
        """``z`` (coordinate,) of a point (coordinate,)."""
        from scipy.linalg import solve_triangular

        z: np.ndarray = solve_triangular(self.root, theta - self.centre, lower=True)
        return z

"""Coordinates of a normal approximation of models with random effects, a block for each group.

Effects of the groups of one grouping are independent given all else. So a change of coordinates
needs no matrix over all effects, and its second derivatives few evaluations of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core.linalg import differences, rough_inverse
from bayes_moe.kernels import group_frame as kernel
from bayes_moe.model.compiled_table import CompiledDensity
from bayes_moe.model.internal_values import parts
from bayes_moe.optimize.effects_table import placed_effects
from bayes_moe.optimize.free_variables import FreeVariables

STEP = 1e-5
"""Step of the differences of the gradient by effects, which are about 1."""


@dataclass(frozen=True)
class GroupFrame:
    """Log density of a point as a function of its coordinates in a normal approximation.

    Fixed coordinates of a point are ``centre + root z``; those of a group are ``centre + root_g z_g
    - slope_g (fixed - centre)``. The density is that of ``z`` without the log determinant.

    Attributes
    ----------
    density : CompiledDensity
        Compiled log density of a point.
    centre : array (coordinate,)
        Point at ``z = 0``.
    fixed, groups : array (fixed,), array (group, width)
        Positions of the fixed coordinates, and of those of each group.
    root, roots : array (fixed, fixed), array (group, width, width)
        Lower triangular.
    slopes : array (group, width, fixed)
    """

    density: CompiledDensity
    centre: np.ndarray
    fixed: np.ndarray
    groups: np.ndarray
    root: np.ndarray
    roots: np.ndarray
    slopes: np.ndarray

    @classmethod
    def near(
        cls, density: CompiledDensity, centre: np.ndarray, groups: np.ndarray, scales: np.ndarray
    ) -> GroupFrame:
        """Coordinates of a normal approximation near a point that need not be a mode.

        Given the coordinates in the mask ``scales`` (coordinate,), the others are nearly normal.
        The density may have no maximum along these themselves, whose variance is then 1. ``groups``
        (group, width) are positions of the effects of each group.
        """
        fixed = np.setdiff1d(np.arange(centre.size), groups)

        def slopes(points: np.ndarray) -> np.ndarray:
            return np.array([density(point)[1] for point in points])

        within = -_differences_by_group(slopes, centre, groups)
        by_fixed = -differences(slopes, centre, fixed).T  # (coordinate, fixed)
        given = np.array([rough_inverse(block) for block in within])
        across = by_fixed[groups]
        slope = np.matmul(given, across)
        total = by_fixed[fixed] - np.einsum("gwi,gwj->ij", across, slope)
        root = np.linalg.cholesky(_covariance(0.5 * (total + total.T), scales[fixed]))
        return cls(density, centre, fixed, groups, root, np.linalg.cholesky(given), slope)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.centre.size

    @cached_property
    def _arrays(self) -> dict[int, np.ndarray]:
        """What the compiled function reads, by position of the address."""
        found = {
            kernel.CENTRE: self.centre,
            kernel.FIXED_AT: self.fixed,
            kernel.GROUPS_AT: self.groups,
            kernel.FIXED_ROOT: self.root,
            kernel.GROUPS_ROOT: self.roots,
            kernel.SLOPE: self.slopes,
        }
        return {j: np.ascontiguousarray(a, dtype=float) for j, a in found.items()}

    @cached_property
    def table(self) -> np.ndarray:
        """Sizes and addresses, for the compiled function."""
        entries = {
            kernel.FUNCTION: self.density.log_density.address,
            kernel.TABLE: self.density.table.ctypes.data,
            kernel.POINT: self.size,
            kernel.FIXED: len(self.fixed),
            kernel.GROUPS: len(self.groups),
            kernel.WIDTH: self.groups.shape[1],
        }
        entries |= {j: a.ctypes.data for j, a in self._arrays.items()}
        return np.array([entries[j] for j in range(kernel.RECORD)], dtype=np.int64)

    @property
    def log_density(self) -> Any:
        """The compiled function; a sampler calls its ``address``."""
        return kernel.log_density()

    @property
    def copy(self) -> Any:
        """The compiled function by which a sampler stores a draw, as a point."""
        return kernel.expand()

    def coordinates(self, theta: np.ndarray) -> np.ndarray:
        """``z`` (coordinate,) of a point (coordinate,)."""
        z, moved = np.empty(self.size), theta - self.centre
        z[self.fixed] = np.linalg.solve(self.root, moved[self.fixed])
        rest = moved[self.groups] + np.matmul(self.slopes, moved[self.fixed])
        z[self.groups] = np.linalg.solve(self.roots, rest[..., None])[..., 0]
        return z


def largest_grouping(free: FreeVariables) -> np.ndarray:
    """Positions (group, width) of the effects of the groups of the grouping with most effects."""
    found: list[tuple[np.ndarray, list[np.ndarray]]] = []
    for part in parts(free.spec, free.design, free.priors):
        for e in placed_effects(part, 0):
            where, codes = free[e.internal].where, e.columns.codes
            places = np.arange(where.start, where.stop).reshape(len(e.columns.labels), -1)
            own = next((places for other, places in found if np.array_equal(codes, other)), None)
            if own is None:
                found.append((codes, own := []))
            own.append(places)
    return max((np.concatenate(places, axis=1) for _, places in found), key=lambda p: p.size)


def _differences_by_group(slopes: Any, centre: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Second derivatives (group, width, width) within groups, all groups at once."""
    moved = np.zeros((groups.shape[1], centre.size))
    for j, places in enumerate(groups.T):
        moved[j, places] = STEP
    change = (slopes(centre + moved) - slopes(centre - moved)) / (2 * STEP)
    within = np.moveaxis(change[:, groups], 0, -1)
    symmetric: np.ndarray = 0.5 * (within + np.swapaxes(within, -1, -2))
    return symmetric


def _covariance(information: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Covariance of which the part of ``scales`` is 1 where their information is not positive."""
    at, rest = np.flatnonzero(scales), np.flatnonzero(~scales)
    across = information[np.ix_(rest, at)]
    given = rough_inverse(information[np.ix_(rest, rest)])
    slope = given @ across
    of_scales = rough_inverse(information[np.ix_(at, at)] - across.T @ slope)
    covariance = np.empty_like(information)
    covariance[np.ix_(at, at)] = of_scales
    covariance[np.ix_(rest, rest)] = given + slope @ of_scales @ slope.T
    covariance[np.ix_(rest, at)] = -slope @ of_scales
    covariance[np.ix_(at, rest)] = covariance[np.ix_(rest, at)].T
    return covariance

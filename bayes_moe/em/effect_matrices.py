"""Matrices of random effects: their prior's, and linear algebra with their information.

Where all effects are of one grouping, those of a group depend on those of no other, and the
information is block diagonal. Effects of several groupings have one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.em.grouped_rows import Effects, GroupedRows

MOST_EFFECTS = 3000
"""Effects of several groupings, whose information is one matrix."""


@dataclass(frozen=True)
class GroupPrior:
    """Normal prior of the effects of one group term at one point.

    ``factor`` (direction, column, column) is the lower factor of the covariance of a group's
    effects, in internal units.
    """

    effects: Effects
    factor: np.ndarray

    def log_density(self, u: np.ndarray) -> float:
        """Log density of the effects (effect,) of the term."""
        z = self._standard(u)
        logs = np.log(np.diagonal(self.factor, axis1=-2, axis2=-1)).sum()
        groups = self.effects.shape[1]
        return float(-0.5 * (z**2).sum() - groups * logs - 0.5 * z.size * np.log(2 * np.pi))

    def slope(self, u: np.ndarray) -> np.ndarray:
        """Gradient (effect,) of the log density."""
        own = u.reshape(self.effects.shape)
        return -np.einsum("dqr,dgr->dgq", self.precision, own).ravel()

    @property
    def precision(self) -> np.ndarray:
        """Inverse covariance (direction, column, column) of a group's effects."""
        inverse = np.linalg.inv(self.factor)
        return np.einsum("drq,drs->dqs", inverse, inverse)

    def _standard(self, u: np.ndarray) -> np.ndarray:
        own = u.reshape(self.effects.shape)
        return np.einsum("dqr,dgr->dgq", np.linalg.inv(self.factor), own)


class EffectMatrices:
    """Matrices (effect, effect), or one of each group (group, position, position).

    Attributes
    ----------
    blocked : bool
        Whether there is one of each group.
    columns : list of (Effects, int, int)
        Group term, direction and column of each position within a group.
    index : array (position, group)
        Positions of the effects among all.
    """

    def __init__(self, rows: GroupedRows) -> None:
        self.size, self.blocked = rows.size, rows.one_grouping
        if not self.blocked and rows.size > MOST_EFFECTS:
            raise SpecError(
                f"The group terms have {rows.size} effects of several groupings; with these EM, "
                f"MAP and Laplace's method fit at most {MOST_EFFECTS}. Use method='nuts', or one "
                "grouping."
            )
        self.columns = [
            (e, d, q) for e in rows.effects for d in range(e.shape[0]) for q in range(e.shape[2])
        ]
        index = [
            e.first + (d * e.shape[1] + np.arange(e.shape[1])) * e.shape[2] + q
            for e, d, q in self.columns
        ]
        self.index = np.array(index) if self.blocked else np.arange(rows.size)[:, None]

    def with_prior(self, inner: np.ndarray, priors: list[GroupPrior]) -> np.ndarray:
        """Information of effects at one point with that of their prior added."""
        total = inner.copy()
        at = 0
        for prior in priors:
            e, precision = prior.effects, prior.precision
            directions, groups, width = e.shape
            for d in range(directions):
                if self.blocked:
                    places = slice(at, at + width)
                    total[:, places, places] += precision[d]
                else:
                    own = np.arange(groups)[:, None] * width + np.arange(width)
                    own = own + e.first + d * groups * width
                    total[own[:, :, None], own[:, None, :]] += precision[d]
                at += width
        return total

    def solve(self, factor: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Information of a Cholesky factor, solved for values (effect, right-hand side)."""
        if not self.blocked:
            from scipy.linalg import cho_solve

            return np.asarray(cho_solve((factor, True), values))
        own = values[self.index].transpose(1, 0, 2)  # (group, position, right-hand side)
        half = np.linalg.solve(factor, own)
        solved = np.linalg.solve(np.swapaxes(factor, -1, -2), half)
        result = np.empty_like(values)
        result[self.index] = solved.transpose(1, 0, 2)
        return result

    def draws(self, factor: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Draws (draw, effect) about 0 with the inverse information, from normal ones."""
        if not self.blocked:
            from scipy.linalg import solve_triangular

            return np.asarray(solve_triangular(factor.T, z.T, lower=False).T)
        own = z[:, self.index].transpose(2, 1, 0)
        solved = np.linalg.solve(np.swapaxes(factor, -1, -2), own)
        result = np.empty_like(z)
        result[:, self.index] = solved.transpose(2, 1, 0)
        return result

    def covariances(self, factor: np.ndarray, e: Effects) -> np.ndarray:
        """Inverse information (direction, direction, group, column) of effects of a group term."""
        half = np.linalg.inv(factor)
        whole = np.swapaxes(half, -1, -2) @ half
        directions, groups, width = e.shape
        result = np.empty((directions, directions, groups, width))
        group = np.arange(groups)
        own = [j for j, (f, _, _) in enumerate(self.columns) if f.first == e.first]
        for a, b, q in np.ndindex(directions, directions, width):
            if self.blocked:
                one, other = own[a * width + q], own[b * width + q]
                result[a, b, :, q] = whole[:, one, other]
            else:
                rows, columns = (e.first + (c * groups + group) * width + q for c in (a, b))
                result[a, b, :, q] = whole[rows, columns]
        return result

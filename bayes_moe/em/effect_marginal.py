"""Coordinates of the marginal likelihood of a linear model with random effects, and their prior.

The coordinates are those of fixed coefficients and other parameters, then those of the effects'
standard deviations (logarithms) and correlations. How the effects are integrated out is that of
:mod:`bayes_moe.em.group_marginal`, or of :mod:`bayes_moe.em.shared_marginal` where all rows of a
group have one expert.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.em.effect_matrices import GroupPrior
from bayes_moe.em.grouped_rows import Effects, GroupedRows
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.priors.coordinates import coordinate_of
from bayes_moe.priors.densities import log_density_of_coordinate

FARTHEST = 12.0
"""Largest absolute logarithm of a standard deviation, in units of its first value."""

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class MarginalPoint:
    """The marginal log likelihood at one point, with what it is made of.

    ``psi`` (coordinate,) are fixed coordinates and logarithms of standard deviations, ``effects``
    the mode of the effects, ``factor`` what is known of their information there, and ``slopes``
    (effect, coordinate) the derivatives of their mode. ``curvature`` (fixed, fixed) is about minus
    the second derivatives by fixed coordinates, without the prior.
    """

    psi: np.ndarray
    effects: np.ndarray
    factor: Any
    value: float
    log_prior: float
    gradient: np.ndarray
    slopes: np.ndarray
    curvature: np.ndarray


class EffectMarginal(ABC):
    """Marginal log likelihood, or posterior density, of all but the effects.

    Parameters
    ----------
    rows : GroupedRows
        The model and its rows.
    likelihood : bool
        Leave the priors out.
    """

    def __init__(self, rows: GroupedRows, likelihood: bool) -> None:
        self.rows, self.likelihood = rows, likelihood
        self.vector: ParameterVector = rows.whole
        self.fixed = rows.fixed.size
        self.shapes = {n: v.shape for n, v in self.vector.hyperparameters.items()}
        self.priors = self.vector.spec.resolve_priors(self.vector.design)
        self.kinds = {n: coordinate_of(self.priors[n]) for n in self.shapes}
        self.count = sum(int(np.prod(shape)) for shape in self.shapes.values())
        by_name = {
            name: 1.0 / np.sqrt(2.0 * e.shape[1]) for e in rows.effects for name in e.of.scales
        }
        sizes = {n: int(np.prod(shape)) for n, shape in self.shapes.items()}
        self.units = np.concatenate([np.full(sizes[n], by_name[n]) for n in self.shapes])
        """Rough standard deviations of the logarithms of scales."""

    @abstractmethod
    def evaluate(
        self, psi: np.ndarray, effects: np.ndarray, axes: np.ndarray
    ) -> MarginalPoint | None:
        """The objective and its gradient at a point; None where there is no approximation.

        ``effects`` are a first guess of their mode; differences are along ``axes`` (coordinate,
        axis) of the coordinates.
        """

    @abstractmethod
    def covariances(self, point: MarginalPoint, e: Effects) -> np.ndarray:
        """Covariances (direction, direction, group, column) of effects given all else."""

    # --- coordinates ------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of coordinates: fixed ones, then logarithms of standard deviations."""
        return self.fixed + self.count

    def point(self, fixed: np.ndarray, scales: Mapping[str, np.ndarray]) -> np.ndarray:
        """Coordinates of fixed ones, standard deviations and correlations."""
        own = (kind.of_value(np.asarray(scales[n])).ravel() for n, kind in self.kinds.items())
        return np.concatenate([fixed, *own])

    def scales(self, psi: np.ndarray) -> Values:
        """Standard deviations and correlations by name."""
        found, at = {}, self.fixed
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            found[name] = self.kinds[name].value(psi[at : at + size]).reshape(shape)
            at += size
        return found

    def group_priors(self, psi: np.ndarray) -> list[GroupPrior]:
        """Priors of the effects, group term by group term."""
        scales, found = self.scales(psi), []
        for e in self.rows.effects:
            block = self.vector.blocks[e.block]
            assert block.scaling is not None
            factor = e.of.factor(scales) * (e.columns.scale[:, None] / block.scaling.units.unit)
            found.append(GroupPrior(e, np.broadcast_to(factor, (e.shape[0], *factor.shape[-2:]))))
        return found

    def log_prior(self, psi: np.ndarray) -> tuple[float, np.ndarray]:
        """Log prior density of all but the effects, and its gradient (coordinate,)."""
        gradient = np.zeros(self.size)
        if self.likelihood:
            return 0.0, gradient
        fixed = psi[None, : self.fixed]
        value, first, _ = self.rows.fixed.log_prior(fixed)
        gradient[: self.fixed] = first[0]
        total, at = float(value[0]), self.fixed
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            own = psi[at : at + size].reshape(shape)
            density, slope, _ = log_density_of_coordinate(self.priors[name], own)
            volume, change, _ = self.kinds[name].log_slope(own)
            total += float(np.sum(density + volume))
            gradient[at : at + size] = np.broadcast_to(slope + change, shape).ravel()
            at += size
        return total, gradient

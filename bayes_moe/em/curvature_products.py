"""Products of a vector with the information at a point, whose matrix is never made.

With ``w_ab`` the weights of a row for the pair of linear predictors ``(a, b)``, the information
times a vector ``v`` is ``sum_i z_i sum_b w_iab (z_i' v_b)`` for predictor ``a``: two products with
the table of features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.em.newton import reduced_gradient
from bayes_moe.em.objective import Curvature, Objective, row_derivatives
from bayes_moe.em.sparse_features import SparseTable

LEAST_DIAGONAL = 1e-8
"""Least element of the diagonal that scales coordinates, in units of its largest."""


class CurvatureProducts:
    """The information of an objective at one point, as products by the free coordinates.

    Parameters
    ----------
    objective : Objective
        Of rows that do not share experts by group.
    theta : array (coordinate,)
        The point.
    curvature : Curvature
        Which information.
    allocation : array (expert, obs), optional
        In the place of the responsibilities.

    Attributes
    ----------
    gradient : array (free,)
        Of the objective at the point.
    diagonal : array (free,)
        Positive; about the diagonal of the information.
    """

    def __init__(
        self,
        objective: Objective,
        theta: np.ndarray,
        curvature: Curvature,
        allocation: np.ndarray | None = None,
    ) -> None:
        self.vector = objective.vector
        self._objective = objective
        self._features, self._stack = objective.features, objective.stack
        information = objective.information(curvature)
        self._plan = information.plan
        shares = None if allocation is None else allocation[None]
        scores, self._weights = row_derivatives(objective, theta[None], information, shares)
        _, first, second = self.vector.log_prior(theta[None])
        self._prior = information.prior_curvature(second)[0]
        gradient = self._by_coordinate(scores) + first[0]
        self.gradient = reduced_gradient(self.vector, gradient[None])[0]
        self.diagonal = self._scales()

    def times(self, step: np.ndarray) -> np.ndarray:
        """The information times a step (free,) of the free coordinates."""
        return self.times_each(step[None])[0]

    def times_each(self, steps: np.ndarray) -> np.ndarray:
        """The information times steps (step, free) of the free coordinates."""
        constraint = self.vector.constraint
        full = steps if constraint is None else constraint.step(steps)
        eta = self._predictors(full)
        sums = np.zeros_like(eta)
        for first, second, w in zip(
            self._plan.first, self._plan.second, self._weights, strict=True
        ):
            sums[:, first] += w * eta[:, second]
            if first != second:
                sums[:, second] += w * eta[:, first]
        found = self._by_coordinate(sums) - self._prior * full
        return reduced_gradient(self.vector, found)

    @property
    def width(self) -> int:
        """Numbers of the predictors of all rows."""
        return self._stack.size * self._weights.shape[1]

    def expanded(self, step: np.ndarray) -> np.ndarray:
        """Step (coordinate,) of one of the free coordinates (free,)."""
        constraint = self.vector.constraint
        return step if constraint is None else constraint.step(step[None])[0]

    def _predictors(self, steps: np.ndarray) -> np.ndarray:
        """Changes (step, output, obs) of the linear predictors by steps (step, coordinate)."""
        eta = np.empty((len(steps), self._stack.size, self._weights.shape[1]))
        blocks = zip(self.vector.blocks, self._stack.places, self._features.of, strict=True)
        for block, places, table in blocks:
            coef = block.raw(steps) * block.unit
            eta[:, places] = self._features.predictors(coef, table, slice(None))
        return eta

    def _by_coordinate(self, scores: np.ndarray) -> np.ndarray:
        """Sums over rows (..., coordinate) of derivatives (..., output, obs) by the predictors."""
        each = scores.reshape(-1, *scores.shape[-2:])
        slopes = [
            self._features.sums(each[:, places], table, slice(None)).reshape(len(each), -1)
            for places, table in zip(self._stack.places, self._features.of, strict=True)
        ]
        found = self._stack.to_coordinates(np.concatenate(slopes, axis=1) * self._stack.units)
        return found.reshape(*scores.shape[:-2], -1)

    def _scales(self) -> np.ndarray:
        """The diagonal (free,) of the information, without products of different outputs."""
        own = np.flatnonzero(self._plan.first == self._plan.second)
        weights = np.zeros((self._stack.size, self._weights.shape[1]))
        weights[self._plan.first[own]] = self._weights[own]
        parts = []
        for block, places, table in zip(
            self.vector.blocks, self._stack.places, self._features.of, strict=True
        ):
            features = self._features.tables[table]
            if isinstance(features, SparseTable):
                squares = features.squares(weights[places])
            else:
                squares = (
                    weights[places]
                    @ np.broadcast_to(features**2, (len(features), weights.shape[1])).T
                )
            squares *= block.unit**2
            squares = squares if block.basis is None else block.basis**2 @ squares
            parts.append(squares.ravel())
        diagonal = np.concatenate(parts) - self._prior
        constraint = self.vector.constraint
        if constraint is not None:
            diagonal = diagonal @ constraint.matrix**2
        return np.maximum(np.abs(diagonal), LEAST_DIAGONAL * np.abs(diagonal).max(initial=1e-300))


@dataclass(frozen=True)
class TruncatedStep:
    """A step (free,) of the free coordinates that nearly maximises the quadratic model.

    ``gain`` is that of the model, ``norm`` the step's length in units of the scaled coordinates;
    ``concave`` is whether all directions had positive curvature, ``bounded`` whether the step ends
    at the radius.
    """

    step: np.ndarray
    gain: float
    norm: float
    concave: bool
    bounded: bool


def truncated_step(
    products: CurvatureProducts, tolerance: float, most: int, radius: float = np.inf
) -> TruncatedStep:
    """Newton step by preconditioned conjugate gradients, no longer than a radius.

    Iterations end where the residual is ``tolerance`` times the gradient, at the radius, and at a
    direction without positive curvature, along which the step goes on to the radius.

    References
    ----------
    Steihaug, T. (1983). The conjugate gradient method and trust regions in large scale
    optimization. SIAM Journal on Numerical Analysis, 20(3), 626-637.
    """
    gradient, scale = products.gradient, products.diagonal
    residual, step = gradient.copy(), np.zeros_like(gradient)
    scaled = residual / scale
    direction, size = scaled.copy(), float(residual @ scaled)
    concave, bounded, least = True, False, tolerance**2 * size
    for _ in range(most):
        if size <= least:
            break
        along = products.times(direction)
        curvature = float(direction @ along)
        concave = curvature > 0
        length = size / curvature if concave else np.inf
        furthest = _to_radius(step, direction, scale, radius)
        bounded = not length < furthest
        if bounded and not np.isfinite(furthest):
            break
        length = min(length, furthest)
        step, residual = step + length * direction, residual - length * along
        if bounded:
            break
        scaled = residual / scale
        new = float(residual @ scaled)
        direction, size = scaled + new / size * direction, new
    gain = 0.5 * float(step @ (gradient + residual))
    return TruncatedStep(step, gain, float(np.sqrt(step**2 @ scale)), concave, bounded)


def _to_radius(step: np.ndarray, direction: np.ndarray, scale: np.ndarray, radius: float) -> float:
    """How far a step can go on along a direction up to a radius."""
    if not np.isfinite(radius):
        return np.inf
    a, b = float(direction**2 @ scale), float((step * direction) @ scale)
    c = float(step**2 @ scale) - radius**2
    return float((-b + np.sqrt(max(b * b - a * c, 0.0))) / a)

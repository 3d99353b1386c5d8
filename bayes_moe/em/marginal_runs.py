"""Maximisation of the marginal likelihood of a model with random effects, from given points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.em.effect_marginal import FARTHEST, EffectMarginal, MarginalPoint

ROUNDS = 200
"""Most iterations of a maximisation."""
SHORT = 12
"""Iterations after which maximisations end whose value is far below the best."""
FAR = 15.0
"""How far, in nats."""
ROUGH, GRADIENT = 1e-2, 1e-6
"""Gradients, in units of standard deviations of the coordinates, at which one ends, and at which
the Newton steps that follow do."""
POLISHING = 10
"""Most Newton steps."""
WIDE = 1e-3
"""Step of the differences of gradients, in the same units."""
LEAST_CURVATURE = 1e-3
"""Curvature, in the same units, below which a coordinate has no standard error."""


@dataclass(frozen=True)
class Run:
    """End of a maximisation of a marginal likelihood."""

    point: MarginalPoint
    gradient_norm: float
    iterations: int
    path: tuple[float, ...]

    @classmethod
    def of(
        cls,
        marginal: EffectMarginal,
        first: MarginalPoint,
        rounds: int,
        least: float = ROUGH,
    ) -> Run:
        """Run of so many rounds from a point, down to a ``least`` gradient."""
        from scipy.optimize import minimize

        psi, axes = first.psi, unit_axes(marginal, first)
        last, path = first, [first.value]

        def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal last
            at = psi + axes @ z
            guess = last.effects + last.slopes @ (at - last.psi)
            point = marginal.evaluate(at, guess, axes)
            point = marginal.evaluate(at, last.effects, axes) if point is None else point
            if point is None:
                return -path[0] + 1e6, np.zeros(len(z))
            if point.value > last.value:
                last = point
                path.append(point.value)
            return -point.value, -axes.T @ point.gradient

        free = [(None, None)] * marginal.fixed
        limits = [(-FARTHEST, FARTHEST)] * (marginal.size - marginal.fixed)
        minimize(
            loss,
            np.zeros(marginal.size),
            jac=True,
            method="L-BFGS-B",
            bounds=free + limits,
            options={"maxiter": rounds, "maxfun": 2 * rounds, "ftol": 1e-12, "gtol": least},
        )
        norm = float(np.abs(axes.T @ last.gradient).max())
        return cls(last, norm, len(path) - 1, tuple(path))

    def then(self, other: Run) -> Run:
        """Return the run, continued by another."""
        iterations, path = self.iterations + other.iterations, (*self.path, *other.path[1:])
        return replace(other, iterations=iterations, path=path)


def points_of(marginal: EffectMarginal, fixed: np.ndarray) -> np.ndarray:
    """Points (point, coordinate) of fixed coordinates, with first values of the scales."""
    scales = marginal.vector.hyperparameters
    return np.stack([marginal.point(at, scales) for at in fixed])


def runs_from(
    marginal: EffectMarginal, points: np.ndarray, effects: np.ndarray
) -> list[Run | None]:
    """Runs from points (point, coordinate), (point, effect); None without an approximation.

    After a few rounds those go on that are not far below the best.
    """
    first = [evaluated(marginal, *pair) for pair in zip(points, effects, strict=True)]
    runs = [None if p is None else Run.of(marginal, p, SHORT) for p in first]
    best = max((run.point.value for run in runs if run is not None), default=-np.inf)
    runs = [
        run
        if run is None or run.point.value < best - FAR
        else run.then(Run.of(marginal, run.point, ROUNDS))
        for run in runs
    ]
    highest = max(range(len(runs)), key=lambda j: _value(runs[j]))
    return [
        polished(marginal, run) if run is not None and j == highest else run
        for j, run in enumerate(runs)
    ]


def _value(run: Run | None) -> float:
    """Value at the end of a run."""
    return -np.inf if run is None else run.point.value


def polished(marginal: EffectMarginal, run: Run) -> Run:
    """Run with Newton steps at its end."""
    point, axes = run.point, unit_axes(marginal, run.point)
    total = axes.T @ curvatures(marginal, point)[0] @ axes
    if not np.isfinite(total).all():
        return run
    values, vectors = np.linalg.eigh(total)
    size = np.maximum(np.abs(values), LEAST_CURVATURE)
    for _ in range(POLISHING):
        slope = axes.T @ point.gradient
        if np.abs(slope).max() < GRADIENT:
            break
        step = axes @ (vectors @ ((vectors.T @ slope) / size))
        moved = marginal.evaluate(point.psi + step, point.effects + point.slopes @ step, axes)
        better = moved is not None and np.isfinite(moved.value)
        if (
            moved is None
            or not better
            or np.abs(axes.T @ moved.gradient).max() > np.abs(slope).max()
        ):
            break
        point = moved
    norm = float(np.abs(axes.T @ point.gradient).max())
    return replace(run, point=point, gradient_norm=norm, path=(*run.path, point.value))


def evaluated(
    marginal: EffectMarginal, psi: np.ndarray, effects: np.ndarray
) -> MarginalPoint | None:
    """The marginal likelihood at a point, with differences along its own axes."""
    rough = marginal.evaluate(psi, effects, np.eye(marginal.size))
    if rough is None:
        return None
    return marginal.evaluate(psi, rough.effects, unit_axes(marginal, rough))


def unit_axes(marginal: EffectMarginal, point: MarginalPoint) -> np.ndarray:
    """Axes (coordinate, axis) along which the coordinates have about unit variance."""
    size = marginal.fixed
    curvature = point.curvature.copy()
    if not marginal.likelihood:
        second = marginal.rows.fixed.log_prior(point.psi[None, :size])[2][0]
        curvature[np.arange(size), np.arange(size)] -= np.minimum(second, 0.0)
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    values = np.maximum(np.abs(values), 1e-8 * np.abs(values).max())
    axes = np.diag(np.concatenate([np.ones(size), marginal.units]))
    axes[:size, :size] = vectors / np.sqrt(values)
    return axes


def curvatures(marginal: EffectMarginal, point: MarginalPoint) -> tuple[np.ndarray, np.ndarray]:
    """Minus the second derivatives of the objective, and of the log prior, at a point."""
    axes = unit_axes(marginal, point)
    totals, priors = [], []
    for axis in axes.T:
        ends = []
        for sign in (1.0, -1.0):
            step = sign * WIDE * axis
            moved = marginal.evaluate(point.psi + step, point.effects + point.slopes @ step, axes)
            gradient = np.full(len(axis), np.nan) if moved is None else moved.gradient
            ends.append((gradient, marginal.log_prior(point.psi + step)[1]))
        totals.append((ends[1][0] - ends[0][0]) / (2 * WIDE))
        priors.append((ends[1][1] - ends[0][1]) / (2 * WIDE))
    back = np.linalg.inv(axes)
    found = []
    for rows in (totals, priors):
        matrix = back.T @ np.array(rows)
        found.append(0.5 * (matrix + matrix.T))
    return found[0], found[1]

"""Proximal Newton steps, where the log prior has kinks, as a Laplace prior at its centre.

The mode may be at a kink: a coordinate is fixed there where the gradient of the rest of the
objective is smaller than the slope of the prior. Steps maximise a quadratic model of the rest plus
the exact prior: by coordinate descent, then by solving for the active set that this identifies.

References
----------
Lee, J. D., Sun, Y., & Saunders, M. A. (2014). Proximal Newton-type methods for minimizing composite
functions. SIAM Journal on Optimization, 24(3), 1420-1443.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.em.newton import first_order_gain
from bayes_moe.em.objective import Evaluation
from bayes_moe.em.parameter_vector import ParameterVector

DESCENTS = 50
"""Rounds of coordinate descent before the active set is tried."""


def at_kink(vector: ParameterVector, theta: np.ndarray, evaluation: Evaluation) -> np.ndarray:
    """Which coordinates (point, coordinate) are at a kink that is their maximum."""
    # At a kink the gradient is that of all the rest.
    return (theta == vector.kinks) & (np.abs(evaluation.gradient) <= vector.kink_slopes)


def projected(vector: ParameterVector, theta: np.ndarray, evaluation: Evaluation) -> Evaluation:
    """Minimum-norm subgradient at kinks of the prior; identity curvature for coordinates fixed."""
    at = theta == vector.kinks
    if not at.any():
        return evaluation
    gradient, matrix = evaluation.gradient.copy(), evaluation.curvature.copy()
    smooth = gradient[at]
    slopes = np.broadcast_to(vector.kink_slopes, theta.shape)[at]
    gradient[at] = np.sign(smooth) * np.maximum(np.abs(smooth) - slopes, 0.0)
    point, coordinate = np.nonzero(at_kink(vector, theta, evaluation))
    matrix[point, coordinate, :] = 0.0
    matrix[point, :, coordinate] = 0.0
    matrix[point, coordinate, coordinate] = 1.0
    return replace(evaluation, gradient=gradient, curvature=matrix)


def predicted_gain(
    vector: ParameterVector, theta: np.ndarray, evaluation: Evaluation, step: np.ndarray
) -> np.ndarray:
    """Gain (point,) of steps to first order, with the exact change of the prior at kinks."""
    gain = first_order_gain(evaluation, step)
    where = np.flatnonzero(np.isfinite(vector.kinks))
    if not where.size:
        return gain
    slope, before = vector.kink_slopes[where], (theta - vector.kinks)[:, where]
    change = step[:, where]
    nonlinear = np.abs(before + change) - np.abs(before) - np.sign(before) * change
    return gain - (slope * nonlinear).sum(axis=1)


def proximal_step(
    vector: ParameterVector, theta: np.ndarray, evaluation: Evaluation, matrix: np.ndarray
) -> np.ndarray:
    """Steps (point, coordinate) to the maximum of the quadratic model with the prior's kinks.

    Coordinate descent identifies which coordinates are fixed at kinks and on which side the others
    are; then all of these are solved for at once. ``matrix`` is positive definite.
    """
    has_kink = np.isfinite(vector.kinks)
    away = np.where(has_kink, theta - np.where(has_kink, vector.kinks, 0.0), 0.0)
    slope = np.where(has_kink, vector.kink_slopes, 0.0)
    gradient = evaluation.gradient + np.sign(away) * slope
    step = _coordinate_descent(away, slope, gradient, matrix)
    fixed = has_kink & (away + step == 0)
    side = np.sign(away + step)
    for _ in range(int(has_kink.sum()) + 1):
        system = np.where(fixed[:, :, None], np.eye(theta.shape[1]), matrix)
        target = np.where(fixed, -away, gradient - side * slope)
        change = np.linalg.solve(system, target[..., None])[..., 0] - step
        # Stop at the first kink that a coordinate reaches: it is fixed there.
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(has_kink & ~fixed, -(away + step) / change, np.inf)
        share = np.where((share >= 0) & ((away + step + change) * side < 0), share, np.inf)
        first = share.min(axis=1, keepdims=True)
        partial = np.minimum(first, 1.0) * change
        step = np.where(np.isfinite(partial).all(axis=1, keepdims=True), step + partial, step)
        stops = (share == first) & (first < 1)
        if not stops.any():
            break
        step = np.where(stops, -away, step)
        fixed = fixed | stops
    return step


def _coordinate_descent(
    away: np.ndarray, slope: np.ndarray, gradient: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
    """Approximate steps: ``away`` are the distances from kinks, ``gradient`` is the smooth part's.

    ``slope`` (coordinate,) is that of the prior at its kinks.
    """
    curvature = np.maximum(np.einsum("bii->bi", matrix), 1e-300)
    step, residual = np.zeros_like(away), gradient.copy()
    for _ in range(DESCENTS):
        before = step.copy()
        for j in range(away.shape[1]):
            level = away[:, j] + step[:, j] + residual[:, j] / curvature[:, j]
            level = np.sign(level) * np.maximum(np.abs(level) - slope[j] / curvature[:, j], 0.0)
            change = level - away[:, j] - step[:, j]
            step[:, j] += change
            residual -= matrix[:, :, j] * change[:, None]
        if np.abs(step - before).max() <= 1e-9 * np.abs(step).max():
            break
    return step

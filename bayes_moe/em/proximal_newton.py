"""Steps where the log prior has kinks, as a Laplace prior's has at its centre.

The mode may lie on a kink: a coordinate rests there while the rest of the objective pulls less than
the prior holds. Steps maximise a quadratic model of the rest plus the prior as it is (proximal
Newton): by coordinate descent, then exactly on the side of the kinks that this finds.

References
----------
Lee, J. D., Sun, Y., & Saunders, M. A. (2014). Proximal Newton-type methods for minimizing composite
functions. SIAM Journal on Optimization, 24(3), 1420-1443.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.em.objective import Evaluation
from bayes_moe.em.parameter_vector import ParameterVector

DESCENTS = 50
"""Rounds of coordinate descent before the active set is tried."""


def at_kink(coordinates: ParameterVector, theta: np.ndarray, found: Evaluation) -> np.ndarray:
    """Which coordinates (point, coordinate) are at a kink from which no side leads up."""
    # At a kink the gradient is that of all the rest.
    return (theta == coordinates.kinks) & (np.abs(found.gradient) <= coordinates.kink_slopes)


def projected(coordinates: ParameterVector, theta: np.ndarray, found: Evaluation) -> Evaluation:
    """Take the least of the gradients at kinks, and no curvature where coordinates rest."""
    at = theta == coordinates.kinks
    if not at.any():
        return found
    gradient, matrix = found.gradient.copy(), found.curvature.copy()
    pull = gradient[at]
    slopes = np.broadcast_to(coordinates.kink_slopes, theta.shape)[at]
    gradient[at] = np.sign(pull) * np.maximum(np.abs(pull) - slopes, 0.0)
    point, coordinate = np.nonzero(at_kink(coordinates, theta, found))
    matrix[point, coordinate, :] = 0.0
    matrix[point, :, coordinate] = 0.0
    matrix[point, coordinate, coordinate] = 1.0
    return replace(found, gradient=gradient, curvature=matrix)


def predicted_gain(
    coordinates: ParameterVector, theta: np.ndarray, found: Evaluation, step: np.ndarray
) -> np.ndarray:
    """Rise (point,) along steps to first order, kinks as they are."""
    rise: np.ndarray = np.einsum("bi,bi->b", found.gradient, step)
    where = np.flatnonzero(np.isfinite(coordinates.kinks))
    if not where.size:
        return rise
    slope, before = coordinates.kink_slopes[where], (theta - coordinates.kinks)[:, where]
    move = step[:, where]
    bent = np.abs(before + move) - np.abs(before) - np.sign(before) * move
    return rise - (slope * bent).sum(axis=1)


def proximal_step(
    coordinates: ParameterVector, theta: np.ndarray, found: Evaluation, matrix: np.ndarray
) -> np.ndarray:
    """Return steps to the maximum of the quadratic model with the kinks of the prior.

    By coordinate descent, which finds out which coordinates rest and on which side the others
    are, and then one solution for all of these. ``matrix`` is positive definite.
    """
    has = np.isfinite(coordinates.kinks)
    away = np.where(has, theta - np.where(has, coordinates.kinks, 0.0), 0.0)
    slope = np.where(has, coordinates.kink_slopes, 0.0)
    gradient = found.gradient + np.sign(away) * slope
    bend = np.maximum(np.einsum("bii->bi", matrix), 1e-300)
    step, left = np.zeros_like(theta), gradient.copy()  # left: gradient of the model but kinks
    for _ in range(DESCENTS):
        before = step.copy()
        for j in range(theta.shape[1]):
            level = away[:, j] + step[:, j] + left[:, j] / bend[:, j]
            level = np.sign(level) * np.maximum(np.abs(level) - slope[j] / bend[:, j], 0.0)
            move = level - away[:, j] - step[:, j]
            step[:, j] += move
            left -= matrix[:, :, j] * move[:, None]
        if np.abs(step - before).max() <= 1e-9 * np.abs(step).max():
            break
    rests = has & (away + step == 0)
    side = np.sign(away + step)
    for _ in range(int(has.sum()) + 1):
        system = np.where(rests[:, :, None], np.eye(theta.shape[1]), matrix)
        target = np.where(rests, -away, gradient - side * slope)
        whole = np.linalg.solve(system, target[..., None])[..., 0] - step
        # Go on until the first coordinate comes to its kink, which then rests.
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(has & ~rests, -(away + step) / whole, np.inf)
        share = np.where((share >= 0) & ((away + step + whole) * side < 0), share, np.inf)
        first = share.min(axis=1, keepdims=True)
        moved = np.minimum(first, 1.0) * whole
        step = np.where(np.isfinite(moved).all(axis=1, keepdims=True), step + moved, step)
        stops = (share == first) & (first < 1)
        if not stops.any():
            break
        step = np.where(stops, -away, step)
        rests = rests | stops
    return step

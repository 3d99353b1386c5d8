"""Inverses of information matrices, finite differences, and least squares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayes_moe.core.zero_sum import ZeroSumBasis

LEAST_CURVATURE = 0.05
"""Least curvature in :func:`rough_inverse`, where that of a prior is 1."""
DIFFERENCE_STEP = 1e-5
"""Step of central differences, relative to the coordinate: near the cube root of the rounding error
of doubles (6e-6), where truncation and rounding contribute equally."""

CURVATURE_TOLERANCE = 1e-5
"""Share of the largest curvature below which a direction counts as flat: well above the errors of
second derivatives that are differences of gradients."""

LEAST_SHARE = -1.0
"""Least count of a direction as a parameter; less is a clear minimum of the likelihood there,
which the prior alone makes a maximum."""


def inverse(matrix: np.ndarray) -> np.ndarray | None:
    """Inverse of a positive definite matrix; None if it is not so to working precision."""
    if not np.isfinite(matrix).all():
        return None
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix / np.multiply.outer(scale, scale))
    if not values.min() > 1e-12 * values.max():
        return None
    inverted: np.ndarray = (vectors / values) @ vectors.T / np.multiply.outer(scale, scale)
    return inverted


def unmixed(mixing: np.ndarray | ZeroSumBasis, outputs: np.ndarray) -> np.ndarray:
    """Solution ``internal`` (..., internal, term) of ``outputs = mixing.T @ internal``.

    ``outputs`` are (..., output, term) and ``mixing`` (internal, output), with orthogonal rows.
    """
    if isinstance(mixing, ZeroSumBasis):
        return mixing.unmixed(outputs)
    internal: np.ndarray = np.matmul(mixing / (mixing**2).sum(axis=1, keepdims=True), outputs)
    return internal


def least_squares(
    features: np.ndarray, target: np.ndarray, ridge: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Minimiser (output, feature) of ``w |target - coef features'|^2 + ridge |coef|^2``.

    ``features`` are (obs, feature), ``target`` and ``weights`` (output, obs).
    """
    if weights is not None:
        roots = np.sqrt(weights)
        outputs = [
            least_squares(root[:, None] * features, (root * values)[None], ridge)
            for root, values in zip(roots, target, strict=True)
        ]
        return np.concatenate(outputs)
    # The ridge as further rows: the normal equations would square the condition number.
    size = features.shape[1]
    augmented = np.concatenate([features, np.sqrt(ridge) * np.eye(size)])
    values = np.concatenate([target.T, np.zeros((size, len(target)))])
    coefficients: np.ndarray = np.linalg.lstsq(augmented, values)[0].T
    return coefficients


def semi_inverse(matrix: np.ndarray, n_invariant_directions: int) -> np.ndarray | None:
    """Pseudo-inverse of a matrix that is positive definite but for its flat directions.

    None if more than ``n_invariant_directions`` are flat, or a curvature is negative.
    """
    if n_invariant_directions == 0 or not np.isfinite(matrix).all():
        return inverse(matrix)
    values, vectors = np.linalg.eigh(matrix)
    curved = values > CURVATURE_TOLERANCE * values.max()
    n_flat = (~curved).sum()
    if n_flat > n_invariant_directions or values.min() < -CURVATURE_TOLERANCE * values.max():
        return None
    inverted: np.ndarray = (vectors[:, curved] / values[curved]) @ vectors[:, curved].T
    return inverted


def information_ratio(likelihood: np.ndarray, covariance: np.ndarray | None) -> float:
    """Trace of the likelihood's information by the inverse of the whole.

    Without a prior it is the number of coordinates that are not fixed; a coefficient that its prior
    determines adds nothing. NaN without an inverse, and where the likelihood has a clear
    minimum in some direction, which the prior alone makes a maximum: it would count below zero.
    """
    if covariance is None:
        return float("nan")
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    units = np.multiply.outer(scale, scale)
    values, vectors = np.linalg.eigh(covariance / units)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    shares = np.linalg.eigvalsh(root.T @ (likelihood * units) @ root)
    return float((likelihood * covariance).sum()) if shares.min() > LEAST_SHARE else float("nan")


def rough_inverse(information: np.ndarray) -> np.ndarray:
    """Inverse of an information that need not be positive definite.

    Directions with a curvature of at most ``LEAST_CURVATURE`` have variance 1.
    """
    curvature, vectors = np.linalg.eigh(np.nan_to_num(information))
    curvature = np.where(curvature > LEAST_CURVATURE, curvature, 1.0)
    inverse: np.ndarray = (vectors / curvature) @ vectors.T
    return inverse


def differences(
    function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """Central differences (coordinate, value) by the coordinates ``where`` of ``x``.

    ``function`` maps points (point, coordinate) to values (point, value).
    """
    steps = DIFFERENCE_STEP * np.maximum(1.0, np.abs(x[where]))
    moved = np.zeros((len(where), x.size))
    moved[np.arange(len(where)), where] = steps
    after, before = np.split(function(np.concatenate([x + moved, x - moved])), 2)
    slopes: np.ndarray = (after - before) / (2 * steps[:, None])
    return slopes

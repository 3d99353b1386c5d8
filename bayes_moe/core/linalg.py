"""Inverses of information matrices, finite differences, and least squares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def inverse(matrix: np.ndarray) -> np.ndarray | None:
    """Inverse of a positive definite matrix; None if it is not so to working precision."""
    if not np.isfinite(matrix).all():
        return None
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix / np.multiply.outer(scale, scale))
    if not values.min() > 1e-12 * values.max():
        return None
    found: np.ndarray = (vectors / values) @ vectors.T / np.multiply.outer(scale, scale)
    return found


def unmixed(mixing: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Internal rows (..., internal, term) of ``rows = mixing.T @ internal`` (..., row, term).

    Rows of ``mixing`` are orthogonal.
    """
    found: np.ndarray = np.matmul(mixing / (mixing**2).sum(axis=1, keepdims=True), rows)
    return found


def least_squares(
    features: np.ndarray, target: np.ndarray, ridge: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients (row, feature) of least ``w |target - coef features'|^2 + ridge |coef|^2``.

    ``features`` are (obs, feature), ``target`` and ``weights`` (row, obs).
    """
    if weights is not None:
        roots = np.sqrt(weights)
        rows = [
            least_squares(root[:, None] * features, (root * wanted)[None], ridge)
            for root, wanted in zip(roots, target, strict=True)
        ]
        return np.concatenate(rows)
    size = features.shape[1]
    whole = np.concatenate([features, np.sqrt(ridge) * np.eye(size)])
    wanted = np.concatenate([target.T, np.zeros((size, len(target)))])
    found: np.ndarray = np.linalg.lstsq(whole, wanted)[0].T
    return found


DIFFERENCE = 1e-5


FLAT = 1e-5
"""Curvature below which a direction is flat, of the largest."""


def semi_inverse(matrix: np.ndarray, flat: int) -> np.ndarray | None:
    """Inverse of a matrix but for at most so many flat directions; None if it has others."""
    if flat == 0 or not np.isfinite(matrix).all():
        return inverse(matrix)
    values, vectors = np.linalg.eigh(matrix)
    steep = values > FLAT * values.max()
    if (~steep).sum() > flat or values.min() < -FLAT * values.max():
        return None
    found: np.ndarray = (vectors[:, steep] / values[steep]) @ vectors[:, steep].T
    return found


def differences(
    function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """Slopes (coordinate, value) along some coordinates, by central differences."""
    rows = []
    for j in where:
        step = np.zeros_like(x)
        step[j] = DIFFERENCE * max(1.0, abs(x[j]))
        rows.append((function(x + step) - function(x - step)) / (2 * step[j]))
    return np.array(rows)

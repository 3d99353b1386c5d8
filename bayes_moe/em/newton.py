"""Newton steps on an information matrix that may be indefinite."""

from __future__ import annotations

import numpy as np

from bayes_moe.em.objective import Evaluation

ACCEPTED_GRADIENT = 1e-6
LEAST_GAIN = 1e-12
"""Predicted gain of a Newton step, in units of ``1 + |f|``, that is below rounding error."""
NULL = 1e-13
"""Eigenvalue, in units of the largest and of the dimension, that counts as zero."""
CURVATURE_TOLERANCE = 1e-6
"""Curvature, in nats per squared unit of the coordinates, that counts as zero."""


def newton_step(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Newton steps (point, coordinate), uphill also where the objective is not concave.

    Besides, whether it is concave (point,), and whether it is and the predicted gain is below
    rounding error (point,): the gradient's norm alone cannot decide, since a large curvature
    multiplies rounding errors.
    """
    scale, matrix, good = _scaled(evaluation.curvature)
    values, vectors = np.linalg.eigh(matrix)
    largest = np.abs(values).max(axis=1, keepdims=True)
    null = np.abs(values) <= NULL * len(values[0]) * largest
    along = np.einsum("bij,bi->bj", vectors, evaluation.gradient * scale)
    inverse = np.where(null, 0.0, 1 / np.where(null, 1.0, np.abs(values)))
    step = np.einsum("bij,bj->bi", vectors, along * inverse) * scale
    # Along each eigenvector, in units of the coordinates.
    curvature = values / np.maximum(((scale[:, :, None] * vectors) ** 2).sum(axis=1), 1e-300)
    concave = ((values >= -1e-9 * largest) | (curvature >= -CURVATURE_TOLERANCE)).all(axis=1) & good
    size = 1 + np.abs(evaluation.value)
    settled = concave & ((along**2 * inverse).sum(axis=1) <= 2 * LEAST_GAIN * size)
    settled &= np.abs(along * null).max(axis=1) <= ACCEPTED_GRADIENT * size
    return np.where(good[:, None], step, np.nan), concave, settled


def modulus(matrix: np.ndarray) -> np.ndarray:
    """Matrices (point, coordinate, coordinate) with the absolute values of their eigenvalues.

    Zero eigenvalues become small positive ones.
    """
    scale, scaled, good = _scaled(matrix)
    values, vectors = np.linalg.eigh(scaled)
    values = np.abs(values) + NULL * np.abs(values).max(axis=1, keepdims=True) + 1e-300
    positive: np.ndarray = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    positive = positive / scale[:, :, None] / scale[:, None, :]
    return np.where(good[:, None, None], positive, np.eye(matrix.shape[1]))


def first_order_gain(evaluation: Evaluation, step: np.ndarray) -> np.ndarray:
    """Gain (point,) of steps to first order."""
    gain: np.ndarray = np.einsum("bi,bi->b", evaluation.gradient, step)
    return gain


def _scaled(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales to a diagonal of ones (or minus ones), scaled matrices, and which are finite.

    Matrices that are not finite become zero.
    """
    scale = 1 / np.sqrt(np.maximum(np.abs(np.einsum("bii->bi", matrix)), 1e-300))
    scale = np.where(np.isfinite(scale) & (scale < 1e100), scale, 1.0)
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    good = np.isfinite(scaled).all(axis=(1, 2))
    return scale, np.where(good[:, None, None], scaled, 0.0), good

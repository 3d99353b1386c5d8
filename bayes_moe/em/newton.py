"""Newton steps on an information matrix that may be indefinite."""

from __future__ import annotations

import numpy as np

from bayes_moe.em.objective import Evaluation

ACCEPTED_GRADIENT = 1e-6


PROMISE = 1e-12
"""Gain that a Newton step promises, in units of ``1 + |f|``, below which rounding decides."""


NULL = 1e-13


FLAT = 1e-6
"""Curvature, in nats a squared unit of the coordinates, that is as good as none."""


def newton_step(found: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Newton steps, uphill also where the objective is not concave.

    Besides, where it is concave, and where, being so, it promises no gain beyond rounding: the
    gradient's norm alone cannot tell, since a large curvature multiplies what rounding leaves.
    """
    scale, matrix, good = _scaled(found.curvature)
    values, vectors = np.linalg.eigh(matrix)
    largest = np.abs(values).max(axis=1, keepdims=True)
    null = np.abs(values) <= NULL * len(values[0]) * largest
    along = np.einsum("bij,bi->bj", vectors, found.gradient * scale)
    inverse = np.where(null, 0.0, 1 / np.where(null, 1.0, np.abs(values)))
    step = np.einsum("bij,bj->bi", vectors, along * inverse) * scale
    # The curvature along an eigenvector, in units of the coordinates.
    bend = values / np.maximum(((scale[:, :, None] * vectors) ** 2).sum(axis=1), 1e-300)
    concave = ((values >= -1e-9 * largest) | (bend >= -FLAT)).all(axis=1) & good
    size = 1 + np.abs(found.value)
    settled = concave & ((along**2 * inverse).sum(axis=1) <= 2 * PROMISE * size)
    settled &= np.abs(along * null).max(axis=1) <= ACCEPTED_GRADIENT * size
    return np.where(good[:, None], step, np.nan), concave, settled


def modulus(matrix: np.ndarray) -> np.ndarray:
    """Return matrices with the absolute values of their eigenvalues, none of them zero."""
    scale, scaled, good = _scaled(matrix)
    values, vectors = np.linalg.eigh(scaled)
    values = np.abs(values) + NULL * np.abs(values).max(axis=1, keepdims=True) + 1e-300
    found: np.ndarray = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    found = found / scale[:, :, None] / scale[:, None, :]
    return np.where(good[:, None, None], found, np.eye(matrix.shape[1]))


def _scaled(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale matrices to a diagonal of ones (or minus ones); say which are finite, zero others."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.einsum("bii->bi", matrix)), 1e-300))
    scale = np.where(np.isfinite(scale) & (scale < 1e100), scale, 1.0)
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    good = np.isfinite(scaled).all(axis=(1, 2))
    return scale, np.where(good[:, None, None], scaled, 0.0), good

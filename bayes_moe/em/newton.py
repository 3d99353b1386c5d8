"""Newton steps on an information matrix that may be indefinite."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from bayes_moe.em.objective import Evaluation
from bayes_moe.em.parameter_vector import ParameterVector

ACCEPTED_GRADIENT = 1e-6
LEAST_GAIN = 1e-12
"""Predicted gain of a Newton step, in units of ``1 + |f|``, that is below rounding error."""
NULL = 1e-13
"""Eigenvalue, in units of the largest and of the dimension, that counts as zero."""
CURVATURE_TOLERANCE = 1e-6
"""Curvature, in nats per squared unit of the coordinates, that counts as zero."""


DEFINITE = 1e-8
"""Eigenvalue of a scaled matrix from which Cholesky's factor shows that it is definite."""


def reduced(vector: ParameterVector, evaluation: Evaluation) -> Evaluation:
    """The evaluation with gradient and curvature by the free coordinates of a vector."""
    constraint = vector.constraint
    if constraint is None:
        return evaluation
    return replace(
        evaluation,
        gradient=constraint.gradient(evaluation.gradient),
        curvature=constraint.curvature(evaluation.curvature),
    )


def reduced_gradient(vector: ParameterVector, gradient: np.ndarray) -> np.ndarray:
    """Gradients (point, free) by the free coordinates of a vector."""
    return gradient if vector.constraint is None else vector.constraint.gradient(gradient)


def expanded(vector: ParameterVector, step: np.ndarray) -> np.ndarray:
    """Steps (point, coordinate) from those of the free coordinates of a vector."""
    return step if vector.constraint is None else vector.constraint.step(step)


def newton_step(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Newton steps (point, coordinate), uphill also where the objective is not concave.

    Besides, whether it is concave (point,), and whether it is and the predicted gain is below
    rounding error (point,): the gradient's norm alone cannot decide, since a large curvature
    multiplies rounding errors. Matrices that are not clearly definite have negative eigenvalues
    reversed and null ones left out.
    """
    scale, matrix, good = _scaled(evaluation.curvature)
    gradient, step = evaluation.gradient * scale, np.full(scale.shape, np.nan)
    concave, gain = good & _definite(matrix), np.zeros(len(scale))
    null_slope = np.zeros(len(scale))
    easy, hard = np.flatnonzero(concave), np.flatnonzero(~concave & good)
    if easy.size:
        step[easy] = np.linalg.solve(matrix[easy], gradient[easy, :, None])[..., 0]
        gain[easy] = np.einsum("bi,bi->b", step[easy], gradient[easy])
    if hard.size:
        step[hard], concave[hard], gain[hard], null_slope[hard] = _eigen_step(
            matrix[hard], gradient[hard], scale[hard]
        )
    size = 1 + np.abs(evaluation.value)
    settled = concave & (gain <= 2 * LEAST_GAIN * size) & (null_slope <= ACCEPTED_GRADIENT * size)
    return step * scale, concave, settled


def _eigen_step(
    matrix: np.ndarray, gradient: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps (point, coordinate) in scaled coordinates, from eigenvalues of any sign.

    Besides, whether a point is concave, twice the predicted gain, and the largest slope along a
    null eigenvector, all (point,).
    """
    values, vectors = np.linalg.eigh(matrix)
    largest = np.abs(values).max(axis=1, keepdims=True)
    null = np.abs(values) <= NULL * len(values[0]) * largest
    along = np.einsum("bij,bi->bj", vectors, gradient)
    inverse = np.where(null, 0.0, 1 / np.where(null, 1.0, np.abs(values)))
    step = np.einsum("bij,bj->bi", vectors, along * inverse)
    # Along each eigenvector, in units of the coordinates.
    curvature = values / np.maximum(((scale[:, :, None] * vectors) ** 2).sum(axis=1), 1e-300)
    concave = ((values >= -1e-9 * largest) | (curvature >= -CURVATURE_TOLERANCE)).all(axis=1)
    return step, concave, (along**2 * inverse).sum(axis=1), np.abs(along * null).max(axis=1)


def modulus(matrix: np.ndarray) -> np.ndarray:
    """Matrices (point, coordinate, coordinate) with the absolute values of their eigenvalues.

    Zero eigenvalues become small positive ones.
    """
    scale, scaled, good = _scaled(matrix)
    hard = np.flatnonzero(~_definite(scaled))
    if hard.size:
        values, vectors = np.linalg.eigh(scaled[hard])
        values = np.abs(values) + NULL * np.abs(values).max(axis=1, keepdims=True) + 1e-300
        scaled[hard] = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    positive = scaled / scale[:, :, None] / scale[:, None, :]
    return np.where(good[:, None, None], positive, np.eye(matrix.shape[1]))


def _definite(matrix: np.ndarray) -> np.ndarray:
    """Which scaled matrices (point, coordinate, coordinate) are definite beyond doubt (point,).

    Cholesky's factor exists of the matrix less ``DEFINITE`` times the identity; the largest
    eigenvalue is at most the size, so that no eigenvalue counts as null.
    """
    size = matrix.shape[1]
    less = max(DEFINITE, 2 * NULL * size**2)
    shifted = matrix - less * np.eye(size)
    definite = (np.einsum("bii->bi", shifted) > 0).all(axis=1)
    with suppress(np.linalg.LinAlgError):
        np.linalg.cholesky(shifted[definite])
        return definite
    # One failure fails the whole batch.
    for j in np.flatnonzero(definite):
        try:
            np.linalg.cholesky(shifted[j])
        except np.linalg.LinAlgError:
            definite[j] = False
    return definite


def first_order_gain(evaluation: Evaluation, step: np.ndarray) -> np.ndarray:
    """Gain (point,) of steps to first order."""
    gain: np.ndarray = np.einsum("bi,bi->b", evaluation.gradient, step)
    return gain


def _scaled(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales to a diagonal of ones (or minus ones), scaled matrices, and which are finite.

    Matrices that are not finite become zero.
    """
    scale = 1 / np.sqrt(np.maximum(np.abs(np.einsum("bii->bi", matrix)), 1e-300))
    scale = np.where((scale > 0) & (scale < 1e100), scale, 1.0)
    with np.errstate(invalid="ignore"):
        scaled = matrix * scale[:, :, None] * scale[:, None, :]
    good = np.isfinite(scaled).all(axis=(1, 2))
    return scale, np.where(good[:, None, None], scaled, 0.0), good

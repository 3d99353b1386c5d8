"""Newton steps: the same as by eigendecomposition, whatever the matrix."""

import numpy as np
import pytest

from bayes_moe.em import newton
from bayes_moe.em.newton import modulus, newton_step
from bayes_moe.em.objective import Evaluation

KINDS = ("definite", "indefinite", "singular", "nearly singular", "badly scaled", "not finite")


def matrix_of(kind, size, rng):
    """A random symmetric matrix."""
    root = rng.normal(size=(size, size + 3))
    if kind == "singular":
        root[size // 2] = 2 * root[0]
        root[-1] = 0.0
    if kind == "nearly singular":
        root[size // 2] = root[0] + rng.choice([1e-3, 1e-4, 1e-5, 1e-7]) * root[-1]
    signs = np.ones(size + 3)
    if kind == "indefinite":
        signs[:3] = -1
    matrix = (root * signs) @ root.T
    if kind in ("badly scaled", "nearly singular"):
        units = 10.0 ** rng.uniform(-8, 8, size)
        matrix *= np.multiply.outer(units, units)
    if kind == "not finite":
        matrix[0, -1] = matrix[-1, 0] = rng.choice([np.nan, np.inf])
    return matrix


def mixed(size, seed):
    """A batch of evaluations of all kinds, with steps of every length."""
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS for _ in range(6)]
    rng.shuffle(kinds)
    curvature = np.array([matrix_of(kind, size, rng) for kind in kinds])
    gradient = np.einsum(
        "bij,bj->bi", np.nan_to_num(curvature, posinf=0.0), rng.normal(size=(len(kinds), size))
    )
    gradient *= rng.choice([1.0, 1e-4, 1e-7, 1e-9, 0.0], size=(len(kinds), 1))
    rest = (gradient, curvature, *2 * [np.ones((len(kinds), 1))], np.zeros(len(kinds)))
    value = rng.normal(size=len(kinds)) * 1000
    return kinds, Evaluation(value, gradient, curvature, *rest)


def by_eigenvalues(evaluation):
    """The formula for all matrices: step, concave, settled, and the ratio of used eigenvalues."""
    scale, matrix, good = newton._scaled(evaluation.curvature)
    values, vectors = np.linalg.eigh(matrix)
    largest = np.abs(values).max(axis=1, keepdims=True)
    null = np.abs(values) <= newton.NULL * len(values[0]) * largest
    along = np.einsum("bij,bi->bj", vectors, evaluation.gradient * scale)
    inverse = np.where(null, 0.0, 1 / np.where(null, 1.0, np.abs(values)))
    step = np.einsum("bij,bj->bi", vectors, along * inverse) * scale
    curvature = values / np.maximum(((scale[:, :, None] * vectors) ** 2).sum(axis=1), 1e-300)
    concave = (values >= -1e-9 * largest) | (curvature >= -newton.CURVATURE_TOLERANCE)
    concave = concave.all(axis=1) & good
    size = 1 + np.abs(evaluation.value)
    gain = (along**2 * inverse).sum(axis=1)
    settled = concave & (gain <= 2 * newton.LEAST_GAIN * size)
    settled &= np.abs(along * null).max(axis=1) <= newton.ACCEPTED_GRADIENT * size
    ratio = (largest * inverse).max(axis=1)
    return np.where(good[:, None], step, np.nan), concave, settled, ratio


def absolute(matrix):
    """The formula for all matrices of :func:`modulus`."""
    scale, scaled, good = newton._scaled(matrix)
    values, vectors = np.linalg.eigh(scaled)
    values = np.abs(values) + newton.NULL * np.abs(values).max(axis=1, keepdims=True) + 1e-300
    positive = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    positive = positive / scale[:, :, None] / scale[:, None, :]
    return np.where(good[:, None, None], positive, np.eye(matrix.shape[1])), scale


@pytest.mark.parametrize("size", [1, 4, 23, 57])
@pytest.mark.parametrize("seed", range(4))
def test_steps_are_those_by_eigenvalues(size, seed):
    _, evaluation = mixed(size, seed)
    step, concave, settled = newton_step(evaluation)
    expected, expected_concave, expected_settled, ratio = by_eigenvalues(evaluation)
    assert (concave == expected_concave).all()
    assert (settled == expected_settled).all()
    assert (np.isnan(step) == np.isnan(expected)).all()
    scale = newton._scaled(evaluation.curvature)[0]
    length = np.linalg.norm(expected / scale, axis=1)
    error = np.linalg.norm((step - expected) / scale, axis=1)
    finite = np.isfinite(length)
    # Rounding errors of both formulas grow with the ratio of eigenvalues.
    assert (error <= np.maximum(1e-10, 1e-14 * ratio) * length)[finite].all()


@pytest.mark.parametrize("size", [1, 4, 23, 57])
def test_moduli_are_those_by_eigenvalues(size):
    _, evaluation = mixed(size, 7)
    found, (expected, scale) = modulus(evaluation.curvature), absolute(evaluation.curvature)
    unit = scale[:, :, None] * scale[:, None, :]
    finite = np.isfinite(evaluation.curvature).all(axis=(1, 2))
    assert (found[~finite] == np.eye(size)).all()
    np.testing.assert_allclose((found * unit)[finite], (expected * unit)[finite], atol=1e-11 * size)


def test_only_doubtful_matrices_are_decomposed(monkeypatch):
    kinds, evaluation = mixed(23, 1)
    decomposed, eigh = [], np.linalg.eigh

    def counted(matrices):
        decomposed.append(len(matrices))
        return eigh(matrices)

    monkeypatch.setattr(np.linalg, "eigh", counted)
    newton_step(evaluation)
    doubtful = sum(kind in ("indefinite", "singular", "nearly singular") for kind in kinds)
    assert 12 <= sum(decomposed) <= doubtful

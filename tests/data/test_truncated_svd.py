"""Singular vectors of sparse matrices, held to NumPy's of the same arrays."""

import numpy as np
import pytest
from scipy import sparse

from bayes_moe.data.truncated_svd import SMALL, right_directions


def matrix(shape, rank=None):
    """A sparse matrix whose first singular values are apart."""
    rng = np.random.default_rng(1)
    found = sparse.random(*shape, density=0.02, rng=rng, format="csr")
    scale = np.r_[np.linspace(30, 3, 8), np.ones(shape[1] - 8)]
    found = sparse.csr_array(found.multiply(scale[None]))
    return found if rank is None else found[np.arange(shape[0]) % rank]


@pytest.mark.parametrize("shape", [(900, 700), (700, 900), (900, 50), (50, 900)])
def test_directions_are_those_of_a_dense_decomposition(shape):
    x = matrix(shape)
    found = right_directions(x, 5)
    _, sizes, exact = np.linalg.svd(x.toarray(), full_matrices=False)
    exact = exact[:5] * np.sign((exact[:5] * found).sum(axis=1))[:, None]
    atol = 1e-9 if min(shape) <= SMALL else 2e-4
    np.testing.assert_allclose(found, exact, atol=atol)
    np.testing.assert_allclose(found @ found.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(x @ found.T, axis=0), sizes[:5], rtol=1e-6)
    assert (np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], 1) > 0).all()
    np.testing.assert_array_equal(found, right_directions(x, 5))


@pytest.mark.parametrize("shape", [(900, 700), (80, 90)])
def test_there_are_no_more_directions_than_the_rank(shape):
    x = matrix(shape, rank=12)
    rank = np.linalg.matrix_rank(x.toarray())
    assert right_directions(x, 30).shape == (rank, shape[1])

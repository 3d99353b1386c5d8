"""Bases of numbers that sum to zero, held to their matrices."""

import numpy as np
import pytest
from scipy.linalg import helmert

from bayes_moe.core.errors import SpecError
from bayes_moe.core.linalg import unmixed
from bayes_moe.core.zero_sum import ZeroSumBasis, zero_sum_basis


def test_products_are_those_of_the_matrix():
    rng = np.random.default_rng(0)
    matrix, basis = np.kron(helmert(7), np.eye(3)), ZeroSumBasis(7, 3)
    assert basis.shape == matrix.shape
    assert len(basis) == len(matrix)
    internal = rng.standard_normal((2, 4, 18))
    np.testing.assert_allclose(internal @ basis, internal @ matrix, atol=1e-14)
    outputs = rng.standard_normal((2, 21, 4))
    np.testing.assert_allclose(unmixed(basis, outputs), unmixed(matrix, outputs), atol=1e-14)


def test_only_large_bases_have_no_matrix():
    np.testing.assert_array_equal(zero_sum_basis(5, 2), np.kron(helmert(5), np.eye(2)))
    large = zero_sum_basis(2000, 2)
    assert isinstance(large, ZeroSumBasis)
    for use in (lambda: np.asarray(large), lambda: large.T):
        with pytest.raises(SpecError, match="2000 classes by 2 experts need the method 'em'"):
            use()

"""Branches of gates: the softmax with its logarithm."""

import numpy as np
import pytest

from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.em.gate_branches import softmax


@pytest.mark.parametrize("size", [1.0, 30.0, 800.0, 1e6])
def test_softmax_is_the_exponential_of_its_logarithm(size):
    eta = np.random.default_rng(0).normal(size=(3, 4, 50)) * size
    logarithm, share = softmax(eta)
    expected = log_softmax(eta, NUMERIC)
    # Rounding errors of the general formula grow with eta.
    np.testing.assert_allclose(logarithm, expected, rtol=1e-13, atol=1e-15 * size)
    np.testing.assert_allclose(share, np.exp(expected), atol=1e-15 * size)
    np.testing.assert_allclose(share.sum(axis=1), 1.0, rtol=1e-14)

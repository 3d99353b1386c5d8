"""Tests of inverses of information matrices and what is made of them."""

import numpy as np
import pytest

from bayes_moe.core.linalg import information_ratio


@pytest.mark.parametrize("seed", range(5))
def test_information_ratio_is_a_trace_or_unknown(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 6, 6))
    likelihood, prior = a @ a.T, b @ b.T + np.eye(6)
    expected = np.trace(likelihood @ np.linalg.inv(likelihood + prior))
    found = information_ratio(likelihood, np.linalg.inv(likelihood + prior))
    assert found == pytest.approx(expected, rel=1e-9)
    assert information_ratio(likelihood, np.linalg.inv(likelihood)) == pytest.approx(6)
    assert np.isnan(information_ratio(likelihood, None))
    turned = np.linalg.inv(np.linalg.cholesky(likelihood + prior)).T
    minimum = likelihood - 2 * np.outer(v := (likelihood + prior) @ turned[:, 0], v)
    assert np.isnan(information_ratio(minimum, np.linalg.inv(likelihood + prior)))

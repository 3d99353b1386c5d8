"""Sums by class of constant class probabilities: derivatives and the M-step, held to others."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import log_softmax

from bayes_moe.em import class_mixture as module
from bayes_moe.em.class_mixture import best_log_odds, diagonal_curvature
from tests.support.class_mixtures import small_mixture


@pytest.fixture(scope="module")
def mixture():
    return small_mixture()


def test_gradient_is_that_of_differences(mixture):
    theta = 0.7 * np.random.default_rng(2).standard_normal(mixture.size)
    value, gradient, counts = mixture.evaluate(theta)
    assert value == mixture.evaluate(theta)[0]
    numeric = approx_fprime(theta, lambda x: mixture.evaluate(x)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, atol=2e-4)
    assert counts.sum() == pytest.approx(mixture.rows.weight)
    assert (diagonal_curvature(mixture, theta, counts) > 0).all()


def test_chunks_and_threads_change_nothing(mixture, monkeypatch):
    theta = np.random.default_rng(3).standard_normal(mixture.size)
    whole = mixture.evaluate(theta)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 30)
    monkeypatch.setattr(module, "SHARED_ROWS", 1)
    for found, expected in zip(small_mixture(cores=2).evaluate(theta), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 30.0, 1e5])
def test_m_step_is_the_maximum_that_scipy_finds(scale):
    counts = scale * np.random.default_rng(4).dirichlet(np.full(6, 0.3), size=2)
    counts[0, 2] = 0.0
    found = best_log_odds(counts, 1.5)
    np.testing.assert_allclose(found.sum(axis=1), 0.0, atol=1e-8)
    for own, eta in zip(counts, found, strict=True):

        def minus(at, own=own):
            return at @ at / (2 * 1.5**2) - own @ log_softmax(at)

        def slope(at, own=own):
            return at / 1.5**2 - own + own.sum() * np.exp(log_softmax(at))

        best = minimize(minus, np.zeros(6), jac=slope, method="BFGS", options={"gtol": 1e-9})
        assert minus(eta) <= best.fun + 1e-9 * (1 + abs(best.fun))
        np.testing.assert_allclose(slope(eta), 0.0, atol=1e-6 * (1 + scale))

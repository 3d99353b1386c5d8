"""Observed information of constant class probabilities, held to differences of gradients."""

import numpy as np

from bayes_moe.em.class_information import ClassInformation
from bayes_moe.em.class_search import class_search
from bayes_moe.em.multistart import SearchSettings
from tests.support.class_mixtures import small_mixture


def test_information_is_the_slope_of_the_gradient():
    mixture = small_mixture(rows=40)
    theta = 0.5 * np.random.default_rng(5).standard_normal(mixture.size)
    found = ClassInformation.at(mixture, theta)
    numeric = np.empty((mixture.size, mixture.size))
    for j, step in enumerate(1e-5 * np.eye(mixture.size)):
        after, before = mixture.evaluate(theta + step)[1], mixture.evaluate(theta - step)[1]
        numeric[j] = (before - after) / 2e-5
    np.testing.assert_allclose(found.posterior, numeric, atol=1e-6)


def test_covariance_is_of_log_odds_that_sum_to_zero():
    mixture = small_mixture(rows=40)
    modes = class_search(mixture, SearchSettings(restarts=2), np.random.default_rng(6))
    covariance = ClassInformation.at(mixture, modes.theta[0]).covariance()
    for k in range(mixture.experts):
        start = mixture.gate_size + k * mixture.classes
        own = covariance[start : start + mixture.classes]
        np.testing.assert_allclose(own.sum(axis=0), 0.0, atol=1e-10)


def test_large_models_have_none(monkeypatch):
    mixture = small_mixture(rows=40)
    monkeypatch.setattr("bayes_moe.em.class_information.LARGEST_INFORMATION", 10)
    assert ClassInformation.at(mixture, np.zeros(mixture.size)) is None

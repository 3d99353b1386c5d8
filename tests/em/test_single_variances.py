"""Variances by conjugate gradients beside the inverse of the information."""

import numpy as np
import pytest
from scipy import sparse

import bayes_moe as bm
from bayes_moe.em import single_variances
from bayes_moe.em.curvature_products import CurvatureProducts
from bayes_moe.em.modes import covariance
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector


@pytest.fixture(scope="module")
def at_mode():
    """An objective of two experts of a sparse column, and its mode."""
    rng = np.random.default_rng(1)
    n = 150
    x = sparse.random_array((n, 12), density=0.3, rng=rng, format="csr")
    z = rng.normal(size=n)
    eta = np.where(z > 0, 1, -1) * (x @ rng.normal(size=12)) * 3
    table = {"y": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int), "x": x, "z": z}
    priors = {"p_coef": bm.Prior("Normal", mu=0, sigma=2)}
    spec = bm.mixture_of_experts("y ~ x", gate="~ z", family="bernoulli", priors=priors)
    fit = bm.fit(spec, table, "em", random_seed=1, restarts=2, progressbar=False)
    vector = parameter_vector(fit.spec, fit.design)
    values = {name: fit.idata.posterior[name].values[0] for name in fit.spec.variables}
    return Objective(vector), vector.points(values)[0]


def test_variances_are_those_of_the_inverse(at_mode, monkeypatch):
    objective, theta = at_mode
    products = CurvatureProducts(objective, theta, Curvature.OBSERVED)
    matrix = covariance(objective, theta)
    functions = np.random.default_rng(0).normal(size=(7, objective.size))
    expected = np.einsum("fc,cd,fd->f", functions, matrix, functions)
    np.testing.assert_allclose(single_variances.variances(products, functions), expected, rtol=1e-6)
    monkeypatch.setattr(single_variances, "ELEMENTS", 1)  # one system at a time
    found = single_variances.variances(products, functions)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert single_variances.variances(products, functions[:0]).shape == (0,)


def test_functions_of_nothing_have_no_variance(at_mode):
    products = CurvatureProducts(*at_mode, Curvature.OBSERVED)
    assert single_variances.variances(products, np.zeros((1, at_mode[0].size))) == [0.0]


def test_no_variance_where_the_iterations_do_not_suffice(at_mode, monkeypatch):
    products = CurvatureProducts(*at_mode, Curvature.OBSERVED)
    monkeypatch.setattr(single_variances, "ITERATIONS", 1)
    functions = np.random.default_rng(0).normal(size=(2, at_mode[0].size))
    assert np.isnan(single_variances.variances(products, functions)).all()


def test_no_variance_along_a_direction_without_curvature(at_mode, monkeypatch):
    products = CurvatureProducts(*at_mode, Curvature.OBSERVED)
    monkeypatch.setattr(products, "times_each", lambda steps: -steps)
    assert np.isnan(single_variances.variances(products, np.eye(at_mode[0].size)[:2])).all()

"""Shared and fixed parameters in EM: optima by scipy, nested models, derivatives."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import norm

import bayes_moe as bm
from bayes_moe.em.newton import expanded, reduced
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from tests.support.constrained import MODELS, plain, table


@pytest.fixture(scope="module")
def rows():
    return table()


def fitted(spec, rows, objective="posterior"):
    return bm.fit(spec, rows, method="em", objective=objective, random_seed=1, progressbar=False)


def figure(fit, name):
    return float(fit.idata["fit"][name])


def estimate(fit, name):
    return fit.idata["posterior"][name].values[0, 0]


def some_points(vector, count=2):
    rng = np.random.default_rng(3)
    return vector.constraint.project(0.3 * rng.normal(size=(count, vector.size)))


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_by_free_coordinates_are_those_of_differences(name, rows):
    spec = MODELS[name]
    vector = parameter_vector(spec, spec.design(rows), jacobian=True)
    objective = Objective(vector)
    theta = some_points(vector)
    found = reduced(vector, objective.evaluate(theta, Curvature.OBSERVED))
    steps = expanded(vector, 1e-5 * np.eye(len(vector.constraint.at)))
    for j, step in enumerate(steps):
        up, down = (objective.evaluate(theta + sign * step, Curvature.OBSERVED) for sign in (1, -1))
        slope = (up.value - down.value) / 2e-5
        np.testing.assert_allclose(found.gradient[:, j], slope, rtol=2e-5, atol=2e-5)
        bend = (reduced(vector, down).gradient - reduced(vector, up).gradient) / 2e-5
        scale = np.abs(found.curvature).max()
        np.testing.assert_allclose(found.curvature[:, j], bend, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("name", MODELS)
def test_points_are_those_of_their_reported_variables(name, rows):
    spec = MODELS[name]
    vector = parameter_vector(spec, spec.design(rows))
    theta = some_points(vector)
    np.testing.assert_allclose(vector.points(vector.variables(theta)), theta, atol=1e-12)


def minus_log_likelihood(weight, intercepts, slopes, sigmas, rows):
    log_weights = np.log([weight, 1 - weight])
    means = np.add.outer(intercepts, np.zeros(len(rows))) + np.outer(slopes, rows.x)
    each = log_weights[:, None] + norm.logpdf(rows.y.values, means, np.reshape(sigmas, (-1, 1)))
    return -logsumexp(each, axis=0).sum()


def expit(u):
    return 1 / (1 + np.exp(-u))


BY_HAND = {
    # constraints -> function of the free values: weight, intercepts, slopes, sigmas; and a start
    "shared scale": (
        {"shared": ("sigma",)},
        lambda u: (expit(u[0]), u[1:3], u[3:5], [np.exp(u[5])] * 2),
        [0.4, -1.5, 1.5, 2, 2, -0.7],
    ),
    "shared slope": (
        {"shared": ("mu_coef[x]",)},
        lambda u: (expit(u[0]), u[1:3], [u[3]] * 2, np.exp(u[4:6])),
        [0.4, -1.5, 1.5, 2, -0.7, -0.7],
    ),
    "fixed": (
        {"fixed": {"weights": (0.7, 0.3), "sigma[1]": 0.6, "mu_coef[x]": 1.9}},
        lambda u: (0.7, u[:2], [1.9, 1.9], [np.exp(u[2]), 0.6]),
        [-1.5, 1.5, -0.7],
    ),
    "fixed intercept": (
        {"fixed": {"mu_coef[0, Intercept]": -1.2}},
        lambda u: (expit(u[0]), [-1.2, u[1]], u[2:4], np.exp(u[4:6])),
        [0.4, 1.5, 2, 2, -0.7, -0.7],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_maximum_likelihood_is_that_of_scipy(name, rows):
    constraints, values, start = BY_HAND[name]
    fit = fitted(plain(**constraints), rows, "likelihood")
    options = {"gtol": 1e-7}
    found = minimize(
        lambda u: minus_log_likelihood(*values(u), rows), start, method="BFGS", options=options
    )
    np.testing.assert_allclose(figure(fit, "log_likelihood"), -found.fun, rtol=1e-9)
    _, intercepts, slopes, sigmas = values(found.x)
    coef = estimate(fit, "mu_coef")
    np.testing.assert_allclose(coef[:, 0], intercepts, rtol=1e-4)
    np.testing.assert_allclose(coef[:, 1], slopes, rtol=1e-4)
    np.testing.assert_allclose(estimate(fit, "sigma"), sigmas, rtol=1e-4)
    assert figure(fit, "n_parameters") == len(start)


@pytest.mark.parametrize(
    ("constraints", "fewer"),
    [
        ({"shared": ("sigma",)}, 1),
        ({"shared": ("sigma", "mu_coef[x]")}, 2),
        ({"shared": ("mu_coef[x]",)}, 1),
        ({"fixed": {"sigma": 0.5}}, 2),
        ({"fixed": {"sigma[1]": 0.5, "mu_coef[0]": (-1.5, 2.0)}}, 3),
        ({"fixed": {"gate_coef[x]": 0.0}}, 1),
        ({"fixed": {"gate_coef": ((0.4, 0.0), (-0.4, 0.0))}}, 2),
    ],
)
def test_a_nested_model_is_no_likelier_and_has_fewer_parameters(constraints, fewer, rows):
    free = fitted(plain(gate="~ x"), rows, "likelihood")
    nested = fitted(plain(gate="~ x", **constraints), rows, "likelihood")
    assert figure(nested, "log_likelihood") < figure(free, "log_likelihood")
    assert figure(nested, "n_parameters") == figure(free, "n_parameters") - fewer


@pytest.mark.parametrize("constraints", [{"shared": ("mu_coef[x]", "sigma")}, {}])
def test_of_one_expert_nothing_is_shared(constraints, rows):
    fit = fitted(plain(experts=1, **constraints), rows)
    plain_fit = fitted(plain(experts=1), rows)
    for name in ("mu_coef", "sigma"):
        np.testing.assert_allclose(estimate(fit, name), estimate(plain_fit, name), rtol=1e-7)


def test_values_are_exact_and_held_ones_have_no_standard_error(rows):
    fixed = {"sigma[1]": 0.1 + 0.2, "mu_coef[0, x]": 1.9, "weights": (0.7, 0.3)}
    fit = fitted(plain(fixed=fixed), rows)
    errors = fit.idata["standard_error"]
    assert estimate(fit, "sigma")[1] == 0.1 + 0.2
    assert estimate(fit, "mu_coef")[0, 1] == 1.9
    assert fit.idata["modes"]["mu_coef"].values[0, 0, 1] == 1.9
    assert errors["sigma"].values[1] == errors["mu_coef"].values[0, 1] == 0
    assert not errors["gate_coef"].values.any()
    assert errors["sigma"].values[0] > 0
    weights = np.exp(estimate(fit, "gate_coef")[:, 0])
    np.testing.assert_allclose(weights / weights.sum(), (0.7, 0.3), rtol=1e-12)


def test_shared_values_and_their_errors_are_the_same_numbers(rows):
    fit = fitted(plain(shared=("sigma", "mu_coef[x]"), experts=3), rows)
    errors = fit.idata["standard_error"]
    assert np.ptp(estimate(fit, "sigma")) == np.ptp(estimate(fit, "mu_coef")[:, 1]) == 0
    np.testing.assert_allclose(errors["sigma"], errors["sigma"].values[0], rtol=1e-12)


def test_standard_errors_are_those_of_the_free_values(rows):
    """The errors of a model that is written without the shared slope: y - 2 x."""
    fit = fitted(plain(fixed={"mu_coef[x]": 2.0}), rows, "likelihood")
    without = fitted(plain(formula="rest ~ 1"), rows.assign(rest=rows.y - 2 * rows.x), "likelihood")
    for name, at in (("mu_coef", np.s_[:, 0]), ("sigma", np.s_[:]), ("gate_coef", np.s_[:])):
        ours, theirs = (f.idata["standard_error"][name].values[at] for f in (fit, without))
        np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-6)


def test_nothing_left_is_an_error(rows):
    spec = plain(fixed={"mu_coef": 0.0, "sigma": 1.0, "weights": (0.5, 0.5)})
    with pytest.raises(bm.SpecError, match="nothing is left"):
        fitted(spec, rows)


@pytest.mark.parametrize("method", ["em", "laplace"])
def test_experts_that_share_the_location_are_in_the_order_of_their_scales(method):
    rng = np.random.default_rng(0)
    x, wide = rng.normal(size=200), rng.random(200) < 0.3
    table = pd.DataFrame({"x": x, "y": 1 + x + np.where(wide, 2.0, 0.2) * rng.normal(size=200)})
    for seed in (1, 2, 3):
        settings = {"method": method, "restarts": 5, "random_seed": seed}
        fit = bm.fit(plain(shared=("mu_coef",)), table, progressbar=False, **settings)
        assert np.diff(fit.idata["posterior"]["sigma"].values, axis=-1).mean() > 1

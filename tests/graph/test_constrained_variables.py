"""Graphs of models with shared and fixed parameters have the density of the parameter vector."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats
from scipy.special import logsumexp

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.em.objective import Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.graph.numpy_mode import compiled
from bayes_moe.simulation import prior_draws
from tests.support.constrained import MODELS, P, plain, table

QUICK = (
    "shared scale and slope",
    "shared intercept",
    "fixed scale of one",
    "fixed intercept of one",
    "fixed gate slope",
    "weights of a tree",
    "weights and spreads of features",
    "fixed shape",
    "priors of parts",
    "two kinds, one slope",
)
"""Models whose graphs are built in the quick suite: compiling takes most of a second."""


@pytest.fixture(scope="module")
def rows():
    return table()


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_density_and_variables_are_those_of_the_vector(name, rows):
    spec = MODELS[name]
    design = spec.design(rows)
    vector = parameter_vector(spec, design, jacobian=True)
    rng = np.random.default_rng(1)
    theta = vector.constraint.project(0.3 * rng.normal(size=(1, vector.size)))
    density = GraphLogDensity(build_design(spec, design, "fused"), jacobian=True)
    values = {n: v[0] for n, v in vector.variables(theta).items()}
    point = density.point(values)
    assert point.size == len(vector.constraint.at)
    np.testing.assert_allclose(density(point)[0], Objective(vector).value(theta)[0], rtol=1e-11)
    found = density.variables(point)
    for variable in spec.structure.dims:
        np.testing.assert_allclose(found[variable], values[variable], atol=1e-11)


def test_prior_of_one_entry_is_that_of_a_model_by_hand(rows):
    x, y = rows.x.values, rows.y.values
    priors = {
        "mu_coef": P("Normal", mu=0, sigma=[5.0, 3.0]),
        "mu_coef[1, x]": P("StudentT", nu=4, mu=2.0, sigma=0.5),
        "sigma": P("HalfNormal", sigma=1.0),
        "sigma[1]": P("LogNormal", mu=-0.5, sigma=0.25),
        "gate_coef": P("Normal", mu=0, sigma=1.0),
    }
    spec = plain(priors=priors, center=False)
    graph = build_design(spec, spec.design(rows), "fused")
    values = {
        "gate_coef": np.array([[0.3], [-0.2]]),
        "mu_coef": np.array([[-1.0, 1.8], [1.2, 2.3]]),
        "sigma": np.array([0.7, 0.4]),
    }
    one, two, three, four, five = np.arange(1.0, 6.0)[:, None]  # PyTensor rounds Python's numbers
    with pm.Model() as by_hand:
        gate = pm.Normal("gate", 0 * one, one, shape=2)
        intercepts = pm.Normal("intercepts", 0 * one, five, shape=2)
        slope = pm.Normal("slope", 0 * one, three)
        other = pm.StudentT("other", nu=four, mu=two, sigma=one / 2)
        first, second = pm.HalfNormal("first", one), pm.LogNormal("second", -one / 2, one / 4)
        means = [intercepts[0] + slope * x, intercepts[1] + other * x]
        parts = [pm.Normal.dist(means[0], first), pm.Normal.dist(means[1], second)]
        pm.Mixture("y", w=pm.math.softmax(gate), comp_dists=parts, observed=y)
    point = {
        "gate": values["gate_coef"][:, 0],
        "intercepts": values["mu_coef"][:, 0],
        "slope": values["mu_coef"][:1, 1],
        "other": values["mu_coef"][1:, 1],
        "first_log__": np.log([0.7]),
        "second_log__": np.log([0.4]),
    }
    log_density = compiled(by_hand, by_hand.value_vars, [by_hand.logp(jacobian=False)])
    (expected,) = log_density(*(point[v.name] for v in by_hand.value_vars))
    found = GraphLogDensity(graph)(graph.to_vector(values))[0]
    # Internal coefficients have the density of the user's, in units of their scales.
    design = spec.design(rows)
    volume = 2 * np.log(np.abs(np.linalg.det(_linear(spec, design))))
    np.testing.assert_allclose(found, expected + volume, rtol=1e-11)


def _linear(spec, design):
    vector = parameter_vector(spec, design)
    return next(b for b in vector.blocks if b.variable == "mu_coef").scaling.linear


def test_a_shared_scale_has_one_prior(rows):
    spec = plain(shared=("sigma",), priors={"sigma": P("HalfNormal", sigma=1.0)}, experts=1)
    other = plain(priors={"sigma": P("HalfNormal", sigma=1.0)}, experts=1)
    values = {"mu_coef": np.array([[0.1, 2.0]]), "sigma": np.array([0.7])}
    densities = []
    for described in (spec, other):
        graph = build_design(described, described.design(rows), "fused")
        densities.append(GraphLogDensity(graph)(graph.to_vector(values))[0])
    np.testing.assert_allclose(*densities, rtol=1e-12)


def test_draws_from_the_prior_have_what_is_shared_and_held(rows):
    spec = MODELS["everything"]
    drawn = prior_draws(spec, spec.design(rows), 300, 1)
    assert (drawn["sigma"][:, 2] == 0.8).all()
    slopes = drawn["mu_coef"][..., 1]
    np.testing.assert_allclose(slopes, slopes[:, :1].repeat(3, axis=1), rtol=1e-12)
    assert stats.kstest(slopes[:, 0], stats.norm(1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(drawn["sigma"][:, 0], stats.gamma(3, scale=1 / 4).cdf).pvalue > 1e-3
    weights = np.exp(drawn["gate_coef"][..., 0])
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights, [[0.25, 0.25, 0.5]] * 300, rtol=1e-10)


def test_a_graph_of_a_description_is_of_one_table(rows):
    """Its free variables are in no posterior; a graph of a fit has the reported ones."""
    spec = MODELS["shared scale"]
    fit = bm.fit(spec, rows, method="em", random_seed=1, progressbar=False)
    graph = bm.build(spec, rows)
    assert {rv.name for rv in graph.model.free_RVs} == {"gate_raw", "mu_raw", "sigma_free"}
    assert names.TABLE_MARK in graph.model
    assert names.TABLE_MARK in fit.idata["constant_data"]
    free = {rv.name for rv in bm.build(fit, rows.iloc[:9]).model.free_RVs}
    assert free == {"gate_coef", "mu_coef", "sigma"}


@pytest.mark.slow
def test_draws_of_a_fit_go_with_its_graph_only(rows):
    spec = MODELS["shared scale"]
    fit = bm.fit(spec, rows, method="em", random_seed=1, progressbar=False)
    with bm.build(spec, rows.iloc[:9]).model, pytest.raises(bm.SpecError, match=r"bm\.build\(fit"):
        pm.sample_posterior_predictive(fit.idata, progressbar=False, random_seed=1)
    with bm.build(fit, rows.iloc[:9]).model:
        drawn = pm.sample_posterior_predictive(fit.idata, progressbar=False, random_seed=1)
    assert drawn["posterior_predictive"]["y"].shape == (1, 1, 9)


def test_log_likelihood_of_a_fixed_model_is_written_out(rows):
    spec = MODELS["fixed weights"]
    values = {
        "gate_coef": np.log([[0.3], [0.7]]),
        "mu_coef": np.array([[-1.4, 2.0], [1.4, 2.0]]),
        "sigma": np.array([0.5, 0.5]),
    }
    graph = build_design(spec, spec.design(rows), "symbolic")
    density = GraphLogDensity(graph)
    x, y = rows.x.values, rows.y.values
    means = values["mu_coef"] @ np.stack([np.ones_like(x), x])
    each = np.log([[0.3], [0.7]]) + stats.norm.logpdf(y, means, 0.5)
    found = density.weighted(graph.to_vector(values), 1.0)[1]
    np.testing.assert_allclose(found, logsumexp(each, axis=0).sum(), rtol=1e-11)

"""Graphs for users of models of classes: names and dimensions are those of the fit's posterior."""

import numpy as np
import pymc as pm
import pytest
from pytensor.compile.mode import Mode

import bayes_moe as bm
from bayes_moe.results.draws import stacked_draws
from tests.support import class_fits
from tests.support.graphs import internal_graph

QUICK = {"compile_kwargs": {"mode": Mode(linker="py", optimizer="fast_compile")}}
QUIET = {"progressbar": False, **QUICK}
NEW = class_fits.table(8, seed=3)


def check_dims(fit, model):
    posterior = fit.idata["posterior"]
    for name in fit.spec.variables:
        dims = posterior[name].dims[2:]
        assert model.named_vars_to_dims[name] == dims
        assert model[name].eval(mode="FAST_COMPILE").shape == posterior[name].shape[2:]
        for dim in dims:
            assert [*model.coords[dim]] == [*posterior[dim].values]


def check_likelihood(fit, model):
    found = pm.compute_log_likelihood(
        fit.idata.copy(), model=model, extend_inferencedata=False, **QUIET
    )
    expected = bm.log_density(fit, NEW).values
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(found["y"].values, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", class_fits.MODELS)
def test_the_graph_of_a_fit(name):
    fit = class_fits.fit_by_hand(name)
    model = bm.build(fit, NEW).model
    assert {v.name for v in model.free_RVs} <= {*fit.spec.variables}
    for rv in model.free_RVs:
        assert model.named_vars_to_dims[rv.name] == fit.idata["posterior"][rv.name].dims[2:]
    check_likelihood(fit, model)


@pytest.mark.parametrize("name", class_fits.MODELS)
def test_the_graph_of_a_description(name):
    fit = class_fits.fit_by_hand(name)
    model = bm.build(fit.spec, NEW).model
    check_dims(fit, model)
    if name in class_fits.PORTABLE:
        check_likelihood(fit, model)
    else:
        with pytest.raises(KeyError, match="_raw"):
            check_likelihood(fit, model)


@pytest.mark.parametrize("name", class_fits.MODELS)
def test_the_log_density_is_that_of_the_samplers_graph(name):
    spec, table = class_fits.MODELS[name], class_fits.table()
    fit = class_fits.fit_by_hand(name)
    internal, shown = internal_graph(spec, table), bm.build(spec, table)
    draws = stacked_draws(spec, fit.idata["posterior"].to_dataset())
    own, user = (g.model.compile_logp(mode="FAST_COMPILE") for g in (internal, shown))
    pairs, dims = spec.structure.pairs, spec.structure.dims
    for j in range(2):
        values = {n: v[j] for n, v in draws.items()}
        values |= {n: centred(spec, n, v) for n, v in values.items()}
        given = {n: pairs.reported(v, dims[n]) for n, v in values.items()}
        expected = own(internal.unconstrained(values))
        assert user(shown.unconstrained(given)) == pytest.approx(float(expected), rel=1e-9)


def centred(spec, name, value):
    """Coefficients of classes with a zero sum over the classes."""
    for c in spec.structure.components:
        if c.variable == name and c.parameter.labels and name not in spec.priors and c.zero_sum:
            by_class = value.reshape(c.parameter.size, c.experts, *value.shape[1:])
            return (by_class - by_class.mean(axis=0)).reshape(value.shape)
    if name in spec.structure.gate_variables:
        return value - value.mean(axis=0)
    return value


def test_posterior_predictive_draws():
    fit = class_fits.fit_by_hand("linear", draws=60)
    model = bm.build(fit.spec, NEW).model
    drawn = pm.sample_posterior_predictive(
        fit.idata, model=model, random_seed=1, predictions=True, **QUIET
    )
    y = drawn["predictions"]["y"].values
    assert y.shape == (1, 60, 8)
    expected = bm.predict(fit, NEW).probabilities().values
    found = np.stack([(y == code).mean(axis=(0, 1)) for code in range(4)], axis=-1)
    assert np.abs(found - expected).max() < 0.25


def test_prior_draws_of_the_graph_of_a_description():
    """Free coefficients of classes sum to zero, and have the spread of the sampler's."""
    spec, table = class_fits.MODELS["linear"], class_fits.table()
    model, other = bm.build(spec, table).model, internal_graph(spec, table).model
    mode = Mode(linker="py", optimizer="fast_compile")
    drawn = pm.draw(model["p_coef"], draws=400, random_seed=1, mode=mode)
    assert drawn.shape == (400, 4, 3, 3)
    np.testing.assert_allclose(drawn.sum(axis=1), 0, atol=1e-9)
    expected = pm.draw(other["p_coef"], draws=400, random_seed=2, mode=mode)
    sds = drawn.std(axis=0).ravel(), expected.std(axis=0).ravel()
    np.testing.assert_allclose(*sds, rtol=0.2)

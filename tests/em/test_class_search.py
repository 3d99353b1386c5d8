"""Modes of many classes: those of EM where both can be found, and what is refused."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.em.class_search import warn_of_matrices
from bayes_moe.model.spec import bound as bound_to

SETTINGS = {"method": "em", "random_seed": 1, "progressbar": False}


def classes_table(classes, rows, experts=2, seed=0):
    """Classes drawn from experts that depend on ``x``, with weights."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(rows)
    z = np.clip(np.floor((x + 1.5) / 3 * experts), 0, experts - 1).astype(int)
    p = rng.dirichlet(np.full(classes, 0.4), size=experts)
    y = [rng.choice(classes, p=p[k]) for k in z]
    y[:classes] = range(classes)
    return pd.DataFrame({"y": pd.Categorical(y), "x": x, "w": rng.integers(1, 4, rows)})


def spec_of(formula="y ~ 1", **changes):
    arguments = {"experts": 2, "gate": "~ x", "family": "categorical"} | changes
    return bm.mixture_of_experts(formula, **arguments)


@pytest.mark.parametrize(
    ("classes", "experts", "more"),
    [(4, 2, {"gate": "~ x", "weights": "w"}), (6, 1, {})],
)
def test_mode_and_errors_are_those_of_em(classes, experts, more, monkeypatch):
    table = classes_table(classes, 400, max(experts, 2))
    spec = bm.mixture_of_experts("y ~ 1", experts=experts, family="categorical", **more)
    usual = bm.fit(spec, table, **SETTINGS)
    monkeypatch.setattr("bayes_moe.em.class_search.LEAST_COEFFICIENTS", 0)
    found = bm.fit(spec, table, **SETTINGS)
    for group in ("posterior", "unconstrained_posterior", "standard_error"):
        for name, values in usual.idata[group].data_vars.items():
            np.testing.assert_allclose(found.idata[group][name], values, atol=1e-6)
    own, expected = bm.information(found), bm.information(usual)
    for name in ("objective", "log_likelihood", "n_parameters", "effective_parameters", "icl"):
        assert own[name] == pytest.approx(expected[name], abs=1e-5)
    assert own["converged"]


@pytest.fixture(scope="module")
def many():
    """Fit of 2400 class coefficients, of which no matrix is made."""
    table = classes_table(1200, 6000)
    return bm.fit(spec_of(), table, restarts=2, **SETTINGS), table


def test_thousands_of_classes_are_fitted_and_predicted(many):
    fit, table = many
    figures = bm.information(fit)
    assert figures["converged"]
    assert np.isnan(figures["effective_parameters"])
    odds = fit.idata["posterior"]["p_coef"].values.reshape(1200, 2)
    np.testing.assert_allclose(odds.sum(axis=0), 0.0, atol=1e-9)
    p = np.exp(odds - np.logaddexp.reduce(odds, axis=0))
    few = table.iloc[:20]
    weights = bm.predict(fit, few).weights().values.reshape(20, 2)
    probabilities = bm.predict(fit, few).probabilities().values
    np.testing.assert_allclose(probabilities, weights @ p.T, rtol=1e-9)
    codes = table["y"].cat.codes.to_numpy()[:20]
    density = np.log(probabilities[np.arange(20), codes])
    np.testing.assert_allclose(np.ravel(bm.log_density(fit, few)), density, rtol=1e-9)
    joint = weights * p[codes]
    shares = np.asarray(bm.responsibilities(fit)).reshape(-1, 2)[:20]
    np.testing.assert_allclose(shares, joint / joint.sum(axis=1, keepdims=True), rtol=1e-8)


def test_a_fit_of_thousands_of_classes_is_saved(many, tmp_path):
    fit, table = many
    bm.save(fit, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    few = table.iloc[:20]
    np.testing.assert_array_equal(bm.log_density(again, few), bm.log_density(fit, few))


def test_a_run_from_the_mode_stays_there(many):
    fit, table = many
    values = {name: fit.idata["posterior"][name].values[0, 0] for name in fit.spec.variables}
    again = bm.fit(fit.spec, table, start=values, **SETTINGS)
    assert bm.information(again)["objective"] == pytest.approx(
        bm.information(fit)["objective"], abs=1e-4
    )
    shares = np.asarray(bm.responsibilities(fit)).reshape(-1, 2)
    other = bm.fit(fit.spec, table, start=shares, **SETTINGS)
    assert bm.information(other)["converged"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"formula": "y ~ x"}, "class probabilities of 'y ~ x' depend on features"),
        ({"gate": bm.gates.Tree([[0, 1], 2], formula="~ x"), "experts": 3}, "is no plain softmax"),
        ({"priors": {"p_coef": bm.Prior("Normal", mu=0, sigma=1)}}, "no ZeroSumNormal"),
    ],
)
def test_what_is_not_treated_is_refused(many, more, message):
    with pytest.raises(SpecError, match=message):
        bm.fit(spec_of(**more), many[1], **SETTINGS)


def test_other_methods_and_graphs_are_refused(many):
    fit, table = many
    with pytest.raises(SpecError, match="objective='likelihood' has no finite maximum"):
        bm.fit(fit.spec, table, objective="likelihood", **SETTINGS)
    for method in ("laplace", "map"):
        with pytest.raises(SpecError, match="1200 classes by 2 experts need the method 'em'"):
            bm.fit(fit.spec, table, method=method, random_seed=1)
    with pytest.raises(SpecError, match="1200 classes by 2 experts need the method 'em'"):
        bm.build(fit.spec, table)


def test_slow_models_are_warned_of():
    spec = spec_of(formula="y ~ x")
    table = classes_table(60, 200)
    described = bound_to(spec, spec.design(table))
    with pytest.warns(UserWarning, match="EM may take hours: .* 120 class coefficients"):
        warn_of_matrices(described, "the class probabilities depend on features")

"""Rows with one response, onto which an expert collapses, are named; narrow experts are not."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.em.floors import without_floors
from bayes_moe.em.vector_layout import parameter_vector

N = 300
SETTINGS = {
    "em": {},
    "likelihood": {"objective": "likelihood"},
    "map": {"restarts": 4},
    "laplace": {"draws": 50},
}


def tied(share, family="normal", seed=0):
    """Responses of which a share has the value 3.2."""
    rng = np.random.default_rng(seed)
    y = rng.gamma(8.0, 0.6, N) if family == "gamma" else rng.normal(5, 2, N)
    y[: round(share * N)] = 3.2
    return pd.DataFrame({"x": rng.uniform(-1, 1, N), "y": y})


def verdict(spec, table, method, **settings):
    """The verdict, or the error that the method raises; NumPy's warnings are errors."""
    name = "em" if method == "likelihood" else method
    settings = {"random_seed": 1, "progressbar": False} | SETTINGS.get(method, {}) | settings
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        try:
            fit = bm.fit(spec, table, method=name, **settings)
        except bm.SpecError as error:
            return str(error), None
        return bm.diagnose(fit).verdict, fit


CASES = [
    *((method, "normal", 0.35) for method in SETTINGS),
    *((method, "studentt", 0.6) for method in SETTINGS),
    ("em", "normal", 0.6),
    ("likelihood", "studentt", 0.35),
]


@pytest.mark.parametrize(("method", "family", "share"), CASES)
def test_tied_rows_are_named(method, family, share):
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=family)
    text, _ = verdict(spec, tied(share), method)
    assert f"{round(share * N)} of {N} rows have the value 3.2 of 'y': expert " in text
    assert "'s sigma falls to its floor there (1e-08 of the response's" in text
    assert "priors={'sigma': bm.Prior('InverseGamma', alpha=3, beta=" in text
    assert ("Use objective='posterior', and give sigma" in text) == (method == "likelihood")


@pytest.mark.parametrize("options", [{"sigma": "~ x"}, {"gate": "~ 1"}], ids=str)
def test_tied_rows_are_named_with_other_formulas(options):
    spec = bm.mixture_of_experts("y ~ x", experts=2, **options)
    text, _ = verdict(spec, tied(0.4), "em")
    assert f"120 of {N} rows have the value 3.2 of 'y'" in text
    assert ("Leave out the formula of sigma." in text) == ("sigma" in options)


def test_a_gamma_shape_without_bound_is_flagged():
    """Its coefficient of variation is what falls to a floor."""
    spec = bm.mixture_of_experts("y ~ 1", experts=2, family="gamma", gate="~ 1")
    table = tied(0.4, "gamma")
    start = np.column_stack([table["y"] == 3.2, table["y"] != 3.2]).astype(float)
    text, fit = verdict(spec, table, "likelihood", start=start)
    assert bm.modes(fit)["singular"].all()
    assert "Singular: an expert fits its rows exactly" in text
    assert f"120 of {N} rows have the value 3.2 of 'y': expert 0's alpha grows to its bound" in text
    text, fit = verdict(spec, table, "em", start=start)
    assert bm.information(fit)["converged"]  # the default prior keeps it finite
    assert "rows have the value" not in text


def test_a_sampler_names_ties_and_warns_of_nothing_else():
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    table = tied(0.35)
    text, fit = verdict(spec, table, "nuts", draws=60, tune=60, chains=2)
    assert f"105 of {N} rows have the value 3.2 of 'y'" in text
    # The density has no floor, and neither have the draws that are reported.
    posterior = fit.idata["posterior"].to_dataset()
    vector = without_floors(parameter_vector(spec, fit.design, jacobian=True))
    values = {n: posterior[n].values.reshape(-1, *posterior[n].shape[2:]) for n in spec.variables}
    log_prior = vector.log_prior(vector.points(values))[0]
    log_density = log_prior + fit.idata["log_likelihood"]["y"].values.reshape(
        len(log_prior), -1
    ).sum(1)
    np.testing.assert_allclose(
        log_density, fit.idata["sample_stats"]["logp"].values.ravel(), rtol=1e-4
    )


@pytest.mark.parametrize("options", [{}, {"sigma": "~ x"}], ids=str)
@pytest.mark.parametrize("method", ["em", "likelihood"])
def test_the_value_at_a_floor_is_that_of_the_reported_parameters(method, options):
    spec = bm.mixture_of_experts("y ~ x", experts=2, **options)
    table = tied(0.4)
    start = np.column_stack([table["y"] == 3.2, table["y"] != 3.2]).astype(float)
    _, fit = verdict(spec, table, method, start=start)
    assert bm.modes(fit)["singular"].any()
    found = float(bm.log_density(fit, table).sum())
    assert found == pytest.approx(bm.information(fit)["log_likelihood"], rel=1e-6)


@pytest.mark.parametrize("method", ["em", "laplace"])
def test_the_remedies_work(method):
    """The prior that the message proposes, and noise of the width of rounding."""
    table = tied(0.35)
    spread = float(f"{np.std(table['y']):.2g}")
    prior = bm.Prior("InverseGamma", alpha=3, beta=spread)
    spec = bm.mixture_of_experts("y ~ x", experts=2, priors={"sigma": prior})
    text, _ = verdict(spec, table, method)
    assert "rows have the value" not in text
    assert "Singular" not in text
    noise = np.random.default_rng(3).uniform(-0.05, 0.05, N)
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    text, _ = verdict(spec, table.assign(y=table["y"] + noise), method)
    assert "rows have the value" not in text
    assert "Singular" not in text


RATIOS = [(0.1, 1000.0, 50.0), (1e-3, 1000.0, 100.0), (1e-4, 1000.0, 100.0), (1.0, 0.0, 1e6)]


@pytest.mark.parametrize(("narrow", "distance", "wide"), RATIOS)
@pytest.mark.parametrize("method", ["em", "likelihood", "laplace"])
def test_a_ratio_of_scales_is_no_collapse(method, narrow, distance, wide):
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.normal(0, narrow, 150), rng.normal(distance, wide, 150)])
    spec = bm.mixture_of_experts("y ~ 1", experts=2, gate="~ 1")
    text, fit = verdict(spec, {"y": y}, method)
    assert "Singular" not in text
    assert "rows have the value" not in text
    if method == "likelihood":
        assert text.startswith("This is a maximum")
        estimates = np.sort(fit.idata["posterior"]["sigma"].values.ravel())
        # Rows of the wide one that lie among the narrow one's are few, so these are nearly exact.
        exact = [stats.norm.fit(y[:150])[1], stats.norm.fit(y[150:])[1]]
        np.testing.assert_allclose(estimates, exact, rtol=0.01)


def test_a_narrow_expert_of_rounded_responses_is_no_tie():
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.normal(0, 1e-4, 150).round(4), rng.normal(1000, 100, 150)])
    spec = bm.mixture_of_experts("y ~ 1", experts=2, gate="~ 1")
    for method in ("em", "likelihood"):
        text, fit = verdict(spec, {"y": y}, method)
        assert fit.idata["posterior"]["sigma"].values.min() == pytest.approx(1e-4, rel=0.15)
        assert "Singular" not in text
        assert "rows have the value" not in text


@pytest.mark.parametrize("digits", [0, 1, 2])
@pytest.mark.parametrize("method", ["em", "likelihood", "laplace"])
def test_rounded_responses_are_no_ties(method, digits):
    """Rounding makes ties of all values, and no expert sits on one of them."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-2, 2, N)
    y = np.where(rng.random(N) < 0.5, 3 * x, -3 * x) + rng.normal(0, 1, N)
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    text, _ = verdict(spec, {"x": x, "y": y.round(digits)}, method)
    assert "rows have the value" not in text
    assert "Singular" not in text

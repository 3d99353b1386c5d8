"""Shared and fixed parameters: every method has the same posterior, and a fit survives a file."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.em.floors import without_floors
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.sampling.compiled_density import LinearTable
from tests.support.constrained import P, plain, table

SPEC = plain(
    shared=("sigma",),
    fixed={"mu_coef[x]": 2.0},
    priors={"mu_coef[0, Intercept]": P("Normal", mu=-1.0, sigma=2.0)},
)


@pytest.fixture(scope="module")
def rows():
    return table()


@pytest.fixture(scope="module")
def fits(rows):
    """Fits by method; chains and draws only where they are few."""
    by_method = {
        "em": {},
        "map": {},
        "laplace": {},
        "nuts": {"draws": 1000, "chains": 4, "cores": 1},
    }
    return {
        method: bm.fit(SPEC, rows, method=method, random_seed=1, progressbar=False, **settings)
        for method, settings in by_method.items()
    }


def draws(fit, name):
    variable = fit.idata["posterior"][name].transpose("chain", "draw", ...)
    return variable.values.reshape(-1, *variable.shape[2:])


def test_modes_by_gradient_and_by_em_are_the_same(fits):
    for name in SPEC.variables:
        em, by_gradient = (draws(fits[method], name)[0] for method in ("em", "map"))
        np.testing.assert_allclose(by_gradient, em, atol=1e-5)
        ours, theirs = (fits[m].idata["standard_error"][name].values for m in ("em", "map"))
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    for figure in ("log_likelihood", "log_prior", "n_parameters", "effective_parameters"):
        ours, theirs = (float(fits[m].idata["fit"][figure]) for m in ("em", "map"))
        np.testing.assert_allclose(theirs, ours, rtol=1e-5)


@pytest.mark.parametrize("name", SPEC.variables)
def test_draws_agree_within_their_errors(fits, name):
    by_nuts, normal = (draws(fits[method], name) for method in ("nuts", "laplace"))
    mode = draws(fits["em"], name)[0]
    spread = by_nuts.std(axis=0)
    error = spread / np.sqrt(400)  # of at least 400 effective draws
    assert (np.abs(by_nuts.mean(axis=0) - mode) <= 4 * error + 0.25 * spread).all()
    assert (np.abs(by_nuts.mean(axis=0) - normal.mean(axis=0)) <= 4 * error + 0.1 * spread).all()
    np.testing.assert_allclose(normal.std(axis=0), spread, rtol=0.15)


def test_held_and_shared_values_are_exact_in_all_draws(fits):
    for fit in fits.values():
        assert (draws(fit, "mu_coef")[..., 1] == 2.0).all()
        assert np.ptp(draws(fit, "sigma"), axis=-1).max() == 0.0


def test_the_sampler_reports_the_log_density_of_the_free_values(fits, rows):
    fit = fits["nuts"]
    vector = without_floors(parameter_vector(SPEC, SPEC.design(rows), jacobian=True))
    density = LinearTable(vector).density()
    points = vector.points({name: draws(fit, name)[:20] for name in SPEC.variables})
    found = [density(theta)[0] for theta in points]
    reported = fit.idata[names.SAMPLE_STATS]["logp"].values.ravel()[:20]
    np.testing.assert_allclose(found, reported, rtol=1e-9)


def test_constants_do_not_fail_the_checks(fits):
    diagnosis = bm.diagnose(fits["nuts"])
    assert diagnosis.ok
    assert float(diagnosis.table.loc["worst R-hat", "value"]) < 1.01
    summary = bm.summary(fits["nuts"])
    assert summary.loc["mu_coef[0, x]", "sd"] == 0.0
    assert summary.loc["mu_coef[0, x]", "mean"] == 2.0


def test_a_file_holds_the_constraints(fits, rows, tmp_path):
    for method in ("em", "nuts"):
        path = tmp_path / f"{method}.nc"
        bm.save(fits[method], path)
        loaded = bm.load(path)
        assert loaded.spec == SPEC
        np.testing.assert_array_equal(draws(loaded, "sigma"), draws(fits[method], "sigma"))
        ours, theirs = (bm.predict(f, rows.head(5)).mean() for f in (loaded, fits[method]))
        np.testing.assert_array_equal(ours, theirs)


def test_log_prior_of_draws_is_that_of_the_free_values(rows):
    settings = {"method": "laplace", "draws": 20, "chains": 1, "random_seed": 1}
    fit = bm.fit(SPEC, rows, progressbar=False, **settings)
    parts = bm.extend(fit, "log_prior", random_seed=1).idata["log_prior"].to_dataset()
    assert {"sigma_free", "mu_coef_free"} <= {*parts}
    total = sum(v.values.ravel() for v in parts.values())
    vector = parameter_vector(SPEC, SPEC.design(rows))
    points = vector.points({name: draws(fit, name) for name in SPEC.variables})
    np.testing.assert_allclose(total, vector.log_prior(points)[0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["nutpie", "pymc"])
def test_samplers_of_the_graph_agree(fits, rows, sampler):
    settings = {"nuts_sampler": sampler, "likelihood": "symbolic", "cores": 1}
    fit = bm.fit(SPEC, rows, random_seed=2, draws=500, progressbar=False, **settings)
    for name in SPEC.variables:
        ours, theirs = draws(fit, name), draws(fits["nuts"], name)
        spread = theirs.std(axis=0)
        assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) <= 0.2 * spread + 1e-12).all()
        np.testing.assert_allclose(ours.std(axis=0), spread, rtol=0.15, atol=1e-12)

"""Beta regression against statsmodels, and refused responses."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from statsmodels.genmod.families import links
from statsmodels.othermod.betareg import BetaModel

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import DataError
from bayes_moe.families import functions
from bayes_moe.families.links import PROBABILITIES
from tests.support import contracts


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, 200)
    mean = special.expit(0.5 - 0.8 * x)
    return pd.DataFrame({"x": x, "y": rng.beta(12 * mean, 12 * (1 - mean))})


LINKS = {
    "logit": (links.Logit, special.expit),
    "probit": (links.Probit, stats.norm.cdf),
    "cloglog": (links.CLogLog, lambda eta: -np.expm1(-np.exp(eta))),
}


@pytest.mark.filterwarnings("ignore:Maximum Likelihood")  # a gradient below 1e-10 is rounding
@pytest.mark.parametrize("link", PROBABILITIES)
def test_one_expert_is_statsmodels_beta_regression(table, link):
    family = bm.families.Beta(link=link)
    spec = bm.mixture_of_experts("y ~ x", experts=1, family=family)
    fit = bm.fit(spec, table, "em", objective="likelihood")
    features = np.column_stack([np.ones(len(table)), table["x"]])
    model = BetaModel(table["y"].to_numpy(), features, link=LINKS[link][0]())
    other = model.fit(disp=0, gtol=1e-10, maxiter=500)
    posterior = fit.idata["posterior"]
    np.testing.assert_allclose(posterior["mu_coef"].values.ravel(), other.params[:2], atol=1e-5)
    np.testing.assert_allclose(np.log(posterior["nu"].values.item()), other.params[2], atol=1e-5)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(other.llf, abs=1e-6)


@pytest.mark.parametrize("check", contracts.FAMILY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_other_links_hold_the_contract(link, check):
    check(families.by_name("beta", link=link))


@pytest.mark.parametrize("link", PROBABILITIES)
def test_the_mean_is_the_inverse_of_the_link(link):
    family = families.by_name("beta", link=link)
    params = {"mu": np.array([-20.0, -1.5, 0.0, 0.4, 2.0]), "nu": np.array(7.0)}
    mean = LINKS[link][1](params["mu"])
    np.testing.assert_allclose(family.mean(params), mean, rtol=1e-12)
    law = stats.beta(7.0 * mean[1:], 7.0 * (1 - mean[1:]))
    inner = params | {"mu": params["mu"][1:]}
    np.testing.assert_allclose(family.log_density(0.3, inner, NUMERIC), law.logpdf(0.3), rtol=1e-11)
    np.testing.assert_allclose(family.sf(0.6, inner), law.sf(0.6), rtol=1e-11)
    np.testing.assert_allclose(family.mean({"mu": family.initial_eta(np.array(0.2), {})}), 0.2)
    far = {"mu": np.array([-900.0, 800.0]), "nu": np.array(7.0)}
    with np.errstate(over="ignore", invalid="ignore"):
        found = family.derivatives(np.array(0.4), far)
    for values in (*found.score, *found.expected_information, family.mean(far)):
        assert np.isfinite(values).all()
    eta = np.linspace(-3, 2, 11)
    p, q = PROBABILITIES[link].slopes(functions.numeric(), eta)
    high, low = (PROBABILITIES[link].logs(functions.numeric(), eta + h) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(p, (high[0] - low[0]) / 2e-5, rtol=1e-8)
    np.testing.assert_allclose(q, (high[1] - low[1]) / 2e-5, rtol=1e-8)


def test_two_experts_with_a_probit_link_are_found_by_all_methods(table):
    rng = np.random.default_rng(3)
    second = rng.random(300) < 0.4
    x = rng.normal(size=300)
    mean = stats.norm.cdf(np.where(second, 1.2 - 0.3 * x, -0.8 + 0.5 * x))
    both = pd.DataFrame({"x": x, "y": rng.beta(30 * mean, 30 * (1 - mean))})
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=bm.families.Beta(link="probit"))
    modes = [bm.fit(spec, both, method, random_seed=1) for method in ("em", "map")]
    for fit in modes:
        found = np.sort(fit.idata["posterior"]["mu_coef"].values.reshape(2, 2), axis=0)
        np.testing.assert_allclose(found, [[-0.8, -0.3], [1.2, 0.5]], atol=0.12)
    values = [bm.information(fit)["log_likelihood"] for fit in modes]
    assert values[0] == pytest.approx(values[1], abs=1e-3)
    assert bm.MixtureOfExperts.from_json(spec.to_json()) == spec


def test_an_unknown_link_of_a_mean_names_the_known_ones():
    with pytest.raises(bm.SpecError, match="link"):
        families.by_name("beta", link="log")


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.2, 1.5])
def test_a_response_that_is_no_share_is_refused(table, bad):
    spec = bm.mixture_of_experts("y ~ x", family="beta")
    y = table["y"].copy()
    y[[17, 40]] = bad
    with pytest.raises(DataError, match=rf"'y' is {bad:g} at row 17; family 'beta' .*\(2 row"):
        bm.fit(spec, table.assign(y=y), "em")

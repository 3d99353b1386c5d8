"""Inverse Gaussian, exponential, Weibull and Lomax regressions against statsmodels and SciPy."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from tests.support.one_expert import CASES, table_of

OTHERS = {"inversegaussian": "lam", "lomax": "alpha", "exponential": None}


def drawn(family, link="log"):
    rng = np.random.default_rng(4)
    x = rng.uniform(0, 2, 250)
    eta = 0.4 + 0.9 * x
    law = families.by_name(family)
    first = law.parameters[0].name
    params = {first: eta if link == "log" else np.log(eta)}
    params |= {p.name: np.full(250, 4.0) for p in law.parameters[1:]}
    return pd.DataFrame({"x": x, "y": law.random(params, rng, (250,))})


@pytest.mark.filterwarnings("ignore:The Identity link function does not respect the domain")
@pytest.mark.parametrize("link", ["log", "identity"])
@pytest.mark.parametrize("family", ["inversegaussian", "gamma", "exponential"])
def test_one_expert_is_a_glm(family, link):
    data = drawn(family, link)
    spec = bm.mixture_of_experts("y ~ x", experts=1, family=families.by_name(family, link=link))
    fit = bm.fit(spec, data, "em", objective="likelihood")
    names = {"inversegaussian": sm.families.InverseGaussian}
    links = {"log": sm.families.links.Log, "identity": sm.families.links.Identity}
    law = names.get(family, sm.families.Gamma)(links[link]())
    glm = sm.GLM(data["y"], sm.add_constant(data["x"]), family=law)
    found = fit.idata["posterior"]["mu_coef"].values.ravel()
    np.testing.assert_allclose(found, glm.fit(tol=1e-13, maxiter=500).params, atol=1e-5)


def test_one_expert_is_scipy_s_lomax():
    data = drawn("lomax")
    fit = bm.fit(
        bm.mixture_of_experts("y ~ x", experts=1, family="lomax"),
        data,
        "em",
        objective="likelihood",
    )

    def loss(theta):
        scale = np.exp(theta[0] + theta[1] * data["x"])
        return -stats.lomax(np.exp(theta[2]), scale=scale).logpdf(data["y"]).sum()

    posterior = fit.idata["posterior"]
    found = np.append(posterior["m_coef"].values.ravel(), np.log(posterior["alpha"].values.item()))
    best = optimize.minimize(loss, [0.4, 0.9, 1.4], method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(found, best.x, atol=2e-4)
    assert loss(found) <= best.fun + 1e-9


@pytest.mark.parametrize("case", ["weibull geyser", "weibull rain"])
def test_one_expert_is_lifelines_weibull(case):
    case = next(c for c in CASES if c["case"] == case)
    spec = bm.mixture_of_experts(case["formula"], experts=1, family="weibull")
    fit = bm.fit(spec, table_of(case), "em", objective="likelihood")
    assert bm.information(fit)["log_likelihood"] == pytest.approx(case["loglik"], abs=1e-5)
    posterior, theirs = fit.idata["posterior"], case["params"]
    own = posterior["mu_coef"].sel(mu_term=list(theirs["mu"])).values.ravel()
    np.testing.assert_allclose(own, list(theirs["mu"].values()), rtol=1e-5)
    assert posterior["alpha"].values.item() == pytest.approx(theirs["alpha"], rel=1e-5)


def test_a_weibull_of_any_shape_is_scipy_s_log_density():
    """Of shapes so large that the log gamma function is lost in ``1 + 1 / alpha``."""
    family, z = families.by_name("weibull"), np.array([-30.0, -1.0, 0.0, 0.5])
    for alpha in (0.05, 0.5, 2.0, 9.99, 10.01, 1e3, 1e6, 1e12):
        level = alpha * special.gammaln(1 + 1 / alpha) if alpha < 1e6 else -np.euler_gamma
        params = {"mu": np.array(0.3), "alpha": np.array(alpha)}
        y = np.exp(0.3 + (z - level) / alpha)
        expected = np.log(alpha) + z - np.exp(z) - np.log(y)
        found = family.log_density(y, params, NUMERIC)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=max(2e-6, 1e-15 * alpha))


def test_a_mean_that_is_not_positive_has_no_density():
    family = families.by_name("gamma", link="identity")
    params = {"mu": np.array([-1.0, 0.0, 2.0]), "alpha": np.full(3, 2.0)}
    found = family.derivatives(np.ones(3), params)
    density = family.log_density(np.ones(3), params, NUMERIC)
    assert np.isfinite(density).tolist() == [False, False, True]
    for array in (*found.score, *found.expected_information):
        assert np.isfinite(array).all()

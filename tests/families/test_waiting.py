"""Inverse Gaussian, exponential and Lomax regressions against statsmodels and SciPy."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC

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


def test_a_mean_that_is_not_positive_has_no_density():
    family = families.by_name("gamma", link="identity")
    params = {"mu": np.array([-1.0, 0.0, 2.0]), "alpha": np.full(3, 2.0)}
    found = family.derivatives(np.ones(3), params)
    density = family.log_density(np.ones(3), params, NUMERIC)
    assert np.isfinite(density).tolist() == [False, False, True]
    for array in (*found.score, *found.expected_information):
        assert np.isfinite(array).all()

"""Laplace, logistic, Gumbel and log-normal regressions, against other programs' optima."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import bayes_moe as bm
from tests.support.examples import FAMILIES

SCALES = {"laplace": "b", "logistic": "s", "gumbel": "beta", "lognormal": "sigma"}


def table(family, n=150, seed=0):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(0, 1, n), rng.normal(3, 2, n)
    noise = FAMILIES[family].law(**{"mu": 0.0, SCALES[family]: 0.7}).rvs(n, random_state=rng)
    line = 1 + 2 * x - z
    y = noise * np.exp(line) if family == "lognormal" else line + noise
    return pd.DataFrame({"x": x, "z": z, "y": y})


def one_expert(family, data, method="em", **more):
    spec = bm.mixture_of_experts("y ~ x + z", experts=1, family=family)
    return bm.fit(spec, data, method, progressbar=False, random_seed=1, **more)


@pytest.mark.parametrize("family", SCALES)
def test_one_expert_has_scipy_s_optimum(family):
    data, name = table(family), SCALES[family]
    fit = one_expert(family, data, objective="likelihood")
    coef = fit.idata["posterior"]["mu_coef"].values.ravel()
    scale = fit.idata["posterior"][name].values.item()
    features = np.column_stack([np.ones(len(data)), data["x"], data["z"]])

    def loss(theta):
        params = {"mu": features @ theta[:3], name: np.exp(theta[3])}
        return -FAMILIES[family].log_density(data["y"].to_numpy(), **params).sum()

    found = np.append(coef, np.log(scale))
    if family == "laplace":  # exactly, by linear programming
        n = len(data)
        cost = np.r_[np.zeros(3), np.ones(2 * n)]
        equal = np.hstack([features, np.eye(n), -np.eye(n)])
        bounds = [(None, None)] * 3 + [(0, None)] * (2 * n)
        exact = optimize.linprog(cost, A_eq=equal, b_eq=data["y"], bounds=bounds)
        best = np.append(exact.x[:3], np.log(exact.fun / n))
    else:
        best = optimize.minimize(loss, found + 0.05, tol=1e-12).x
    assert loss(found) <= loss(best) + 1e-8
    np.testing.assert_allclose(found, best, atol=1e-5)


def test_medians_of_many_tables_are_exact():
    for seed in range(20):
        data = table("laplace", 40 + 3 * seed, seed + 1)
        fit = one_expert("laplace", data, objective="likelihood")
        coef = fit.idata["posterior"]["mu_coef"].values.ravel()
        assert fit.idata["fit"]["converged"].values.all()
        residuals = data["y"] - coef[0] - coef[1] * data["x"] - coef[2] * data["z"]
        assert np.sort(np.abs(residuals))[2] < 1e-6  # a line through as many rows as it has numbers


def test_standard_errors_of_a_median_are_those_of_the_expected_information():
    data = table("laplace", 400)
    fit = one_expert("laplace", data)
    features = np.column_stack([np.ones(len(data)), data["x"], data["z"]])
    b = fit.idata["posterior"]["b"].values.item()
    expected = b * np.sqrt(np.diag(np.linalg.inv(features.T @ features)))
    found = fit.idata["standard_error"]["mu_coef"].values.ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("family", SCALES)
def test_logs_and_shifts_of_the_response(family):
    """Location and scale follow the response; a log-normal is a normal of the logs."""
    data = table(family)
    if family == "lognormal":
        own = one_expert("lognormal", data, objective="likelihood")
        logs = data.assign(y=np.log(data["y"]))
        other = one_expert("normal", logs, objective="likelihood")
        factor, shift = 1.0, 0.0
    else:
        own, factor, shift = one_expert(family, data), 10.0, 3.0
        other = one_expert(family, data.assign(y=10 * data["y"] + 3))
    name = SCALES[family]
    coef = own.idata["posterior"]["mu_coef"].values.ravel() * factor + [shift, 0, 0]
    np.testing.assert_allclose(other.idata["posterior"]["mu_coef"].values.ravel(), coef, atol=1e-6)
    scale = factor * own.idata["posterior"][name].values
    other_name = "sigma" if family == "lognormal" else name
    np.testing.assert_allclose(other.idata["posterior"][other_name].values, scale, rtol=1e-6)

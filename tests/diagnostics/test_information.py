"""Effective numbers of parameters against traces of hat matrices and differences of SciPy."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.em.modes import effective_parameters
from bayes_moe.em.multistart import SearchSettings, search
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.inference.map import MAP

pytestmark = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")

SIGMA = 0.7


def table(n=120, seed=0):
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-2, 2, n), rng.normal(0, 1, n)
    return pd.DataFrame({"x": x, "z": z, "y": 1 + np.sin(2 * x) + rng.normal(0, SIGMA, n)})


def known_sigma():
    """Prior that holds sigma."""
    return bm.Prior("LogNormal", mu=np.log(SIGMA), sigma=1e-5)


@pytest.mark.parametrize(
    ("method", "width"),
    [*(("em", width) for width in (1e-3, 0.05, 0.3, 2.0, 1e3)), ("map", 0.05), ("map", 2.0)],
)
def test_a_ridge_regression_has_the_trace_of_its_hat_matrix(method, width):
    priors = {"mu_coef": bm.Prior("Normal", mu=0.0, sigma=width), "sigma": known_sigma()}
    spec = bm.mixture_of_experts("y ~ x + z + I(x**2)", experts=1, priors=priors, center=False)
    data = table()
    fit = bm.fit(spec, data, method=method, random_seed=1, progressbar=False)
    features = np.column_stack([np.ones(len(data)), data["x"], data["z"], data["x"] ** 2])
    gram = features.T @ features
    expected = np.trace(np.linalg.solve(gram + SIGMA**2 / width**2 * np.eye(4), gram))
    found = bm.information(fit)
    assert found["effective_parameters"] == pytest.approx(expected, abs=2e-4)
    assert found["n_parameters"] == 5
    least = -2 * found["log_likelihood"]
    assert found["aic"] == pytest.approx(least + 2 * expected, abs=1e-3)
    assert found["bic"] == pytest.approx(least + np.log(len(data)) * expected, abs=2e-3)


@pytest.mark.parametrize("predictor", ["spline", "hsgp", "fourier"])
def test_a_smoother_has_the_trace_of_its_hat_matrix(predictor):
    smooth = {
        "spline": bm.predictors.Spline(df=10),
        "hsgp": bm.predictors.HSGP(),
        "fourier": bm.predictors.Fourier(period=4.0),
    }[predictor]
    spec = bm.mixture_of_experts(
        "y ~ x", experts=1, predictor=smooth, priors={"sigma": known_sigma()}
    )
    fit = bm.fit(spec, table(), method="em", random_seed=1)
    posterior = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    scales = {n: posterior[n].values for n in parameter_vector(spec, fit.design).hyperparameters}
    vector = parameter_vector(spec, fit.design, hyperparameters=scales)
    block = next(b for b in vector.blocks if b.role == "location")
    basis = block.unit * block.features(fit.design.rows).values
    precision = -np.diag(vector.log_prior(np.zeros((1, vector.size)))[2][0, block.where])
    gram = basis.T @ basis / SIGMA**2
    expected = np.trace(np.linalg.solve(gram + precision, gram))
    found = bm.information(fit)
    assert found["effective_parameters"] == pytest.approx(expected, abs=1e-3)
    assert found["effective_parameters"] < found["n_parameters"] - 1


def hessian(function, at, step=1e-4):
    """Second derivatives by central differences."""
    steps = step * np.eye(len(at))
    value = [
        [
            function(at + a + b)
            - function(at + a - b)
            - function(at - a + b)
            + function(at - a - b)
            for b in steps
        ]
        for a in steps
    ]
    return np.array(value) / (4 * step**2)


@pytest.mark.parametrize(("method", "width"), [("em", 0.1), ("em", 1.0), ("map", 0.1)])
def test_a_mixture_has_the_trace_of_its_information_ratio(method, width):
    """Likelihood and prior written with SciPy, and differentiated by differences."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, 200)
    y = np.where(rng.random(200) < 0.6, 1 + x, -1 - 2 * x) + rng.normal(0, 0.3, 200)
    priors = {
        "mu_coef": bm.Prior("Normal", mu=0.0, sigma=width),
        "sigma": bm.Prior("HalfNormal", sigma=width),
        "gate_coef": bm.Prior("Normal", mu=0.0, sigma=width),
    }
    spec = bm.mixture_of_experts("y ~ x", gate="~ 1", experts=2, priors=priors, center=False)
    fit = bm.fit(spec, {"x": x, "y": y}, method=method, random_seed=1, progressbar=False)
    post = {n: fit.idata["posterior"][n].values[0, 0] for n in spec.variables}
    at = np.concatenate([post[n].ravel() for n in ("gate_coef", "mu_coef")])
    at = np.concatenate([at, np.log(post["sigma"])])

    def log_likelihood(v):
        logits, coef, sds = v[:2], v[2:6].reshape(2, 2), np.exp(v[6:])
        log_weights = logits - np.logaddexp(*logits)
        parts = [
            log_weights[k] + stats.norm.logpdf(y, coef[k, 0] + coef[k, 1] * x, sds[k])
            for k in range(2)
        ]
        return np.logaddexp(*parts).sum()

    def log_prior(v):
        scales = stats.halfnorm.logpdf(np.exp(v[6:]), scale=width)
        return stats.norm.logpdf(v[:6], 0, width).sum() + scales.sum()

    likelihood = -hessian(log_likelihood, at)
    whole = likelihood - hessian(log_prior, at)
    expected = np.trace(np.linalg.solve(whole, likelihood))
    assert bm.information(fit)["effective_parameters"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("family", ["normal", "studentt", "poisson", "gamma"])
def test_every_parameter_of_a_likelihood_counts(family):
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, 300)
    mean = np.exp(np.where(rng.random(300) < 0.5, 1 + x, 3 - x))
    y = {
        "normal": mean + rng.normal(0, 0.5, 300),
        "studentt": mean + 0.3 * rng.standard_t(2.5, 300),
        "poisson": rng.poisson(mean),
        "gamma": rng.gamma(20.0, mean / 20),
    }[family]
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=family)
    fit = bm.fit(spec, {"x": x, "y": y}, "em", objective="likelihood", random_seed=1)
    found = bm.information(fit)
    assert found["effective_parameters"] == found["n_parameters"]
    modes = search(
        parameter_vector(spec, fit.design, likelihood=True),
        SearchSettings(restarts=4),
        np.random.default_rng(0),
    )
    assert effective_parameters(modes) == pytest.approx(found["n_parameters"], abs=1e-6)
    weak = bm.information(bm.fit(spec, {"x": x, "y": y}, "em", random_seed=1))
    assert weak["n_parameters"] - 1 < weak["effective_parameters"] < weak["n_parameters"] + 0.2


def test_a_count_that_is_not_known_is_no_full_count():
    """Adam has no second derivatives."""
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    method = MAP(optimizer="adam", epochs=2, restarts=1, progressbar=False)
    fit = bm.fit(spec, table(), method, random_seed=1)
    found = bm.information(fit)
    assert np.isnan([found[name] for name in ("effective_parameters", "aic", "bic", "icl")]).all()
    assert found["n_parameters"] == 8


PRIORS = {
    "mu_coef": bm.Prior("Normal", mu=0.0, sigma=1.0),
    "sigma": bm.Prior("HalfNormal", sigma=1.0),
    "gate_coef": bm.Prior("Normal", mu=0.0, sigma=1.0),
}


@pytest.mark.parametrize("names", [["mu_coef"], ["sigma"], ["gate_coef"], [*PRIORS]], ids=str)
def test_priors_of_a_likelihood_are_refused(names):
    given = {name: PRIORS[name] for name in names}
    spec = bm.mixture_of_experts("y ~ x", experts=2, priors=given)
    message = rf"would ignore those of this model \({', '.join(names)}\): leave `priors=` out, or"
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(spec, table(), "em", objective="likelihood")
    fit = bm.fit(spec, table(), "em", random_seed=1, restarts=2)
    with pytest.raises(bm.SpecError, match=message):
        bm.refit(fit, table(seed=1), objective="likelihood")


def test_priors_of_a_likelihood_with_missing_features_are_refused():
    data = table()
    data.loc[3, "x"] = np.nan
    spec = bm.mixture_of_experts(
        "y ~ 1", experts=2, gate=bm.gates.Gaussian("~ x"), priors={"sigma": PRIORS["sigma"]}
    )
    with pytest.raises(bm.SpecError, match=r"would ignore those of this model \(sigma\)"):
        bm.fit(spec, data, "em", objective="likelihood", missing="model")
    fit = bm.fit(spec, data, "em", missing="model", random_seed=1, restarts=4)
    found = bm.information(fit)
    assert found["n_parameters"] - 1.5 < found["effective_parameters"] < found["n_parameters"] + 0.2


@pytest.mark.slow
def test_networks_count_no_negative_parameters():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, 200)
    table = pd.DataFrame({"x": x, "y": np.where(rng.random(200) < 0.5, 1 + 2 * x, -1 - x)})
    spec = bm.mixture_of_experts("y ~ x", experts=2, predictor="mlp")
    table["y"] += rng.normal(0, 0.2, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        found = bm.information(bm.fit(spec, table, "map", random_seed=1, restarts=1))
    q = found["effective_parameters"]
    assert np.isnan(q) or 0 < q <= found["n_parameters"]

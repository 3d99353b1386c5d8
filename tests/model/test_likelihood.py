"""The model's log density against an independent NumPy and SciPy oracle."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pytensor.compile.mode import Mode
from scipy import stats
from scipy.special import logsumexp

import bayes_moe as bm
from tests.support.graphs import internal_graph

QUICK = Mode(linker="py", optimizer="fast_compile")
N = 40
CASES = [
    (k, family, sigma)
    for k in (1, 2, 3, 4, 5)
    for family in ("normal", "studentt")
    for sigma in (None, "~ z")
]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x, z = rng.normal(3, 2, N), rng.uniform(-1, 4, N)
    return pd.DataFrame({"x": x, "z": z, "y": 2 + 0.5 * x + rng.normal(0, 0.4, N)})


def describe(k, family, sigma):
    extra = {} if sigma is None else {"sigma": sigma}
    return bm.mixture_of_experts("y ~ x + z", gate="~ z", experts=k, family=family, **extra)


def random_parameters(k, family, sigma, rng):
    gate = rng.normal(0, 1.5, (k, 2))
    found = {
        "gate_coef": gate - gate.mean(axis=0),
        "mu_coef": rng.normal(0, 1, (k, 3)),
    }
    if sigma is None:
        found["sigma"] = rng.lognormal(0, 0.5, k)
    else:
        found["sigma_coef"] = rng.normal(0, 0.4, (k, 2))
    if family == "studentt":
        found["nu"] = rng.gamma(2, 5, k)
    return {n: v for n, v in found.items() if k > 1 or n != "gate_coef"}


def oracle_log_likelihood(table, params, k, family):
    """Row log densities, expert by expert, with scipy's distributions."""
    columns = np.column_stack([np.ones(N), table["x"], table["z"]])
    wz = columns[:, [0, 2]]
    logits = wz @ params["gate_coef"].T if k > 1 else np.zeros((N, 1))
    log_w = logits - logsumexp(logits, axis=1, keepdims=True)
    densities = []
    for e in range(k):
        mu = columns @ params["mu_coef"][e]
        sigma = params["sigma"][e] if "sigma" in params else np.exp(wz @ params["sigma_coef"][e])
        law = stats.norm(mu, sigma) if family == "normal" else stats.t(params["nu"][e], mu, sigma)
        densities.append(law.logpdf(table["y"]))
    return logsumexp(log_w + np.column_stack(densities), axis=1)


def oracle_log_prior(table, params, k):
    """Documented default priors on the user's scale, at the density of the internal scale."""
    y = table["y"].to_numpy()
    m_y, s_y = y.mean(), y.std()
    mean = {c: table[c].mean() for c in "xz"}
    sd = {c: table[c].std(ddof=0) for c in "xz"}

    def normal_vector(coef, features, loc, width, slope_width, unit):
        """Intercept at the features' centre and slopes, as densities of standardised coefs."""
        centred = coef[:, 0] + coef[:, 1:] @ [mean[c] for c in features]
        total = stats.norm(loc, width).logpdf(centred).sum() + k * np.log(unit)
        for j, c in enumerate(features, start=1):
            total += stats.norm(0, slope_width / sd[c]).logpdf(coef[:, j]).sum()
            total += k * np.log(unit / sd[c])
        return total

    total = normal_vector(params["mu_coef"], "xz", m_y, 2.5 * s_y, 2.5 * s_y, s_y)
    if "sigma" in params:
        total += stats.lognorm(1.0, scale=s_y / 2).logpdf(params["sigma"]).sum()
    else:
        total += normal_vector(params["sigma_coef"], "z", np.log(s_y / 2), 1.0, 1.0, 1.0)
    if "nu" in params:
        total += stats.gamma(2, scale=10).logpdf(params["nu"]).sum()
    if k > 1:  # a zero-sum normal is a normal on the k - 1 dimensional subspace
        slope = params["gate_coef"][:, 1]
        level = params["gate_coef"][:, 0] + slope * mean["z"]
        for values, sigma in ((level, 1.5), (slope * sd["z"], 2.5)):
            total += -0.5 * (k - 1) * np.log(2 * np.pi * sigma**2)
            total += -0.5 * np.sum(values**2) / sigma**2
    return total


@pytest.mark.parametrize(("k", "family", "sigma"), CASES)
def test_log_density_is_the_oracles_at_random_points(table, k, family, sigma):
    graph = internal_graph(describe(k, family, sigma), table)
    logp = graph.model.compile_logp(jacobian=False, mode=QUICK)
    rng = np.random.default_rng([k, len(family), sigma is None])
    for _ in range(5):
        params = random_parameters(k, family, sigma, rng)
        expected = oracle_log_likelihood(table, params, k, family).sum()
        expected += oracle_log_prior(table, params, k)
        assert logp(graph.unconstrained(params)) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(("k", "family", "sigma"), [c for c in CASES if c[0] in (1, 3)])
def test_gradient_is_that_of_finite_differences(table, k, family, sigma):
    graph = bm.build(describe(k, family, sigma), table)
    logp = graph.model.compile_logp(mode=QUICK)
    gradient = graph.model.compile_dlogp(mode=QUICK)
    point = graph.unconstrained(random_parameters(k, family, sigma, np.random.default_rng(k)))
    found = gradient(point)
    differences = []
    for name, value in point.items():
        for index in np.ndindex(value.shape):
            step = 1e-5 * max(1.0, abs(value[index]))
            up, down = ({**point, name: value.copy()} for _ in range(2))
            up[name][index] += step
            down[name][index] -= step
            differences.append((logp(up) - logp(down)) / (2 * step))
    np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-5)


def test_permuting_experts_changes_nothing(table):
    k, family, sigma = 4, "studentt", "~ z"
    graph = bm.build(describe(k, family, sigma), table)
    logp = graph.model.compile_logp(mode=QUICK)
    rng = np.random.default_rng(1)
    for _ in range(10):
        params = random_parameters(k, family, sigma, rng)
        order = rng.permutation(k)
        swapped = {name: value[order] for name, value in params.items()}
        change = logp(graph.unconstrained(swapped)) - logp(graph.unconstrained(params))
        assert abs(change) < 1e-9


@pytest.mark.parametrize("slope", [700.0, -700.0])
def test_extreme_gate_logits_give_finite_values_and_gradients(table, slope):
    k = 3
    graph = bm.build(describe(k, "normal", None), table)
    params = random_parameters(k, "normal", None, np.random.default_rng(2))
    params["gate_coef"] = np.array([[0.0, slope], [0.0, 0.0], [0.0, -slope]])
    logits = params["gate_coef"] @ np.column_stack([np.ones(N), table["z"]]).T
    assert np.abs(logits).max() > 700
    point = graph.unconstrained(params)
    expected = oracle_log_likelihood(table, params, k, "normal")
    rows = graph.model.compile_fn(graph.model.logp(vars=[graph.model["y"]], sum=False), mode=QUICK)
    np.testing.assert_allclose(rows(point)[0], expected, rtol=1e-9)
    assert np.isfinite(graph.model.compile_dlogp(mode=QUICK)(point)).all()


def test_symbolic_parts_are_the_rows_log_weights_and_densities(table):
    graph = bm.build(describe(2, "normal", None), table)
    params = random_parameters(2, "normal", None, np.random.default_rng(3))
    model = graph.model
    inputs = model.replace_rvs_by_values([graph.log_weights, graph.log_densities])
    log_w, log_f = model.compile_fn(inputs, mode=QUICK, on_unused_input="ignore")(
        graph.unconstrained(params)
    )
    np.testing.assert_allclose(np.exp(log_w).sum(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(
        logsumexp(log_w + log_f, axis=0), oracle_log_likelihood(table, params, 2, "normal")
    )


def test_random_rows_follow_weights_and_experts(table):
    """Draws of the observed variable have the mixture's mean and spread."""
    graph = bm.build(describe(2, "normal", None), table)
    params = random_parameters(2, "normal", None, np.random.default_rng(4))
    free = graph.free_values(params)
    fixed = pm.do(graph.model, {name: free[name] for name in free})
    draws = pm.draw(fixed["y"], draws=4000, random_seed=1, mode=QUICK)
    columns = np.column_stack([np.ones(N), table["x"], table["z"]])
    logits = columns[:, [0, 2]] @ params["gate_coef"].T
    w = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    mu = columns @ params["mu_coef"].T
    mean = (w * mu).sum(axis=1)
    sd = np.sqrt((w * (mu**2 + params["sigma"] ** 2)).sum(axis=1) - mean**2)
    z = (draws.mean(axis=0) - mean) / (sd / np.sqrt(len(draws)))
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.15)

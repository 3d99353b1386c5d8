"""Laplace's method: draws from the normal distribution at the mode, and how good that is."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.inference.importance import pareto_k


@pytest.fixture(scope="module")
def table():
    """Two lines far apart."""
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, 1000)
    y = np.where(rng.random(1000) < 0.4, 1 + x, 9 - x) + rng.normal(0, 0.5, 1000)
    return pd.DataFrame({"x": x, "y": y})


SPEC = bm.mixture_of_experts("y ~ x", gate="~ 1", experts=2)


@pytest.fixture(scope="module")
def fit(table):
    return bm.fit(SPEC, table, method="laplace", draws=2500, random_seed=1)


def test_draws_have_the_mode_and_the_errors(fit):
    posterior, errors = fit.idata["posterior"], fit.idata["standard_error"]
    modes = fit.idata["modes"].isel(mode=0)
    assert dict(posterior.sizes)["chain"] == 4
    for name in SPEC.variables:
        draws = posterior[name]
        if name == "sigma":  # normal on the log scale
            draws, mode, error = np.log(draws), np.log(modes[name]), errors[name] / modes[name]
        else:
            mode, error = modes[name], errors[name]
        z = (draws.mean(("chain", "draw")) - mode) / (error / np.sqrt(10_000))
        assert np.abs(z).max() < 4
        np.testing.assert_allclose(draws.std(("chain", "draw")), error, rtol=0.03)


def test_weights_are_target_over_approximation(fit, table):
    """``log p - log q`` with PyMC's own density of the unconstrained values."""
    graph = bm.build(SPEC, table)
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    stats, posterior = fit.idata["sample_stats"], fit.idata["posterior"]
    draws = {n: posterior[n].values[0, :200] for n in SPEC.variables}
    points = [graph.unconstrained({n: v[j] for n, v in draws.items()}) for j in range(200)]
    values = np.array([float(logp(p)) for p in points])
    np.testing.assert_allclose(stats["lp"].values[0, :200], values, rtol=1e-8)
    flat = np.array([np.concatenate([v.ravel() for v in p.values()]) for p in points])
    mode = graph.unconstrained({n: fit.idata["modes"][n].values[0] for n in SPEC.variables})
    away = flat - np.concatenate([v.ravel() for v in mode.values()])
    # Weights are relative to the mode's: log q there is the quadratic form alone.
    expected = values - float(logp(mode)) + 0.5 * quadratic(graph, mode, away)
    np.testing.assert_allclose(stats["log_weight"].values[0, :200], expected, atol=1e-3)


def quadratic(graph, mode, away):
    """Squared distances in the metric of minus the Hessian, by differences of PyMC's gradient."""
    dlogp = graph.model.compile_dlogp(mode="FAST_COMPILE")
    flat = np.concatenate([v.ravel() for v in mode.values()])

    def gradient(x):
        parts, at = {}, 0
        for name, value in mode.items():
            parts[name] = x[at : at + value.size].reshape(value.shape)
            at += value.size
        return dlogp(parts)

    step = 1e-4 * np.eye(flat.size)
    hessian = np.array([(gradient(flat + e) - gradient(flat - e)) / 2e-4 for e in step])
    return -np.einsum("bi,ij,bj->b", away, hessian, away)


def test_pareto_k_says_how_normal_the_posterior_is(fit, table):
    assert float(fit.idata["fit"]["pareto_k"]) < 0.3
    assert bm.diagnose(fit).ok
    weights = fit.idata["sample_stats"]["log_weight"].values.ravel()
    assert float(fit.idata["fit"]["pareto_k"]) == pytest.approx(pareto_k(weights))
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="studentt")
    with pytest.warns(bm.ConvergenceWarning, match="Pareto k"):
        few = bm.fit(spec, table.head(12), method="laplace", random_seed=1)
    assert not bm.diagnose(few).ok


def test_the_fit_predicts_and_comes_back_from_a_file(fit, tmp_path):
    back = bm.load(bm.save(fit, tmp_path / "laplace.nc"))
    rows = {"x": [-0.5, 0.5]}
    np.testing.assert_allclose(
        bm.predict(back, rows).interval(0.9), bm.predict(fit, rows).interval(0.9)
    )
    pd.testing.assert_frame_equal(bm.summary(back), bm.summary(fit))
    assert "r_hat" not in bm.summary(fit)
    assert bm.information(back).equals(bm.information(fit))


def test_the_same_seed_gives_the_same_draws(table):
    one, two, other = (
        bm.fit(SPEC, table, method="laplace", draws=50, random_seed=s) for s in (1, 1, 2)
    )
    assert one.idata["posterior"].identical(two.idata["posterior"])
    assert not np.array_equal(one.idata["posterior"]["sigma"], other.idata["posterior"]["sigma"])


def test_no_draws_where_there_is_no_normal_approximation(table):
    kink = bm.MixtureOfExperts(SPEC.gate, SPEC.experts, {"mu_coef": bm.Prior("Laplace", b=1e-4)})
    with pytest.raises(bm.SpecError, match="kink of a Laplace prior"):
        bm.fit(kink, table, method="laplace", random_seed=1)

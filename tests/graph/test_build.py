"""The model is a plain PyMC model: everything PyMC and ArviZ do with one works on it."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pytensor.compile.mode import Mode

import bayes_moe as bm
from bayes_moe.sampling import chain_starts as start

QUICK = Mode(linker="py", optimizer="fast_compile")


@pytest.fixture(scope="module")
def graph(tone_spec, tone):
    return bm.build(tone_spec, tone)


def test_dims_and_coords_are_named(graph):
    model = graph.model
    assert dict(model.named_vars_to_dims) == {
        "gate_coef": ("expert", "gate_term"),
        "gate_features": ("obs_id", "gate_term"),
        "mu_coef": ("expert", "mu_term"),
        "mu_features": ("obs_id", "mu_term"),
        "sigma": ("expert",),
        "y_data": ("obs_id",),
        "y": ("obs_id",),
    }
    assert model.coords["gate_term"] == ("Intercept", "stretchratio")
    assert model.coords["expert"] == (0, 1)
    assert [v.name for v in model.observed_RVs] == ["y"]


def test_the_model_can_be_drawn(graph):
    text = pm.model_to_mermaid(graph.model)
    assert "MixtureOfExperts" in text
    assert "gate_coef" in pm.model_to_graphviz(graph.model).source


def test_prior_and_posterior_predictive_and_log_likelihood(graph, tone_fit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prior = pm.sample_prior_predictive(
            50, model=graph.model, random_seed=1, compile_kwargs={"mode": QUICK}
        )
        thinned = tone_fit.idata.isel(draw=slice(0, 1000, 100))
        drawn = pm.sample_posterior_predictive(
            thinned,
            model=graph.model,
            random_seed=1,
            progressbar=False,
            compile_kwargs={"mode": QUICK},
        )
        rows = pm.compute_log_likelihood(
            thinned,
            model=graph.model,
            extend_inferencedata=False,
            progressbar=False,
            compile_kwargs={"mode": QUICK},
        )
    assert prior["prior_predictive"]["y"].dims == ("chain", "draw", "obs_id")
    assert prior["prior"]["mu_coef"].dims == ("chain", "draw", "expert", "mu_term")
    gap = drawn["posterior_predictive"]["y"].mean(("chain", "draw")) - bm.predict(tone_fit).mean()
    assert float(np.abs(gap).mean()) < 0.1
    stored = thinned["log_likelihood"]["y"]
    np.testing.assert_allclose(rows["y"].values, stored.values, rtol=1e-9, atol=1e-9)


def test_loo_is_label_invariant(tone_fit):
    """Relative efficiency is given: ArviZ would estimate it from labelled parameters."""
    switched = bm.relabel(tone_fit, "none").idata
    with pytest.warns(UserWarning, match="Pareto"):  # one tuning is an outlier of both lines
        one, other = az.loo(tone_fit.idata, reff=1.0), az.loo(switched, reff=1.0)
    assert one.elpd == pytest.approx(other.elpd, rel=1e-12)
    assert 3 < one.p < 16  # 8 free parameters, and an outlier that no draw speaks for


def test_arvizs_plots_work_on_the_tree(tone_fit):
    import matplotlib.pyplot as plt

    names = list(tone_fit.spec.variables)
    az.plot_trace(tone_fit.idata, var_names=names, backend="matplotlib")
    az.plot_forest(tone_fit.idata, var_names=names, backend="matplotlib")
    az.plot_dist(tone_fit.idata, var_names=["sigma"], backend="matplotlib")
    plt.close("all")


def test_default_priors_move_with_the_data():
    """y -> a y + b and x -> c x + d change nothing on the internal scale."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=30), "y": rng.normal(size=30)})
    moved = pd.DataFrame({"x": 1e6 * table["x"] + 3e6, "y": 1e-6 * table["y"] - 5e-6})
    spec = bm.mixture_of_experts("y ~ x", experts=3, sigma="~ x")
    values = []
    for data in (table, moved):
        graph = bm.build(spec, data)
        logp = graph.model.compile_logp(mode=QUICK)
        point = graph.model.initial_point(0)
        point = {n: np.linspace(-1, 1, v.size).reshape(v.shape) for n, v in point.items()}
        values.append(logp(point))
    assert values[1] - values[0] == pytest.approx(30 * np.log(1e6), rel=1e-9)


def test_points_go_there_and_back(tone_spec, tone):
    """The user's scale and the model's deterministics agree."""
    graph = bm.build(tone_spec, tone)
    gate = np.array([[1.4, -0.4], [-1.4, 0.4]])
    params = {
        "gate_coef": gate,
        "mu_coef": np.array([[1.9, 0.04], [0.0, 1.0]]),
        "sigma": [0.05, 0.1],
    }
    names = list(params)
    outputs = graph.model.replace_rvs_by_values([graph.model[n] for n in names])
    found = graph.model.compile_fn(outputs, mode=QUICK, on_unused_input="ignore")(
        graph.unconstrained(params)
    )
    for name, value in zip(names, found, strict=True):
        np.testing.assert_allclose(value, params[name], rtol=1e-12, atol=1e-12)


def test_threads_may_ask_for_points_at_the_same_time(tone_spec, tone):
    """nutpie's chains do; without a lock they read each other's storage."""
    graph = bm.build(tone_spec, tone)
    design = graph.design
    begun = start.starts(tone_spec, design, 1)
    points = [begun.draw(np.random.default_rng(s))[1] for s in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(graph.unconstrained, points * 50))
    for j, point in enumerate(found):
        expected = graph.unconstrained(points[j % 4])
        for name, value in expected.items():
            np.testing.assert_array_equal(point[name], value)


def test_different_kinds_side_by_side_build_and_start():
    rng = np.random.default_rng(1)
    spec = bm.MixtureOfExperts(
        gate=bm.gates.Softmax("~ x"),
        experts=[
            bm.Expert("y ~ x", family="normal"),
            bm.Expert("y ~ bs(x, df=5)", family="studentt"),
            bm.Expert("y ~ x", family="normal"),
        ],
    )
    table = pd.DataFrame({"x": rng.uniform(0, 1, 60)})
    table["y"] = np.sin(6 * table["x"]) + rng.normal(0, 0.1, 60)
    graph = bm.build(spec, table)
    _, values = start.starts(spec, graph.design, 1).draw(rng)
    logp = graph.model.compile_logp(mode=QUICK)
    assert np.isfinite(logp(graph.unconstrained(values)))
    assert {*values} - {"gate_raw", "block0_mu_raw", "block1_mu_raw"} == {
        "gate_coef",
        "block0_mu_coef",
        "block0_sigma",
        "block1_mu_coef",
        "block1_sigma",
        "block1_nu",
    }
    assert graph.model.coords["block0_expert"] == (0, 1)
    assert graph.model.coords["block1_expert"] == (2,)

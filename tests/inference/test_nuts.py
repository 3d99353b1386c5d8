"""Sampling: reference posteriors, determinism, interruption."""

import json
import os
import signal
import threading
from pathlib import Path

import arviz_stats as azs
import numpy as np
import pandas as pd
import pytensor
import pytest
import xarray as xr
from scipy import stats

import bayes_moe as bm
from bayes_moe.results.draws import rectangular
from bayes_moe.sampling import graph_samplers as graphs

REFERENCE = Path(__file__).parents[1] / "data" / "tone_posterior.json"


def reference_fit(nuts_sampler):
    """The reference's model: intercepts at zero of shifted columns, its own priors."""
    tone = bm.load_dataset("tone")
    shifted = tone.assign(x=tone["stretchratio"] - 2.2, y=tone["tuned"] - 2.07)
    spec = bm.mixture_of_experts(
        "y ~ x",
        experts=2,
        center=False,
        priors={
            "mu_coef": bm.Prior("Normal", mu=0, sigma=2),
            "gate_coef": bm.Prior("ZeroSumNormal", sigma=np.sqrt(2)),
            "sigma": bm.Prior("HalfNormal", sigma=1),
        },
    )
    return bm.fit(
        spec, shifted, random_seed=3, draws=2000, nuts_sampler=nuts_sampler, progressbar=False
    )


def in_reference_terms(fit):
    """The draws as the reference names them: expert 1 has the smaller slope."""
    posterior = fit.idata["posterior"].to_dataset()
    slope = posterior["mu_coef"].sel(mu_term="x").mean(("chain", "draw"))
    posterior = posterior.isel(expert=np.argsort(slope.values))
    gate = posterior["gate_coef"].values
    found = {f"A{j}": gate[:, :, 1, j] - gate[:, :, 0, j] for j in (0, 1)}
    for k in (0, 1):
        found[f"s{k + 1}"] = posterior["sigma"].values[:, :, k]
        for j in (0, 1):
            found[f"b{k + 1}_{j}"] = posterior["mu_coef"].values[:, :, k, j]
    return xr.Dataset({name: (("chain", "draw"), v) for name, v in found.items()})


@pytest.mark.parametrize("nuts_sampler", ["nutpie", "pymc"])
def test_tone_posterior_is_the_references(nuts_sampler):
    with pytensor.config.change_flags(mode="NUMBA"):  # tests run graphs in Python else
        fit = reference_fit(nuts_sampler)
    draws = in_reference_terms(fit)
    expected = json.loads(REFERENCE.read_text())["posterior"]
    mcse, rhat = azs.mcse(draws), azs.rhat(draws)
    for name, variable in draws.data_vars.items():
        difference = float(variable.mean()) - expected[name]["mean"]
        assert abs(difference) < 4 * float(mcse[name]), name
        assert abs(difference) < 0.1 * expected[name]["sd"], name
        assert abs(np.log(float(variable.std()) / expected[name]["sd"])) < 0.1, name
        assert float(rhat[name]) < 1.01, name
    assert int(fit.idata["sample_stats"]["diverging"].sum()) == 0


def test_one_expert_is_bayesian_regression():
    """K = 1: given sigma the posterior is normal in closed form; sigma by quadrature."""
    rng = np.random.default_rng(5)
    n = 60
    table = pd.DataFrame({"x": rng.normal(1, 2, n)})
    table["y"] = 1 + 0.7 * table["x"] + rng.normal(0, 0.8, n)
    spec = bm.mixture_of_experts(
        "y ~ x",
        experts=1,
        center=False,
        priors={
            "mu_coef": bm.Prior("Normal", mu=[0.5, 0.0], sigma=[2.0, 1.0]),
            "sigma": bm.Prior("HalfNormal", sigma=1),
        },
    )
    fit = bm.fit(spec, table, random_seed=2, draws=2000, progressbar=False)

    design = np.column_stack([np.ones(n), table["x"]])
    y, prior_mean, prior_var = table["y"].to_numpy(), np.array([0.5, 0.0]), np.array([4.0, 1.0])
    grid = np.linspace(0.4, 1.6, 400)
    log_weight, means, covariances = [], [], []
    for sigma in grid:
        marginal = stats.multivariate_normal(
            design @ prior_mean, design @ np.diag(prior_var) @ design.T + sigma**2 * np.eye(n)
        )
        log_weight.append(marginal.logpdf(y) + stats.halfnorm.logpdf(sigma))
        precision = np.diag(1 / prior_var) + design.T @ design / sigma**2
        covariances.append(np.linalg.inv(precision))
        means.append(covariances[-1] @ (prior_mean / prior_var + design.T @ y / sigma**2))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    spread = np.einsum("g,gij->ij", weight, covariances) + np.cov(
        np.array(means).T, aweights=weight, ddof=0
    )
    sigma_mean = weight @ grid
    sigma_sd = np.sqrt(weight @ grid**2 - sigma_mean**2)

    posterior = fit.idata["posterior"].to_dataset()
    mcse = azs.mcse(posterior[["mu_coef", "sigma"]])
    found = posterior["mu_coef"].values.reshape(-1, 2)
    error = np.abs(found.mean(axis=0) - mean)
    assert np.all(error < 4 * mcse["mu_coef"].values[0])
    np.testing.assert_allclose(found.std(axis=0), np.sqrt(np.diag(spread)), rtol=0.05)
    sigma = posterior["sigma"].values
    assert abs(sigma.mean() - sigma_mean) < 4 * float(mcse["sigma"].values[0])
    assert sigma.std() == pytest.approx(sigma_sd, rel=0.05)
    assert "gate_coef" not in posterior
    np.testing.assert_array_equal(bm.predict(fit).weights().values, 1.0)


def test_same_seed_same_draws(tone_fit, tone_spec, tone):
    again = bm.fit(tone_spec, tone, random_seed=1, progressbar=False)
    for name in ("gate_coef", "mu_coef", "sigma"):
        np.testing.assert_array_equal(
            again.idata["posterior"][name].values, tone_fit.idata["posterior"][name].values
        )


@pytest.fixture
def keyboard():
    """Ctrl-C is heard, also where this process was started with its signal ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def press_ctrl_c_in_nutpie(monkeypatch):
    import nutpie

    sample = nutpie.sample

    def sample_with_timer(*args, **kwargs):
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            return sample(*args, **kwargs)
        finally:
            timer.cancel()

    monkeypatch.setattr(nutpie, "sample", sample_with_timer)


def press_ctrl_c_in_pymc(monkeypatch):
    watch = graphs.StopAllChains.__call__

    def watch_and_press(self, trace, draw):
        watch(self, trace, draw)
        if self.drawn == {0: 200}:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(graphs.StopAllChains, "__call__", watch_and_press)


@pytest.mark.parametrize(
    ("nuts_sampler", "press", "draws"),
    [("nutpie", press_ctrl_c_in_nutpie, 1_000_000), ("pymc", press_ctrl_c_in_pymc, 1000)],
)
def test_interruption_keeps_the_draws_made_so_far(
    monkeypatch, keyboard, tone_spec, tone, nuts_sampler, press, draws
):
    press(monkeypatch)
    with pytest.warns(bm.ConvergenceWarning, match="stopped early"):
        fit = bm.fit(
            tone_spec,
            tone,
            random_seed=1,
            draws=draws,
            tune=100,
            cores=1,
            nuts_sampler=nuts_sampler,
            progressbar=False,
            log_likelihood=False,
        )
    assert not fit.complete
    assert "incomplete" in repr(fit)
    posterior = fit.idata["posterior"].to_dataset()
    assert 0 < posterior.sizes["draw"] < draws
    assert all(np.isfinite(v.values).all() for v in posterior.data_vars.values())
    assert not bm.diagnose(fit).ok


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nuts_sampler": "nutpy"}, "Did you mean 'nutpie'"),
        ({"drawz": 10}, "Did you mean 'draws'"),
        ({"draws": 0}, "`draws` must be a whole number >= 1"),
        ({"draws": True}, "`draws` must be a whole number >= 1"),
        ({"tune": 0}, "`tune` must be a whole number >= 10"),
        ({"cores": 0}, "`cores` must be a whole number >= 1"),
        ({"cores": "a"}, "`cores` must be a whole number >= 1"),
        ({"target_accept": "a"}, "`target_accept` must lie between 0 and 1"),
        ({"chains": 1.5}, "`chains` must be a whole number"),
        ({"target_accept": 1.0}, "`target_accept` must lie between 0 and 1"),
    ],
)
def test_wrong_settings_are_named(tone_spec, tone, settings, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(tone_spec, tone, **settings)


@pytest.mark.parametrize(
    ("made", "chains", "length"),
    [([5, 5, 5, 5], 4, 5), ([5, 5, 1, 0], 2, 5), ([5, 4, 4, 4], 4, 4), ([0, 3, 0, 0], 1, 3)],
)
def test_chains_that_were_cut_short_keep_the_most_draws(made, chains, length):
    values = np.full((4, 5, 2), np.nan)
    for chain, n in enumerate(made):
        values[chain, :n] = chain
    tree = tree_of(values)
    kept = rectangular(tree, 5, 4)
    assert kept["posterior"].sizes["chain"] == chains
    assert kept["posterior"].sizes["draw"] == length
    assert np.isfinite(kept["posterior"]["b"].values).all()
    assert kept.attrs["complete"] == int(made == [5, 5, 5, 5])


@pytest.mark.parametrize("draws", [0, 5])
def test_interruption_before_the_first_draw_is_an_interruption(draws):
    with pytest.raises(KeyboardInterrupt):
        rectangular(tree_of(np.full((4, draws, 2), np.nan)), 5, 4)


def tree_of(values):
    group = xr.Dataset({"b": (("chain", "draw", "k"), values)})
    return xr.DataTree.from_dict({"posterior": group, "sample_stats": group.isel(k=0)})

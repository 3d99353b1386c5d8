"""The verdict: every kind of trouble is seen, named, and met with advice."""

import numpy as np
import pytest
import xarray as xr

import bayes_moe as bm
from tests.support.fits import fake_fit, parallel_lines


@pytest.fixture
def healthy():
    spec, table, parameters = parallel_lines(2)
    return bm.relabel(fake_fit(spec, table, parameters, chains=4, draws=400))


def with_group(fit, group, **variables):
    tree = fit.idata.copy(deep=True)
    tree[group] = xr.DataTree(tree[group].to_dataset().assign(**variables))
    return bm.Fit(fit.spec, fit.design, tree)


def test_healthy_draws_are_trusted(healthy):
    diagnosis = bm.diagnose(healthy)
    assert diagnosis.ok
    assert diagnosis.verdict.startswith("The draws can be trusted: R-hat at most 1.0")
    assert diagnosis.usage["mean"].sum() == pytest.approx(1)
    assert "expert 0" in diagnosis.verdict
    assert "E-BFMI" in repr(diagnosis)


def spoil_divergences(fit):
    diverging = fit.idata["sample_stats"]["diverging"].copy()
    diverging[0, :3] = True
    return with_group(fit, "sample_stats", diverging=diverging)


def spoil_energy(fit):
    energy = fit.idata["sample_stats"]["energy"]
    return with_group(fit, "sample_stats", energy=energy.copy(data=np.cumsum(energy.values, 1)))


def spoil_depth(fit):
    reached = fit.idata["sample_stats"]["maxdepth_reached"].copy()
    reached[:, :100] = True
    return with_group(fit, "sample_stats", maxdepth_reached=reached)


def spoil_one_chain(fit):
    coef = fit.idata["posterior"]["mu_coef"].copy()
    coef[0] += 1.0
    return with_group(fit, "posterior", mu_coef=coef)


def spoil_mixing(fit):
    coef = fit.idata["posterior"]["mu_coef"]
    walk = np.cumsum(np.random.default_rng(0).normal(0, 0.01, coef.shape), axis=1)
    return with_group(fit, "posterior", mu_coef=coef.copy(data=coef.values[:, :1] + walk))


def spoil_completeness(fit):
    tree = fit.idata.copy()
    tree.attrs["complete"] = 0
    return bm.Fit(fit.spec, fit.design, tree)


def spoil_chains(fit):
    return bm.Fit(fit.spec, fit.design, fit.idata.isel(chain=[0]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_divergences, "3 divergent transitions"),
        (spoil_energy, "E-BFMI 0.0"),
        (spoil_depth, "25% of trajectories hit the largest tree depth"),
        (spoil_one_chain, "quantities that labels cannot change"),
        (spoil_mixing, "Effective sample size"),
        (spoil_completeness, "Sampling was stopped early"),
        (spoil_chains, "One chain only"),
    ],
)
def test_trouble_is_named(healthy, spoil, message):
    diagnosis = bm.diagnose(spoil(healthy))
    assert not diagnosis.ok
    assert message in diagnosis.verdict


def test_an_idle_expert_is_named():
    spec, table, parameters = parallel_lines(2)
    idle = {**parameters, "gate_coef": np.array([[4.0, 0.0], [-4.0, 0.0]])}
    table = bm.simulate(spec, table, idle, random_seed=2)
    diagnosis = bm.diagnose(bm.relabel(fake_fit(spec, table, idle, chains=4, draws=400)))
    assert any("Expert 1 takes" in p for p in diagnosis.problems)


def test_summary_takes_names_and_refuses_others(healthy):
    assert bm.summary(healthy, "mu_coef").index[0] == "mu_coef[0, Intercept]"
    with pytest.raises(bm.SpecError, match="Did you mean 'mu_coef'"):
        bm.summary(healthy, "mu_coeff")

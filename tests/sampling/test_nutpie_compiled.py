"""nutpie samples compiled densities of networks and of random effects, learned scales too."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.optimize.network_density import NetworkDensity
from bayes_moe.optimize.network_table import GroupedTable
from tests.support.linear_models import plain, table

NET = bm.predictors.MLP((2,))
CASES = {
    "density network": bm.mixture_density("normal ~ x", 2, (3,)),
    "counts by networks": plain("poisson", experts=2, predictor=NET),
}


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")
@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_log_density_that_nutpie_reports(name):
    spec, data = CASES[name], table()
    fit = bm.fit(spec, data, draws=30, tune=60, chains=2, random_seed=1, progressbar=False)
    density = NetworkDensity(spec, spec.design(data), jacobian=True)
    posterior = fit.idata["posterior"].to_dataset()
    values = {n: posterior[n].transpose("chain", "draw", ...).values for n in spec.variables}
    flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in values.items()}
    logp = fit.idata[names.SAMPLE_STATS]["logp"].values.ravel()
    found = [density.compiled(x)[0] for x in density.free.points(flat)]
    np.testing.assert_allclose(found, logp, rtol=1e-9)
    scales = density.coordinates(n for n in spec.variables if n.endswith("decay"))
    assert (density.free.points(flat)[:, scales].std(axis=0) > 0).all()


@pytest.mark.parametrize("fixed", [0, 1000])
@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")
def test_effects_of_groups_are_sampled_without_a_graph(monkeypatch, fixed):
    monkeypatch.setattr("bayes_moe.sampling.nutpie_compiled.MOST_FIXED", fixed)

    def graph(*_, **__):
        raise AssertionError("a graph was built")

    monkeypatch.setattr("bayes_moe.sampling.graph_samplers.build_design", graph)
    monkeypatch.setattr("bayes_moe.optimize.densities.build_design", graph)
    spec = plain("normal", formula="normal ~ x + (z | g)", gate="~ z + (1 | g)")
    data = table().assign(g=np.arange(60) % 6)
    settings = {"draws": 30, "tune": 60, "chains": 2, "progressbar": False}
    fit = bm.fit(spec, data, "nuts", random_seed=1, **settings)
    posterior, design = fit.idata["posterior"].to_dataset(), spec.design(data)
    free = FreeVariables.of(spec, design, spec.resolve_priors(design))
    density = GroupedTable(free, jacobian=True).density()
    values = {n: posterior[n].transpose("chain", "draw", ...).values for n in spec.variables}
    points = free.points({n: v.reshape(-1, *v.shape[2:]) for n, v in values.items()})
    logp = fit.idata[names.SAMPLE_STATS]["logp"].values.ravel()
    np.testing.assert_allclose([density(x)[0] for x in points], logp, rtol=1e-9)
    assert (points.std(axis=0) > 0).all()

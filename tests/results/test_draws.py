"""The sampler's own variables are beside the posterior, for every kind of model and method."""

from dataclasses import replace

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.graph.build import build_design
from bayes_moe.results.draws import standard_tree, without_internal
from bayes_moe.results.relabelling import align, permute

pytestmark = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")

SPECS = {
    "softmax": bm.mixture_of_experts("y ~ x", gate="~ x + z", experts=3, sigma="~ z"),
    "normal gate": bm.mixture_of_experts(
        "y ~ x", experts=2, priors={"gate_coef": bm.Prior("Normal", mu=0, sigma=1)}
    ),
    "tree": bm.hierarchical_mixture("y ~ x"),
    "sticks": bm.mixture_of_experts("y ~ x", gate=bm.gates.StickBreaking("~ z"), experts=3),
    "gaussian": bm.mixture_of_experts("y ~ x", gate=bm.gates.Gaussian("~ x + z"), experts=2),
    "horseshoe": bm.mixture_of_experts(
        "y ~ x", gate=bm.gates.Softmax("~ x + z", predictor="horseshoe"), experts=2
    ),
    "spline": bm.mixture_of_experts("y ~ x", experts=2, predictor="spline"),
    "kinds": bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [bm.Expert("y ~ x", name="a"), bm.Expert("y ~ z", family="studentt", name="b")],
    ),
}


def table(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-2, 2, n), rng.normal(3, 1, n)
    y = np.where(x > 0, 2 * x, 3 - x) + 0.3 * rng.standard_normal(n)
    return pd.DataFrame({"x": x, "z": z, "y": y})


@pytest.fixture(scope="module")
def fits():
    """EM's fits, and draws by Laplace's method of one model."""
    quick = {"random_seed": 1, "progressbar": False}
    made = {k: bm.fit(s, table(), "em", restarts=2, **quick) for k, s in SPECS.items()}
    made["draws"] = bm.fit(SPECS["softmax"], table(), "laplace", draws=20, chains=2, **quick)
    return made


def internal_of(spec, design, posterior):
    """The sampler's variables at every draw of reported ones (chain, draw, ...), by the graph."""
    graph = build_design(spec, design, "symbolic")
    lead = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    found = []
    for c, d in np.ndindex(*lead):
        at = posterior.isel(chain=c, draw=d)
        found.append(graph.free_values({n: at[n].values for n in spec.variables}))
    return {
        name: np.array([f[name] for f in found]).reshape(*lead, *np.shape(found[0][name]))
        for name in found[0]
        if name not in spec.variables
    }


@pytest.mark.parametrize("name", [*SPECS, "draws"])
def test_the_posterior_holds_reported_variables_and_another_group_the_samplers(name, fits):
    fit = fits[name]
    posterior, internal = (
        fit.idata[g].to_dataset() for g in (names.POSTERIOR, names.UNCONSTRAINED)
    )
    assert {*posterior} == {*fit.spec.variables, *fit.spec.structure.derived_dims}
    expected = internal_of(fit.spec, fit.design, posterior)
    assert {*internal} == {*expected}
    for key, value in expected.items():
        np.testing.assert_allclose(internal[key].values, value, rtol=1e-8, atol=1e-8)
    assert not {*posterior.dims} ^ {d for v in posterior.values() for d in v.dims}


@pytest.mark.parametrize("name", [*SPECS, "draws"])
def test_a_file_with_internal_variables_in_the_posterior_is_converted(name, fits, tmp_path):
    fit = fits[name]
    old = replace(fit, idata=fit.idata.copy())
    both = old.idata[names.POSTERIOR].to_dataset().merge(old.idata[names.UNCONSTRAINED])
    old.idata[names.POSTERIOR] = xr.DataTree(both)
    del old.idata[names.UNCONSTRAINED]
    again = bm.load(bm.save(old, tmp_path / "old.nc"))
    xr.testing.assert_equal(again.idata, fit.idata)


@pytest.mark.parametrize("name", [n for n in SPECS if n != "kinds"])
def test_relabelling_permutes_both_groups(name, fits):
    """After planted switches and their repair, internal variables are those of the reported."""
    fit, rng = fits[name], np.random.default_rng(3)
    spec, design = fit.spec, fit.design
    posterior = fit.idata[names.POSTERIOR].to_dataset()[list(spec.variables)].isel(draw=[0] * 4)
    shuffles = np.array([rng.permutation(spec.n_experts) for _ in range(4)])[None]
    if name == "tree":  # branches trade places whole
        shuffles = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [2, 3, 0, 1], [3, 2, 0, 1]])[None]
    if name == "sticks":
        shuffles = np.tile(np.arange(spec.n_experts), (1, 4, 1))
    symmetry = spec.structure.symmetry
    assert symmetry.trivial == (name == "sticks")
    mixed = permute(posterior.assign_coords(draw=range(4)), spec, shuffles)
    raw = {
        key: ((names.CHAIN, names.DRAW, *spec.structure.dims[key]), value)
        for key, value in internal_of(spec, design, mixed).items()
    }
    tree = xr.DataTree.from_dict({names.POSTERIOR: mixed.assign(raw)})
    tree = standard_tree(tree, spec, design, log_likelihood=False)
    aligned = align(tree, spec, design)
    if not symmetry.trivial:
        moved = aligned[names.RELABELLING][names.PERMUTATION].values
        assert (moved != np.arange(spec.n_experts)).any()
    for result in (tree, aligned, align(aligned, spec, design, "none")):
        expected = internal_of(spec, design, result[names.POSTERIOR].to_dataset())
        for key, value in expected.items():
            found = result[names.UNCONSTRAINED][key].values
            np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-7)


def test_nothing_happens_to_a_posterior_without_internal_variables(fits):
    fit = fits["softmax"]
    assert without_internal(fit.idata, fit.spec) is fit.idata


def test_arvizs_trace_plot_shows_all_reported_variables_by_default():
    """With internal copies there would be more panels than ArviZ draws."""
    import matplotlib.pyplot as plt

    terms = " + ".join(f"x{j}" for j in range(4))
    spec = bm.mixture_of_experts(f"y ~ {terms}", gate=f"~ {terms}", experts=3)
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.standard_normal((90, 4)), columns=[f"x{j}" for j in range(4)])
    data["y"] = np.where(data["x0"] > 0, 5, 0) + data["x1"] + 0.1 * rng.standard_normal(90)
    fit = bm.fit(spec, data, "laplace", draws=20, chains=2, random_seed=1, restarts=4)
    panels = az.plot_trace(fit.idata, backend="matplotlib")
    shown = {str(v) for v in panels.viz["plot"].data_vars}
    assert shown == {*spec.variables}
    assert list(az.summary(fit.idata, var_names=["sigma"]).index) == [f"sigma[{k}]" for k in "012"]
    plt.close("all")

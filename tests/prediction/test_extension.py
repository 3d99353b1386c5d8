"""Groups that ArviZ reads: predictive draws, prior draws, log prior."""

import warnings

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from pymc.stats.log_density import compute_log_prior
from pytensor.compile.mode import Mode
from scipy import stats

import bayes_moe as bm
from bayes_moe.gates import Attention, Gaussian, Softmax, StickBreaking, Tree
from bayes_moe.graph.build import build_design
from bayes_moe.prediction.extension import GROUPS
from bayes_moe.predictors import HSGP, MLP
from bayes_moe.results.fit import Fit
from tests.support.examples import gate_table
from tests.support.fits import fake_fit

N = 60
DRAWN = ("posterior_predictive", "prior", "prior_predictive", "log_prior")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, N)
    y = np.where(x > 0, 2 * x, -x) + 0.3 * rng.standard_normal(N)
    return pd.DataFrame({"x": x, "y": y, "k": rng.poisson(np.exp(1 + x)), "n": 30})


@pytest.fixture(scope="module")
def fits(table):
    specs = {
        "normal": bm.mixture_of_experts("y ~ x", experts=2),
        "log": bm.mixture_of_experts("np.exp(y) ~ x", experts=1),
        "poisson": bm.mixture_of_experts("k ~ x", experts=2, family="poisson"),
        "binomial": bm.mixture_of_experts("k ~ x", experts=1, family="binomial", trials="n"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            k: bm.extend(
                bm.fit(s, table, "laplace", random_seed=1, draws=50),
                *GROUPS,
                draws=60,
                random_seed=2,
            )
            for k, s in specs.items()
        }


@pytest.mark.parametrize("name", ["normal", "log", "poisson", "binomial"])
def test_groups_have_arviz_schema(fits, name):
    fit = fits[name]
    tree = fit.idata
    posterior, observed = tree["posterior"].to_dataset(), tree["observed_data"]["y"]
    predictive = tree["posterior_predictive"]["y"]
    assert predictive.dims == ("chain", "draw", "obs_id")
    assert predictive.dtype == observed.dtype
    assert (predictive.dtype.kind == "i") == (name in ("poisson", "binomial"))
    for dim in ("chain", "draw"):
        assert predictive[dim].equals(posterior[dim])
        assert tree["log_prior"][dim].equals(posterior[dim])
    assert predictive["obs_id"].equals(observed["obs_id"])
    prior = tree["prior"].to_dataset()
    assert set(prior.data_vars) == {*fit.spec.variables}
    for variable in prior.data_vars:
        assert prior[variable].dims == posterior[variable].dims
        for dim in prior[variable].dims[2:]:
            assert prior[dim].equals(posterior[dim])
    assert tree["prior_predictive"]["y"].shape == (1, 60, N)
    assert set(tree["log_prior"].data_vars) == {*fit.spec.variables}
    assert tree["prior"].attrs["response"] == fit.spec.response


PLOTS = {
    "plot_loo_interval": {},
    "plot_loo_pava": {},
    "plot_loo_pit": {},
    "plot_ppc_dist": {},
    "plot_ppc_dist_pit": {},
    "plot_ppc_interval": {},
    "plot_ppc_pava": {},
    "plot_ppc_pava_residuals": {"x_var": "x"},
    "plot_ppc_pit": {},
    "plot_ppc_rootogram": {},
    "plot_ppc_tstat": {},
    "plot_prior_posterior": {},
    "plot_psense_dist": {},
    "plot_psense_quantities": {},
}


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_arviz_plots_read_the_groups(fits, plot):
    for name in ("poisson",) if plot == "plot_ppc_rootogram" else ("normal", "poisson"):
        tree = fits[name].idata
        assert getattr(az, plot)(tree, backend="none", **PLOTS[plot]) is not None
    bare = tree.filter(lambda node: node.name not in GROUPS)
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        getattr(az, plot)(bare, backend="none", **PLOTS[plot])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_prior_sensitivity_is_summarised(fits):
    assert np.isfinite(az.psense_summary(fits["normal"].idata)["prior"].astype(float)).all()


def test_predictive_draws_belong_to_their_posterior_and_prior_draws(table):
    """With hardly any noise every response is the line of its draw."""
    narrow = {
        "mu_coef": bm.Prior("Normal", mu=[1.0, -2.0], sigma=0.5),
        "sigma": bm.Prior("HalfNormal", sigma=1e-7),
    }
    spec = bm.mixture_of_experts("y ~ x", experts=1, priors=narrow)
    parameters = {"mu_coef": np.array([[1.0, 2.0]]), "sigma": np.array([1e-7])}
    fit = bm.extend(fake_fit(spec, table, parameters, spread=0.2), *DRAWN, draws=80, random_seed=3)
    design = np.column_stack([np.ones(N), table["x"]])
    for group in ("posterior", "prior"):
        lines = fit.idata[group]["mu_coef"].values[:, :, 0] @ design.T
        drawn = fit.idata[f"{group}_predictive"]["y"].values
        np.testing.assert_allclose(drawn, lines, atol=1e-5)
        assert lines.std(axis=(0, 1)).min() > 0.1


def test_prior_draws_have_the_prior_as_their_distribution(table):
    priors = {
        "mu_coef": bm.Prior("StudentT", nu=4, mu=[1.0, -2.0], sigma=[0.5, 3.0]),
        "sigma": bm.Prior("Gamma", alpha=2.0, beta=3.0),
        "gate_coef": bm.Prior("Normal", mu=0.0, sigma=2.0),
    }
    spec = bm.mixture_of_experts("y ~ x", experts=2, priors=priors, center=False)
    parameters = {"gate_coef": np.zeros((2, 2)), "mu_coef": np.zeros((2, 2)), "sigma": np.ones(2)}
    fit = fake_fit(spec, table, parameters)
    prior = bm.extend(fit, "prior", draws=2000, random_seed=5).idata["prior"]
    laws = {
        ("mu_coef", 0): stats.t(4, 1.0, 0.5),
        ("mu_coef", 1): stats.t(4, -2.0, 3.0),
        ("gate_coef", 0): stats.norm(0, 2),
        ("gate_coef", 1): stats.norm(0, 2),
    }
    for (name, term), law in laws.items():
        for expert in range(2):
            assert stats.kstest(prior[name].values[0, :, expert, term], law.cdf).pvalue > 1e-3
    for expert in range(2):
        law = stats.gamma(2.0, scale=1 / 3)
        assert stats.kstest(prior["sigma"].values[0, :, expert], law.cdf).pvalue > 1e-3


def test_log_prior_is_scipys_up_to_a_constant(table):
    priors = {
        "mu_coef": bm.Prior("Normal", mu=[1.0, -2.0], sigma=[0.5, 3.0]),
        "sigma": bm.Prior("Gamma", alpha=2.0, beta=3.0),
    }
    spec = bm.mixture_of_experts("y ~ x", experts=2, priors=priors, center=False)
    parameters = {"gate_coef": np.zeros((2, 2)), "mu_coef": np.ones((2, 2)), "sigma": np.ones(2)}
    fit = fake_fit(spec, table, parameters, spread=0.5)
    log_prior = bm.extend(fit, "log_prior").idata["log_prior"]
    posterior = fit.idata["posterior"]
    coef, sigma = posterior["mu_coef"].values, posterior["sigma"].values
    expected = {
        "mu_coef": stats.norm([1.0, -2.0], [0.5, 3.0]).logpdf(coef).sum(axis=(-1, -2)),
        "sigma": stats.gamma(2.0, scale=1 / 3).logpdf(sigma).sum(axis=-1),
    }
    for name, values in expected.items():
        constant = log_prior[name].values - values
        np.testing.assert_allclose(constant, constant[0, 0], rtol=0, atol=1e-8)
        assert values.std() > 0.1


GATES = {
    "softmax": (Softmax("~ x"), {}),
    "tree": (Tree([0, [1, 2]], formula="~ x"), {}),
    "stick": (StickBreaking("~ x"), {}),
    "gaussian": (Gaussian("~ x"), {}),
    "gate spline": (Softmax("~ x", predictor="spline"), {}),
    "spline": ("~ x", {"predictor": "spline"}),
    "hsgp": ("~ 1", {"predictor": HSGP(m=4)}),
    "mlp": ("~ 1", {"predictor": MLP(hidden=(2,))}),
    "horseshoe": ("~ 1", {"predictor": "horseshoe"}),
    "studentt": ("~ x", {"family": "studentt", "sigma": "~ x"}),
}
ONLY_STORED = {"attention": (Attention("~ x"), {})}


SLOW = ("stick", "gate spline", "studentt")


@pytest.mark.parametrize(
    "name",
    [pytest.param(g, marks=[pytest.mark.slow] * (g in SLOW)) for g in (*GATES, *ONLY_STORED)],
)
def test_log_prior_is_pymcs(name):
    """The draws of a fit are drawn from the prior here, with the sampler's variables or without."""
    gate, options = (GATES | ONLY_STORED)[name]
    spec = bm.mixture_of_experts("y ~ x", gate=gate, experts=3, **options)
    design = spec.design(gate_table())
    model = build_design(spec, design, "fused").model
    wanted = [*spec.variables, *(rv.name for rv in model.free_RVs)]
    wanted = list(dict.fromkeys(wanted))
    quick = Mode("py", "fast_compile")
    drawn = pm.draw([model[v] for v in wanted], draws=3, random_seed=1, mode=quick)
    posterior = xr.Dataset(
        {
            v: (("chain", "draw", *(f"{v}_{j}" for j in range(np.ndim(a) - 1))), a[None])
            for v, a in zip(wanted, drawn, strict=True)
        },
        coords={"chain": [0], "draw": [0, 1, 2]},
    )
    tree = xr.DataTree.from_dict({"posterior": posterior})
    tree.attrs["kind"] = "draws"
    expected = compute_log_prior(
        tree,
        model=model,
        extend_inferencedata=False,
        progressbar=False,
        compile_kwargs={"mode": quick},
    )
    total = sum(v.sum([d for d in v.dims if d not in ("chain", "draw")]) for v in expected.values())
    reported = tree.copy()
    reported["posterior"] = xr.DataTree(posterior[list(spec.variables)])
    elsewhere = reported.copy()
    elsewhere["unconstrained_posterior"] = xr.DataTree(posterior)
    for changed in (tree, elsewhere) if name in ONLY_STORED else (tree, elsewhere, reported):
        ours = bm.extend(Fit(spec, design, changed), "log_prior").idata["log_prior"]
        assert set(ours.data_vars) <= {*wanted}
        sums = sum(v for v in ours.data_vars.values())
        np.testing.assert_allclose(sums.values, total.values, rtol=1e-6, atol=1e-6)


def test_groups_survive_saving_and_relabelling(fits, tmp_path):
    fit = fits["normal"]
    loaded = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    for group in GROUPS:
        assert loaded.idata[group].to_dataset().equals(fit.idata[group].to_dataset())
    spec, data = bm.mixture_of_experts("y ~ x", experts=2), gate_table()
    parameters = {
        "gate_coef": np.zeros((2, 2)),
        "mu_coef": np.array([[0.0, 1.0], [2.0, -1.0]]),
        "sigma": np.ones(2),
    }
    sampled = bm.extend(fake_fit(spec, data, parameters), *DRAWN, draws=20, random_seed=1)
    again = bm.relabel(sampled, "parameters")
    for group in DRAWN:
        assert again.idata[group].to_dataset().equals(sampled.idata[group].to_dataset())


def test_seeds_and_the_fit_itself(fits):
    fit = fits["normal"]
    before = set(fit.idata.children)
    del fit.idata["prior"]
    one, two = (bm.extend(fit, g, draws=7, random_seed=4) for g in ("prior", "prior_predictive"))
    both = bm.extend(fit, "prior_predictive", "prior", draws=7, random_seed=4)
    other = bm.extend(fit, "prior", draws=7, random_seed=5)
    assert "prior" not in fit.idata.children
    assert set(both.idata.children) == before
    for single, group in ((one, "prior"), (two, "prior_predictive")):
        assert single.idata[group].to_dataset().equals(both.idata[group].to_dataset())
    assert not other.idata["prior"].to_dataset().equals(one.idata["prior"].to_dataset())
    fit.idata["prior"] = one.idata["prior"]
    single_draw = bm.extend(fit, "prior", "prior_predictive", draws=1, random_seed=4)
    assert single_draw.idata["prior"].sizes["draw"] == 1


@pytest.mark.parametrize(
    ("groups", "settings", "message"),
    [
        ((), {}, "Name the groups to add: 'posterior_predictive', 'prior'"),
        (("posterior_predictiv",), {}, "Unknown group .* Did you mean 'posterior_predictive'"),
        (("pior",), {}, "Did you mean 'prior'"),
        (("prior",), {"draws": 0}, "`draws` must be a whole number >= 1"),
        (("prior",), {"random_seed": "a"}, "random_seed"),
    ],
)
def test_arguments_are_checked(fits, groups, settings, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.extend(fits["normal"], *groups, **settings)


def test_modes_and_trees_are_refused(table):
    fit = bm.fit(bm.mixture_of_experts("y ~ x", experts=1), table, "em", random_seed=1)
    with pytest.raises(bm.SpecError, match=r"'em' is a single mode.* method='laplace'"):
        bm.extend(fit, "posterior_predictive")
    spec = bm.mixture_of_experts("y ~ x", experts=1, predictor="bart")
    trees = Fit(spec, spec.design(table), fit.idata.copy())
    trees.idata.attrs["kind"] = "draws"
    for group in ("prior", "prior_predictive", "log_prior"):
        with pytest.raises(bm.SpecError, match="Regression trees have no prior density"):
            bm.extend(trees, group)

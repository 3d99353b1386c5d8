"""From and to PyMC: a graph's free variables go with the draws of a fit, or PyMC says that not."""

import warnings

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from pymc.exceptions import ImplicitFreezeWarning
from pytensor.compile.mode import Mode
from scipy import stats

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.results.draws import with_table_mark
from tests.support import bridges
from tests.support.graphs import internal_graph

QUICK = {"compile_kwargs": {"mode": Mode(linker="py", optimizer="fast_compile")}}
QUIET = {"progressbar": False, **QUICK}
NEW = bridges.table(7, seed=3, shift=1.5, stretch=3.0)


def log_likelihood(fit, model):
    """By PyMC (draw, obs)."""
    found = pm.compute_log_likelihood(
        fit.idata.copy(), model=model, extend_inferencedata=False, **QUIET
    )
    return found["y"].values


def check_fitted_graph(gate, predictor):
    """The graph of a fit and other rows has the package's own log density of them."""
    fit = bridges.fit_by_hand(bridges.described(gate, predictor), bridges.table())
    expected = bm.log_density(fit, NEW).values
    assert np.ptp(expected) > 1
    graph = bm.build(fit, NEW)
    assert {v.name for v in graph.model.free_RVs} <= {*fit.spec.variables}
    found = log_likelihood(fit, graph.model)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("gate", "predictor"), bridges.ROTATED)
def test_the_graph_of_a_fit_and_new_rows(gate, predictor):
    check_fitted_graph(gate, predictor)


@pytest.mark.slow
@pytest.mark.parametrize(("gate", "predictor"), bridges.PAIRS)
def test_the_graph_of_a_fit_for_every_pair(gate, predictor):
    check_fitted_graph(gate, predictor)


@pytest.mark.parametrize(
    ("gate", "predictor"), dict.fromkeys([*bridges.PORTABLE, *bridges.ROTATED])
)
def test_the_graph_of_another_table_is_right_or_an_error(gate, predictor):
    if predictor == "bart":
        pytest.importorskip("pymc_bart")
    spec = bridges.described(gate, predictor)
    fit = bridges.fit_by_hand(spec, bridges.table())
    model = bm.build(spec, NEW).model
    if predictor in bridges.LINEAR and gate in bridges.PORTABLE_GATES:
        expected = bm.log_density(fit, NEW).values
        np.testing.assert_allclose(log_likelihood(fit, model), expected, rtol=1e-8, atol=1e-8)
        return
    with pytest.raises(KeyError, match="_raw"):
        log_likelihood(fit, model)


STATEFUL = {
    "spline basis": "bs(x0, df=5)",
    "polynomial": "poly(x0, 2)",
    "scaled": "scale(x0)",
    "category": "C(g)",
    "text": "g",
}
STATEFUL_PLACES = [("response", "scale(y)"), *((w, t) for w in ("mu", "gate") for t in STATEFUL)]


@pytest.mark.parametrize(("where", "term"), STATEFUL_PLACES)
def test_columns_that_depend_on_the_table(where, term):
    """The fit's columns with its graph; with the graph of another table, an error."""
    parts = {"response": "y", "mu": "x0", "gate": "x", where: STATEFUL.get(term, term)}
    spec = bm.mixture_of_experts(f"{parts['response']} ~ {parts['mu']}", gate=f"~ {parts['gate']}")
    groups = np.array(list("abc"))
    data = bridges.table().assign(g=np.resize(groups, 40))
    new = data.iloc[:12].assign(x0=lambda d: 0.5 * d["x0"], y=lambda d: d["y"] ** 2)
    fit = bridges.fit_by_hand(spec, data)
    expected = bm.log_density(fit, new).values
    found = log_likelihood(fit, bm.build(fit, new).model)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    with pytest.raises(KeyError, match="_raw"):
        log_likelihood(fit, bm.build(spec, new).model)


@pytest.mark.parametrize("term", ["np.log(x)", "x0:x", "I(x0 ** 2)", "0 + x0"])
def test_columns_that_do_not_depend_on_the_table(term):
    spec = bm.mixture_of_experts(f"y ~ {term}", gate="~ x0")
    data, new = (bridges.table(n, s, shift=5.0) for n, s in ((40, 0), (9, 4)))
    fit = bridges.fit_by_hand(spec, data)
    found = log_likelihood(fit, bm.build(spec, new).model)
    np.testing.assert_allclose(found, bm.log_density(fit, new).values, rtol=1e-8, atol=1e-8)


PREDICTIVE = [
    ("softmax", "linear", "spec"),
    ("gaussian", "linear", "spec"),
    ("tree", "horseshoe", "spec"),
    ("softmax", "spline", "fit"),
    ("attention", "hsgp", "fit"),
    ("mlp", "bart", "fit"),
]


@pytest.mark.filterwarnings("ignore:The effect of Potentials")
@pytest.mark.parametrize(("gate", "predictor", "built"), PREDICTIVE)
@pytest.mark.parametrize("with_response", [True, False])
def test_posterior_predictive_draws_of_new_rows(gate, predictor, built, with_response):
    """Their mean is the package's, and PyMC warns of nothing."""
    if not with_response and built == "spec":
        pytest.skip("a description needs the response")
    spec = bridges.described(gate, predictor)
    fit = bridges.fit_by_hand(spec, bridges.table(), draws=3)
    new = NEW if with_response else NEW.drop(columns="y")
    model = bm.build(fit if built == "fit" else spec, new).model
    repeated = fit.idata.copy()
    many = repeated["posterior"].to_dataset().isel(draw=np.repeat(np.arange(3), 500))
    repeated["posterior"] = xr.DataTree(many.assign_coords(draw=np.arange(1500)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplicitFreezeWarning)
        drawn = pm.sample_posterior_predictive(
            repeated, model=model, random_seed=1, predictions=True, **QUIET
        )
    y = drawn["predictions"]["y"].values[0]
    expected = bm.predict(fit, new)
    error = expected.sd().values / np.sqrt(len(y))
    assert np.abs((y.mean(axis=0) - expected.mean().values) / error).max() < 4.5


@pytest.mark.parametrize("family", ["normal", "bernoulli"])
@pytest.mark.parametrize("term", ["C(g)", "bs(x0, df=5)", "spline"])
def test_posterior_predictive_of_columns_that_depend_on_the_table_is_refused(
    family, term, tmp_path
):
    """On the fitted table and on others, and where the posterior has no variable of the graph."""
    data = bridges.table().assign(g=np.resize(np.array(list("abc")), 40))
    data["y"] = (data["y"] > 0) * 1.0
    formula, predictor = ("x0", "spline") if term == "spline" else (term, "linear")
    expert = bm.Expert(f"y ~ {formula}", family=family, predictor=predictor)
    spec = bm.MixtureOfExperts(bm.gates.Softmax(f"~ {formula}", predictor=predictor), [expert] * 2)
    fit = bridges.fit_by_hand(spec, data)
    rows = data if family == "normal" else data.iloc[:20]
    model = bm.build(spec, rows).model
    earlier = fit.idata.copy()  # files of earlier versions get the mark when they are loaded
    columns = earlier["constant_data"].to_dataset().drop_vars(names.TABLE_MARK)
    earlier["constant_data"] = xr.DataTree(columns)
    saved = bm.load(bm.save(fit, tmp_path / "fit.nc")).idata
    for tree in (fit.idata, with_table_mark(earlier, spec, fit.design), saved):
        with pytest.raises(bm.SpecError, match=r"bm.build\(fit, rows\)"):
            pm.sample_posterior_predictive(tree, model=model, **QUIET)
    drawn = pm.sample_prior_predictive(3, model=model, random_seed=1, **QUICK)
    assert drawn["prior_predictive"]["y"].sizes["obs_id"] == len(rows)


def test_draws_of_the_graph_itself_go_with_it():
    """Internal variables are in the posterior of PyMC's sampler."""
    data = bridges.table()
    graph = bm.build(bridges.described("softmax", "spline"), data)
    drawn = pm.sample(
        3,
        tune=3,
        chains=1,
        cores=1,
        model=graph.model,
        nuts_sampler="pymc",
        random_seed=1,
        compute_convergence_checks=False,
        **QUIET,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplicitFreezeWarning)
        pm.sample_posterior_predictive(drawn, model=graph.model, random_seed=1, **QUIET)


@pytest.mark.parametrize("built", ["spec", "fit"])
def test_new_data_are_set_in_the_users_units(built):
    """Another number of rows, and numbers of trials."""
    spec = bm.mixture_of_experts("y ~ x0", gate="~ x", family="binomial", trials="n")
    rng = np.random.default_rng(0)
    data = bridges.table().assign(n=rng.integers(5, 9, 40))
    data["y"] = rng.binomial(data["n"], 0.4)
    new = data.iloc[:11].assign(n=20, x0=lambda d: 2 * d["x0"])
    fit = bridges.fit_by_hand(spec, data)
    model = bm.build(spec, data).model if built == "spec" else bm.build(fit).model
    columns = {k: np.column_stack([np.ones(11), new[c]]) for k, c in (("p", "x0"), ("gate", "x"))}
    with model:
        pm.set_data(
            {
                "p_features": columns["p"],
                "gate_features": columns["gate"],
                "trials": new["n"].to_numpy(float),
                "y_data": new["y"].to_numpy(float),
            },
            coords={"obs_id": np.arange(11)},
        )
    expected = bm.log_density(fit, new).values
    np.testing.assert_allclose(log_likelihood(fit, model), expected, rtol=1e-8, atol=1e-8)


QUICK_DENSITIES = [
    ("softmax", "linear"),
    ("tree", "linear"),
    ("stickbreaking", "linear"),
    ("gaussian", "linear"),
    ("horseshoe", "linear"),
]
DENSITIES = [
    *QUICK_DENSITIES,
    *(
        pytest.param(*pair, marks=pytest.mark.slow)
        for pair in dict.fromkeys([*bridges.PORTABLE, *bridges.ROTATED])
        if pair not in QUICK_DENSITIES and pair[1] != "bart"
    ),
]


@pytest.mark.parametrize(("gate", "predictor"), DENSITIES)
def test_the_joint_density_is_the_samplers(gate, predictor):
    """With the transforms' Jacobian they are equal; as densities, up to a constant."""
    spec = bridges.described(gate, predictor)
    user, internal = bm.build(spec, NEW), internal_graph(spec, NEW)
    rng = np.random.default_rng(2)
    mode = QUICK["compile_kwargs"]["mode"]
    outputs = internal.model.replace_rvs_by_values([internal.model[n] for n in spec.variables])
    reported = internal.model.compile_fn(outputs, mode=mode, on_unused_input="ignore")
    pairs = []
    logps = [g.model.compile_logp(mode=mode) for g in (user, internal)]
    for _ in range(2):
        point = internal.model.initial_point()
        point = {n: 0.5 * rng.standard_normal(v.shape) for n, v in point.items()}
        values = dict(zip(spec.variables, reported(point), strict=True))
        if gate not in ("attention", "two heads"):  # their queries and keys may rotate
            pairs.append((logps[0](user.unconstrained(values)), logps[1](point)))
    for found, expected in pairs:
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["softmax", "tree", "stickbreaking", "gaussian", "horseshoe"])
def test_prior_draws_are_the_samplers(gate):
    spec = bridges.described(gate, "linear")
    mode = QUICK["compile_kwargs"]["mode"]
    drawn = []
    for seed, graph in enumerate([bm.build(spec, NEW), internal_graph(spec, NEW)]):
        model = graph.model
        wanted = [model[n] for n in spec.variables]
        drawn.append(pm.draw(wanted, 800, random_seed=seed, mode=mode))
    for one, other in zip(*drawn, strict=True):
        one, other = (v.reshape(800, -1) for v in (one, other))
        for j in range(one.shape[1]):
            assert stats.ks_2samp(one[:, j], other[:, j]).pvalue > 1e-4


def test_prior_predictive_and_log_prior_of_the_graph():
    """The log prior is a density of the reported variables: SciPy's, for normal coefficients."""
    spec = bm.mixture_of_experts(
        "y ~ x0",
        gate="~ x",
        priors={
            "gate_coef": bm.Prior("Normal", mu=0, sigma=2),
            "mu_coef": bm.Prior("Normal", mu=0, sigma=[1.0, 3.0]),
        },
        center=False,
    )
    data = bridges.table(40, shift=2.0)
    fit, graph = bridges.fit_by_hand(spec, data), bm.build(spec, data)
    prior = pm.sample_prior_predictive(5, model=graph.model, random_seed=1, **QUICK)
    assert prior["prior_predictive"]["y"].sizes["obs_id"] == 40
    found = pm.stats.compute_log_prior(fit.idata.copy(), model=graph.model, **QUIET)["log_prior"]
    coef = fit.idata["posterior"]["mu_coef"].values
    expected = stats.norm(0, [1.0, 3.0]).logpdf(coef).sum(axis=(-1, -2))
    np.testing.assert_allclose(found["mu_coef"].values, expected, rtol=1e-9)


USES = {
    "sampling": lambda m: pm.sample(
        5, tune=5, model=m, chains=1, cores=1, nuts_sampler="pymc", progressbar=False, **QUICK
    ),
    "prior": lambda m: pm.sample_prior_predictive(2, model=m, **QUICK),
    "log density": lambda m: m.compile_logp(**QUICK["compile_kwargs"])(m.initial_point()),
}


@pytest.mark.parametrize("use", USES)
def test_the_graph_of_a_fit_has_no_prior(use):
    fit = bridges.fit_by_hand(bridges.described("softmax", "linear"), bridges.table())
    with pytest.raises(bm.SpecError, match=r"built from a fit.*bm.build\(spec, table\)"):
        USES[use](bm.build(fit).model)


def test_wrong_arguments_are_named():
    spec = bridges.described("softmax", "linear")
    fit = bridges.fit_by_hand(spec, bridges.table())
    with pytest.raises(bm.SpecError, match="Give the table"):
        bm.build(spec)
    with pytest.raises(bm.SpecError, match="MixtureOfExperts or a Fit, got DataFrame"):
        bm.build(bridges.table(), spec)
    with pytest.raises(bm.DataError, match="x0"):
        bm.build(fit, NEW.drop(columns=["x0"]))


def test_missing_features_are_refused():
    gate = bm.gates.Gaussian("~ x + z")
    spec = bm.mixture_of_experts("y ~ x0", gate=gate, experts=2)
    data = bridges.table(60)
    data.loc[3, "z"] = np.nan
    fit = bm.fit(spec, data, "em", missing="model", random_seed=1, restarts=2)
    with pytest.raises(bm.SpecError, match="missing features"):
        bm.build(fit)
    complete = data.drop(index=3).iloc[:9]
    found = log_likelihood(fit, bm.build(fit, complete).model)
    expected = bm.log_density(fit, complete).values
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)

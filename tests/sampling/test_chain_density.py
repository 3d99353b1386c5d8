"""The density of a model with a Markov gate is the objective's, PyMC's and statsmodels'."""

import warnings

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.em.floors import without_floors
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Markov
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.kernels.families import has_kernel
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.optimize.network_table import GroupedTable
from bayes_moe.sampling.compiled_density import LinearTable, supports
from tests.support.examples import FAMILIES
from tests.support.graphs import internal_graph
from tests.support.linear_models import plain, table
from tests.support.series import STAYS, regimes, slopes


def interleaved():
    """The table of all families as three series whose rows alternate."""
    rows = table()
    series = np.random.default_rng(0).integers(3, size=len(rows))
    rows = rows.assign(id=np.array(["a", "b", "c"])[series])
    return rows.assign(t=rows.groupby("id").cumcount())


def chained(family, gate, **more):
    return plain(family, gate=gate, time="t", series="id", **more)


CASES = {
    family: chained(family, Markov("~ z"), **example.options)
    for family, example in FAMILIES.items()
    if has_kernel(chained(family, Markov("~ z"), **example.options).experts[0].family)
} | {
    "three": chained("normal", Markov("~ z"), experts=3, sigma="~ x"),
    "eight, constant": chained("normal", Markov("~ 1"), experts=8),
    "equal": chained("normal", Markov("~ z + x", initial="equal"), experts=3),
    "equal, constant": chained("normal", Markov("~ 1", sticky=0.5, initial="equal")),
    "no intercept": chained("normal", Markov("~ 0 + z")),
    "one": chained("normal", Markov("~ z"), experts=1),
    "shared": chained("normal", Markov("~ z"), shared="sigma"),
    "fixed": chained("normal", Markov("~ z"), fixed={"sigma": [2.0, 3.0]}),
    "normal prior": chained(
        "normal", Markov("~ z"), priors={"gate_coef": bm.Prior("Normal", mu=0.2, sigma=1.5)}
    ),
    "two kinds": bm.MixtureOfExperts(
        Markov("~ z"),
        [bm.Expert("normal ~ x", "studentt"), bm.Expert("normal ~ x + z")],
        time="t",
        series="id",
    ),
}
ROWS = interleaved()


def free(spec, rows):
    """Coordinates with the Jacobian and no floor: the density that a sampler sees."""
    return without_floors(parameter_vector(spec, spec.design(rows), jacobian=True))


SLOW = {"one", *FAMILIES} - {"normal", "poisson"}
"""Other families have a row loop of their own to compile, and one expert is no chain."""


def fast_and_slow(names):
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


@pytest.mark.parametrize("name", fast_and_slow(CASES))
def test_the_compiled_density_is_the_objective_with_its_gradient(name):
    spec = CASES[name]
    assert supports(spec)
    moving = free(spec, ROWS)
    native, rng = LinearTable(moving).density(), np.random.default_rng(0)
    for theta in rng.normal(0, 0.5, (2, moving.size)):
        value, gradient = native(theta)
        expected = Objective(moving).evaluate(theta[None], Curvature.COMPLETE)
        assert value == pytest.approx(expected.value[0], rel=1e-10)
        scale = max(1.0, np.abs(gradient).max())
        if moving.constraint is None:
            assert np.abs(gradient - expected.gradient[0]).max() < 1e-9 * scale
        differences = slopes(lambda x: native(x)[0], theta)
        assert np.abs(gradient - differences).max() < 1e-6 * scale


@pytest.mark.parametrize("name", ["three", "equal, constant", "shared", "two kinds"])
def test_the_compiled_densities_are_pymc_s(name):
    spec = CASES[name]
    design, moving = spec.design(ROWS), free(spec, ROWS)
    graph = GraphLogDensity(internal_graph(spec, design), jacobian=True)
    values = bm.fit(spec, ROWS, "em", random_seed=1, progressbar=False).idata.posterior
    values = {n: values[n].values[0, 0] for n in spec.variables}
    point = graph.point(values)
    value, gradient = graph(point)
    at = moving.points({n: v[None] for n, v in values.items()})[0]
    assert LinearTable(moving).density()(at)[0] == pytest.approx(value, rel=1e-11)
    if spec.structure.constraints:  # these have no other compiled density
        return
    free_variables = FreeVariables.of(spec, design, spec.resolve_priors(design))
    grouped = GroupedTable(free_variables, jacobian=True).density()(point)
    assert grouped[0] == pytest.approx(value, rel=1e-11)
    np.testing.assert_allclose(grouped[1], gradient, atol=1e-9 * max(1, np.abs(gradient).max()))


@pytest.mark.parametrize("driven", [False, True])
def test_the_likelihood_is_statsmodels(driven):
    rows = regimes(80, 0, driven=1.0)
    gate = Markov("~ z" if driven else "~ 1")
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate=gate, time="t")
    moving = free(spec, rows)
    theta = np.random.default_rng(1).normal(0, 0.5, moving.size)
    values = {n: v[0] for n, v in moving.variables(theta[None]).items()}
    prior = float(moving.log_prior(theta[None])[0][0])
    tvtp = {"exog_tvtp": np.column_stack([np.ones(80), rows.z])} if driven else {}
    model = MarkovRegression(
        rows.y, 2, exog=rows[["x"]], switching_variance=True, switching_exog=True, **tvtp
    )
    logits = values["gate_coef"].reshape(2, 2, -1)
    odds = logits[:, 0] - logits[:, 1]
    odds[:, 0] += STAYS * np.array([1, -1])
    moves = odds.T.ravel() if driven else 1 / (1 + np.exp(-odds[:, 0]))
    params = [moves, values["mu_coef"].T.ravel(), values["sigma"] ** 2]
    expected = model.loglike(np.concatenate(params))
    assert LinearTable(moving).density()(theta)[0] - prior == pytest.approx(expected, abs=1e-8)


@pytest.mark.slow
def test_networks_beside_a_markov_gate_have_pymc_s_density():
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate=Markov("~ z"), predictor="mlp", time="t")
    design = spec.design(regimes(300, 0))
    native = log_density(spec, design)
    graph = GraphLogDensity(internal_graph(spec, design))
    point = np.random.default_rng(0).normal(0, 0.5, native.free_coordinates.size)
    expected, found = graph.weighted(point, 1.0), native.weighted(point, 1.0)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(expected[2]).max())
    with pytest.raises(SpecError, match="would cut series"):
        native.show(np.arange(10))
    with pytest.raises(ValueError, match="no density of its own"):
        native.compiled.pick(np.arange(10))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("map", {"optimizer": "adam"}),
        ("advi", {"batch_size": 20}),
        ("ensemble", {}),
    ],
)
def test_methods_that_leave_rows_out_are_refused(method, settings):
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate=Markov("~ 1"), time="t")
    with pytest.raises(SpecError, match="would cut series"):
        bm.fit(spec, regimes(60, 0), method, random_seed=1, progressbar=False, **settings)


def test_a_graph_of_rows_that_continue_a_fitted_series_is_refused():
    rows = regimes(60, 0)
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate=Markov("~ 1"), time="t")
    fit = bm.fit(spec, rows[:40], "em", random_seed=1, progressbar=False)
    with pytest.raises(SpecError, match="continue fitted series"):
        bm.build(fit, rows[40:])
    assert bm.build(fit).design.rows.size == 40


def two_series(rows):
    return pd.concat([regimes(rows, s).assign(id=s) for s in (0, 1)])


DRIVEN = bm.mixture_of_experts("y ~ x", experts=2, gate=Markov("~ z"), time="t", series="id")


def test_rows_of_draws_have_their_density_given_those_before():
    rows, settings = two_series(40), {"draws": 20, "tune": 50, "chains": 2, "cores": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        fit = bm.fit(DRIVEN, rows, "nuts", random_seed=1, progressbar=False, **settings)
    moving, posterior = free(DRIVEN, rows), fit.idata.posterior
    values = {
        n: posterior[n].stack(s=("chain", "draw")).transpose("s", ...).values
        for n in DRIVEN.variables
    }
    points = moving.points(values)
    prior, native = moving.log_prior(points)[0], LinearTable(moving).density()
    found = fit.idata.log_likelihood["y"].stack(s=("chain", "draw")).sum("obs_id").values
    np.testing.assert_allclose(found, [native(p)[0] for p in points] - prior, rtol=1e-9)


@pytest.mark.slow
def test_chains_agree():
    settings = {"draws": 1000, "chains": 4, "progressbar": False, "random_seed": 1}
    fit = bm.fit(DRIVEN, two_series(90), "nuts", **settings)
    assert float(bm.summary(fit)["r_hat"].astype(float).max()) < 1.01

"""Censored and truncated responses in every method, in predictions, files and graphs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.graph import numpy_mode
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.inference.nuts import NUTS
from bayes_moe.model.evaluation import log_likelihood
from bayes_moe.optimize.densities import has_compiled_network, log_density
from bayes_moe.sampling.compiled_density import LinearTable, supports
from bayes_moe.sampling.nutpie_compiled import Direct
from tests.support.censored import SIDES, limited
from tests.support.linear_models import points

FAMILIES = [
    "normal",
    "weibull",
    *(pytest.param(f, marks=pytest.mark.slow) for f in ("studentt", "poisson", "negativebinomial")),
    pytest.param("gamma", marks=pytest.mark.slow),
]
GATES = {
    "softmax": "~ z",
    "tree": bm.gates.Tree([0, [1, 2]], formula="~ z"),
    "sticks": bm.gates.StickBreaking("~ z"),
}
COMPILED = [
    "normal",
    "weibull",
    "gamma",
    *(pytest.param(f, marks=pytest.mark.slow) for f in ("studentt", "poisson", "negativebinomial")),
]
AFT = json.loads((Path(__file__).parent / "data" / "weibull_aft.json").read_text())


def model(family="normal", side="status", experts=2, gate="~ z", **more):
    """Two regimes of a censored or truncated response."""
    return bm.mixture_of_experts(
        f"{SIDES[side]} ~ x", family=family, experts=experts, gate=gate, **more
    )


def by_hand(design, draws):
    """Weights, densities and probabilities of limits (expert, obs), from SciPy's normal."""
    rows, x, z = design.response, *(design.columns[c].to_numpy() for c in "xz")
    gate = draws["gate_coef"] @ np.stack([np.ones(len(z)), z])
    weights = special.softmax(gate, axis=0)
    law = stats.norm(draws["mu_coef"] @ np.stack([np.ones(len(x)), x]), draws["sigma"][:, None])
    exact = rows[0] == rows[1]
    if len(rows) > 2:  # no row is recorded beyond the limits
        ends = np.maximum(rows[0], rows[2]), np.minimum(rows[1], rows[3])
        rows = np.stack([*np.where(exact, rows[:2], ends), *rows[2:]])
    own = np.where(
        exact, law.pdf(np.where(exact, rows[0], 0.0)), law.cdf(rows[1]) - law.cdf(rows[0])
    )
    return weights, own, law.cdf(rows[3]) - law.cdf(rows[2]) if len(rows) > 2 else 1.0


def brute_force(design, draws):
    """Log density (obs,) of rows."""
    weights, own, recorded = by_hand(design, draws)
    return np.log((weights * own).sum(axis=0) / (weights * recorded).sum(axis=0))


@pytest.mark.parametrize("side", list(SIDES))
def test_log_density_of_the_mixture_by_brute_force(side):
    spec, table = model(side=side), limited("normal", side)
    fit = bm.fit(spec, table, "em", random_seed=1, restarts=4)
    draws = {n: fit.idata.posterior[n].values[0, 0] for n in ("mu_coef", "sigma", "gate_coef")}
    expected = brute_force(fit.design, draws)
    found = bm.log_density(fit).values[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(bm.log_density(fit, table).values[0, 0], expected, atol=1e-8)
    r = bm.responsibilities(fit).values[0, 0]
    np.testing.assert_allclose(r.sum(axis=-1), 1.0)


@pytest.mark.parametrize("gate", list(GATES))
@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize("family", ["normal", "gamma", "poisson"])
def test_gradient_and_information_are_differences(family, side, gate):
    spec = model(family, side, 3 if gate == "tree" else 2, GATES[gate])
    design = spec.design(limited(family, side, n=60))
    derivatives_are_differences(Objective(parameter_vector(spec, design)))


def derivatives_are_differences(objective):
    """Hold gradient and information of an objective to differences."""
    theta = points(objective.vector)[:1]
    found = objective.evaluate(theta, Curvature.OBSERVED)
    step, size = 1e-4, objective.size
    moved = theta + step * np.concatenate(
        [np.eye(size), -np.eye(size), 2 * np.eye(size), -2 * np.eye(size)]
    )

    def difference(values):
        a, b, c, d = np.split(values, 4)
        return (8 * (a - b) - (c - d)) / (12 * step)

    slope = difference(objective.value(moved))
    np.testing.assert_allclose(found.gradient[0], slope, rtol=1e-6, atol=1e-6)
    bend = difference(objective.evaluate(moved, Curvature.OBSERVED).gradient)
    scale = np.abs(bend).max()
    np.testing.assert_allclose(-found.curvature[0], bend, atol=1e-7 * scale)
    complete = objective.evaluate(theta, Curvature.COMPLETE)
    np.testing.assert_allclose(complete.gradient, found.gradient, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize("family", FAMILIES)
def test_em_never_falls(family, side):
    from bayes_moe.em.climb import run_em
    from bayes_moe.em.partitions import initial_partitions
    from bayes_moe.em.starting_points import initial_points

    spec = model(family, side)
    for seed in (1, 2):
        design = spec.design(limited(family, side, seed))
        objective = Objective(parameter_vector(spec, design))
        split = initial_partitions(spec, design.rows, 4, np.random.default_rng(seed))
        found = run_em(objective, initial_points(objective, split), max_iter=300)
        assert np.isfinite(found.value).all()
        falls = np.diff(found.path, axis=0) < -1e-9 * np.abs(found.path[:-1])
        assert not falls.any()  # after a run's end the path is NaN
        assert found.converged[np.argmax(found.value)]


@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize(
    ("family", "likelihood"),
    [
        ("normal", "fused"),
        ("normal", "symbolic"),
        ("poisson", "fused"),  # draws are whole numbers, ends may be infinite
        pytest.param("gamma", "fused", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_graph_has_the_density_of_the_mixture(family, likelihood, side):
    spec = model(family, side)
    fit = bm.fit(spec, limited(family, side, n=50), "em", random_seed=1, restarts=2)
    values = {name: fit.idata.posterior[name].values[0, 0] for name in spec.variables}
    if values[spec.variables[-1]].ndim == 1:  # an expert of few rows may be narrow
        values[spec.variables[-1]] = np.array([1.5, 2.0])
    draws = {name: value[None] for name, value in values.items()}
    expected = log_likelihood(spec, draws, fit.design.rows)[0]
    graph = build_design(spec, fit.design, likelihood)
    density, x = GraphLogDensity(graph), graph.to_vector(values)
    _, found, gradient = density.weighted(x, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    step = 1e-4 * np.eye(len(x))
    slope = [
        8 * (density(x + e)[0] - density(x - e)[0]) - density(x + 2 * e)[0] + density(x - 2 * e)[0]
        for e in step
    ]
    np.testing.assert_allclose(gradient, np.array(slope) / 12e-4, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("gate", list(GATES))
@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize("family", COMPILED)
def test_compiled_density_is_that_of_em(family, side, gate):
    spec = model(family, side, 3 if gate == "tree" else 2, GATES[gate])
    same_as_em(spec, limited(family, side, n=300))  # more than a chunk of rows


def same_as_em(spec, table):
    """Hold a compiled density with its gradient to the objective of EM."""
    assert supports(spec)
    vector = parameter_vector(spec, spec.design(table), jacobian=True)
    theta = points(vector)[:3]
    expected = Objective(vector).evaluate(theta, Curvature.COMPLETE)
    compiled = LinearTable(vector).density()
    for point, value, gradient in zip(theta, expected.value, expected.gradient, strict=True):
        found = compiled(point)
        np.testing.assert_allclose(found[0], value, rtol=1e-10)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-9, atol=1e-9)


def test_compiled_density_of_truncated_rows_with_weights_offsets_and_one_expert():
    table = limited("normal", "both", n=300)
    table["w"] = np.random.default_rng(3).integers(0, 4, len(table))
    both = SIDES["both"]
    same_as_em(model(side="both", weights="w"), table)
    same_as_em(model(side="both", experts=1), table)
    side = bm.mixture_of_experts(f"{both} ~ x + offset(z)", experts=2, gate="~ z + offset(x, 0)")
    same_as_em(side, table)
    kinds = [
        bm.Expert(f"{both} ~ x", "normal", name="narrow"),
        bm.Expert(f"{both} ~ 1", "logistic", name="wide"),
    ]
    same_as_em(bm.MixtureOfExperts(bm.gates.Softmax("~ z"), kinds), table)


def test_compiled_density_of_networks_is_that_of_the_graph():
    net = bm.predictors.MLP(hidden=(3,))
    spec = model(side="both", predictor=net)
    design = spec.design(limited("normal", "both", n=80))
    assert has_compiled_network(spec)
    compiled = log_density(spec, design)
    graph = GraphLogDensity(build_design(spec, design, "symbolic"))
    x = np.random.default_rng(0).normal(size=len(compiled.free_coordinates))
    one, other = compiled.weighted(x, 1.0), graph.weighted(x, 1.0)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-10)
    np.testing.assert_allclose(one[2], other[2], rtol=1e-9, atol=1e-9)


def grouped_table(family="normal"):
    """Censored and truncated rows of groups of two regimes, which are not next to each other."""
    rng = np.random.default_rng(8)
    count, n = 60, 240
    g = rng.integers(0, count, n)
    x, z = rng.normal(size=n), rng.uniform(-1, 1, count)
    second = (rng.random(count) < 1 / (1 + np.exp(-3 * z)))[g]
    eta = np.where(second, 1.3 + 0.6 * x, 0.2 - 0.4 * x)
    y = rng.normal(4 * eta, 0.8) if family == "normal" else rng.gamma(6, np.exp(eta) / 6)
    low, high = np.quantile(y, [0.1, 0.8])
    limit = high + np.abs(rng.normal(0, 0.1, n))
    columns = {
        **{"x": x, "z": z[g], "g": [f"g{j}" for j in g], "w": 1.0 + g % 3},
        "y": np.minimum(y, limit),
        "status": np.where(y > limit, "right", "none"),
        "deductible": np.where(rng.random(n) < 0.4, -np.inf, low),
    }
    table = pd.DataFrame(columns)
    return table[y > table["deductible"]].reset_index(drop=True)


@pytest.fixture(scope="module")
def grouped_fit():
    spec = model(side="both", group="g")
    return bm.fit(spec, grouped_table(), "em", random_seed=1, restarts=4)


def test_groups_were_recorded_together(grouped_fit):
    fit, table = grouped_fit, grouped_table()
    draws = {n: fit.idata.posterior[n].values[0, 0] for n in ("mu_coef", "sigma", "gate_coef")}
    weights, own, recorded = by_hand(fit.design, draws)
    found, r = bm.log_density(fit)[0, 0], bm.responsibilities(fit).values[0, 0]
    assert list(found[found.dims[0]].values) == list(table["g"].unique())
    for value, shares, g in zip(found.values, r, table["g"].unique(), strict=True):
        rows = np.flatnonzero(table["g"] == g)
        joint = weights[:, rows[0]] * own[:, rows].prod(axis=1)
        both = weights[:, rows[0]] * recorded[:, rows].prod(axis=1)
        assert value == pytest.approx(np.log(joint.sum() / both.sum()), abs=1e-8)
        np.testing.assert_allclose(shares, joint / joint.sum(), atol=1e-10)
    np.testing.assert_allclose(bm.log_density(fit, table)[0, 0], found, atol=1e-10)


@pytest.mark.parametrize("gate", list(GATES))
@pytest.mark.parametrize("family", ["normal", "gamma"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_derivatives_of_groups_that_were_recorded_together(family, gate, weights):
    more = {"group": "g"} | ({} if weights is None else {"weights": weights})
    spec = model(family, "both", 3 if gate == "tree" else 2, GATES[gate], **more)
    table = grouped_table(family)
    derivatives_are_differences(Objective(parameter_vector(spec, spec.design(table))))
    same_as_em(spec, table)


def test_the_graph_of_groups_that_were_recorded_together(grouped_fit):
    fit = grouped_fit
    values = {name: fit.idata.posterior[name].values[0, 0] for name in fit.spec.variables}
    graph = build_design(fit.spec, fit.design, "fused")
    found = GraphLogDensity(graph).weighted(graph.to_vector(values), 1.0)[1]
    np.testing.assert_allclose(found, bm.log_density(fit).values.sum(), rtol=1e-10)


@pytest.mark.slow
def test_groups_that_were_recorded_together_in_every_method(grouped_fit, tmp_path):
    spec, table, em = grouped_fit.spec, grouped_table(), grouped_fit
    other = bm.fit(spec, table, "map", random_seed=1)
    for name in spec.variables:
        np.testing.assert_allclose(
            other.idata.posterior[name], em.idata.posterior[name], rtol=1e-4, atol=1e-4
        )
    assert type(NUTS()._engine(spec)) is Direct
    more = {"draws": 400, "tune": 300, "chains": 2, "progressbar": False}
    sampled = bm.fit(spec, table, "nuts", random_seed=1, **more)
    for name in spec.variables:
        draws = sampled.idata.posterior[name].values
        gap = np.abs(draws.mean(axis=(0, 1)) - em.idata.posterior[name].values[0, 0])
        assert (gap < 0.6 * draws.std(axis=(0, 1))).all(), name
    bm.save(em, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(bm.log_density(again), bm.log_density(em))


def test_one_expert_under_flat_priors_is_tobit():
    table = limited("normal", n=200)
    flat = bm.Prior("Normal", mu=0.0, sigma=1e6)
    spec = model(experts=1, priors={"mu_coef": flat, "sigma": bm.Prior("HalfNormal", sigma=1e6)})
    fit = bm.fit(spec, table, "em", random_seed=1)
    features = np.stack([np.ones(len(table)), table["x"]])
    right = (table["status"] == "right").to_numpy()

    def minus(theta):
        z = (table["y"].to_numpy() - theta[:2] @ features) / np.exp(theta[2])
        return -np.where(right, stats.norm.logsf(z), stats.norm.logpdf(z) - theta[2]).sum()

    found = optimize.minimize(minus, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(
        fit.idata.posterior["mu_coef"].values.ravel(), found.x[:2], atol=1e-4
    )
    np.testing.assert_allclose(
        fit.idata.posterior["sigma"].values.ravel(), np.exp(found.x[2]), atol=1e-4
    )


def test_one_expert_under_flat_priors_is_a_weibull_aft_fit():
    """Numbers of lifelines: see the source in the file."""
    table = pd.DataFrame(AFT["table"])
    flat = {
        "mu_coef": bm.Prior("Normal", mu=0.0, sigma=1e6),
        "alpha": bm.Prior("HalfNormal", sigma=1e6),
    }
    spec = bm.mixture_of_experts(
        "censored(y, status=right) ~ x", family="weibull", experts=1, gate="~ 1", priors=flat
    )
    fit = bm.fit(spec, table, "em", random_seed=1)
    alpha = float(fit.idata.posterior["alpha"].values.item())
    intercept, slope = fit.idata.posterior["mu_coef"].values.ravel()
    # The mean is the scale times Gamma(1 + 1 / alpha).
    scale = intercept - special.gammaln(1 + 1 / alpha)
    expected = [AFT["lambda_Intercept"], AFT["lambda_x"], AFT["rho_Intercept"]]
    np.testing.assert_allclose([scale, slope, np.log(alpha)], expected, atol=1e-4)


@pytest.mark.parametrize("side", list(SIDES))
def test_a_saved_fit_is_read_refitted_and_predicts(side, tmp_path):
    table = limited("normal", side)
    fit = bm.fit(model(side=side), table, "em", random_seed=1, restarts=3)
    bm.save(fit, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.design.response, fit.design.response)
    rows = table[["x", "z"]].iloc[:5]  # the response is not needed
    np.testing.assert_array_equal(bm.predict(again, rows).mean(), bm.predict(fit, rows).mean())
    refitted = bm.refit(again, table.iloc[:100], random_seed=1)
    assert refitted.design.response.shape == (len(fit.design.response), 100)
    observed = fit.idata.observed_data["y"]
    assert observed.dims == ("obs_id",)
    np.testing.assert_array_equal(observed, fit.design.plain_response)


def test_predictions_are_of_the_response_itself():
    table = limited("normal")
    fit = bm.fit(model(experts=1), table, "em", random_seed=1)
    rows = table.iloc[:4]
    law = stats.norm(
        loc=fit.idata.posterior["mu_coef"].values.ravel() @ np.stack([np.ones(4), rows["x"]]),
        scale=fit.idata.posterior["sigma"].values.item(),
    )
    prediction = bm.predict(fit, rows)
    np.testing.assert_allclose(prediction.quantile(0.9), law.ppf(0.9), rtol=1e-8)
    np.testing.assert_allclose(prediction.logpdf(1.0), law.logpdf(1.0), rtol=1e-10)


@pytest.mark.parametrize("side", ["status", "both"])
def test_graphs_for_users_have_the_same_density(side):
    spec, table = model(side=side), limited("normal", side, n=40)
    built = bm.build(spec, table)
    value = built.model.compile_logp(vars=[built.model["y"]], mode=numpy_mode.mode())
    assert np.isfinite(value(built.model.initial_point()))


def test_methods_agree():
    table = limited("normal", n=150)
    spec = model(experts=1)
    modes = [bm.fit(spec, table, method, random_seed=1) for method in ("em", "map")]
    for name in spec.variables:
        np.testing.assert_allclose(*(m.idata.posterior[name] for m in modes), atol=1e-5)
    sampled = bm.fit(spec, table, "nuts", random_seed=1, draws=500, tune=300, chains=2)
    laplace = bm.fit(spec, table, "laplace", random_seed=1, draws=1000)
    for name in spec.variables:
        one, other = (f.idata.posterior[name].mean(("chain", "draw")) for f in (sampled, laplace))
        sd = laplace.idata.posterior[name].std(("chain", "draw"))
        assert (np.abs(one - other) < 0.3 * sd).all()


@pytest.fixture(scope="module")
def two_regimes():
    """EM, MAP and NUTS of a right-censored gamma response of two experts."""
    table = limited("gamma", n=200)
    spec = model("gamma")
    modes = [bm.fit(spec, table, method, random_seed=1) for method in ("em", "map")]
    more = {"draws": 600, "tune": 300, "chains": 2, "progressbar": False}
    return spec, *modes, bm.fit(spec, table, "nuts", random_seed=1, **more)


def test_methods_agree_on_two_experts(two_regimes):
    spec, em, other, sampled = two_regimes
    assert type(NUTS()._engine(spec)) is Direct
    for name in spec.variables:
        mode, same = (f.idata.posterior[name].values[0, 0] for f in (em, other))
        np.testing.assert_allclose(same, mode, rtol=1e-4, atol=1e-4)
        draws = sampled.idata.posterior[name].values
        gap = np.abs(draws.mean(axis=(0, 1)) - mode) / draws.std(axis=(0, 1))
        assert (gap < 0.5).all(), name  # modes and means of skewed margins differ


@pytest.mark.parametrize("settings", [{"nuts_sampler": "numpyro"}, {"backend": "jax"}, {}])
def test_samplers_on_jax_say_which_tails_they_lack(settings):
    method = ("nuts", settings) if settings else ("pathfinder", {})
    table = limited("gamma", n=20)
    with pytest.raises(SpecError, match=r"runs on JAX, which lacks the tail.*'gamma'.*status"):
        bm.fit(model("gamma"), table, method[0], **method[1])
    NUTS(**settings).check(model("weibull"))  # elementary tails


def test_two_arguments_without_names_are_told_apart_or_refused():
    x = np.random.default_rng(0).normal(size=6)
    data = {
        "x": x,
        "y": [2.0, 3, 4, 5, 6, 7],
        "s": [0, 1, 0, -1, 0, 1],
        "u": [3.0, 4, 4, 5, 9, np.nan],
    }
    spec = bm.mixture_of_experts("censored(y, s) ~ x", experts=1)
    np.testing.assert_array_equal(spec.design(data).response[1], [2, np.inf, 4, 5, 6, np.inf])
    spec = bm.mixture_of_experts("censored(y, u) ~ x", experts=1)
    np.testing.assert_array_equal(spec.design(data).response[1], [3, 4, 4, 5, 9, np.inf])
    both = data | {"y": [-1.0, 0, 0, -1, 0, 0.5]}
    with pytest.raises(DataError, match="could be a status or an upper end"):
        bm.mixture_of_experts("censored(y, s) ~ x", experts=1).design(
            both | {"s": [0, 1, 0, -1, 0, 1]}
        )
    named = bm.mixture_of_experts("censored(lower=y, upper=s) ~ x", experts=1)
    assert named.design(both).response.shape == (2, 6)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("censored(y)", "must have a response and its status"),
        ("censored(y, status=s, limit=3)", "cannot have"),
        ("truncated(y)", "needs a response and a limit"),
        ("truncated(truncated(y, lower=0), upper=3)", "truncates twice"),
        ("censored(y, status=log(s))", "must be a column"),
        ("censored(y + 1, status=s)", "no column or function"),
    ],
)
def test_calls_that_say_nothing_are_refused(side, message):
    with pytest.raises(SpecError, match=message):
        bm.mixture_of_experts(f"{side} ~ x", experts=1)


@pytest.mark.parametrize(
    ("side", "column", "row", "value", "message"),
    [
        ("interval", "lower", 3, 1e3, "row 3 has a lower end above"),
        ("truncated", "deductible", 4, 99.0, "row 4 is outside the limits"),
        ("status", "status", 5, "rigth", "is 'rigth' at row 5"),
    ],
)
def test_rows_that_cannot_be_are_named(side, column, row, value, message):
    table = limited("normal", side, n=30)
    table["upper"] = np.minimum(table["upper"], 100.0)
    table.loc[row, column] = value
    with pytest.raises(DataError, match=message):
        model(side=side).design(table)


def test_families_and_models_without_censoring_say_so():
    with pytest.raises(SpecError, match="has several responses"):
        bm.mixture_of_experts("censored(y, status=s) ~ x", family="mvnormal", experts=1)
    with pytest.raises(SpecError, match="its responses are classes"):
        bm.mixture_of_experts("censored(y, status=s) ~ x", family="categorical", experts=1)
    with pytest.raises(SpecError, match="cannot be beside `expert`"):
        model(side="truncated", expert="label")
    with pytest.raises(SpecError, match="cannot be beside `group` and effects"):
        bm.mixture_of_experts("truncated(y, lower=0) ~ x + (1 | g)", group="g")
    with pytest.raises(SpecError, match="cannot be beside a gate that models"):
        model(side="truncated", gate=bm.gates.Gaussian("~ z"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
@pytest.mark.parametrize("method", ["laplace", "nuts"])
@pytest.mark.parametrize("family", ["normal", "weibull", "gamma"])
def test_intervals_of_right_censored_responses_cover(family, method):
    """90 % intervals of a slope, 30 % of 150 rows censored, 100 tables."""
    more = {"tune": 300, "chains": 2, "progressbar": False} if method == "nuts" else {}
    spec = bm.mixture_of_experts("censored(y, status=s) ~ x", family=family, experts=1, gate="~ 1")
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 7])
        x = rng.normal(size=150)
        mean = 1.0 + 0.5 * x
        noise = {
            "normal": lambda m, r=rng: r.normal(m, 0.8),
            "weibull": lambda m, r=rng: np.exp(m) * r.weibull(2.0, 150) / special.gamma(1.5),
            "gamma": lambda m, r=rng: r.gamma(3.0, np.exp(m) / 3.0),
        }[family]
        y, other = noise(mean), noise(mean + 0.5)  # independent times of censoring
        table = pd.DataFrame({"x": x, "y": np.minimum(y, other), "s": (y > other).astype(int)})
        fit = bm.fit(spec, table, method, random_seed=seed, draws=400, **more)
        low, high = np.quantile(fit.idata.posterior["mu_coef"].values[..., 1], [0.05, 0.95])
        inside += low < 0.5 < high
    assert 85 <= inside <= 95

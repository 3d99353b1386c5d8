"""Offsets and exposures in whole models: graphs, predictions, priors, every method, saved files."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.reference_grid import choose_feature
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Attention, Gaussian, Softmax, StickBreaking, Tree
from bayes_moe.inference.em import EM
from bayes_moe.model.evaluation import evaluate
from tests.support import contracts
from tests.support.examples import PREDICTORS
from tests.support.graphs import internal_graph
from tests.support.linear_models import points

N = 80


def table(rows=N, seed=0):
    """Counts in two groups with exposures, numbers, and two columns of features."""
    rng = np.random.default_rng(seed)
    x, z, e = rng.normal(5, 2, rows), rng.uniform(-1, 1, rows), rng.uniform(1, 30, rows)
    high = rng.random(rows) < 0.5
    count = rng.poisson(e * np.exp(np.where(high, 0.2 * x, -1 - 0.1 * x)))
    y = 10 * z + np.where(high, x, 8 - x) + rng.normal(0, 0.5, rows)
    g = np.tile(["a", "b", "c"], rows)[:rows]
    return pd.DataFrame(
        {"x": x, "z": z, "e": e, "count": count, "y": y, "g": g, "w": rng.random(rows) + 0.5}
    ).assign(t=np.arange(rows))


def counts(formula="count ~ x", **more):
    return bm.mixture_of_experts(formula, **{"gate": "~ z", "family": "poisson", **more})


# --- every predictor and gate ---------------------------------------------------------------------

GATES = {
    "softmax": (Softmax("~ z + offset(x, z, -z)"), 3),
    "warm softmax": (Softmax("~ z + offset(x, z, -z)", temperature=2.0), 3),
    "spline": (Softmax("~ z + offset(x, z, -z)", predictor="spline"), 3),
    "mlp": (Softmax("~ z + offset(x, z, -z)", predictor=bm.predictors.MLP((3,))), 3),
    "attention": (Attention("~ z + offset(x, z, -z)"), 3),
    "identity attention": (Attention("~ z + offset(x, z, -z)", query="identity"), 3),
    "sticks": (StickBreaking("~ z + offset(0.3 * x)"), 3),
    "sticks, one offset each": (StickBreaking("~ z + offset(0.3 * x, z)"), 3),
    "tree": (Tree([[0, 1], 2], formula="~ z + offset(0.1 * x, z, -z, 0)"), 3),
}


def with_offset_of_gate(gate, experts):
    return bm.mixture_of_experts("y ~ x", gate=gate, experts=experts)


def models():
    found = {f"gate: {name}": with_offset_of_gate(*case) for name, case in GATES.items()}
    for name, (predictor, columns) in PREDICTORS.items():
        features = " + ".join(["x", "z", "w"][:columns])
        found[f"predictor: {name}"] = bm.mixture_of_experts(
            f"y ~ {features} + offset(10 * z)", gate="~ 1", predictor=predictor, time="t"
        )
    found["sigma"] = bm.mixture_of_experts("y ~ 1", gate="~ 1", sigma="~ 1 + offset(z)")
    found["classes"] = bm.mixture_of_experts(
        "g ~ x + offset(0.2 * x, z, 0)", gate="~ 1", family="categorical", levels=("a", "b", "c")
    )
    found["counts"] = counts(exposure="e")
    found["not centred"] = counts(exposure="e", center=False)
    found["one expert"] = counts(exposure="e", experts=1)
    found["zeros"] = counts(
        family=bm.families.ZeroInflated(bm.families.Poisson()), exposure="e", psi="~ 1 + offset(z)"
    )
    return found


MODELS = models()


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_the_evaluation(name):
    spec = MODELS[name]
    design = spec.design(table())
    graph = internal_graph(spec, design)
    import pymc as pm

    wanted = [*(graph.model[n] for n in spec.variables), graph.log_weights, graph.log_densities]
    *drawn, weights, densities = pm.draw(wanted, 1, random_seed=3, mode="FAST_COMPILE")
    values = {n: np.asarray(v)[None] for n, v in zip(spec.variables, drawn, strict=True)}
    found = evaluate(spec, values, design.rows)
    weights = np.broadcast_to(weights, densities.shape)
    np.testing.assert_allclose(found.log_weights[0], weights, atol=1e-9)
    expected = np.logaddexp.reduce(densities + weights, axis=0)
    np.testing.assert_allclose(found.log_density(design.response)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("name", [n for n in MODELS if n.startswith("predictor: ")])
def test_an_offset_is_added_to_every_predictor(name):
    spec = MODELS[name]
    bare = bm.MixtureOfExperts(
        spec.gate,
        [
            bm.Expert(e.formula.replace(" + offset(10 * z)", ""), predictor=dict(e.predictors))
            for e in spec.experts
        ],
        time="t",
    )
    data = table()
    design = spec.design(data)
    values = contracts.values_of(spec, design, samples=2)
    shifted = evaluate(spec, values, design.rows).params[0]["mu"]
    expected = (
        evaluate(bare, values, bare.design(data).rows).params[0]["mu"] + 10 * data["z"].to_numpy()
    )
    np.testing.assert_allclose(shifted, expected, rtol=1e-12)


def oracle(values, data):
    """Log density (obs,) of the model of the test below, by SciPy and its definition."""
    one = np.ones(len(data))
    x, z = (np.column_stack([one, data[name]]) for name in ("x", "z"))
    logits = np.exp(z @ values["gate_coef"].T + np.column_stack([data["x"] / 9, data["w"]]))
    mean = np.exp(x @ values["mu_coef"].T) * data["e"].to_numpy()[:, None]
    alpha = np.exp(z @ values["alpha_coef"].T + data["w"].to_numpy()[:, None])
    law = stats.gamma(alpha, scale=mean / alpha)
    joint = logits / logits.sum(axis=1, keepdims=True) * law.pdf(data["s"].to_numpy()[:, None])
    return np.log(joint.sum(axis=1))


def test_offsets_of_every_parameter_at_a_hundred_points_are_scipy_s():
    data = table().assign(s=lambda d: np.exp(d["y"] / 10))
    spec = bm.mixture_of_experts(
        "s ~ x",
        gate="~ z + offset(x / 9, w)",
        family="gamma",
        exposure="e",
        alpha="~ z + offset(w)",
    )
    vector = parameter_vector(spec, spec.design(data), likelihood=True)
    theta = 0.3 * np.random.default_rng(1).standard_normal((100, vector.size))
    values, objective = vector.variables(theta), Objective(vector)
    found = objective.value(theta)
    expected = [oracle({n: v[j] for n, v in values.items()}, data).sum() for j in range(100)]
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    gradient = objective.evaluate(theta[:5], Curvature.OBSERVED).gradient
    step = 1e-6 * np.eye(vector.size)
    for j in range(5):
        up, down = objective.value(theta[j] + step), objective.value(theta[j] - step)
        np.testing.assert_allclose(gradient[j], (up - down) / 2e-6, rtol=1e-6, atol=1e-5)


def test_weights_are_repeated_rows_with_their_exposures():
    data = table(60).assign(k=lambda d: 1 + (10 * d["w"]).astype(int) % 3)
    repeated = data.loc[np.repeat(data.index, data["k"])].reset_index(drop=True)
    weighted = counts(exposure="e", weights="k")
    plain = counts(exposure="e")
    vectors = (
        parameter_vector(weighted, weighted.design(data)),
        parameter_vector(plain, plain.design(repeated)),
    )
    theta = points(vectors[0])
    one, other = (Objective(vector).value(theta) for vector in vectors)
    np.testing.assert_allclose(one, other, rtol=1e-10)


def test_the_offset_of_a_gate_is_the_same_for_a_group():
    data = table(60).assign(id=np.arange(60) // 3, a=lambda d: d["id"] / 9)
    spec = counts(exposure="e", gate="~ 1 + offset(a, 0)", group="id")
    design = spec.design(data)
    vector = parameter_vector(spec, design)
    theta = points(vector)
    values = vector.variables(theta)
    found = evaluate(spec, values, design.rows)
    densities = found.log_components(design.response)
    first = np.arange(0, 60, 3)
    joint = densities.reshape(*densities.shape[:-1], 20, 3).sum(axis=-1)
    expected = np.logaddexp.reduce(joint + found.log_weights[..., first], axis=1).sum(axis=-1)
    prior = vector.log_prior(theta)[0]
    np.testing.assert_allclose(Objective(vector).value(theta) - prior, expected, rtol=1e-9)
    contracts.objective_is_the_graphs_log_density(spec, design)
    varying = counts(exposure="e", gate="~ 1 + offset(z, 0)", group="id")
    with pytest.raises(DataError, match="The offset of 'gate' differs within"):
        varying.design(data)


# --- units and default priors ---------------------------------------------------------------------

RATES = {
    "poisson": {},
    "negativebinomial": {},
    "geometric": {},
    "gamma": {"formula": "I(y + 20) ~ x"},
    "exponential": {"formula": "I(y + 20) ~ x"},
    "weibull": {"formula": "I(y + 20) ~ x"},
    "lognormal": {"formula": "I(y + 20) ~ x"},
    "inversegaussian": {"formula": "I(y + 20) ~ x"},
    "lomax": {"formula": "I(y + 20) ~ x"},
}


@pytest.mark.parametrize("family", RATES)
def test_the_unit_of_an_exposure_changes_intercepts_alone(family):
    spec = counts(family=family, exposure="e", **RATES[family])
    data = table()
    one, other = (
        parameter_vector(spec, spec.design(data.assign(e=times * data["e"])), jacobian=True)
        for times in (1.0, 1000.0)
    )
    theta = points(one)
    np.testing.assert_allclose(Objective(other).value(theta), Objective(one).value(theta), 1e-10)
    before, after = one.variables(theta), other.variables(theta)
    location = spec.structure.components[0].variable
    before[location][..., 0] -= np.log(1000)
    for name in spec.variables:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-9)


def test_a_shift_of_an_offset_changes_the_intercept_alone():
    formulas = ["y ~ x + offset(10 * z)", "y ~ x + offset(10 * z + 500)"]
    one, other = (bm.mixture_of_experts(f, sigma="~ x + offset(z)") for f in formulas)
    priors = [spec.resolve_priors(spec.design(table()))["mu_coef"] for spec in (one, other)]
    mu = [np.array(prior.arguments["mu"]) for prior in priors]
    np.testing.assert_allclose(mu[0] - mu[1], [500, 0], atol=1e-9)
    sigma = [np.array(prior.arguments["sigma"]) for prior in priors]
    np.testing.assert_allclose(sigma[0], sigma[1], rtol=1e-9)


def test_the_unit_of_a_response_is_without_its_offset():
    data = table()
    bare = bm.mixture_of_experts("v ~ x", sigma="~ x")
    with_offset = bm.mixture_of_experts("y ~ x + offset(1000 * z)", sigma="~ x + offset(w)")
    expected = bare.resolve_priors(bare.design(data.assign(v=data["y"] - 1000 * data["z"])))
    found = with_offset.resolve_priors(with_offset.design(data))
    for argument in ("mu", "sigma"):
        np.testing.assert_allclose(
            found["mu_coef"].arguments[argument], expected["mu_coef"].arguments[argument]
        )
    change = np.subtract(*(p["sigma_coef"].arguments["mu"] for p in (expected, found)))
    np.testing.assert_allclose(change, [data["w"].mean(), 0])


def test_units_of_a_mean_without_intercept_are_those_of_the_difference():
    data = table()
    bare = bm.mixture_of_experts("v ~ 0 + x")
    with_offset = bm.mixture_of_experts("y ~ 0 + x + offset(100 + z)")
    expected = bare.resolve_priors(bare.design(data.assign(v=data["y"] - 100 - data["z"])))
    found = with_offset.resolve_priors(with_offset.design(data))
    assert found["mu_coef"] == expected["mu_coef"]


# --- fits -----------------------------------------------------------------------------------------


def test_one_expert_is_a_regression_with_an_offset():
    import statsmodels.api as sm

    data = table()
    spec = counts(exposure="e", experts=1)
    fit = bm.fit(spec, data, EM(objective="likelihood"), random_seed=1)
    features = sm.add_constant(data[["x"]])
    model = sm.GLM(data["count"], features, sm.families.Poisson(), offset=np.log(data["e"]))
    expected = model.fit(tol=1e-14)
    np.testing.assert_allclose(coefficients(fit)[0], expected.params, atol=1e-6)
    errors = fit.idata["standard_error"]["mu_coef"].values.ravel()
    np.testing.assert_allclose(errors, expected.bse, rtol=1e-6)


def coefficients(fit, name="mu_coef"):
    """Means of coefficients over draws, those of experts ordered by the last one."""
    value = fit.idata.posterior[name].mean(("chain", "draw")).values
    return value[np.argsort(value[:, -1])]


@pytest.fixture(scope="module")
def planted():
    return table(400)


@pytest.fixture(scope="module")
def mode(planted):
    return bm.fit(counts(exposure="e"), planted, "em", random_seed=1)


def test_em_recovers_rates(mode):
    np.testing.assert_allclose(coefficients(mode), [[-1, -0.1], [0, 0.2]], atol=0.1)


@pytest.mark.parametrize(
    ("method", "options", "atol"),
    [
        ("map", {}, 1e-4),
        ("laplace", {"draws": 2000}, 0.02),
        ("nuts", {"chains": 2, "draws": 300, "tune": 300}, 0.02),
        pytest.param("advi", {"draws": 1000}, 0.05, marks=pytest.mark.slow),
    ],
)
def test_every_method_has_the_offset(planted, mode, method, options, atol):
    fit = bm.fit(counts(exposure="e"), planted, method, random_seed=1, **options)
    np.testing.assert_allclose(coefficients(fit), coefficients(mode), atol=atol)


def test_the_log_density_of_new_rows_is_scipy_s(mode):
    new = table(50, seed=5)
    coef = mode.idata.posterior["mu_coef"].values[0, 0]
    gate = mode.idata.posterior["gate_coef"].values[0, 0]
    x, z = (np.column_stack([np.ones(50), new[name]]) for name in ("x", "z"))
    weights = np.exp(z @ gate.T)
    weights /= weights.sum(axis=1, keepdims=True)
    rates = np.exp(x @ coef.T) * new["e"].to_numpy()[:, None]
    density = (weights * stats.poisson(rates).pmf(new["count"].to_numpy()[:, None])).sum(axis=1)
    found = np.ravel(bm.log_density(mode, new))
    np.testing.assert_allclose(found, np.log(density), rtol=1e-8)
    mean = bm.predict(mode, new.drop(columns="count")).mean()
    np.testing.assert_allclose(mean, (weights * rates).sum(axis=1), rtol=1e-10)


def test_a_saved_fit_predicts_the_same(mode, tmp_path):
    contracts.saved_fit_predicts_the_same(mode, table(30, seed=2), tmp_path)


def test_a_fit_to_other_rows_has_their_exposures(mode):
    data = table(300, seed=7)
    again = bm.refit(mode, data.assign(e=1000 * data["e"]), random_seed=1)
    expected = coefficients(bm.refit(mode, data, random_seed=1)) - [np.log(1000), 0]
    np.testing.assert_allclose(coefficients(again), expected, atol=1e-6)


def test_graphs_for_users_have_the_exposures_of_their_rows(mode):
    new = table(20, seed=3)
    graph = bm.build(mode, new)
    values = {n: mode.idata.posterior[n].values[0, 0] for n in mode.spec.variables}
    by_name = {graph.model[n]: v for n, v in values.items()}
    joint = (graph.log_weights + graph.log_densities).eval(by_name, mode="FAST_COMPILE")
    found = np.logaddexp.reduce(joint, axis=0)
    np.testing.assert_allclose(found, np.ravel(bm.log_density(mode, new)), rtol=1e-9)
    assert "mu_offset" in graph.model.named_vars


def test_new_rows_need_the_exposure(mode):
    with pytest.raises(DataError, match=r"Unknown column 'e'.*The model needs it"):
        bm.predict(mode, table(5).drop(columns="e"))
    with pytest.raises(DataError, match=r"offset\(log\(e\)\).*row\(s\) 2.*must be positive"):
        bm.predict(mode, table(5).assign(e=[1.0, 2, 0, 1, 1]))


def test_simulated_counts_are_proportional_to_the_exposure():
    data = table(4000)
    spec = counts("count ~ 1", gate="~ 1", exposure="e")
    parameters = {"gate_coef": [[0.0], [0.0]], "mu_coef": [[0.0], [1.0]]}
    drawn = bm.simulate(spec, data.drop(columns="count"), parameters, random_seed=1)
    ratio = np.asarray(drawn["count"]).mean() / data["e"].mean()
    assert ratio == pytest.approx((1 + np.e) / 2, rel=0.05)


def test_known_weights_of_experts_tell_them_apart():
    """With a large offset each row is known to be of one expert, by its position."""
    data = table(200)
    rng = np.random.default_rng(3)
    second = rng.random(200) < 0.3
    data["y"] = np.where(second, 1 + data["x"], 8 - data["x"]) + rng.normal(0, 0.3, 200)
    data["s"] = np.where(second, 50.0, -50.0)
    for columns, order in (("0, s", [0, 1]), ("s, 0", [1, 0])):
        spec = bm.mixture_of_experts("y ~ x", gate=f"~ 1 + offset({columns})")
        assert spec.structure.symmetry.root is None
        fit = bm.fit(spec, data, "em", random_seed=1)
        slopes = fit.idata.posterior["mu_coef"].values[0, 0, :, 1]
        np.testing.assert_allclose(slopes[order], [-1, 1], atol=0.1)
        shares = bm.responsibilities(fit, data).values.squeeze()
        shares = shares if shares.shape[0] == 2 else shares.T
        np.testing.assert_array_equal(shares[order[1]] > 0.5, second)


def test_a_constant_gate_with_an_offset_is_at_its_maximum():
    data = table(200)
    spec = bm.mixture_of_experts("y ~ x", gate="~ 1 + offset(z, 0)")
    fit = bm.fit(spec, data, EM(objective="likelihood"), random_seed=1)
    vector = parameter_vector(spec, fit.design, likelihood=True)
    values = {n: fit.idata.posterior[n].values[0] for n in spec.variables}
    evaluation = Objective(vector).evaluate(vector.points(values), Curvature.OBSERVED)
    assert np.abs(evaluation.gradient).max() < 1e-4


# --- descriptions and errors ----------------------------------------------------------------------


def test_plots_are_not_along_an_exposure(mode):
    assert choose_feature(mode.design, None, ["mu"]) == "x"
    assert choose_feature(mode.design, "e", ["mu"]) == "e"


def test_an_exposure_is_part_of_the_description():
    spec = counts(exposure="e / 1000")
    assert bm.MixtureOfExperts.from_json(spec.to_json()) == spec
    assert "exposure='e / 1000'" in repr(spec)
    assert spec.formulas == {"gate": "~ z", "mu": "~ x + offset(log(e / 1000))"}
    plain = counts("count ~ x + offset(log(e / 1000))")
    assert plain.structure.blocks[0].kind == spec.structure.blocks[0].kind


def test_a_gate_without_formula_has_the_features_without_the_offset():
    spec = bm.mixture_of_experts("count ~ x", family="poisson", exposure="e")
    assert spec.formulas["gate"] == "~ x"
    spec = bm.mixture_of_experts("y ~ offset(z) + x + offset(w)")
    assert spec.design(table()).rows.matrices["gate"].terms == ("Intercept", "x")
    assert spec.design(table()).rows.matrices["gate"].offset is None


REFUSED = {
    "one column in a softmax": (
        lambda: bm.mixture_of_experts("y ~ x", gate="~ z + offset(w)"),
        r"cancels. Write offset\(a, b, ...\), 2 columns, one expert each",
    ),
    "too many columns": (
        lambda: bm.mixture_of_experts("y ~ x", gate="~ z + offset(w, x, z)"),
        "3 columns does not fit 2 outputs",
    ),
    "one column in a tree": (
        lambda: bm.hierarchical_mixture("y ~ x", gate="~ z + offset(w)"),
        "one branch each",
    ),
    "too many columns of sticks": (
        lambda: bm.mixture_of_experts("y ~ x", gate=StickBreaking("~ offset(x, z, w)"), experts=3),
        "one stick each",
    ),
    "a Gaussian gate": (
        lambda: bm.mixture_of_experts("y ~ x", gate=Gaussian("~ x + offset(z)")),
        "Gaussian gate models its features",
    ),
    "several attention heads": (
        lambda: bm.mixture_of_experts("y ~ x", gate=Attention("~ x + offset(x, z)", heads=2)),
        "heads=1",
    ),
    "two columns of a mean": (
        lambda: bm.mixture_of_experts("y ~ x + offset(z, w)"),
        "it must have one, which is the same for all experts",
    ),
    "one column of classes": (
        lambda: bm.mixture_of_experts(
            "g ~ x + offset(z)", family="categorical", levels=("a", "b", "c")
        ),
        "with 3, one each of a, b, c",
    ),
    "nothing to estimate": (
        lambda: bm.mixture_of_experts("y ~ 0 + offset(z)"),
        "nothing is left to be estimated",
    ),
    "a product": (
        lambda: bm.mixture_of_experts("y ~ x:offset(z)"),
        r"an offset in the product 'x:offset\(z\)'",
    ),
    "an offset inside": (
        lambda: bm.mixture_of_experts("y ~ I(2 * offset(z))"),
        "has an offset inside",
    ),
    "unequal widths": (
        lambda: bm.mixture_of_experts("y ~ x", gate="~ offset(x, z) + offset(x, z, w)"),
        "have 2, 3 columns",
    ),
    "an offset of an offset": (lambda: counts("offset(y) ~ x"), "is an offset"),
    "exposure of an identity link": (
        lambda: bm.mixture_of_experts("y ~ x", exposure="e"),
        "needs a family whose location is on a log scale",
    ),
    "exposure of a root link": (
        lambda: counts(family=bm.families.Poisson(link="sqrt"), exposure="e"),
        "needs a family whose location is on a log scale",
    ),
    "exposure that is no term": (lambda: counts(exposure=3), "must be a column or an expression"),
    "two exposures": (lambda: counts(exposure="e, z"), "must be a column or an expression"),
    "experts in another order": (
        lambda: bm.MixtureOfExperts(
            Softmax("~ 1 + offset(x, z, w)"),
            [bm.Expert("y ~ x", name="a"), bm.Expert("y ~ 1", name="b"), bm.Expert("y ~ x")],
        ),
        "put experts of the same kind next to each other",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    describe, message = REFUSED[case]
    with pytest.raises(SpecError, match=message):
        describe()


def test_one_column_of_the_classes_of_a_table_is_refused_there():
    spec = bm.mixture_of_experts("g ~ x + offset(z)", family="categorical")
    with pytest.raises(SpecError, match="with 3, one each of a, b, c"):
        bm.fit(spec, table(), "em")


@pytest.mark.parametrize(
    ("formula", "column", "family"),
    [("y ~ x + offset(w)", "y", "normal"), ("y ~ x + offset(log(w))", "y", "gamma")],
)
def test_a_response_that_is_its_offset_is_refused(formula, column, family):
    data = table().assign(y=lambda d: d["w"] + 3 if family == "normal" else 3 * d["w"])
    with pytest.raises(DataError, match="'y' without its offset has zero variance"):
        bm.fit(bm.mixture_of_experts(formula, family=family), data, "em")


def test_categories_are_no_offset():
    with pytest.raises(DataError, match="'g' holds categories, not numbers"):
        bm.fit(bm.mixture_of_experts("y ~ x + offset(g)"), table(), "em")

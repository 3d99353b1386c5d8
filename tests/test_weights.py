"""A row of weight w is w rows: in objectives, graphs, kernels, estimates, errors and summaries."""

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.model.compiled_table import CompiledTable
from bayes_moe.optimize.network_density import NetworkDensity
from bayes_moe.sampling.compiled_density import LinearTable
from tests.support.linear_models import MODELS, points, table

SAME = {"rtol": 1e-10, "atol": 1e-9}
FITS = {
    "normal": {"formula": "normal ~ x", "gate": "~ z", "family": "normal"},
    "t": {"formula": "studentt ~ x", "gate": "~ 1", "family": "studentt"},
    "counts": {"formula": "poisson ~ x", "gate": "~ z", "family": "poisson"},
    "gaussian gate": {"formula": "normal ~ x", "gate": bm.gates.Gaussian("~ z")},
    "two responses": {"formula": "cbind(normal, log(n)) ~ x", "gate": "~ z", "family": "mvnormal"},
    "spline": {"formula": "normal ~ x", "gate": "~ 1", "predictor": "spline", "experts": 1},
    "shrunken": {"formula": "normal ~ x + z", "gate": "~ 1", "predictor": "r2d2", "experts": 1},
}

TOLERANCES = {"gaussian gate": 1e-5, "spline": 1e-5, "shrunken": 1e-5}


def with_weights(spec, weights="w"):
    """The same description with weights of rows."""
    given = (spec.priors, spec.center, spec.functions, spec.shared, spec.fixed)
    return bm.MixtureOfExperts(spec.gate, spec.experts, *given, weights)


def weighted_table(most=4, seed=3):
    """A table with whole weights, and the table in which each row is repeated as often."""
    data = table()
    data = data.assign(w=np.random.default_rng(seed).integers(0, most, len(data)))
    return data, data.loc[data.index.repeat(data["w"])].reset_index(drop=True)


@pytest.mark.parametrize("name", list(MODELS))
def test_objective_gradient_and_information_are_those_of_repeated_rows(name):
    data, repeated = weighted_table()
    spec = MODELS[name]
    one = parameter_vector(with_weights(spec), with_weights(spec).design(data), jacobian=True)
    other = parameter_vector(spec, spec.design(repeated), jacobian=True)
    theta = points(one)
    for curvature in Curvature:
        found = Objective(one).evaluate(theta, curvature)
        expected = Objective(other).evaluate(theta, curvature)
        np.testing.assert_allclose(found.value, expected.value, **SAME)
        np.testing.assert_allclose(found.gradient, expected.gradient, **SAME)
        np.testing.assert_allclose(found.curvature, expected.curvature, rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(found.rows, expected.rows, **SAME)


@pytest.mark.parametrize("name", ["one expert", "normal", "deep tree of counts", "sticks"])
def test_the_compiled_density_has_weights(name):
    data, _ = weighted_table()
    spec = with_weights(MODELS[name] if name in MODELS else next(iter(MODELS.values())))
    vector = parameter_vector(spec, spec.design(data), jacobian=True)
    density = LinearTable(vector).density()
    assert isinstance(LinearTable(vector), CompiledTable)
    for point in points(vector):
        expected = Objective(vector).evaluate(point[None], Curvature.COMPLETE)
        value, gradient = density(point)
        assert value == pytest.approx(expected.value[0], rel=1e-10)
        np.testing.assert_allclose(gradient, expected.gradient[0], **SAME)
    some = np.arange(7, 30)
    picked = parameter_vector(spec, spec.design(data), jacobian=True)
    part = Objective(picked, picked.design.rows.pick(some)).evaluate(
        point[None], Curvature.COMPLETE
    )
    assert density.pick(some)(point)[0] == pytest.approx(part.value[0], rel=1e-10)


@pytest.mark.parametrize("name", ["gaussian gate", "two responses"])
@pytest.mark.parametrize("likelihood", ["fused", "symbolic"])
def test_the_graph_has_weights(name, likelihood):
    data, repeated = weighted_table()
    spec = bm.mixture_of_experts(**{"experts": 2, **FITS[name]})
    one = GraphLogDensity(
        build_design(with_weights(spec), with_weights(spec).design(data), likelihood)
    )
    other = GraphLogDensity(build_design(spec, spec.design(repeated), likelihood))
    x = 0.3 * np.random.default_rng(0).standard_normal(one.free_coordinates.size)
    for found, expected in zip(one.weighted(x, 1.0), other.weighted(x, 1.0), strict=True):
        np.testing.assert_allclose(found, expected, **SAME)


def test_a_compiled_network_has_weights():
    data, repeated = weighted_table()
    spec = bm.mixture_density("normal ~ x", components=2, hidden=(3,))
    plain, own = spec.design(repeated), with_weights(spec).design(data)
    one = NetworkDensity(with_weights(spec), own, jacobian=False)
    other = NetworkDensity(spec, plain, jacobian=False)
    x = 0.3 * np.random.default_rng(0).standard_normal(one.free_coordinates.size)
    for found, expected in zip(one.weighted(x, 1.0), other.weighted(x, 1.0), strict=True):
        np.testing.assert_allclose(found, expected, **SAME)


@pytest.mark.parametrize(
    ("method", "name"),
    [*(("em", name) for name in FITS), ("map", "normal"), ("map", "gaussian gate")],
)
def test_fits_are_those_of_repeated_rows(method, name):
    data, repeated = weighted_table()
    spec = bm.mixture_of_experts(**{"experts": 2, **FITS[name]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = bm.fit(with_weights(spec), data, method=method, random_seed=1)
        other = bm.fit(spec, repeated, method=method, random_seed=1)
    # Learned scales, and a gate that models its features, are found to smaller digits.
    tight = 1e-6 if method == "map" else TOLERANCES.get(name, 1e-8)
    for group in ("posterior", "standard_error"):
        for variable in spec.variables:
            if group in one.idata.children and variable in one.idata[group]:
                found, expected = (f.idata[group][variable].values for f in (one, other))
                np.testing.assert_allclose(found, expected, rtol=tight, atol=tight)
    figures, expected = bm.information(one), bm.information(other)
    for figure in ("log_likelihood", "n_obs", "aic", "bic", "icl", "effective_parameters"):
        assert figures[figure] == pytest.approx(expected[figure], rel=tight, nan_ok=True), figure
    if method == "em":
        np.testing.assert_allclose(
            *(bm.modes(f).filter(like="share").iloc[0] for f in (one, other)), atol=1e-6
        )


def test_weights_of_an_expert_are_those_of_scipy():
    data, _ = weighted_table()
    data["w"] = np.random.default_rng(0).gamma(2.0, size=len(data))
    spec = bm.mixture_of_experts("normal ~ 1", gate="~ 1", experts=1, weights="w")
    vector = parameter_vector(spec, spec.design(data), likelihood=True)
    theta = points(vector, count=100)
    values = vector.variables(theta)
    mean, sd = values["mu_coef"][:, 0, 0], values["sigma"][:, 0]
    by_row = stats.norm(mean[:, None], sd[:, None]).logpdf(data["normal"].to_numpy())
    expected = by_row @ data["w"].to_numpy()
    np.testing.assert_allclose(Objective(vector).value(theta), expected, rtol=1e-12)


def test_zero_is_deletion_and_positions_remain():
    data, _ = weighted_table()
    data = data.assign(w=(np.arange(len(data)) % 3 > 0).astype(float))
    spec = bm.mixture_of_experts("normal ~ x", gate="~ z", experts=2)
    data.loc[0, "x"] = np.nan  # a row that does not count
    one = bm.fit(with_weights(spec), data, method="em", random_seed=1)
    other = bm.fit(spec, data[data["w"] > 0], method="em", random_seed=1)
    np.testing.assert_allclose(
        one.idata["posterior"]["mu_coef"], other.idata["posterior"]["mu_coef"]
    )
    np.testing.assert_array_equal(one.design.rows.obs_id, np.flatnonzero(data["w"] > 0))
    assert one.design.n_dropped == 0


def test_the_unit_of_weights_changes_no_mode_of_the_likelihood():
    data, _ = weighted_table()
    spec = bm.mixture_of_experts("normal ~ x", gate="~ 1", experts=2, weights="w")
    halves = bm.mixture_of_experts("normal ~ x", gate="~ 1", experts=2, weights="I(w / 2)")
    fits = [
        bm.fit(s, data, method="em", objective="likelihood", random_seed=1) for s in (spec, halves)
    ]
    values = [f.idata["posterior"]["mu_coef"].values for f in fits]
    np.testing.assert_allclose(*values, rtol=1e-6)
    assert 2 * bm.information(fits[1])["n_obs"] == bm.information(fits[0])["n_obs"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, -2.0), "-2 at row 1"),
        ((1.0, np.nan), "missing"),
        ((1.0, np.inf), "not finite"),
        ((0.0, 0.0), "zero in all rows"),
        (("a", "b"), "needs numbers"),
    ],
)
def test_weights_that_cannot_be_are_refused(values, message):
    data = table()
    first, rest = values[0], values[1]
    column = [first, rest] + [first] * (len(data) - 2)
    spec = bm.mixture_of_experts("normal ~ x", experts=2, weights="w")
    with pytest.raises(DataError, match=message):
        spec.design(data.assign(w=column))


def test_a_column_that_is_not_there_is_named():
    spec = bm.mixture_of_experts("normal ~ x", experts=2, weights="weigth")
    with pytest.raises(DataError, match="Did you mean 'weight'"):
        spec.design(table().assign(weight=1.0))


@pytest.mark.parametrize("weights", [np.ones(3), 2, "", "a + b"])
def test_weights_are_one_column(weights):
    with pytest.raises(SpecError, match="`weights` must be"):
        bm.mixture_of_experts("normal ~ x", experts=2, weights=weights)


def test_files_and_refits_keep_weights(tmp_path):
    data, _ = weighted_table()
    spec = bm.mixture_of_experts("normal ~ x", gate="~ z", experts=2, weights="w")
    fit = bm.fit(spec, data, method="em", random_seed=1)
    loaded = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert loaded.spec == spec
    assert spec == bm.MixtureOfExperts.from_dict(spec.to_dict())
    assert "weights='w'" in repr(spec)
    np.testing.assert_array_equal(loaded.design.rows.weights, fit.design.rows.weights)
    again = bm.refit(loaded, data.sample(frac=1, replace=True, random_state=1), random_seed=1)
    assert again.design.rows.weights is not None
    new = bm.predict(fit, data.drop(columns="w")).mean()
    assert np.isfinite(new).all()


def test_the_stored_log_likelihood_adds_up_and_densities_of_rows_do_not_count_twice():
    data, repeated = weighted_table()
    spec = bm.mixture_of_experts("normal ~ x", gate="~ z", experts=2, weights="w")
    with pytest.warns(bm.ConvergenceWarning):  # 43 rows
        fit = bm.fit(spec, data, method="laplace", draws=20, random_seed=1)
    total = fit.idata["log_likelihood"]["y"].sum("obs_id").values.ravel()
    by_row = bm.log_density(fit, repeated).sum("obs_id").values.ravel()
    np.testing.assert_allclose(total, by_row, rtol=1e-10)
    kept = data[data["w"] > 0]
    np.testing.assert_allclose(
        fit.idata["log_likelihood"]["y"].values,
        bm.log_density(fit, kept).values * kept["w"].to_numpy(),
    )


@pytest.mark.parametrize("family", ["bernoulli", "normal"])
def test_one_expert_of_a_survey_is_statsmodels_with_freq_weights(family):
    survey = bm.load_dataset("attitudes")
    survey["yes"] = (survey["abortion"] == "Yes").astype(float)
    features = "C(gender) + C(importance) + C(education) + C(urban)"
    spec = bm.mixture_of_experts(
        f"yes ~ {features}", gate="~ 1", experts=1, family=family, weights="weight"
    )
    fit = bm.fit(spec, survey, method="em", objective="likelihood", random_seed=1)
    link = sm.families.Binomial() if family == "bernoulli" else sm.families.Gaussian()
    model = smf.glm(f"yes ~ {features}", survey, family=link, freq_weights=survey["weight"])
    expected = model.fit(tol=1e-12)
    stem = spec.variables[0]
    coef = fit.idata["posterior"][stem].isel(chain=0, draw=0, expert=0).to_series()
    names = {term: term.replace("[", "[T.") if "[T." not in term else term for term in coef.index}
    np.testing.assert_allclose(
        coef.rename(names)[expected.params.index], expected.params, rtol=1e-6, atol=1e-8
    )
    error = fit.idata["standard_error"][stem].isel(expert=0).to_series().rename(names)
    if family == "bernoulli":  # the other's scale is divided by the degrees of freedom
        np.testing.assert_allclose(error[expected.bse.index], expected.bse, rtol=1e-6)
        log_likelihood = bm.information(fit)["log_likelihood"]
        assert log_likelihood == pytest.approx(expected.llf, rel=1e-10)
    assert bm.information(fit)["n_obs"] == pytest.approx(2231, rel=1e-6)

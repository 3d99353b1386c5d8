"""Models of whole numbers from the formula to the prediction, against GLMs and brute force."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import statsmodels.api as sm
from pytensor.compile.mode import Mode
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.reference_grid import grid_along
from bayes_moe.model.evaluation import evaluate
from tests.support.fits import fake_fit

QUICK = Mode(linker="py", optimizer="fast_compile")
GATE = np.array([[0.2, -1.0], [-0.2, 1.0]])
LINES = np.array([[0.5, 0.8], [1.6, -0.4]])
CASES = {
    "poisson": {},
    "bernoulli": {},
    "binomial": {"trials": "n"},
    "binomial of 7": {"trials": 7},
}


def describe(case, experts=2):
    return bm.mixture_of_experts("y ~ x", experts=experts, family=case.split()[0], **CASES[case])


def coef(spec):
    return spec.structure.blocks[0].components[0].variable


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.uniform(-2, 2, 150), "n": rng.integers(1, 25, 150)})


@pytest.fixture(scope="module", params=list(CASES))
def model(request, rows):
    """A spec, a table simulated from it, and the parameters."""
    spec = describe(request.param)
    truth = {"gate_coef": GATE, coef(spec): LINES}
    return spec, bm.simulate(spec, rows, truth, random_seed=1), truth


@pytest.fixture(scope="module")
def fit(model):
    spec, table, truth = model
    return fake_fit(spec, table, truth, draws=60, spread=0.1)


def laws(spec, table, params):
    """Frozen distributions of SciPy by expert."""
    trials = {"n": table["n"].to_numpy(), 7: 7, None: 1}[dict(spec.experts[0].known).get("trials")]
    for line in params[coef(spec)]:
        eta = line[0] + line[1] * table["x"].to_numpy()
        if spec.experts[0].family.kind == "poisson":
            yield stats.poisson(np.exp(eta))
        else:
            yield stats.binom(trials, special.expit(eta))


def log_weights(table, gate):
    logits = np.column_stack([np.ones(len(table)), table["x"]]) @ gate.T
    return logits - special.logsumexp(logits, axis=1, keepdims=True)


def test_simulated_responses_are_whole_numbers_in_bounds(model):
    spec, table, _ = model
    assert table["y"].dtype == np.int64
    assert table["y"].min() >= 0
    if spec.experts[0].family.kind != "poisson":
        bound = {"n": table["n"], 7: 7, None: 1}[dict(spec.experts[0].known).get("trials")]
        assert (table["y"] <= bound).all()
    again = bm.simulate(spec, table, random_seed=2)  # from the prior
    spec.design(again)


def test_descriptions_round_trip(model):
    spec, _, _ = model
    assert bm.MixtureOfExperts.from_dict(spec.to_dict()) == spec
    assert eval(repr(spec.experts[0]), {"Expert": bm.Expert}) == spec.experts[0]


def test_log_likelihood_is_scipys_in_the_graph_and_in_numpy(model):
    spec, table, truth = model
    graph = bm.build(spec, table)
    parts = [law.logpmf(table["y"]) for law in laws(spec, table, truth)]
    expected = special.logsumexp(log_weights(table, GATE) + np.column_stack(parts), axis=1)
    own = evaluate(spec, {k: v[None] for k, v in truth.items()}, graph.design.rows)
    np.testing.assert_allclose(own.log_density(graph.design.response)[0], expected, rtol=1e-10)
    logp = graph.model.compile_fn(graph.model.logp(vars=graph.model["y"]), mode=QUICK)
    assert logp(graph.unconstrained(truth)) == pytest.approx(expected.sum(), rel=1e-10)


def test_graph_draws_whole_numbers_and_holds_trials_as_data(model):
    spec, table, _ = model
    model = bm.build(spec, table).model
    if "n" in dict(spec.experts[0].known).values():
        np.testing.assert_array_equal(model["trials"].get_value(), table["n"])
        assert model.named_vars_to_dims["trials"] == ("obs_id",)
    assert "trials_term" not in model.coords
    with model:
        drawn = pm.sample_prior_predictive(20, random_seed=0, compile_kwargs={"mode": QUICK})
    y = drawn["prior_predictive"]["y"].values
    assert y.dtype.kind == "i"
    if spec.experts[0].family.kind == "bernoulli":
        assert set(np.unique(y)) == {0, 1}
    if spec.experts[0].known == (("trials", "n"),):
        assert (y <= table["n"].to_numpy()).all()


@pytest.mark.parametrize("case", list(CASES))
def test_one_expert_is_the_glm(case, rows):
    spec = describe(case, experts=1)
    table = bm.simulate(spec, rows, {coef(spec): LINES[:1]}, random_seed=3)
    y, features = table["y"].to_numpy(), sm.add_constant(table["x"].to_numpy())
    trials = {"n": table["n"].to_numpy(), 7: 7}.get(CASES[case].get("trials"), 1)
    if case == "poisson":
        glm = sm.GLM(y, features, family=sm.families.Poisson()).fit(tol=1e-12)
    else:
        outcomes = np.column_stack([y, trials - y])
        glm = sm.GLM(outcomes, features, family=sm.families.Binomial()).fit(tol=1e-12)
    fit = bm.fit(spec, table, method="em", objective="likelihood", random_seed=1)
    np.testing.assert_allclose(fit.idata["posterior"][coef(spec)][0, 0, 0], glm.params, rtol=1e-6)
    design = spec.design(table)
    at = evaluate(spec, {coef(spec): glm.params[None, None]}, design.rows)
    assert at.log_density(design.response).sum() == pytest.approx(glm.llf, rel=1e-10)
    found = spec.structure.blocks[0].family.derivatives(design.response, at.params[0])
    np.testing.assert_allclose(found.score[0][0, 0] @ features, 0, atol=1e-6)
    information = (features.T * found.expected_information[0][0, 0]) @ features
    np.testing.assert_allclose(np.linalg.inv(information), glm.cov_params(), rtol=1e-6)


def brute_force(fit, table):
    """Predictive probabilities (obs, whole number), by draws and experts."""
    spec = fit.spec
    posterior = fit.idata["posterior"].to_dataset().stack(s=("chain", "draw")).transpose("s", ...)
    whole, total = np.arange(400), 0.0
    for j in range(posterior.sizes["s"]):
        draw = {name: posterior[name].values[j] for name in spec.variables}
        weights = np.exp(log_weights(table, draw["gate_coef"]))
        for k, law in enumerate(laws(spec, table, draw)):
            total = total + weights[:, [k]] * law.pmf(whole[:, None]).T
    return whole, total / posterior.sizes["s"]


def test_predictions_are_brute_forces(fit, rows):
    predictive = bm.predict(fit)
    whole, mass = brute_force(fit, rows)
    np.testing.assert_allclose(predictive.pdf(whole, grid=True), mass, atol=1e-12)
    cdf = mass.cumsum(axis=1)
    np.testing.assert_allclose(predictive.cdf(whole, grid=True), cdf, atol=1e-12)
    np.testing.assert_allclose(predictive.cdf(whole + 0.7, grid=True), cdf, atol=1e-12)
    assert (predictive.pdf(whole[:5] + 0.5, grid=True) == 0).all()
    assert (predictive.logpdf([-1.0, 2.5], grid=True) == -np.inf).all()
    mean = mass @ whole
    np.testing.assert_allclose(predictive.mean(), mean, rtol=1e-9)
    sd = np.sqrt(mass @ whole**2 - mean**2)
    np.testing.assert_allclose(predictive.sd(), sd, rtol=1e-8)
    levels = [1e-9, 0.01, 0.05, 0.3, 0.5, 0.8, 0.95, 0.999, 1 - 1e-9]
    expected = np.stack([(cdf >= level - 1e-12).argmax(axis=1) for level in levels], axis=1)
    np.testing.assert_array_equal(predictive.quantile(levels), expected)
    bounds = predictive.interval(0.8).values
    inside = [mass[i, int(a) : int(b) + 1].sum() for i, (a, b) in enumerate(bounds)]
    assert min(inside) >= 0.8


def test_samples_are_whole_and_have_the_probabilities(fit):
    predictive = bm.predict(fit, fit.design.columns.iloc[:3])
    drawn = predictive.sample(40_000, random_seed=1)
    assert drawn.dtype == np.int64
    for value in range(4):
        share = (drawn == value).mean("sample")
        np.testing.assert_allclose(share, predictive.pdf(value), atol=4 * np.sqrt(0.25 / 40_000))


@pytest.mark.parametrize("rate", [1e-6, 0.3, 40.0, 3e5, 1e12])
def test_quantiles_of_every_size_of_rate(rate):
    spec = describe("poisson", experts=1)
    table = pd.DataFrame({"x": [0.0, 1, 2], "y": [0, 1, 2]})
    line = {"mu_coef": [[np.log(rate), 0.0]]}
    predictive = bm.predict(fake_fit(spec, table, line, draws=2, spread=0.0))
    levels = [1e-9, 0.1, 0.5, 0.9, 1 - 1e-9]
    found = predictive.quantile(levels)[0]
    if rate < 1e6:
        np.testing.assert_array_equal(found, stats.poisson(rate).ppf(levels))
    else:  # where SciPy gives NaN
        normal = stats.norm(rate, np.sqrt(rate)).ppf(levels[1:-1])
        np.testing.assert_allclose(found[1:-1], normal, atol=10, rtol=0)


def test_new_rows_need_their_trials(rows):
    spec = describe("binomial")
    truth = {"gate_coef": GATE, "p_coef": LINES}
    fit = fake_fit(spec, bm.simulate(spec, rows, truth, random_seed=1), truth)
    new = pd.DataFrame({"x": [0.0, 0.0], "n": [10, 20]})
    mean = bm.predict(fit, new).mean()
    assert float(mean[1]) == pytest.approx(2 * float(mean[0]))
    for n, message in (
        ([10, 2.5], r"number of trials 'n' is 2.5 at row 1; it must be a whole number"),
        ([-1, 3], "number of trials 'n' is -1 at row 0"),
        (["a", "b"], "Column 'n' holds categories here"),
    ):
        with pytest.raises(DataError, match=message):
            bm.predict(fit, new.assign(n=n)).mean()
    with pytest.raises(DataError, match="Unknown column 'n'"):
        bm.predict(fit, new[["x"]])
    # the number of trials is no feature: pictures hold it at a whole number
    held = grid_along(fit.design, "x", whole=fit.spec.structure.row_count_formulas).fixed["n"]
    assert held == round(fit.design.columns["n"].median())
    assert grid_along(fit.design, "n", whole=fit.spec.structure.row_count_formulas).rows[
        "n"
    ].tolist() == [*range(1, 25)]
    bm.plot_predictive(fit)


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        ({}, SpecError, "needs the trials of each row: give trials='n'"),
        ({"trials": 0}, SpecError, "whole number of at least 1; it is 0"),
        ({"trials": True}, SpecError, "it is True"),
        ({"trials": 2.5}, SpecError, "it is 2.5"),
        ({"trials": "n + x"}, SpecError, r"one expression, such as 'n' or 'I\(a \+ b\)'"),
        ({"trials": "the n"}, SpecError, "in backticks if its name has spaces"),
        ({"trial": "n"}, SpecError, "'trial'. Did you mean 'trials'"),
        ({"trials": "N"}, DataError, "Unknown column 'N'. Did you mean 'n'"),
        ({"trials": "x"}, DataError, "number of trials 'x' is .* at row 0"),
        ({"trials": "word"}, DataError, "the column 'word' holds categories, such as 'a'"),
        ({"trials": "C(n)"}, DataError, r"must be one column; 'C\(n\)' makes 2"),
        ({"trials": 1}, DataError, "'y' is 2 at row 2 of 1 trials"),
        ({"trials": "y"}, SpecError, "cannot be its own feature"),
    ],
)
def test_trials_that_cannot_be(own, error, message):
    table = pd.DataFrame(
        {"x": [0.5, 1, 2.5, 3], "n": [4, 4, 5, 5], "y": [0, 1, 2, 3], "word": list("abab")}
    )
    with pytest.raises(error, match=message):
        bm.mixture_of_experts("y ~ x", family="binomial", **own).design(table)


def test_trials_by_expression_and_by_expert(rows):
    table = rows.assign(y=1, miss=rows["n"] - 1)
    table.loc[::2, "y"] = 0
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [
            bm.Expert("y ~ x", "binomial", "a", trials="I(miss + n)"),
            bm.Expert("y ~ 1", "poisson", "b"),
            bm.Expert("y ~ x", "binomial", "c", trials="`n`"),
        ],
    )
    design = spec.design(table)
    assert set(spec.variables) == {"gate_coef", "a_p_coef", "b_mu_coef", "c_p_coef"}
    found = [block.known(design.rows.matrices) for block in spec.structure.blocks]
    np.testing.assert_array_equal(found[0]["trials"], table["miss"] + table["n"])
    np.testing.assert_array_equal(found[2]["trials"], table["n"])
    assert found[1] == {}
    graph = bm.build(spec, design)
    assert {"a_trials", "c_trials"} <= set(graph.model.named_vars)


def test_truth_values_are_responses(rows):
    table = rows.assign(y=rows["x"] > 0)
    design = bm.mixture_of_experts("y ~ x", family="bernoulli").design(table)
    np.testing.assert_array_equal(design.response, table["y"].astype(float))


def test_dropped_rows_keep_their_positions_in_errors(rows):
    table = rows.assign(y=1.0)
    table.loc[0, "x"] = np.nan
    table.loc[5, "y"] = 1.5
    spec = bm.mixture_of_experts("y ~ x", family="poisson")
    with (
        pytest.warns(bm.MissingRowsWarning),
        pytest.raises(DataError, match=r"'y' is 1\.5 at row 5"),
    ):
        spec.design(table, missing="drop")


def test_discrete_and_continuous_experts_do_not_mix():
    with pytest.raises(SpecError, match=r"probabilities of 'poisson' .* density of 'normal'"):
        bm.MixtureOfExperts(
            bm.gates.Softmax("~ x"), [bm.Expert("y ~ x"), bm.Expert("y ~ x", family="poisson")]
        )


def test_fits_are_saved_and_loaded(fit, tmp_path):
    back = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert back.spec == fit.spec
    assert bm.predict(back).quantile(0.3).equals(bm.predict(fit).quantile(0.3))


@pytest.mark.parametrize("plot", [bm.plot_predictive, bm.plot_experts, bm.plot_gate])
def test_pictures(fit, plot):
    plot(fit, "x")


def test_nuts_finds_the_planted_experts(rows):
    spec = describe("poisson")
    truth = {"gate_coef": GATE, "mu_coef": np.array([[0.3, 0.6], [3.0, -0.3]])}
    table = bm.simulate(spec, pd.concat([rows, -rows]), truth, random_seed=5)
    fit = bm.fit(spec, table, random_seed=1, progressbar=False)
    posterior = fit.idata["posterior"]
    for name, true in truth.items():
        draws = posterior[name]
        off = (draws.mean(("chain", "draw")) - true) / draws.std(("chain", "draw"))
        assert np.abs(off).max() < 4
    with bm.build(spec, table).model:
        drawn = pm.sample_posterior_predictive(
            fit.idata, random_seed=0, progressbar=False, compile_kwargs={"mode": QUICK}
        )
    y = drawn["posterior_predictive"]["y"]
    np.testing.assert_allclose(y.mean(), table["y"].mean(), rtol=0.05)

"""EM against peers, PyMC, closed forms and itself; what it reports, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.em import multistart
from tests.support.graphs import internal_graph

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "peers.json").read_text(encoding="utf-8"))["cases"]
QUICK = "FAST_COMPILE"


def table_of(name):
    return bm.load_dataset("tone") if name == "tone" else pd.read_csv(DATA / f"{name}.csv")


def described(case):
    return bm.mixture_of_experts(
        case["formula"], gate=case["gate"], experts=case["experts"], family=case["family"]
    )


def one(fit, name):
    return fit.idata["posterior"][name].values[0, 0]


@pytest.fixture(scope="module")
def tone_mode(tone, tone_spec):
    return bm.fit(tone_spec, tone, method="em", random_seed=1)


@pytest.fixture(scope="module")
def tone_ml(tone, tone_spec):
    return bm.fit(tone_spec, tone, method="em", objective="likelihood", random_seed=1)


# --- what peers found ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c['data']}-{c['formula']}-{c['gate']}-{c['experts']}"
)
def test_default_restarts_reach_what_peers_found(case):
    settings = {"restarts": case["restarts"]} if "restarts" in case else {}
    spec, table = described(case), table_of(case["data"])
    fit = bm.fit(spec, table, method="em", objective="likelihood", random_seed=1, **settings)
    figures = bm.information(fit)
    assert figures["log_likelihood"] >= case["loglik"] - 1e-3
    assert figures["converged"] != case.get("no_maximum", False)
    if "bic" in case:
        assert figures["bic"] == pytest.approx(case["bic"], abs=2e-3)
    if "coef" not in case and "sigma" not in case:
        return
    posterior = {n: one(fit, n) for n in ("mu_coef", "sigma", "gate_coef")}
    order = np.argsort(posterior["mu_coef"][:, 1])[::-1] if "coef" in case else np.arange(2)
    for name, theirs in (("mu_coef", "coef"), ("sigma", "sigma")):
        if theirs in case:
            np.testing.assert_allclose(posterior[name][order], case[theirs], rtol=1e-3, atol=1e-5)
    if "gate_logit" in case:
        gate = posterior["gate_coef"][order]
        np.testing.assert_allclose(gate[0] - gate[1], case["gate_logit"], rtol=1e-3)


def test_a_separated_gate_is_named_and_not_called_converged():
    spec, table = bm.mixture_of_experts("AnnualAnomaly ~ Year"), table_of("tempanomalies")
    with pytest.warns(bm.ConvergenceWarning, match="Separated: gate_coef runs away"):
        fit = bm.fit(spec, table, method="em", objective="likelihood", random_seed=1)
    best = bm.modes(fit).iloc[0]
    assert best["separated"]
    assert not best["converged"]
    assert best["objective"] == pytest.approx(102.943, abs=1e-3)  # the supremum
    assert np.isnan(fit.idata["standard_error"]["gate_coef"]).all()
    assert np.isfinite(fit.idata["standard_error"]["mu_coef"]).all()
    assert not bm.diagnose(fit).ok
    posterior = bm.fit(spec, table, method="em", random_seed=1)
    assert bm.information(posterior)["converged"]
    assert bm.diagnose(posterior).ok


def test_a_spike_is_listed_and_not_the_answer(tone, tone_spec):
    """Eight rows lie exactly on a line: the likelihood has no bound there."""
    exact = np.isclose(tone["tuned"], tone["stretchratio"])
    assert exact.sum() == 8
    start = np.column_stack([~exact, exact]).astype(float)
    with pytest.warns(bm.ConvergenceWarning, match="Singular"):
        fit = bm.fit(tone_spec, tone, method="em", objective="likelihood", start=start)
    spike = bm.modes(fit).iloc[0]
    assert spike["singular"]
    assert not spike["converged"]
    assert one(fit, "sigma").min() <= 1e-3 * np.std(tone["tuned"])
    assert np.isnan(fit.idata["standard_error"]["sigma"]).all()


# --- the objective is PyMC's, and this is its maximum -------------------------------------------


def mixed():
    spec = bm.MixtureOfExperts(
        gate=bm.gates.Softmax("~ x"),
        experts=[
            bm.Expert("y ~ x", family="normal", name="line", sigma="~ x"),
            bm.Expert("y ~ x + I(x**2)", family="studentt", name="curve"),
            bm.Expert("y ~ x", family="normal", name="line", sigma="~ x"),
        ],
        priors={"gate_coef": bm.Prior("Normal", sigma=1.5)},
    )
    rng = np.random.default_rng(5)
    x = rng.uniform(-2, 2, 300)
    y = np.select([x < -0.7, x < 0.7], [1 + 2 * x, x**2], -1 - x) + rng.normal(0, 0.2, 300)
    return spec, pd.DataFrame({"x": x, "y": y})


MODELS = {
    "tone": lambda: (bm.mixture_of_experts("tuned ~ stretchratio"), bm.load_dataset("tone")),
    "mixed": mixed,
    "poisson": lambda: (
        bm.mixture_of_experts("Patents ~ lgRD", gate="~ RDS", experts=3, family="poisson"),
        table_of("patent"),
    ),
    "binomial": lambda: (
        bm.mixture_of_experts("yb ~ x", gate="~ 1", family="binomial", trials=4),
        table_of("NPreg"),
    ),
}


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", list(MODELS))
def test_the_mode_is_that_of_the_pymc_model(name):
    """The same log density, a vanishing gradient, and nothing better for the graph's L-BFGS."""
    spec, table = MODELS[name]()
    fit = bm.fit(spec, table, method="em", random_seed=1)
    figures = fit.idata["fit"]
    graph = internal_graph(spec, table)
    values = {name: one(fit, name) for name in spec.variables}
    point = graph.unconstrained(values)
    logp = graph.model.compile_logp(jacobian=False, mode=QUICK)(point)
    assert float(figures["objective"]) == pytest.approx(float(logp), rel=1e-8)
    gradient = graph.model.compile_dlogp(jacobian=False, mode=QUICK)(point)
    assert np.linalg.norm(gradient) < 1e-5 * (1 + abs(logp))
    assert bool(figures["converged"])
    other = bm.fit(spec, table, method="map", random_seed=1, restarts=3)
    assert float(other.idata["fit"]["objective"]) <= float(logp) + 1e-6
    if float(other.idata["fit"]["objective"]) > float(logp) - 1e-6:
        for variable in spec.variables:
            scale = np.abs(one(fit, variable)).max()
            close = {"rtol": 1e-5, "atol": 1e-5 * scale + 1e-6}
            np.testing.assert_allclose(one(other, variable), one(fit, variable), **close)
            ours, theirs = (f.idata["standard_error"][variable] for f in (fit, other))
            np.testing.assert_allclose(theirs, ours, rtol=1e-3)


def test_gate_and_responsibilities_agree_at_a_likelihood_maximum(tone_ml):
    weights = bm.predict(tone_ml).weights()
    allocated = bm.responsibilities(tone_ml)[0, 0]
    x = tone_ml.design.rows.matrices["gate"].values
    np.testing.assert_allclose(weights.mean("obs_id"), allocated.mean("obs_id"), atol=1e-6)
    np.testing.assert_allclose(x.T @ weights.values, x.T @ allocated.values, atol=1e-4)


@pytest.mark.parametrize("moved", [(3.0, -7.0, 0.01, 5.0), (-2e-4, 0.3, 1e4, -2e4)])
def test_equivariance(tone, tone_ml, moved):
    """y -> a y + b and x -> c x + d change the coefficients accordingly."""
    a, b, c, d = moved
    table = pd.DataFrame({"x": c * tone["stretchratio"] + d, "y": a * tone["tuned"] + b})
    fit = bm.fit(
        bm.mixture_of_experts("y ~ x"), table, method="em", objective="likelihood", random_seed=1
    )
    mu, gate, sigma = (one(tone_ml, n) for n in ("mu_coef", "gate_coef", "sigma"))
    if a < 0:  # the order of the experts turns round
        mu, gate, sigma = mu[::-1], gate[::-1], sigma[::-1]
    slope = a * mu[:, 1] / c
    close = {"rtol": 1e-6}
    np.testing.assert_allclose(one(fit, "mu_coef")[:, 1], slope, **close)
    np.testing.assert_allclose(one(fit, "mu_coef")[:, 0], a * mu[:, 0] + b - slope * d, **close)
    np.testing.assert_allclose(one(fit, "sigma"), abs(a) * sigma, **close)
    np.testing.assert_allclose(one(fit, "gate_coef")[:, 1], gate[:, 1] / c, **close)
    shift = gate[:, 0] - gate[:, 1] / c * d
    np.testing.assert_allclose(one(fit, "gate_coef")[:, 0], shift, **close)


# --- one expert is a regression -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "response", "oracle"),
    [
        ("normal", "yn", sm.families.Gaussian()),
        ("poisson", "yp", sm.families.Poisson()),
        ("binomial", "yb", sm.families.Binomial()),
    ],
)
def test_one_expert_is_a_glm(family, response, oracle):
    table = table_of("NPreg")
    own = {"trials": 4} if family == "binomial" else {}
    spec = bm.mixture_of_experts(f"{response} ~ x", experts=1, family=family, **own)
    fit = bm.fit(spec, table, method="em", objective="likelihood")
    y = table[response].to_numpy(dtype=float)
    if family == "binomial":
        y = np.column_stack([y, 4 - y])
    glm = sm.GLM(y, sm.add_constant(table["x"]), family=oracle).fit(scale=1.0)
    coef = spec.variables[0]
    np.testing.assert_allclose(one(fit, coef)[0], glm.params, rtol=1e-6)
    scale = float(one(fit, "sigma")[0]) if family == "normal" else 1.0
    errors = fit.idata["standard_error"][coef].values[0]
    np.testing.assert_allclose(errors, scale * glm.bse, rtol=1e-6)
    if family == "normal":
        assert scale == pytest.approx(np.sqrt(np.mean(glm.resid_response**2)), rel=1e-6)


# --- what it reports -----------------------------------------------------------------------------


def test_same_seed_same_fit_and_threads_change_nothing(tone, tone_spec, tone_mode):
    for cores in (1, 2):
        again = bm.fit(tone_spec, tone, method="em", random_seed=1, cores=cores)
        for group in ("posterior", "fit", "modes", "standard_error"):
            assert again.idata[group].to_dataset().identical(tone_mode.idata[group].to_dataset())


def test_too_few_iterations_are_not_convergence(tone, tone_spec):
    with pytest.warns(bm.ConvergenceWarning, match="raise max_iter"):
        fit = bm.fit(tone_spec, tone, method="em", max_iter=1)
    assert not bm.information(fit)["converged"]


def test_a_saddle_is_not_convergence(tone, tone_spec):
    with pytest.warns(bm.ConvergenceWarning, match="use other starts"):
        fit = bm.fit(tone_spec, tone, method="em", start=np.ones((150, 2)), max_iter=200)
    assert not bm.information(fit)["converged"]


def test_the_path_never_falls(tone_mode):
    path = tone_mode.idata["fit"]["path"].values
    assert (np.diff(path) >= 0).all()
    assert path[-1] == float(tone_mode.idata["fit"]["objective"])


def test_modes_are_distinct_and_counted(tone):
    fit = bm.fit(
        bm.mixture_of_experts("tuned ~ stretchratio", experts=4),
        tone,
        method="em",
        restarts=24,
        random_seed=1,
    )
    table = bm.modes(fit)
    assert table["hits"].sum() == 24
    assert len(table) > 1
    assert (np.diff(table["objective"]) <= 0).all()
    assert table["answer"].tolist() == [True] + [False] * (len(table) - 1)
    shares = table.filter(like="share")
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(bm.usage(fit)[0, 0], shares.iloc[0], atol=1e-10)


def test_information_criteria(tone_ml):
    figures = bm.information(tone_ml)
    log_density = bm.log_density(tone_ml).values.sum()
    allocated = bm.responsibilities(tone_ml)[0, 0]
    assert figures["log_likelihood"] == pytest.approx(log_density, rel=1e-10)
    assert figures["n_parameters"] == 8
    assert figures["n_obs"] == 150
    assert figures["aic"] == pytest.approx(16 - 2 * log_density)
    assert figures["bic"] == pytest.approx(8 * np.log(150) - 2 * log_density)
    price = -2 * np.log(allocated.max("expert")).sum()
    assert figures["icl"] == pytest.approx(figures["bic"] + float(price))


def test_summary_and_diagnosis(tone_mode):
    table = bm.summary(tone_mode, ci_prob=0.95, round_to="none")
    assert list(table.columns) == ["estimate", "se", "ci95_lb", "ci95_ub"]
    slope = table.loc["mu_coef[1, stretchratio]"]
    assert slope["ci95_ub"] - slope["estimate"] == pytest.approx(1.959964 * slope["se"], rel=1e-6)
    sigma = table.loc["sigma[0]"]
    assert sigma["ci95_lb"] * sigma["ci95_ub"] == pytest.approx(sigma["estimate"] ** 2)
    assert bm.summary(tone_mode, "sigma", round_to="2g")["estimate"].tolist() == [0.047, 0.14]
    verdict = bm.diagnose(tone_mode)
    assert verdict.ok
    assert "30 of 30 starts" in verdict.verdict
    assert list(verdict.usage.columns) == ["mean"]
    assert "mode of the posterior" in repr(tone_mode)
    with pytest.raises(bm.SpecError, match="Unknown variable 'mu_raw'"):
        bm.summary(tone_mode, "mu_raw")
    with pytest.raises(bm.SpecError, match="ci_kind"):
        bm.summary(tone_mode, ci_kind="junk")
    with pytest.raises(bm.SpecError, match="nothing to align"):
        bm.relabel(tone_mode)


def test_the_mode_predicts_and_comes_back_from_a_file(tone_mode, tmp_path):
    back = bm.load(bm.save(tone_mode, tmp_path / "mode.nc"))
    rows = {"stretchratio": [1.5, 2.5]}
    for fit in (tone_mode, back):
        np.testing.assert_allclose(
            bm.predict(fit, rows).interval(0.9), bm.predict(tone_mode, rows).interval(0.9)
        )
    assert bm.predict(back, rows).sample(5, random_seed=1).shape == (5, 2)
    pd.testing.assert_frame_equal(bm.modes(back), bm.modes(tone_mode))
    pd.testing.assert_frame_equal(bm.summary(back), bm.summary(tone_mode))
    assert names.LOG_LIKELIHOOD not in back.idata.children


COLD = """
import sys
sys.modules |= dict.fromkeys(("pymc", "pytensor", "nutpie"))  # to import one is an error
import bayes_moe as bm
spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2)
tone = bm.load_dataset("tone")
for method in ("em", "laplace"):
    fit = bm.fit(spec, tone, method=method, random_seed=1)
    print(bm.summary(fit), bm.modes(fit), bm.information(fit), bm.diagnose(fit))
    if method == "em":
        heavy = {"arviz_stats", "scipy.stats", "scipy.optimize", "matplotlib"} & {*sys.modules}
        assert not heavy, heavy
    fit = bm.load(bm.save(fit, f"{sys.argv[1]}/{method}.nc"))
    predictive = bm.predict(fit, tone[:5])
    print(predictive.mean(), predictive.sd(), predictive.interval(0.9), predictive.weights())
    print(predictive.cdf(2.0), predictive.sample(3, random_seed=1), predictive.modes())
    print(bm.log_density(fit, tone), bm.responsibilities(fit, tone), bm.node_probabilities(fit))
assert "numba" not in sys.modules
"""


def test_em_laplace_and_predictions_need_no_pymc(tmp_path):
    subprocess.run([sys.executable, "-c", COLD, tmp_path], check=True)


# --- where it starts -----------------------------------------------------------------------------


def test_given_starts(tone, tone_spec, tone_mode):
    best = float(tone_mode.idata["fit"]["objective"])
    parameters = {name: one(tone_mode, name) for name in tone_spec.variables}
    draw = tone_mode.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    upside_down = {name: v[::-1] for name, v in parameters.items()}
    for start in (parameters, draw, upside_down, bm.responsibilities(tone_mode)):
        fit = bm.fit(tone_spec, tone, method="em", start=start)
        assert float(fit.idata["fit"]["objective"]) == pytest.approx(best, abs=1e-8)
        assert int(fit.idata["fit"]["restarts"]) == 1
        np.testing.assert_allclose(one(fit, "mu_coef"), parameters["mu_coef"], atol=1e-6)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (np.ones((3, 2)), r"shape \(rows, experts\) = \(150, 2\)"),
        (np.zeros((150, 2)), "Row 0 of `start` has no responsibility"),
        (np.full((150, 2), np.nan), "finite"),
        ("kmeans", "responsibilities or parameters"),
        ({"mu_coef": np.zeros((2, 2))}, "lacks 'gate_coef'"),
    ],
)
def test_bad_starts(tone, tone_spec, start, message):
    with pytest.raises((bm.DataError, bm.SpecError), match=message):
        bm.fit(tone_spec, tone, method="em", start=start)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "posterier"}, "Did you mean 'posterior'"),
        ({"restarts": 0}, "`restarts` must be a whole number >= 1"),
        ({"max_iter": 1.5}, "`max_iter`"),
        ({"tol": 0}, "`tol` must lie between 0 and 1"),
        ({"cores": 0}, "`cores`"),
        ({"restart": 3}, "Did you mean 'restarts'"),
    ],
)
def test_bad_settings(tone, tone_spec, settings, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(tone_spec, tone, method="em", **settings)


def test_a_record_of_settings_serves_as_method(tone, tone_spec, tone_mode):
    from bayes_moe.inference.em import EM

    fit = bm.fit(tone_spec, tone, EM(restarts=30), random_seed=1)
    assert fit.idata.attrs["method"] == "em"
    assert bm.modes(fit).equals(bm.modes(tone_mode))
    with pytest.raises(bm.SpecError, match="inside the method"):
        bm.fit(tone_spec, tone, EM(), restarts=3)


def test_a_long_table_is_climbed_from_a_part(monkeypatch, planted):
    """The same mode as from all rows."""
    spec, table, _, _ = planted
    whole = bm.fit(spec, table, method="em", random_seed=1)
    monkeypatch.setattr(multistart, "SUBSAMPLE", 500)
    part = bm.fit(spec, table, method="em", random_seed=1)
    for name in spec.variables:
        np.testing.assert_allclose(one(part, name), one(whole, name), atol=1e-6)
    assert bm.information(part)["converged"]
    assert int(part.idata["fit"]["restarts"]) == 30


def test_modes_and_information_of_a_sampler(tone_fit):
    table = bm.modes(tone_fit)
    assert table["mass"].sum() == pytest.approx(1)
    stats = tone_fit.idata["sample_stats"]
    assert stats["start_mode"].dims == ("chain",)
    assert (stats["start_mode"] == 0).all()
    assert (stats["end_mode"] == 0).all()
    with pytest.raises(bm.SpecError, match=r"az\.loo"):
        bm.information(tone_fit)

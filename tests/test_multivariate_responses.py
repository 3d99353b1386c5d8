"""Models of several responses, as a user meets them: fits, predictions, files, graphs, errors."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pytensor.compile.mode import Mode
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

import bayes_moe as bm
from bayes_moe.em.m_step import sweep_step
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.starting_points import equal_experts
from bayes_moe.em.vector_layout import parameter_vector
from tests.support import contracts

FORMULA = "cbind(length, width, petal) ~ petal_width"
NAMES = ["length", "width", "petal"]
QUICK = {
    "progressbar": False,
    "compile_kwargs": {"mode": Mode(linker="py", optimizer="fast_compile")},
}


@pytest.fixture(scope="module")
def iris():
    table = load_iris(as_frame=True).frame.iloc[:, :4]
    return table.set_axis([*NAMES, "petal_width"], axis=1)


@pytest.fixture(scope="module")
def spec():
    return bm.mixture_of_experts(FORMULA, experts=2, family="mvnormal")


@pytest.fixture(scope="module")
def fit(spec, iris):
    return bm.fit(spec, iris, "laplace", random_seed=1, draws=25, chains=4)


# --- fits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "experts"), [(NAMES[:2], 2), ([*NAMES, "petal_width"], 2)])
def test_a_mixture_without_features_is_scikit_learn_s(iris, columns, experts):
    spec = bm.mixture_of_experts(
        f"cbind({', '.join(columns)}) ~ 1", experts=experts, gate="~ 1", family="mvnormal"
    )
    fit = bm.fit(spec, iris, "em", objective="likelihood", random_seed=0, restarts=15)
    other = GaussianMixture(
        experts, n_init=10, random_state=0, reg_covar=1e-10, tol=1e-9, max_iter=1000
    ).fit(iris[columns])
    found = float(bm.log_density(fit).sum())
    assert found == pytest.approx(other.score(iris[columns]) * len(iris), abs=1e-4)
    means = fit.idata.posterior[f"mu_{columns[0]}_coef"].values.ravel()
    np.testing.assert_allclose(np.sort(means), np.sort(other.means_[:, 0]), rtol=1e-4)
    params = bm.predict(fit, iris.head(1))._mixtures.map(
        lambda m, _: m.blocks[0].family.covariance(m.params[0])[0]
    )
    order = np.argsort(other.means_[:, 0]), np.argsort(means)
    np.testing.assert_allclose(
        params[order[1], 0], other.covariances_[order[0]], rtol=2e-3, atol=1e-4
    )


def test_the_best_mode_is_at_least_mclust_s(iris):
    """R's mclust 6.0.0, ``Mclust(iris[, 1:4], G = 3, modelNames = "VVV")``: -180.1858."""
    spec = bm.mixture_of_experts(
        "cbind(length, width, petal, petal_width) ~ 1", experts=3, gate="~ 1", family="mvnormal"
    )
    fit = bm.fit(spec, iris, "em", objective="likelihood", random_seed=0, restarts=10)
    assert float(bm.log_density(fit).sum()) > -180.1859
    assert not fit.idata["fit"]["singular"]


def test_a_sweep_of_one_expert_is_the_maximum_in_closed_form(iris):
    """Least squares and the covariance of the residuals, without iterations."""
    spec = bm.mixture_of_experts(FORMULA, experts=1, family="mvnormal")
    vector = parameter_vector(spec, spec.design(iris), likelihood=True)
    objective = Objective(vector)
    theta = equal_experts(objective, 1)
    theta += sweep_step(objective, theta, objective.evaluate(theta, Curvature.COMPLETE))
    evaluation = objective.evaluate(theta, Curvature.COMPLETE)
    assert np.abs(evaluation.gradient).max() < 1e-6


def test_one_expert_is_multivariate_regression(iris):
    """Least squares of each response, and the covariance of the residuals."""
    spec = bm.mixture_of_experts(FORMULA, experts=1, family="mvnormal")
    fit = bm.fit(spec, iris, "em", objective="likelihood", random_seed=0)
    x = np.column_stack([np.ones(len(iris)), iris["petal_width"]])
    y = iris[NAMES].to_numpy()
    coef = np.linalg.lstsq(x, y, rcond=None)[0]
    for j, name in enumerate(NAMES):
        found = fit.idata.posterior[f"mu_{name}_coef"].values.ravel()
        np.testing.assert_allclose(found, coef[:, j], rtol=1e-6)
    residual = y - x @ coef
    covariance = residual.T @ residual / len(y)
    law = stats.multivariate_normal(np.zeros(3), covariance)
    assert float(bm.log_density(fit).sum()) == pytest.approx(law.logpdf(residual).sum(), abs=1e-6)


def test_each_mean_may_have_a_formula_of_its_own(iris):
    spec = bm.mixture_of_experts(
        "cbind(length, width) ~ petal", experts=1, family="mvnormal", mu_width="~ 1"
    )
    fit = bm.fit(spec, iris, "em", objective="likelihood", random_seed=0)
    assert fit.idata.posterior["mu_width_coef"].sizes["mu_width_term"] == 1
    assert fit.idata.posterior["mu_length_coef"].sizes["mu_length_term"] == 2
    # Seemingly unrelated regressions: the gradient is zero at generalised least squares.
    sigma = [fit.idata.posterior[f"sigma_{n}"].item() for n in ("length", "width")]
    rho = fit.idata.posterior["rho_length_width"].item()
    inverse = np.linalg.inv(
        np.array([[sigma[0] ** 2, rho * sigma[0] * sigma[1]], [0, sigma[1] ** 2]])
        + np.array([[0, 0], [rho * sigma[0] * sigma[1], 0]])
    )
    n = len(iris)
    long = np.zeros((2 * n, 3))
    long[:n, 0], long[:n, 1], long[n:, 2] = 1, iris["petal"], 1
    y = np.concatenate([iris["length"], iris["width"]])
    weight = np.kron(inverse, np.eye(n))
    expected = np.linalg.solve(long.T @ weight @ long, long.T @ weight @ y)
    found = np.concatenate(
        [fit.idata.posterior[f"mu_{name}_coef"].values.ravel() for name in ("length", "width")]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_shared_and_fixed_correlations(iris):
    shared = bm.mixture_of_experts(
        "cbind(length, width) ~ 1",
        experts=2,
        gate="~ petal",
        family="mvnormal",
        shared=("rho_length_width", "sigma_width"),
    )
    fit = bm.fit(shared, iris, "em", random_seed=0)
    assert np.ptp(fit.idata.posterior["rho_length_width"].values) == 0
    assert np.ptp(fit.idata.posterior["sigma_length"].values) > 0
    held = bm.mixture_of_experts(
        "cbind(length, width) ~ petal", experts=1, family="mvnormal", fixed={"rho_length_width": 0}
    )
    fit = bm.fit(held, iris, "em", objective="likelihood", random_seed=0)
    alone = [
        bm.fit(
            bm.mixture_of_experts(f"{name} ~ petal", experts=1),
            iris,
            "em",
            objective="likelihood",
            random_seed=0,
        )
        for name in ("length", "width")
    ]
    expected = sum(float(bm.log_density(one).sum()) for one in alone)
    assert float(bm.log_density(fit).sum()) == pytest.approx(expected, abs=1e-6)


# --- counts of several outcomes -------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes():
    """Counts of three outcomes in some trials, of two kinds of rows."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=250), "z": rng.normal(size=250)})
    rows["n"] = rng.integers(4, 25, len(rows))
    spec = bm.mixture_of_experts(
        "cbind(a, b, c) ~ x", experts=2, gate="~ z", family="multinomial", trials="n"
    )
    truth = {
        "gate_coef": np.array([[0.0, 1.5], [0.0, -1.5]]),
        "p_coef": np.array(
            [[[-1.0, 0.0], [0.5, 1.0]], [[0.5, 1.0], [0.0, -1.0]], [[0.5, -1.0], [-0.5, 0.0]]]
        ),
    }
    return spec, truth, bm.simulate(spec, rows, truth, random_seed=1)


def test_one_expert_of_counts_is_statsmodels_mnlogit(outcomes):
    """Each count of a row is so many rows of one class."""
    import statsmodels.api as sm

    table = outcomes[2]
    spec = bm.mixture_of_experts(
        "cbind(a, b, c) ~ x", experts=1, family="multinomial", trials="I(a + b + c)"
    )
    fit = bm.fit(spec, table, "em", objective="likelihood", random_seed=0)
    counts = table[["a", "b", "c"]].to_numpy()
    outcome = np.concatenate([np.repeat([0, 1, 2], row) for row in counts])
    x = np.repeat(table["x"].to_numpy(), counts.sum(axis=1))
    other = sm.MNLogit(outcome, sm.add_constant(x)).fit(disp=0, tol=1e-12, method="newton")
    coef = fit.idata.posterior["p_coef"].values.reshape(3, 2)
    np.testing.assert_allclose((coef[1:] - coef[0]).T, other.params, atol=1e-5)


def test_a_mixture_of_counts_finds_its_experts(outcomes):
    spec, truth, table = outcomes
    fit = bm.fit(spec, table, "em", random_seed=0)
    assert fit.idata.posterior["p_coef"].dims[2:] == ("outcome", "expert", "p_term")
    assert fit.idata.posterior["outcome"].values.tolist() == ["a", "b", "c"]
    found, expected = fit.idata.posterior["p_coef"].values[0, 0], truth["p_coef"]
    best = min(np.abs(found - expected[:, order]).max() for order in ([0, 1], [1, 0]))
    assert best < 0.25
    joint = bm.predict(fit, table.head(5))
    np.testing.assert_allclose(joint.mean().sum("response"), table["n"].head(5))
    drawn = joint.sample(50, random_seed=0)
    assert drawn.dtype == np.int64
    assert (drawn.sum("response") == table["n"].head(5).to_numpy()).all()
    assert (joint.interval(0.9).values % 1 == 0).all()
    expected = np.log(np.exp(bm.log_density(fit, table.head(5)).values).mean(axis=(0, 1)))
    np.testing.assert_allclose(joint.logpdf(table.head(5)[["a", "b", "c"]]), expected)


def test_the_graph_of_counts_is_the_model(outcomes):
    spec, _, table = outcomes
    contracts.objective_is_the_graphs_log_density(spec, spec.design(table))
    fit = bm.fit(spec, table, "laplace", random_seed=0, draws=3, chains=2)
    with bm.build(spec, table).model:
        found = pm.compute_log_likelihood(fit.idata.copy(), **QUICK)
        drawn = pm.sample_posterior_predictive(fit.idata, random_seed=1, **QUICK)
    np.testing.assert_allclose(
        found.log_likelihood["y"].values, bm.log_density(fit).values, rtol=1e-9, atol=1e-9
    )
    totals = drawn.posterior_predictive["y"].sum("response").values
    assert (totals == table["n"].to_numpy()).all()


def test_bad_counts(outcomes):
    spec, _, table = outcomes
    with pytest.raises(bm.SpecError, match="needs the trials"):
        bm.mixture_of_experts("cbind(a, b) ~ x", experts=1, family="multinomial")
    with pytest.raises(bm.DataError, match=r"'b' .* is -1 at row 3"):
        bm.fit(spec, table.assign(b=table["b"].where(table.index != 3, -1)), "em")
    with pytest.raises(bm.DataError, match=r"'a' .* is 0.5 at row 0"):
        bm.fit(spec, table.assign(a=0.5), "em")
    with pytest.raises(bm.DataError, match="number of trials is"):
        bm.fit(spec, table.assign(n=table["n"] + 1), "em")
    same = table.assign(a=2, b=2, c=2, n=6)
    with pytest.raises(bm.DataError, match="nothing to model"):
        bm.fit(spec, same, "em")


# --- predictions ----------------------------------------------------------------------------------


def test_predictions_have_a_dimension_of_responses(fit, iris):
    rows = iris.iloc[[0, 60, 120]]
    joint = bm.predict(fit, rows)
    assert isinstance(joint, bm.JointPredictive)
    assert joint.mean().dims == ("obs_id", "response")
    assert joint.mean(draws=True).dims == ("chain", "draw", "obs_id", "response")
    assert joint.interval(0.9).dims == ("obs_id", "response", "ci_bound")
    assert joint.quantile([0.1, 0.5]).dims == ("obs_id", "response", "quantile")
    assert joint.expert_means().dims == ("obs_id", "response", "expert")
    assert joint.mean()["response"].values.tolist() == NAMES
    assert joint.mean()["obs_id"].values.tolist() == [0, 60, 120]
    covariance = joint.covariance()
    np.testing.assert_allclose(
        joint.sd().values, np.sqrt(np.einsum("ojj->oj", covariance.values)), rtol=1e-10
    )
    np.testing.assert_allclose(np.einsum("ojj->oj", joint.correlation().values), 1.0)
    drawn = joint.sample(20_000, random_seed=1)
    assert drawn.dims == ("sample", "obs_id", "response")
    for row in range(3):
        scale = np.sqrt(np.diag(covariance.values[row]))
        found = np.cov(drawn.values[:, row].T) / np.outer(scale, scale)
        expected = covariance.values[row] / np.outer(scale, scale)
        np.testing.assert_allclose(found, expected, atol=0.06)
    assert joint.sample(random_seed=1).dims == ("chain", "draw", "obs_id", "response")
    assert "JointPredictive of 'length', 'width', 'petal' for 3 rows" in repr(joint)
    assert "petal" in joint._repr_html_()


def test_the_joint_density_is_that_of_the_rows(fit, iris):
    rows = iris.iloc[::30]
    joint = bm.predict(fit, rows)
    expected = np.log(np.exp(bm.log_density(fit, rows).values).mean(axis=(0, 1)))
    np.testing.assert_allclose(joint.logpdf(rows[NAMES]).values, expected, rtol=1e-10)
    np.testing.assert_allclose(joint.pdf(rows[NAMES].to_numpy()).values, np.exp(expected))
    same = joint.logpdf([5.0, 3.0, 1.5])
    assert same.dims == ("obs_id",)
    with pytest.raises(bm.SpecError, match="one number for each of 3 responses"):
        joint.logpdf([5.0, 3.0])


def test_a_margin_is_the_prediction_of_one_response(fit, iris):
    rows = iris.iloc[[0, 60, 120]]
    joint, margin = bm.predict(fit, rows), bm.predict(bm.margin(fit, "width"), rows)
    np.testing.assert_array_equal(joint.margin("width").mean(), margin.mean())
    np.testing.assert_allclose(joint.mean().sel(response="width"), margin.mean())
    # By draws of all responses, of which the others are ignored.
    drawn = joint.sample(20_000, random_seed=3).sel(response="width").values
    for row in range(3):
        u = margin.cdf(drawn[:500, row], grid=True).values[row]
        assert stats.kstest(u, "uniform").pvalue > 1e-3
    density = bm.log_density(bm.margin(fit, "width"), rows)
    expected = np.log(np.exp(density.values).mean(axis=(0, 1)))
    np.testing.assert_allclose(margin.logpdf(rows["width"]).values, expected, rtol=1e-9)
    assert int(margin.modes()["n_modes"].max()) >= 1
    assert margin.hdr(0.9)["n_intervals"].values.min() >= 1
    shares = bm.responsibilities(bm.margin(fit, "width"), rows)
    np.testing.assert_array_equal(shares, bm.responsibilities(fit, rows))
    extended = bm.extend(bm.margin(fit, "width"), "posterior_predictive", random_seed=1)
    assert extended.idata["posterior_predictive"]["y"].dims[2:] == ("obs_id", "response")
    with pytest.raises(bm.SpecError, match="width"):
        bm.margin(fit, "widht")
    assert "shown for 'width'" in repr(bm.margin(fit, "width"))


def test_only_some_experts_of_a_joint_prediction(fit, iris):
    one = bm.predict(fit, iris.iloc[[0, 120]], top_k=1)
    assert one.weights().values.max(axis=1).tolist() == [1.0, 1.0]
    assert np.isfinite(one.covariance()).all()


def test_plots_are_of_one_response(fit):
    for plot in (bm.plot_experts, bm.plot_predictive, bm.plot_tree):
        with pytest.raises(bm.SpecError, match=r"give it bm.margin\(fit, 'length'\)"):
            plot(fit)
    collection = bm.plot_predictive(bm.margin(fit, "petal"), "petal_width")
    assert "petal" in str(collection.viz["ylabel"]) or collection.viz is not None
    bm.plot_experts(bm.margin(fit, "width"))
    bm.plot_gate(fit)
    bm.plot_tree(bm.margin(fit, "length"))


# --- trees, files and graphs ----------------------------------------------------------------------


def test_files_give_the_fit_back(fit, iris, tmp_path):
    bm.save(fit, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    assert again.spec == fit.spec
    np.testing.assert_array_equal(bm.log_density(again), bm.log_density(fit))
    observed = again.idata["observed_data"]["y"]
    assert observed.dims == ("obs_id", "response")
    np.testing.assert_array_equal(observed, iris[NAMES])
    described = bm.MixtureOfExperts.from_json(fit.spec.to_json())
    assert described == fit.spec


def test_the_graph_is_the_model(spec, fit, iris):
    graph = bm.build(spec, iris)
    few = fit.idata.isel(chain=slice(1), draw=slice(5))
    with graph.model:
        found = pm.compute_log_likelihood(few.copy(), **QUICK)
        drawn = pm.sample_posterior_predictive(
            fit.idata, random_seed=1, **QUICK
        ).posterior_predictive["y"]
    np.testing.assert_allclose(
        found.log_likelihood["y"].values, bm.log_density(fit).values[:1, :5], rtol=1e-9, atol=1e-9
    )
    assert drawn.dims == ("chain", "draw", "obs_id", "response")
    covariance = np.cov(drawn.values.reshape(-1, 3).T)
    np.testing.assert_allclose(covariance, np.cov(iris[NAMES].T), rtol=0.15, atol=0.02)
    extended = bm.extend(fit, "posterior_predictive", "log_likelihood", random_seed=1)
    assert extended.idata["posterior_predictive"]["y"].dims == drawn.dims


def test_prior_predictions_and_simulations(spec, fit, iris):
    prior = bm.prior_predictive(spec, iris, draws=50, random_seed=1)
    assert prior.responses == tuple(NAMES)
    assert set(prior.response.index.get_level_values(0)) == set(NAMES)
    assert prior.margin("width").drawn.shape == (50, len(iris))
    assert prior.outside["far"] < 0.05
    bm.plot_prior_predictive(prior.margin("width"))
    with pytest.raises(bm.SpecError, match=r"prior.margin\('length'\)"):
        bm.plot_prior_predictive(prior)
    values = {n: fit.idata.posterior[n].values[0, 0] for n in spec.variables}
    table = bm.simulate(spec, iris[["petal_width"]], values, random_seed=2)
    assert list(table.columns) == ["petal_width", *NAMES]
    again = bm.fit(spec, table, "em", random_seed=1)
    for name in ("sigma_length", "rho_length_width"):
        found = again.idata.posterior[name].values.ravel()
        np.testing.assert_allclose(found, values[name], atol=0.3)


def test_diagnosis_and_comparison(fit, iris):
    assert "maximum" in str(bm.diagnose(fit))
    one = bm.mixture_of_experts(FORMULA, experts=1, family="mvnormal")
    other = bm.fit(one, iris, "laplace", random_seed=1, draws=25, chains=4)
    with pytest.warns(UserWarning, match="Pareto"):
        table = bm.compare({"two": fit, "one": other})
    assert table.index[0] == "two"
    with pytest.raises(bm.SpecError):
        bm.compare(
            {
                "joint": fit,
                "alone": bm.fit(
                    bm.mixture_of_experts("length ~ petal_width", experts=1),
                    iris,
                    "laplace",
                    random_seed=1,
                ),
            }
        )


# --- errors ---------------------------------------------------------------------------------------


def test_bad_formulas_and_responses(iris):
    def described(formula, family="mvnormal", **more):
        return bm.mixture_of_experts(formula, experts=1, family=family, **more)

    with pytest.raises(bm.SpecError, match="use family 'mvnormal'"):
        described("cbind(length, width) ~ petal", "normal")
    with pytest.raises(bm.SpecError, match=r"write them as cbind\(y1, y2\).*use 'normal'"):
        described("length ~ petal")
    for formula in ("cbind(length) ~ 1", "cbind(length, length) ~ 1", "cbind() ~ 1"):
        with pytest.raises(bm.SpecError):
            described(formula)
    with pytest.raises(bm.SpecError, match="is no response"):
        described("cbind(length + width, petal) ~ 1")
    with pytest.raises(bm.SpecError, match="called 'log_length'"):
        described("cbind(log(length), log_length) ~ 1")
    with pytest.raises(bm.SpecError, match="mu_width"):
        described("cbind(length, width) ~ 1", mu_widht="~ petal")
    spec = described("cbind(length, width) ~ petal")
    with pytest.raises(bm.DataError, match="width"):
        bm.fit(spec, iris.drop(columns="width"), "em")
    with pytest.raises(bm.DataError, match="zero variance"):
        bm.fit(spec, iris.assign(width=1.0), "em")
    with pytest.raises(bm.DataError, match=r"'length', 'width' .* exact linear functions"):
        bm.fit(spec, iris.assign(width=3 * iris["length"] - 2), "em")
    with pytest.raises(bm.DataError, match="must be numeric"):
        bm.fit(spec, iris.assign(width=["a", "b"] * 75), "em")
    gap = iris.copy()
    gap.loc[3, "width"] = np.nan
    with pytest.raises(bm.DataError, match="width"):
        bm.fit(spec, gap, "em")
    with pytest.warns(bm.MissingRowsWarning):
        assert bm.fit(spec, gap, "em", missing="drop").design.n_dropped == 1
    with pytest.raises(bm.SpecError, match="its own feature"):
        bm.fit(described("cbind(length, width) ~ length + width"), iris, "em")


def test_a_response_called_trials_is_no_count(iris):
    """Only what a family knows of a row may have the responses in it."""
    table = iris.rename(columns={"width": "trials"})
    spec = bm.mixture_of_experts(
        "cbind(length, trials) ~ length + trials", experts=1, family="mvnormal"
    )
    with pytest.raises(bm.SpecError, match="its own feature"):
        bm.fit(spec, table, "em")


def test_rows_that_no_expert_can_have_are_named(outcomes):
    table = outcomes[2]
    experts = [
        bm.Expert("cbind(a, b, c) ~ x", "multinomial", name="all", trials="n"),
        bm.Expert("cbind(a, b, c) ~ 1", "multinomial", name="level", trials="n"),
    ]
    spec = bm.MixtureOfExperts(bm.gates.Softmax("~ z"), experts)
    wrong = table.assign(n=table["n"].where(table.index != 4, 99))
    shown = ", ".join(str(v) for v in table.loc[4, ["a", "b", "c"]].astype(int))
    with pytest.raises(bm.DataError, match=f"of 1 row.*{shown} at row 4"):
        bm.fit(spec, wrong, "em")


def test_expressions_may_be_responses(iris):
    spec = bm.mixture_of_experts(
        "cbind(log(length), `sepal width`) ~ petal", experts=1, family="mvnormal"
    )
    table = iris.rename(columns={"width": "sepal width"})
    fit = bm.fit(spec, table, "em", random_seed=0)
    assert "sigma_log_length" in fit.idata.posterior
    assert "mu_sepal_width_coef" in fit.idata.posterior
    expected = np.log(table["length"].mean())
    found = float(bm.predict(fit).mean().sel(response="log(length)").mean())
    assert found == pytest.approx(expected, abs=0.02)
    frame = bm.predict(fit, table.head(2)).mean().to_pandas()
    assert isinstance(frame, pd.DataFrame)


# --- other methods --------------------------------------------------------------------------------


def test_networks_predict_several_responses(iris):
    spec = bm.mixture_density(
        "cbind(length, width) ~ petal", components=2, hidden=(4,), family="mvnormal"
    )
    fit = bm.fit(spec, iris, "map", random_seed=0, restarts=1)
    linear = bm.fit(
        bm.mixture_of_experts("cbind(length, width) ~ petal", experts=1, family="mvnormal"),
        iris,
        "em",
        random_seed=0,
    )
    assert float(bm.log_density(fit).sum()) > float(bm.log_density(linear).sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")  # short chains
def test_intervals_of_nuts_cover_the_truth():
    """Of 100 simulated tables: 90 % intervals of correlations, standard deviations and slopes."""
    rng = np.random.default_rng(4)
    spec = bm.mixture_of_experts("cbind(a, b) ~ x", experts=2, gate="~ z", family="mvnormal")
    truth = {
        "gate_coef": np.array([[0.2, -1.5], [-0.2, 1.5]]),
        "mu_a_coef": np.array([[-1.0, 0.8], [1.5, -0.6]]),
        "mu_b_coef": np.array([[0.5, -0.4], [-0.5, 0.9]]),
        "sigma_a": np.array([0.5, 0.8]),
        "sigma_b": np.array([0.7, 0.4]),
        "rho_a_b": np.array([0.6, -0.4]),
    }
    hits = []
    for seed in range(100):
        rows = pd.DataFrame({"x": rng.standard_normal(200), "z": rng.standard_normal(200)})
        table = bm.simulate(spec, rows, truth, random_seed=seed)
        fit = bm.fit(spec, table, "nuts", draws=300, tune=300, chains=2, random_seed=seed)
        for name in ("rho_a_b", "sigma_a", "sigma_b", "mu_a_coef", "mu_b_coef"):
            low, high = fit.idata.posterior[name].quantile([0.05, 0.95], ("chain", "draw")).values
            hits.append(((low <= truth[name]) & (truth[name] <= high)).ravel())
    share = np.concatenate(hits).mean()
    assert 0.85 <= share <= 0.95

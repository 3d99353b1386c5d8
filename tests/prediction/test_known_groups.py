"""Predictions of groups that share an expert and have effects: fitted ones, and new ones."""

import warnings

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_moe as bm
from tests.support.growth import growth_table

moe = bm.mixture_of_experts
QUIET = {"random_seed": 1, "progressbar": False, "restarts": 4}


@pytest.fixture(scope="module")
def table():
    return growth_table(30)


@pytest.fixture(scope="module")
def fit(table):
    return bm.fit(moe("y ~ t + (t | id)", "~ a", 2, group="id"), table, "em", **QUIET)


@pytest.fixture(scope="module")
def draws(table):
    settings = QUIET | {"draws": 400, "chains": 1}
    return bm.fit(moe("y ~ t + (1 | id)", "~ a", 2, group="id"), table, "laplace", **settings)


def later_rows(table, name):
    a = table.a[table.id == name].iloc[0]
    return pd.DataFrame({"id": name, "t": [6.0, 7.0], "a": a})


def mode(fit, name):
    return fit.idata.posterior[name].values[0, 0]


def test_a_fitted_group_is_predicted_by_its_rows(table, fit):
    coef, sds, corr, sigma = (mode(fit, n) for n in ("mu_coef", "mu_id_sd", "mu_id_corr", "sigma"))
    gate = mode(fit, "gate_coef")
    for name in ("p00", "p07", "p12"):
        rows, later = table[table.id == name], later_rows(table, name)
        x, new = (np.column_stack([np.ones(len(d)), d.t]) for d in (rows, later))
        joint = special.log_softmax(gate[:, 0] + gate[:, 1] * rows.a.iloc[0])
        means = np.empty((2, 2))
        for k in (0, 1):
            own = np.outer(sds[k], sds[k]) * [[1.0, corr[k, 0]], [corr[k, 0], 1.0]]
            covariance = x @ own @ x.T + sigma[k] ** 2 * np.eye(len(rows))
            joint[k] += stats.multivariate_normal(x @ coef[k], covariance).logpdf(rows.y)
            effect = own @ x.T @ np.linalg.solve(covariance, rows.y - x @ coef[k])
            labels = {"expert": k, "mu_id_group": name}
            found = fit.idata.posterior["mu_id_effect"].sel(labels).values[0, 0]
            np.testing.assert_allclose(found, effect, atol=1e-5)
            means[k] = new @ (coef[k] + effect)
        shares = special.softmax(joint)
        predicted = bm.predict(fit, later)
        np.testing.assert_allclose(predicted.weights().values[0], shares, atol=1e-7)
        np.testing.assert_allclose(predicted.mean().values, shares @ means, atol=1e-5)


def test_a_new_group_has_the_weights_of_the_gate(table, fit):
    new = later_rows(table, "p00").assign(id="new")
    with pytest.raises(bm.DataError, match="unseen='average'"):
        bm.predict(fit, new)
    found = bm.predict(fit, new, unseen="average")
    gate, coef = mode(fit, "gate_coef"), mode(fit, "mu_coef")
    expected = special.softmax(gate[:, 0] + gate[:, 1] * new.a.iloc[0])
    np.testing.assert_allclose(found.weights().values[0], expected, atol=1e-12)
    lines = coef @ np.array([np.ones(2), new.t])
    np.testing.assert_allclose(found.expert_means().values.T, lines, atol=1e-10)


def test_effects_of_new_groups_are_integrated_out(table, fit, draws):
    some = table[table.id < "p05"]
    renamed = some.assign(id="new " + some.id)
    for one in (fit, draws):
        known, new = (bm.log_density(one, d).values for d in (some, renamed))
        np.testing.assert_allclose(new, known, rtol=1e-10)
        known, new = (bm.responsibilities(one, d).values for d in (some, renamed))
        np.testing.assert_allclose(new, known, atol=1e-10)
        np.testing.assert_allclose(
            bm.log_density(one, some).values,
            bm.log_density(one).sel(group_id=pd.unique(some.id)).values,
            rtol=1e-10,
        )


def test_draws_of_effects_are_joint_with_the_expert(table, draws):
    shares = bm.responsibilities(draws).mean(("chain", "draw"))
    rows = table.drop_duplicates("id")
    weights = bm.predict(draws, rows.reset_index(drop=True)).weights().values
    own = shares.sel(group_id=rows.id.to_numpy()).values
    np.testing.assert_allclose(weights, own, atol=0.03)
    drawn = draws.idata.posterior["mu_id_effect"].values[0, ..., 0]  # (draw, expert, group)
    sds = draws.idata.posterior["mu_id_sd"].values[0, :, :, 0]
    labels = draws.idata.posterior["mu_id_group"].values
    for k in (0, 1):  # a group that cannot have the expert tells nothing of its effect there
        never = shares.sel(group_id=labels).values[:, k] < 1e-3
        z = drawn[:, k][:, never] / sds[:, k, None]
        assert abs(z.mean()) < 0.05
        assert z.std() == pytest.approx(1.0, abs=0.05)


def test_a_saved_and_a_repeated_fit_are_the_same(table, fit, tmp_path):
    later = later_rows(table, "p07")
    bm.save(fit, tmp_path / "fit.nc")
    for other in (bm.load(tmp_path / "fit.nc"), bm.refit(fit, table, random_seed=1)):
        for figure in (bm.log_density, bm.responsibilities):
            np.testing.assert_allclose(figure(other).values, figure(fit).values, atol=1e-8)
        means = [bm.predict(f, later).mean().values for f in (other, fit)]
        np.testing.assert_allclose(*means, rtol=1e-8)


def test_allocations_and_criteria_are_of_groups(table, fit, draws):
    which = bm.allocation(draws)
    assert which.sizes["group_id"] == 30
    r = bm.responsibilities(fit).values[0, 0]
    fast = table.groupby("id").fast.first()[bm.responsibilities(fit).group_id.values].to_numpy()
    assert max(np.mean((r[:, 1] > 0.5) == fast), np.mean((r[:, 0] > 0.5) == fast)) > 0.9
    assert draws.idata.log_likelihood["y"].shape == (1, 400, 30)
    with warnings.catch_warnings():  # of few draws
        warnings.simplefilter("ignore")
        loo = az.loo(draws.idata)
    assert loo.p < 20  # that of all but the effects, of which there are 60
    same = bm.coclustering(fit)
    np.testing.assert_allclose(same.values[0, 1:], r[0] @ r[1:].T, atol=1e-10)


def test_simulated_groups_are_recovered():
    spec = moe("y ~ t + (1 | id)", "~ 1", 2, group="id")
    rows = growth_table(80)[["id", "t"]]
    truth = {
        "gate_coef": [[-0.3], [0.3]],
        "mu_coef": [[0.0, 1.0], [4.0, -0.5]],
        "mu_id_sd": [[0.5], [1.0]],
        "sigma": [0.4, 0.6],
    }
    data = bm.simulate(spec, rows, truth, random_seed=2, expert_column="z")
    assert (data.groupby("id").z.nunique() == 1).all()
    fit = bm.fit(spec, data, "em", **QUIET)
    for name, value in truth.items():
        errors = fit.idata["standard_error"][name].values
        assert (np.abs(mode(fit, name) - value) < 3.5 * errors).all()


def test_a_margin_of_several_responses_has_no_density():
    table = growth_table(12).assign(y2=lambda d: d.y + np.sin(d.index))
    spec = moe("cbind(y, y2) ~ t + (1 | id)", "~ 1", 2, family="mvnormal", group="id")
    fit = bm.fit(spec, table, "em", **QUIET)
    assert np.isfinite(bm.log_density(fit)).all()
    with pytest.raises(bm.SpecError, match="several responses"):
        bm.log_density(bm.margin(fit, "y"))


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")
def test_new_groups_beside_effects_of_others_are_not_merged():
    """`unseen="average"` would give all new groups one effect, within which they are integrated."""
    data = growth_table(12)
    data["h"] = [f"h{int(label[1:]) % 4}" for label in data["id"]]
    spec = bm.mixture_of_experts("y ~ t + (1 | id/visit) + (1 | h)", experts=2, group="id")
    short = {"draws": 4, "tune": 10, "chains": 1, "progressbar": False}
    fit = bm.fit(spec, data, "nuts", random_seed=1, **short)
    new = data.assign(id="new " + data["id"])
    with pytest.raises(bm.SpecError, match=r"would make one group of all new ones: use unseen="):
        bm.log_density(fit, new, unseen="average")
    assert np.isfinite(bm.log_density(fit, new, unseen="sample")).all()


def test_integral_transforms_are_those_of_predictions(table, fit, draws):
    """Also of rows of fitted groups, whose experts' weights are those given their fitted rows."""
    for own in (fit, draws):
        expected = bm.predict(own, table).cdf(table["y"])
        np.testing.assert_allclose(bm.pit(own, random_seed=1), expected, rtol=1e-9)
    new = table.assign(id="new " + table["id"])
    expected = bm.predict(draws, new, unseen="sample").cdf(new["y"])
    np.testing.assert_allclose(bm.pit(draws, new, unseen="sample"), expected, rtol=1e-9)
    with pytest.raises(bm.DataError, match="No fitted row has the group"):
        bm.pit(draws, new)


def test_scores_of_classes_are_those_of_predictions(table):
    spec = moe("b ~ t + (1 | id)", "~ a", 2, family="bernoulli", group="id")
    own = bm.fit(spec, table, "em", **QUIET | {"restarts": 2})
    p = bm.predict(own, table).probabilities().values[:, 1]
    expected = -np.log(np.where(table["b"] == 1, p, 1 - p)).mean()
    found = bm.class_scores(own, table)
    assert np.isclose(float(found.loc["log_loss", "value"]), expected, rtol=1e-9)

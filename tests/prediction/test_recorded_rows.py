"""Predictions of what is recorded of rows, against SciPy's distributions of one draw each."""

import numpy as np
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.model import evaluation
from tests.support.censored import STATED, limited

LEFT_AND_RIGHT = "censored(y, lower=0.5, upper=limit)"
NEW = ["x", "z", "limit", "deductible"]


def fitted(family="normal", lhs=STATED, method="em", **more):
    spec = bm.mixture_of_experts(f"{lhs} ~ x", family=family, experts=2, gate="~ z")
    return bm.fit(spec, limited(family, lhs), method, random_seed=1, **more)


def laws(fit, rows):
    """Weights (expert, obs) and SciPy's distributions (expert, obs) of a fit by EM."""
    draws = {n: fit.idata.posterior[n].values[0, 0] for n in fit.spec.variables}
    columns = np.stack([np.ones(len(rows)), rows["x"]]), np.stack([np.ones(len(rows)), rows["z"]])
    weights = special.softmax(draws["gate_coef"] @ columns[1], axis=0)
    eta = draws["mu_coef"] @ columns[0]
    if fit.spec.experts[0].family.kind == "poisson":
        return weights, stats.poisson(np.exp(eta))
    return weights, stats.norm(eta, draws["sigma"][:, None])


def by_hand(fit, rows, y):
    """Probabilities (2, obs) of recorded responses up to ``y``, and below ``y``, and the limits."""
    weights, law = laws(fit, rows)
    counts = fit.spec.structure.discrete
    bottom, top = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    left, right = bottom, rows["limit"].to_numpy()
    if fit.spec.response == STATED:
        bottom = rows["deductible"].to_numpy()
    else:
        left = np.full(len(rows), 0.5)
    before = law.cdf(np.ceil(bottom) - 1) if counts else law.cdf(bottom)
    total = (weights * (law.cdf(top) - before)).sum(axis=0)

    def up_to(y):
        share = (weights * (law.cdf(np.maximum(y, bottom - 1.0 * counts)) - before)).sum(axis=0)
        share = np.where(y < bottom, 0.0, share / total)
        return np.where(y >= right, 1.0, np.where(y < left, 0.0, share))

    below = up_to(y - 1.0) if counts else np.where(y > right, 1.0, 0.0)
    return up_to(y), below, (bottom, left, right), total


@pytest.mark.parametrize(
    ("family", "lhs"), [("normal", STATED), ("normal", LEFT_AND_RIGHT), ("poisson", STATED)]
)
def test_cdf_quantiles_and_density_are_those_by_hand(family, lhs):
    fit = fitted(family, lhs)
    rows = limited(family, lhs)[NEW].iloc[:40]  # the response is not needed
    prediction = bm.predict(fit, rows, observed=True)
    rng = np.random.default_rng(0)
    y = np.floor(rng.uniform(0, 14, 40)) if family == "poisson" else rng.uniform(-3, 6, 40)
    y[:5] = rows["limit"].iloc[:5]
    expected, _, (bottom, left, right), total = by_hand(fit, rows, y)
    np.testing.assert_allclose(prediction.cdf(y), expected, atol=1e-12)
    for p in (0.05, 0.4, 0.9, 0.999):
        q = prediction.quantile(p).values
        assert ((q >= np.maximum(bottom, left)) & (q <= right)).all()
        reached = by_hand(fit, rows, q)[0]
        before = by_hand(fit, rows, q - 1.0 if family == "poisson" else np.nextafter(q, -9e9))[0]
        assert (reached >= p - 1e-9).all()
        assert (before <= p + 1e-9).all()
    weights, law = laws(fit, rows)
    own = law.pmf(y) if family == "poisson" else law.pdf(y)
    inside = (y > left) & (y < right) & (y >= bottom)
    density = np.where(inside, (weights * own).sum(axis=0) / total, 0.0)
    step = 1.0 if family == "poisson" else 1e-9
    jump = np.where(y == right, 1 - by_hand(fit, rows, y - step)[0], 0.0)
    np.testing.assert_allclose(
        prediction.pdf(y), density + jump, rtol=1e-6, atol=1e-12
    )  # the jump by hand is a difference
    if family == "normal":
        at = np.where(np.isfinite(left), left, right)
        mass = np.where(np.isfinite(left), by_hand(fit, rows, at)[0], prediction.pdf(at))
        np.testing.assert_allclose(prediction.pdf(at), mass, rtol=1e-12)


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_means_are_those_of_many_draws_and_by_integrals(family):
    fit = fitted(family)
    rows = limited(family, STATED)[NEW].iloc[:6]
    prediction = bm.predict(fit, rows, observed=True)
    _, _, (bottom, _, right), _ = by_hand(fit, rows, np.zeros(6))
    low = np.where(np.isfinite(bottom), bottom, -40.0 if family == "normal" else 0.0)
    if family == "poisson":
        grid = np.arange(0.0, 60.0)
        tail = np.stack([1 - by_hand(fit, rows, np.full(6, g))[0] for g in grid])
        mean = tail.sum(axis=0)
    else:
        x, w = np.polynomial.legendre.leggauss(400)
        at = low + 0.5 * (x[:, None] + 1) * (right - low)
        tail = np.stack([1 - by_hand(fit, rows, g)[0] for g in at])
        mean = low + 0.5 * (w[:, None] * tail).sum(axis=0) * (right - low)
    np.testing.assert_allclose(prediction.mean(), mean, rtol=1e-8)
    drawn = prediction.sample(20_000, random_seed=0)
    assert ((drawn >= np.maximum(low, -40)) & (drawn <= right)).all()
    error = prediction.sd().values / np.sqrt(20_000)
    assert (np.abs(drawn.mean("sample") - mean) < 4 * error).all()
    np.testing.assert_allclose(drawn.std("sample"), prediction.sd(), rtol=0.05)
    experts = prediction.weights() * prediction.expert_means()
    np.testing.assert_allclose(experts.sum("expert"), mean, rtol=1e-8)
    np.testing.assert_allclose(prediction.weights().sum("expert"), 1.0)


def test_weights_are_those_of_recorded_rows():
    fit = fitted()
    rows = limited("normal", STATED)[NEW].iloc[:20]
    weights, law = laws(fit, rows)
    joint = weights * law.sf(rows["deductible"].to_numpy())
    recorded = bm.predict(fit, rows, observed=True).weights()
    np.testing.assert_allclose(recorded.values.T, joint / joint.sum(axis=0), rtol=1e-10)
    assert np.abs(recorded - bm.predict(fit, rows).weights()).max() > 0.05


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")  # of few draws
def test_draws_are_averaged_and_compiled_values_are_the_same(monkeypatch):
    fit = fitted(method="laplace", draws=50)
    rows = limited("normal", STATED)[NEW].iloc[:9]
    y = np.linspace(-2, 5, 9)

    def figures():
        prediction = bm.predict(fit, rows, observed=True)
        sparse = bm.predict(fit, rows, observed=True, top_k=1)
        return [
            prediction.mean().values,
            prediction.mean(draws=True).values,
            prediction.sd().values,
            prediction.cdf(y).values,
            prediction.logpdf(y).values,
            prediction.quantile([0.1, 0.5, 0.9]).values,
            sparse.mean().values,
            sparse.approximation_error()["mean_shift"].values,
        ]

    plain = figures()
    monkeypatch.setattr(evaluation, "is_compiled", lambda elements: True)
    for one, other in zip(plain, figures(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(plain[1].mean(axis=(0, 1)), plain[0], rtol=1e-10)
    np.testing.assert_allclose(plain[6] - plain[0], plain[7], atol=1e-10)


def test_a_stated_limit_is_the_status_that_it_makes():
    table = limited("normal", "both")
    stated = bm.mixture_of_experts(f"{STATED} ~ x", experts=2, gate="~ z").design(table)
    status = bm.mixture_of_experts(
        "truncated(censored(y, status), lower=deductible) ~ x", experts=2, gate="~ z"
    ).design(table)
    np.testing.assert_array_equal(stated.response, status.response)
    beyond = table.assign(y=np.where(table["status"] == "right", table["y"] + 3, table["y"]))
    again = bm.mixture_of_experts(f"{STATED} ~ x", experts=2, gate="~ z").design(beyond)
    np.testing.assert_array_equal(again.response, status.response)
    both = bm.mixture_of_experts(f"{LEFT_AND_RIGHT} ~ x", experts=2).design(limited("normal"))
    at_left = limited("normal")["y"] <= 0.5
    assert at_left.any()
    np.testing.assert_array_equal(both.response[1][at_left], 0.5)
    assert np.isneginf(both.response[0][at_left]).all()


def test_limits_that_are_missing_are_open():
    fit = fitted()
    rows = limited("normal", STATED)[NEW].iloc[:5]
    far = bm.predict(fit, rows.assign(limit=np.inf, deductible=np.nan), observed=True)
    plain = bm.predict(fit, rows)
    np.testing.assert_allclose(far.mean(), plain.mean(), rtol=1e-9)
    np.testing.assert_allclose(far.quantile(0.9), plain.quantile(0.9), rtol=1e-9)
    np.testing.assert_allclose(far.logpdf(1.0), plain.logpdf(1.0), rtol=1e-9)


def test_a_status_states_the_limit_of_censored_rows_alone():
    fit = fitted(lhs="censored(y, status)")
    table = limited("normal")
    cut = table[table["status"] == "right"].iloc[:4]
    prediction = bm.predict(fit, cut, observed=True)
    expected = bm.predict(fit, cut)
    limit = cut["y"].to_numpy()
    np.testing.assert_allclose(prediction.cdf(limit - 0.1), expected.cdf(limit - 0.1), rtol=1e-9)
    np.testing.assert_allclose(prediction.cdf(limit), 1.0)
    planned = table.iloc[:3].assign(y=5.0, status="right")
    assert (bm.predict(fit, planned, observed=True).quantile(0.9999) <= 5.0).all()
    with pytest.raises(DataError, match="not known at row"):
        bm.predict(fit, table, observed=True)
    with pytest.raises(DataError, match="State limits in the formula"):
        bm.predict(fit, observed=True)
    with pytest.raises(DataError, match="Unknown column 'status'"):
        bm.predict(fit, table[["x", "z", "y"]], observed=True)
    brackets = fitted(lhs="censored(lower=lower, upper=upper)")
    with pytest.raises(DataError, match="between two limits"):
        bm.predict(brackets, observed=True)


def test_questions_without_an_answer_are_refused():
    fit = fitted()
    rows = limited("normal", STATED)[NEW].iloc[:4]
    with pytest.raises(DataError, match="Unknown column 'limit'"):
        bm.predict(fit, rows.drop(columns="limit"), observed=True)
    with pytest.raises(DataError, match="no room between the limits"):
        bm.predict(fit, rows.assign(deductible=9.0, limit=8.0), observed=True)
    with pytest.raises(SpecError, match="must be True or False"):
        bm.predict(fit, rows, observed="limit")
    prediction = bm.predict(fit, rows, observed=True)
    for refused in (prediction.modes, prediction.hdr, prediction.expert_locations):
        with pytest.raises(SpecError, match="observed=True"):
            refused()
    assert "what is recorded" in repr(prediction)
    assert "<table" in prediction._repr_html_()
    counts = fitted("poisson")
    with pytest.raises(DataError, match="which is no count"):
        bm.predict(counts, rows.assign(limit=7.5), observed=True)


def test_a_response_without_limits_is_recorded_as_it_is():
    table = limited("normal")
    fit = bm.fit(bm.mixture_of_experts("y ~ x", experts=1), table, "em", random_seed=1)
    rows = table.iloc[:3]
    np.testing.assert_array_equal(
        bm.predict(fit, rows, observed=True).mean(), bm.predict(fit, rows).mean()
    )


def test_atoms_of_a_family_stay_in_what_is_recorded():
    rng = np.random.default_rng(3)
    n = 200
    x = rng.normal(size=n)
    loss = np.where(rng.random(n) < 0.3, 0.0, rng.gamma(2, np.exp(0.5 * x) / 2))
    table = {"x": x, "loss": np.minimum(loss, 2.0)}
    family = bm.families.Hurdle(bm.families.Gamma())
    spec = bm.mixture_of_experts("censored(loss, upper=2) ~ x", family=family, experts=1)
    fit = bm.fit(spec, table, "em", random_seed=1)
    prediction, plain = bm.predict(fit, observed=True), bm.predict(fit)
    np.testing.assert_allclose(prediction.pdf(0.0), plain.pdf(0.0), rtol=1e-9)
    np.testing.assert_allclose(prediction.pdf(2.0), 1 - plain.cdf(2.0), rtol=1e-9)
    np.testing.assert_array_equal(prediction.quantile(0.05), 0.0)
    drawn = prediction.sample(4000, random_seed=0)
    np.testing.assert_allclose(prediction.mean(), drawn.mean("sample"), atol=0.06)
    assert abs(float(prediction.mean().mean()) - table["loss"].mean()) < 0.05


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")  # of few draws
def test_predictive_draws_of_a_tree_are_recorded_ones_as_its_data():
    fit = fitted(method="laplace", draws=100)
    groups = ("posterior_predictive", "prior", "prior_predictive")
    tree = bm.extend(fit, *groups, draws=100, random_seed=1).idata
    table = limited("normal", STATED)
    for group in groups[::2]:
        drawn = tree[group]["y"].values
        assert ((drawn <= table["limit"].values) & (drawn >= table["deductible"].values)).all()
    observed = (tree["observed_data"]["y"] == table["limit"].values).mean()
    replicated = (tree["posterior_predictive"]["y"] == table["limit"].values).mean()
    np.testing.assert_allclose(replicated, observed, atol=0.05)
    at_limit = bm.predict(fit, observed=True).pdf(table["limit"])
    np.testing.assert_allclose(replicated, at_limit.mean(), atol=0.01)


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")  # of few draws
def test_predictive_draws_of_unknown_limits_are_refused_or_said_to_be_of_the_response():
    fit = fitted(lhs="censored(y, status)", method="laplace", draws=20)
    for group in ("posterior_predictive", "prior_predictive"):
        with pytest.raises(DataError, match="State limits in the formula"):
            bm.extend(fit, group)
    prior = bm.prior_predictive(fit.spec, limited("normal"), draws=20, random_seed=1)
    assert "those before censoring" in repr(prior)
    table = limited("normal", STATED)
    stated = bm.prior_predictive(fitted().spec, table, draws=20, random_seed=1)
    assert "before censoring" not in repr(stated)
    drawn = stated.idata["prior_predictive"]["y"].values
    assert (drawn <= table["limit"].values).all()


@pytest.mark.parametrize("lhs", [STATED, LEFT_AND_RIGHT, "truncated(y, lower=deductible)"])
def test_log_density_is_that_of_what_is_recorded(lhs, tmp_path):
    fit = fitted(lhs=lhs)
    bm.save(fit, tmp_path / "fit.nc")
    table = limited("normal", lhs)
    y = table["y"].to_numpy()
    if lhs == LEFT_AND_RIGHT:
        y = np.maximum(y, 0.5)
    for again in (fit, bm.load(tmp_path / "fit.nc"), bm.refit(fit, table, random_seed=1)):
        recorded = bm.predict(again, observed=True).logpdf(y)
        np.testing.assert_allclose(recorded, bm.log_density(again)[0, 0], atol=1e-7)
        np.testing.assert_array_equal(bm.predict(again, table, observed=True).logpdf(y), recorded)


def test_recorded_responses_of_groups_share_experts():
    table = limited("normal")
    table["person"] = np.arange(len(table)) // 4
    spec = bm.mixture_of_experts(
        "censored(y, upper=limit) ~ x", experts=2, gate="~ 1", group="person"
    )
    fit = bm.fit(spec, table, "em", random_seed=1)
    drawn = bm.predict(fit, observed=True).sample(200, random_seed=1)
    assert (drawn <= table["limit"].to_numpy()).all()
    mean = bm.predict(fit, observed=True).mean()
    error = 5 * drawn.std("sample") / np.sqrt(200)
    assert (np.abs(drawn.mean("sample") - mean) < error).all()
    assert bm.pit(fit, random_seed=1).sizes == {"obs_id": len(table)}

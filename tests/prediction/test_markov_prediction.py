"""Predictions of models whose experts are a Markov chain, against the chain itself."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.gates import Markov, Softmax
from bayes_moe.model import chains, expert_order, markov_chain
from bayes_moe.model.evaluation import evaluate, log_likelihood
from bayes_moe.results.draws import stacked_draws
from tests.support.contracts import values_of
from tests.support.examples import GATES_WITH_MEMORY, series_table

EXPERTS = 3


def described(gate, **more):
    return bm.mixture_of_experts("y ~ x", gate=gate, experts=EXPERTS, time="t", series="id", **more)


@pytest.fixture(scope="module", params=list(GATES_WITH_MEMORY))
def spec(request):
    return described(GATES_WITH_MEMORY[request.param])


@pytest.fixture(scope="module")
def fit():
    """A fit with a few draws."""
    spec = described(Markov("~ x"))
    settings = {"restarts": 2, "draws": 6, "random_seed": 1, "progressbar": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        return bm.fit(spec, series_table(50), "laplace", **settings)


def chain_of(fit, table):
    """Filters and smoothers (sample, ..., obs) of a table that stands by itself."""
    spec = fit.spec
    rows = fit.design.transform(table, with_response=True)
    draws = stacked_draws(spec, fit.idata["posterior"].to_dataset())
    eta = spec.structure.gate.eta(draws, rows.matrices)
    params = [b.evaluate(draws, rows.matrices) for b in spec.structure.blocks]
    log_f = stats.norm.logpdf(rows.response, params[0]["mu"], params[0]["sigma"])
    chain = spec.structure.gate.chain
    sequences = rows.observation.sequences
    return (
        chains.filters(chain, eta, log_f, sequences),
        chains.smoothers(chain, eta, log_f, sequences),
        log_f,
    )


def by_sample(values):
    """(chain, draw, obs, ...) -> (sample, obs, ...)."""
    return values.values.reshape(-1, *values.shape[2:])


def renamed(table):
    """Rows of new series, which no fitted row has."""
    return table.assign(id=table["id"] + "'")


# --- the description ------------------------------------------------------------------------------


def test_a_description_round_trips(spec):
    assert bm.MixtureOfExperts.from_json(spec.to_json()) == spec
    assert spec.structure.has_memory
    assert not described(Softmax("~ x")).structure.has_memory


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "time='column'"),
        ({"time": "t", "group": "id"}, "beside `group`"),
        ({"time": "t", "weights": "w"}, "beside `weights`"),
        ({"time": "t", "expert": "k"}, "beside `expert`"),
        ({"time": "t", "fixed": {"weights": (0.5, 0.5)}}, "weights of experts are numbers"),
    ],
)
def test_descriptions_that_cannot_be(more, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.mixture_of_experts("y ~ x", gate=Markov("~ 1"), experts=2, **more)


def test_a_markov_gate_refuses_effects_truncation_and_bad_settings():
    with pytest.raises(bm.SpecError, match="group term"):
        bm.mixture_of_experts("y ~ x", gate=Markov("~ (1 | g)"), time="t")
    with pytest.raises(bm.SpecError, match="truncated response"):
        bm.mixture_of_experts("truncated(y, lower=0) ~ x", gate=Markov("~ 1"), time="t")
    for settings, message in (
        ({"sticky": np.nan}, "sticky"),
        ({"sticky": "no"}, "sticky"),
        ({"initial": "none"}, "initial"),
    ):
        with pytest.raises(bm.SpecError, match=message):
            Markov("~ 1", **settings)


def test_one_expert_needs_no_chain():
    spec = bm.mixture_of_experts("y ~ x", gate=Markov("~ x"), experts=1, time="t", series="id")
    assert not spec.structure.has_memory


# --- values of parameters -------------------------------------------------------------------------


def test_compiled_and_numpy_are_the_same(spec):
    design = spec.design(series_table())
    values = values_of(spec, design, 5)
    one, other = (evaluate(spec, values, design.rows, compiled=c) for c in (False, True))
    y = design.response
    np.testing.assert_allclose(other.log_density(y), one.log_density(y), atol=1e-10)
    np.testing.assert_allclose(other.responsibilities(y), one.responsibilities(y), atol=1e-10)
    total = log_likelihood(spec, values, design.rows)
    np.testing.assert_allclose(one.log_density(y).sum(axis=1), total, rtol=1e-12)
    np.testing.assert_allclose(one.weights.sum(axis=1), 1.0, rtol=1e-12)


def test_moves_that_forget_the_expert_are_a_softmax_gate():
    data = series_table()
    static, chain = described(Softmax("~ x")), described(Markov("~ x", sticky=0.0))
    design = chain.design(data)
    values = values_of(static, static.design(data), 4)
    repeated = values | {"gate_coef": np.tile(values["gate_coef"], (1, EXPERTS, 1))}
    one = evaluate(static, values, static.design(data).rows)
    other = evaluate(chain, repeated, design.rows)
    np.testing.assert_allclose(other.weights, one.weights, atol=1e-12)
    y = design.response
    np.testing.assert_allclose(other.log_density(y), one.log_density(y), atol=1e-12)
    np.testing.assert_allclose(other.responsibilities(y), one.responsibilities(y), atol=1e-12)


def test_exchanged_experts_are_the_same_model(spec):
    design = spec.design(series_table())
    values = values_of(spec, design, 2)
    order = np.array([[2, 0, 1]] * 2)
    moved = expert_order.permute(spec, values, order)
    one, other = (evaluate(spec, v, design.rows) for v in (values, moved))
    np.testing.assert_allclose(other.weights, one.weights[:, order[0]], atol=1e-12)
    y = design.response
    np.testing.assert_allclose(
        other.responsibilities(y), one.responsibilities(y)[:, order[0]], atol=1e-12
    )


def test_a_part_of_the_rows_remembers_all(spec):
    design = spec.design(series_table())
    values = values_of(spec, design, 3)
    at = np.arange(5, 60, 7)
    whole, part = (evaluate(spec, values, r) for r in (design.rows, design.rows.pick(at)))
    np.testing.assert_allclose(part.weights, whole.weights[..., at], atol=1e-14)


# --- fitted and other rows ------------------------------------------------------------------------


def test_predictions_of_fitted_rows_are_one_step_ahead(fit):
    filters, smoothers, _ = chain_of(fit, renamed(series_table(50)))
    weights = bm.predict(fit).weights()
    np.testing.assert_allclose(weights.values, np.exp(filters.log_predicted).mean(0).T, atol=1e-10)
    density = bm.log_density(fit)
    np.testing.assert_allclose(by_sample(density), filters.log_density, atol=1e-10)
    shares = bm.responsibilities(fit)
    expected = np.swapaxes(smoothers.shares, 1, 2)
    np.testing.assert_allclose(by_sample(shares), expected, atol=1e-10)
    stored = fit.idata["log_likelihood"]["y"] if "log_likelihood" in fit.idata else density
    np.testing.assert_allclose(stored.values, density.values, atol=1e-10)
    share = bm.usage(fit).values.reshape(-1, EXPERTS)
    np.testing.assert_allclose(share, smoothers.shares.mean(axis=-1), atol=1e-10)
    pdf = bm.predict(fit).pdf(fit.design.response)
    np.testing.assert_allclose(pdf.values, np.exp(filters.log_density).mean(axis=0), rtol=1e-9)


def test_states_are_predicted_filtered_and_smoothed(fit):
    filters, smoothers, log_f = chain_of(fit, renamed(series_table(50)))
    filtered = np.exp(filters.log_predicted + log_f - filters.log_density[:, None])
    for kind, expected in (
        ("predicted", np.exp(filters.log_predicted)),
        ("filtered", filtered),
        ("smoothed", smoothers.shares),
    ):
        found = bm.states(fit, kind=kind)
        assert found.dims == ("obs_id", "expert")
        np.testing.assert_allclose(found.values, expected.mean(axis=0).T, atol=1e-10)
        each = bm.states(fit, kind=kind, draws=True)
        np.testing.assert_allclose(by_sample(each), np.swapaxes(expected, 1, 2), atol=1e-10)
    with pytest.raises(bm.SpecError, match="kind"):
        bm.states(fit, kind="future")


def test_rows_that_go_on_are_given_the_fitted_rows(fit):
    every = series_table(50)
    more = series_table(20, seed=3)
    last = every.groupby("id")["t"].max()
    more = more.assign(t=more["t"] + more["id"].map(last) + 1)
    both = pd.concat([every, more], ignore_index=True)
    filters, smoothers, _ = chain_of(fit, renamed(both))
    found = bm.predict(fit, more).weights()
    expected = np.exp(filters.log_predicted).mean(axis=0).T[50:]
    np.testing.assert_allclose(found.values, expected, atol=1e-10)
    density = by_sample(bm.log_density(fit, more))
    np.testing.assert_allclose(density, filters.log_density[:, 50:], atol=1e-10)
    shares = by_sample(bm.responsibilities(fit, more))
    np.testing.assert_allclose(shares, np.swapaxes(smoothers.shares, 1, 2)[:, 50:], atol=1e-10)


def test_weights_go_on_without_responses(fit):
    every = series_table(50)
    ahead = pd.DataFrame({"t": [16, 17, 18], "id": "a", "x": [0.5, -1.0, 1.0]})
    found = bm.states(fit, ahead, kind="predicted", draws=True)
    filters, _, log_f = chain_of(fit, renamed(every))
    share = np.exp(filters.log_predicted + log_f - filters.log_density[:, None])[..., 15]
    rows = fit.design.transform(ahead)
    draws = stacked_draws(fit.spec, fit.idata["posterior"].to_dataset())
    eta = fit.spec.structure.gate.eta(draws, rows.matrices)
    moves = np.exp(fit.spec.structure.gate.chain.log_transitions(eta, NUMERIC))
    for step in range(3):
        share = np.einsum("sj,sjk->sk", share, moves[..., step])
        np.testing.assert_allclose(by_sample(found)[:, step], share, atol=1e-10)
    np.testing.assert_allclose(bm.states(fit, ahead).values, found.mean(("chain", "draw")).values)


def test_draws_of_rows_ahead_share_a_path(fit):
    """Two steps of a sticky chain have the same expert more often than two rows by chance."""
    ahead = pd.DataFrame({"t": [16, 17], "id": "a", "x": [0.0, 0.0]})
    drawn = bm.predict(fit, ahead).sample(size=4000, random_seed=1).values
    draws = stacked_draws(fit.spec, fit.idata["posterior"].to_dataset())
    first = by_sample(bm.states(fit, ahead, kind="predicted", draws=True))[:, 0]
    rows = fit.design.transform(ahead)
    eta = fit.spec.structure.gate.eta(draws, rows.matrices)
    moves = np.exp(fit.spec.structure.gate.chain.log_transitions(eta, NUMERIC))[..., 1]
    mu = evaluate(fit.spec, draws, rows).moments("mean")
    product = np.einsum("sj,sjk,sj,sk->s", first, moves, mu[..., 0], mu[..., 1]).mean()
    error = np.std(drawn[:, 0] * drawn[:, 1]) / np.sqrt(len(drawn))
    assert abs((drawn[:, 0] * drawn[:, 1]).mean() - product) < 4.5 * error


def test_paths(fit):
    _, smoothers, _ = chain_of(fit, renamed(series_table(50)))
    drawn = bm.state_path(fit, size=400, random_seed=1)
    assert drawn.dims == ("sample", "obs_id")
    shares = np.stack([(drawn.values == k).mean(axis=0) for k in range(EXPERTS)])
    np.testing.assert_allclose(shares, smoothers.shares.mean(axis=0), atol=0.12)
    path, each = bm.state_path(fit), bm.state_path(fit, draws=True)
    assert path.dims == ("obs_id",)
    assert each.dims == ("chain", "draw", "obs_id")
    assert (path.values == smoothers.shares.mean(axis=0).argmax(axis=0)).mean() > 0.8
    assert (each.values.reshape(-1, 50) == smoothers.shares.argmax(axis=1)).mean() > 0.8
    with pytest.raises(bm.SpecError, match="draws=True"):
        bm.state_path(fit, draws=True, size=3)


def test_transitions_and_durations(fit):
    found = bm.transitions(fit, draws=True)
    rows = fit.design.rows
    draws = stacked_draws(fit.spec, fit.idata["posterior"].to_dataset())
    eta = fit.spec.structure.gate.eta(draws, rows.matrices).reshape(-1, EXPERTS, EXPERTS, rows.size)
    eta = eta + fit.spec.gate.sticky * np.eye(EXPERTS)[..., None]
    expected = np.exp(eta) / np.exp(eta).sum(axis=2, keepdims=True)
    probability = by_sample(found["probability"])
    np.testing.assert_allclose(probability, np.moveaxis(expected, -1, 1), atol=1e-12)
    stays = np.diagonal(probability, axis1=-2, axis2=-1)
    np.testing.assert_allclose(by_sample(found["duration"]), 1 / (1 - stays), rtol=1e-10)
    shares = by_sample(found["stationary"])
    np.testing.assert_allclose(np.einsum("soj,sojk->sok", shares, probability), shares, atol=1e-12)
    mean = bm.transitions(fit)
    assert mean["probability"].dims == ("obs_id", "from_expert", "to_expert")
    np.testing.assert_allclose(mean["probability"].values, probability.mean(axis=0), atol=1e-12)


# --- what is refused ------------------------------------------------------------------------------


def test_what_a_chain_does_not_have_is_refused(fit):
    with pytest.raises(bm.SpecError, match="top_k"):
        bm.predict(fit, top_k=2)
    with pytest.raises(bm.SpecError, match="depend on the rows before"):
        bm.plot_gate(fit, "x")
    with pytest.raises(bm.SpecError, match="leave-one-out"):
        bm.compare({"one": fit, "other": fit})
    with pytest.raises(bm.DataError, match="the columns of `time`"):
        bm.predict(fit, pd.DataFrame({"x": [0.0]}))
    backwards = series_table(20).iloc[::-1]
    with pytest.raises(bm.DataError, match="increase within each series"):
        bm.predict(fit, renamed(backwards))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        one = bm.mixture_of_experts("y ~ x", experts=1)
        static = bm.fit(one, series_table(), "em", random_seed=1, progressbar=False)
    for function in (bm.states, bm.state_path, bm.transitions):
        with pytest.raises(bm.SpecError, match="those of a Markov gate"):
            function(static)


def test_weights_that_would_take_too_much_memory_are_refused(fit, monkeypatch):
    monkeypatch.setattr("bayes_moe.model.memory.MOST_BYTES", 100)
    with pytest.raises(bm.SpecError, match="fewer rows"):
        bm.predict(fit).mean()


# --- simulation -----------------------------------------------------------------------------------


def test_simulated_experts_are_a_chain():
    spec = bm.mixture_of_experts("y ~ 1", gate=Markov("~ 1", sticky=0.0), experts=2, time="t")
    rows = pd.DataFrame({"t": np.arange(4000)})
    coef = np.array([[1.0], [-1.0], [-0.3], [0.3]])
    parameters = {"gate_coef": coef, "mu_coef": [[0.0], [5.0]], "sigma": [1.0, 1.0]}
    found = bm.simulate(spec, rows, parameters, random_seed=1, expert_column="k")
    k = found["k"].to_numpy()
    matrix = np.exp(coef.reshape(2, 2))
    matrix /= matrix.sum(axis=1, keepdims=True)
    for j in range(2):
        after = k[1:][k[:-1] == j]
        assert (after == 1).mean() == pytest.approx(matrix[j, 1], abs=0.04)
    assert k.mean() == pytest.approx(markov_chain.stationary(matrix)[1], abs=0.04)

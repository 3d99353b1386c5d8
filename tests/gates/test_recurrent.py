"""Gates that remember features of earlier rows: recurrent ones, and attention to the past."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, log_softmax

import bayes_moe as bm
from bayes_moe.gates import Attention, Recurrent
from bayes_moe.model.evaluation import evaluate
from bayes_moe.predictors.past_attention import PastAttention
from tests.support import contracts
from tests.support.cues import cued
from tests.support.examples import GATES_WITH_MEMORY, series_table

EXAMPLES = {n: g for n, g in GATES_WITH_MEMORY.items() if g.kind != "markov"}
IN_TIME = {"time": "t", "series": "id"}


def spec_of(gate, experts=2, **given):
    settings = IN_TIME | given
    return bm.MixtureOfExperts(gate, [bm.Expert("y ~ x")] * experts, **settings)


@pytest.fixture(scope="module", params=list(EXAMPLES))
def spec(request):
    return spec_of(EXAMPLES[request.param])


@pytest.fixture(scope="module")
def design(spec):
    return spec.design(series_table(40))


@pytest.fixture(scope="module")
def graph(spec, design):
    return bm.build(spec, design)


@pytest.mark.parametrize("check", contracts.GATE, ids=lambda check: check.__name__)
def test_a_gate_with_memory_holds_the_contract(spec, design, graph, check):
    check(spec, design, graph)


def log_weights(spec, design, values):
    return evaluate(spec, values, design.rows).log_weights


def by_loop(cell, z, code, w, u, m):
    """States (obs, unit) of one cell, a row at a time."""
    states = np.zeros((len(z), u.shape[-1]))
    last = {}
    for t, row in enumerate(z):
        h = last.get(code[t], np.zeros(u.shape[-1]))
        if cell == "rnn":
            new = np.tanh(w @ row + u @ h)
        else:
            r, f = (expit(w[j] @ row + u[j] @ h) for j in (0, 1))
            new = (1 - f) * np.tanh(w[2] @ row + r * (u[2] @ h + m)) + f * h
        last[code[t]] = states[t] = new
    return states


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_weights_are_those_of_a_loop_over_the_rows_of_each_series(cell):
    table = series_table(30).sort_values("t", kind="stable")  # rows of the series in turn
    spec = spec_of(Recurrent("~ x", cell=cell, units=3), experts=3)
    design = spec.design(table)
    values = contracts.values_of(spec, design, 2)
    z, code = design.rows.matrices["gate"].standardised, table["id"].to_numpy()
    found = log_weights(spec, design, values)
    for s in range(2):
        m = values["gate_constant"][s] if cell == "gru" else None
        h = by_loop(cell, z, code, values["gate_input"][s], values["gate_recurrent"][s], m)
        coef = values["gate_coef"][s]
        expected = log_softmax(coef[:, :1] + coef[:, 1:] @ h.T, axis=0)
        np.testing.assert_allclose(found[s], expected, atol=1e-10)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_to_the_past_is_a_loop_over_rows_and_lags(heads):
    window, size = 4, 2
    table = series_table(30).sort_values("t", kind="stable")
    spec = spec_of(Attention("~ x", over="past", window=window, heads=heads), experts=3)
    design = spec.design(table)
    values = {n: v[0] for n, v in contracts.values_of(spec, design, 1).items()}
    z, code = design.rows.matrices["gate"].standardised, table["id"].to_numpy()
    eta, seen = np.zeros((3, len(z))), []
    for t, row in enumerate(z):
        own = [s for s in range(t + 1) if code[s] == code[t]][::-1][: window + 1]
        parts = [row[1:]]
        for h in range(heads):
            query, key = values["gate_query"][h] @ row, values["gate_key"][h]
            score = [
                query @ key @ z[s] / size**0.5 + values["gate_lag"][h, lag]
                for lag, s in enumerate(own)
            ]
            weight = np.exp(score) / np.exp(score).sum()
            seen.append(weight)
            parts.append(sum(a * z[s, 1:] for a, s in zip(weight, own, strict=True)))
        coef = values["gate_coef"]
        eta[:, t] = coef[:, 0] + coef[:, 1:] @ np.concatenate(parts)
    found = log_weights(spec, design, {n: v[None] for n, v in values.items()})[0]
    np.testing.assert_allclose(found, log_softmax(eta, axis=0), atol=1e-10)
    b = spec.structure.sites[0][0].bind(design.rows.matrices["gate"])
    shown = PastAttention(window, size, heads).attention(b, {n: v[None] for n, v in values.items()})
    np.testing.assert_allclose(shown[0, 0, 3, : len(seen[3 * heads])], seen[3 * heads], atol=1e-10)
    np.testing.assert_allclose(shown.sum(axis=-1), 1.0)


def test_a_plain_cell_that_does_not_read_its_state_is_a_network():
    table = series_table(30)
    gates = (
        Recurrent("~ x", cell="rnn", units=3),
        bm.gates.Softmax("~ x", predictor=bm.predictors.MLP(hidden=(3,))),
    )
    one, other = (spec_of(gate) for gate in gates)
    values = contracts.values_of(one, one.design(table), 2)
    values["gate_recurrent"] = np.zeros_like(values["gate_recurrent"])
    same = {"gate_hidden0": values["gate_input"], "gate_decay": values["gate_decay"][:, :1]}
    found = log_weights(one, one.design(table), values)
    expected = log_weights(other, other.design(table), {**values, **same})
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_unit_that_forgets_makes_a_static_gate_and_no_coefficients_a_constant_one():
    table, spec = series_table(30), spec_of(Recurrent("~ x", units=2))
    design = spec.design(table)
    values = contracts.values_of(spec, design, 1)
    values["gate_recurrent"] = np.zeros_like(values["gate_recurrent"])
    values["gate_input"][:, 1] = [-800.0, 0.0]  # update gates of zero: nothing is kept
    shuffled = table.assign(t=np.random.default_rng(0).permutation(len(table)), id="a")
    found = log_weights(spec, design, values)
    moved = log_weights(spec, spec.design(shuffled.sort_values("t")), values)
    order = shuffled["t"].argsort().to_numpy()
    np.testing.assert_allclose(moved, found[..., order], atol=1e-12)
    values["gate_coef"][..., 1:] = 0.0
    assert np.ptp(log_weights(spec, design, values), axis=-1).max() == 0.0


# --- fits -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit():
    gate = Recurrent("~ x", units=2)
    settings = {"restarts": 1, "max_iter": 10, "random_seed": 1, "progressbar": False}
    return bm.fit(spec_of(gate), series_table(60), "map", **settings)


def test_rows_that_go_on_are_read_after_the_fitted_ones(fit):
    """The weights of a table that continues series are those of one table of all rows."""
    every = series_table(60)
    later = every.assign(t=every["t"] + every.groupby("id")["t"].transform("max") + 1)
    weights = np.asarray(bm.predict(fit, later).weights())
    both = pd.concat([every, later])
    whole = np.asarray(bm.predict(fit, both).weights())
    np.testing.assert_allclose(weights, whole[-len(weights) :], atol=1e-10)
    apart = np.asarray(bm.predict(fit).weights())
    np.testing.assert_allclose(apart, whole[: len(apart)], atol=1e-10)


def test_features_may_be_responses_of_earlier_rows():
    spec = spec_of(Recurrent("~ x + lag(y, 1)", units=2))
    design = spec.design(series_table(20))
    assert design.rows.matrices["gate"].terms == ("Intercept", "x", "lag(y, 1)")
    assert np.isfinite(
        spec.structure.gate.eta(contracts.values_of(spec, design, 1), design.rows.matrices)
    ).all()


def test_a_fit_is_saved_and_reads_the_same(fit, tmp_path):
    bm.save(fit, tmp_path / "fit.nc")
    again = bm.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(bm.predict(again).mean(), bm.predict(fit).mean())


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("em", {}, "not linear"),
        ("map", {"optimizer": "adam", "batch_size": 8}, "would cut series"),
        ("ensemble", {}, "would cut series"),
        ("advi", {}, "method='laplace'"),
        ("pathfinder", {}, "compiled loops over series"),
        ("nuts", {"nuts_sampler": "numpyro"}, "compiled loops over series"),
    ],
)
def test_methods_that_cannot_read_series_say_so(method, settings, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(
            spec_of(Recurrent("~ x", units=2)), series_table(30), method, random_seed=1, **settings
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recurrent("~ x", cell="lstm"), "lstm"),
        (lambda: Recurrent("~ x", units=0), "`units`"),
        (lambda: Recurrent("~ x", scale="none"), "scale"),
        (lambda: Attention("~ x", over="future"), "over"),
        (lambda: Attention("~ x", window=3), "over='past'"),
        (lambda: Attention("~ x", over="past", window=0), "`window`"),
        (lambda: Attention("~ x", over="past", query="identity"), "identity"),
        (lambda: spec_of(Recurrent("~ x"), time=None, series=None), "order of the rows"),
        (
            lambda: spec_of(Attention("~ x", over="past"), time=None, series=None),
            "order of the rows",
        ),
        (
            lambda: bm.build(spec_of(Recurrent("~ 0 + x")), series_table(30)),
            "with an intercept",
        ),
        (
            lambda: bm.build(spec_of(Attention("~ x", over="past", window=9999)), long_table()),
            "lower `window`",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(bm.SpecError, match=message):
        make()


def long_table():
    return series_table(30_000)


def test_descriptions_round_trip():
    for gate in EXAMPLES.values():
        spec = spec_of(gate)
        assert bm.MixtureOfExperts.from_dict(spec.to_dict()) == spec
    assert (
        repr(Attention("~ x", over="past", window=3)) == "Attention('~ x', over='past', window=3)"
    )


# --- what they learn ------------------------------------------------------------------------------


def accuracy(fit, table, regime):
    """Share of rows whose likeliest expert, given features alone, is that of the regime."""
    weights = bm.predict(fit, table.drop(columns="y")).weights().transpose("expert", ...)
    right = (np.asarray(weights).reshape(2, len(table)).argmax(axis=0) == regime).mean()
    return max(right, 1 - right)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_a_recurrent_gate_remembers_a_cue_that_a_static_one_cannot():
    found = {"recurrent": [], "softmax": []}
    for seed in (1, 2, 3):
        (table, _), (later, regime) = cued(1500, seed), cued(2000, 100 + seed)
        settings = {"random_seed": seed, "progressbar": False}
        for gate in (Recurrent("~ cue"), bm.gates.Softmax("~ cue")):
            spec = bm.MixtureOfExperts(gate, [bm.Expert("y ~ x")] * 2, time="t")
            found[gate.kind].append(accuracy(bm.fit(spec, table, "map", **settings), later, regime))
    assert min(found["recurrent"]) >= 0.95
    assert max(found["softmax"]) < 0.8

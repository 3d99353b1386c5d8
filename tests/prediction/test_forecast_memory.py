"""Forecasts of predictors with memory: step by step as on whole series."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.model.evaluation import evaluate
from bayes_moe.prediction.future_rows import future_rows
from bayes_moe.prediction.simulated_paths import propagated, simulate_paths
from bayes_moe.predictors.past_attention import PastAttention
from bayes_moe.results.fit import Fit
from tests.support.examples import series_table

PATHS, STEPS, DRAWS = 3, 4, 2
GRU = {"predictor": {"mu": bm.predictors.Recurrent(units=2)}}
RNN = {"predictor": {"mu": bm.predictors.Recurrent("rnn", units=2)}}
PAST = {"predictor": {"mu": PastAttention(window=3, heads=2)}}
MODELS = {
    "gru gate": (bm.gates.Recurrent("~ x + lag(y, 1)", units=3), "y ~ x", {}),
    "rnn gate": (bm.gates.Recurrent("~ x + I(lag(y, 2)**2)", cell="rnn", units=2), "y ~ x", {}),
    "attention gate": (bm.gates.Attention("~ x + lag(y, 1)", over="past", window=3), "y ~ x", {}),
    "gru experts": (bm.gates.Softmax("~ lag(y, 1)"), "y ~ x + lag(y, 1)", GRU),
    "rnn experts": (bm.gates.Recurrent("~ x", units=2), "y ~ lag(y, 1)", RNN),
    "attention of experts": (bm.gates.Softmax("~ x"), "y ~ x + lag(y, 1)", PAST),
    "Markov gate, gru experts": (bm.gates.Markov("~ x"), "y ~ x + lag(y, 1)", GRU),
}


def described(name):
    gate, formula, settings = MODELS[name]
    experts = [bm.Expert(formula, **settings)] * 2
    return bm.MixtureOfExperts(gate, experts, time="t", series="id")


def drawn_values(spec, design, samples=DRAWS):
    """Reported variables (sample, ...), random."""
    rng, structure = np.random.default_rng(1), spec.structure
    values, coords = {}, structure.coords(design)
    for name, dims in structure.dims.items():
        value = 0.6 * rng.standard_normal((samples, *[len(coords[d]) for d in dims]))
        values[name] = np.exp(value) if structure.supports.get(name) == "positive" else value
    return values


def unfitted(spec, steps):
    """A fit without draws, rows ahead, and values in place of draws."""
    table = series_table(24)
    design = spec.design(table)
    last = table.groupby("id")["t"].max()
    x = np.random.default_rng(5).uniform(-2, 2, (2, steps))
    ahead = [
        pd.DataFrame({"t": last[s] + 1 + np.arange(steps), "id": s, "x": x[j]})
        for j, s in enumerate("ab")
    ]
    return Fit(spec, design, None), pd.concat(ahead), drawn_values(spec, design)


@pytest.fixture(scope="module", params=list(MODELS))
def case(request):
    """Fit, rows ahead, values, and what is simulated of them."""
    fit, ahead, values = unfitted(described(request.param), STEPS)
    future = future_rows(fit, STEPS, ahead, None, "error")
    stored = simulate_paths(fit, future, values, PATHS, np.random.default_rng(3))
    return fit, ahead, values, stored


def test_each_step_of_a_path_is_the_model_on_a_table_that_has_its_responses(case):
    """Weights of experts and their densities, of every draw and path."""
    fit, ahead, values, stored = case
    for draw in range(DRAWS):
        own = {n: v[draw : draw + 1] for n, v in values.items()}
        for path in range(draw * PATHS, (draw + 1) * PATHS):
            table = ahead.assign(y=stored.responses[path])
            rows = fit.design.transform(table, with_response=True)
            whole, step = evaluate(fit.spec, own, rows), stored.mixture.take_samples([path])
            np.testing.assert_allclose(step.log_weights, whole.log_weights, atol=1e-10)
            of_step, expected = (m.log_components(rows.response) for m in (step, whole))
            np.testing.assert_allclose(of_step, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("features", ["x", "lag(y, 1)"])
def test_a_markov_gate_beside_experts_with_memory_moves_on_after_the_last_row(features):
    """Without responses ahead to look back at, its weights are the model's of these rows."""
    expert = bm.Expert(f"y ~ {features}", **GRU)
    spec = bm.MixtureOfExperts(bm.gates.Markov("~ x"), [expert] * 2, time="t", series="id")
    fit, ahead, values = unfitted(spec, 1)
    future = future_rows(fit, 1, ahead, None, "error")
    assert not future.feedback
    found = propagated(fit, future, values).mixture
    whole = evaluate(spec, values, fit.design.transform(ahead))
    np.testing.assert_allclose(found.log_weights, whole.log_weights, atol=1e-10)
    np.testing.assert_allclose(found.params[0]["mu"], whole.params[0]["mu"], atol=1e-10)

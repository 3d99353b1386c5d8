"""Laplace's method for models that EM cannot treat: through the graph, on the last layer."""

import json

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.inference.laplace import Laplace

LINEAR = bm.mixture_of_experts("y ~ x", experts=2)
GATE = bm.gates.Softmax("~ x", predictor=bm.predictors.MLP((4,)))
NETWORK = bm.mixture_of_experts("y ~ x", gate=GATE, experts=2)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, 300)
    y = np.where(rng.random(300) < np.where(np.abs(x) < 0.5, 0.9, 0.1), 1 + x, 9 - x)
    return pd.DataFrame({"x": x, "y": y + rng.normal(0, 0.5, 300)})


@pytest.fixture(scope="module")
def fit(table):
    return bm.fit(NETWORK, table, method="laplace", draws=300, restarts=1, random_seed=1)


def test_a_linear_model_has_the_same_approximation_through_the_graph(table):
    method = Laplace(draws=200, restarts=4)
    plain = method.run(LINEAR, LINEAR.design(table), 1)
    graph = method._by_gradient(LINEAR, LINEAR.design(table), 1)
    for name in LINEAR.variables:
        ours, theirs = (t["standard_error"][name].values for t in (graph, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)
        ours, theirs = (t["modes"][name].values[0] for t in (graph, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
        ours, theirs = (t["posterior"][name].std(("chain", "draw")).values for t in (graph, plain))
        np.testing.assert_allclose(ours, theirs, rtol=0.2)
    ours, theirs = (np.median(t["sample_stats"]["log_weight"].values) for t in (graph, plain))
    np.testing.assert_allclose(ours, theirs, atol=0.2)


def test_hidden_weights_are_held(fit):
    posterior, errors = fit.idata["posterior"], fit.idata["standard_error"]
    hidden = posterior["gate_hidden0"].values
    assert np.ptp(hidden, axis=(0, 1)).max() == 0
    assert np.isnan(errors["gate_hidden0"]).all()
    assert np.isnan(errors["gate_decay"]).all()
    held = json.loads(fit.idata["fit"].attrs["held"])
    assert "gate_hidden0" in held
    assert "gate_coef" not in held
    for name in ("gate_coef", "mu_coef", "sigma"):
        draws = posterior[name]
        assert np.isfinite(draws).all()
        np.testing.assert_allclose(draws.std(("chain", "draw")), errors[name], rtol=0.2)


def test_the_fit_has_weights_and_predicts(fit):
    assert np.isfinite(float(fit.idata["fit"]["pareto_k"]))
    assert fit.idata["sample_stats"]["log_weight"].shape == (4, 300)
    assert np.isfinite(bm.predict(fit, {"x": [-0.9, 0.0, 0.9]}).interval(0.9)).all()


def test_all_weights_can_move(table):
    spec = bm.mixture_of_experts(
        "y ~ x", gate=bm.gates.Softmax("~ x", predictor=bm.predictors.MLP((2,))), experts=2
    )
    method = Laplace(draws=50, restarts=4, weights="all")
    tree = method.run(spec, spec.design(table), 1)
    assert np.ptp(tree["posterior"]["gate_hidden0"].values, axis=(0, 1)).min() > 0
    assert np.isfinite(tree["standard_error"]["gate_hidden0"]).all()


def test_settings_are_checked(table):
    with pytest.raises(bm.SpecError, match="Did you mean 'last'"):
        Laplace(weights="lst")
    with pytest.raises(bm.SpecError, match="this one is not"):
        bm.fit(NETWORK, table, method="laplace", start={})

"""Label alignment: planted switches are found, undone, and never invented."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.results import relabelling
from tests.support.fits import fake_fit, parallel_lines


def switch_labels(fit, seed=1):
    """The fit with random labels in every draw, and those labels."""
    sizes = fit.idata["posterior"].sizes
    k = fit.spec.n_experts
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(k), (sizes["chain"], sizes["draw"], 1)), axis=-1)
    tree = fit.idata.copy()
    posterior = relabelling.permute(fit.idata["posterior"].to_dataset(), fit.spec, order)
    tree["posterior"] = type(tree)(posterior)
    return bm.Fit(fit.spec, fit.design, tree), order


@pytest.mark.parametrize("method", ["responsibilities", "parameters"])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_planted_switches_are_undone(k, method):
    spec, table, parameters = parallel_lines(k)
    original = fake_fit(spec, table, parameters, spread=0.03)
    switched, order = switch_labels(original)
    assert not np.array_equal(
        switched.idata["posterior"]["mu_coef"], original.idata["posterior"]["mu_coef"]
    )
    aligned = bm.relabel(switched, method)
    for name in spec.variables:  # lines are already in the order of their location
        np.testing.assert_array_equal(
            aligned.idata["posterior"][name].values, original.idata["posterior"][name].values
        )
    found = aligned.idata["relabelling"]["permutation"].values
    np.testing.assert_array_equal(
        np.take_along_axis(order, found, -1), np.broadcast_to(np.arange(k), order.shape)
    )
    assert float(aligned.idata["relabelling"]["certainty"].min()) > 0.98
    assert aligned.idata["relabelling"].attrs["method"] == method


def test_relabelling_can_be_undone_and_leaves_the_fit_alone():
    spec, table, parameters = parallel_lines(3)
    switched, _ = switch_labels(fake_fit(spec, table, parameters))
    before = switched.idata.copy(deep=True)
    back = bm.relabel(bm.relabel(switched), "none")
    assert "relabelling" not in back.idata.children
    assert before.identical(switched.idata)
    for name in spec.variables:
        np.testing.assert_array_equal(
            back.idata["posterior"][name].values, before["posterior"][name].values
        )
    np.testing.assert_array_equal(
        bm.relabel(bm.relabel(switched)).idata["posterior"]["mu_coef"].values,
        bm.relabel(switched).idata["posterior"]["mu_coef"].values,
    )


def test_summary_and_verdict_see_the_aligned_labels():
    spec, table, parameters = parallel_lines(2)
    switched, _ = switch_labels(fake_fit(spec, table, parameters, chains=4, draws=500))
    crossed = bm.summary(switched, "mu_coef", round_to="none")
    aligned = bm.summary(bm.relabel(switched), "mu_coef", round_to="none")
    assert crossed["sd"].max() > 1
    assert aligned["sd"].max() < 0.1
    assert aligned["r_hat"].max() < 1.01
    assert bm.diagnose(bm.relabel(switched)).ok


def test_labels_that_do_not_matter_are_uncertain():
    """Two experts with the same parameters: any labels are as good as any other."""
    spec, table, parameters = parallel_lines(2)
    same = {
        name: np.repeat(v.mean(axis=0, keepdims=True), 2, axis=0) for name, v in parameters.items()
    }
    aligned = bm.relabel(fake_fit(spec, table, same, spread=0.05))
    certainty = aligned.idata["relabelling"]["certainty"].values
    assert certainty.min() >= 0.5
    assert certainty.mean() < 0.9
    assert any("Labels are certain" in p for p in bm.diagnose(aligned).problems)


def test_only_experts_of_one_kind_trade_labels():
    """Two lines and a parabola: the parabola keeps its place, the lines are aligned."""
    rng = np.random.default_rng(3)
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ 1"),
        [
            bm.Expert("y ~ x", name="line"),
            bm.Expert("y ~ x + I(x**2)", family="studentt", name="bend"),
            bm.Expert("y ~ x", name="line"),
        ],
    )
    parameters = {
        "gate_coef": np.zeros((3, 1)),
        "line_mu_coef": np.array([[-4.0, 0.2], [4.0, -0.2]]),
        "line_sigma": np.array([0.4, 0.3]),
        "bend_mu_coef": np.array([[0.0, 0.0, 1.0]]),
        "bend_sigma": np.array([0.3]),
        "bend_nu": np.array([8.0]),
    }
    table = bm.simulate(spec, {"x": rng.uniform(-1, 1, 150)}, parameters, random_seed=3)
    original = fake_fit(spec, table, parameters)
    assert original.idata["posterior"]["line_mu_coef"].dims[2] == "line_expert"
    order = np.array([[1, 0, 2]])[:, None] * np.ones((2, 50, 1), dtype=int)
    tree = original.idata.copy()
    tree["posterior"] = type(tree)(relabelling.permute(tree["posterior"].to_dataset(), spec, order))
    aligned = bm.relabel(bm.Fit(spec, original.design, tree))
    np.testing.assert_array_equal(aligned.idata["relabelling"]["permutation"].values, order)
    for name in spec.variables:
        np.testing.assert_array_equal(
            aligned.idata["posterior"][name].values, original.idata["posterior"][name].values
        )


def test_predictions_do_not_depend_on_labels():
    spec, table, parameters = parallel_lines(3)
    original = fake_fit(spec, table, parameters)
    switched, _ = switch_labels(original)
    for read in ("mean", "sd"):
        a, b = (getattr(bm.predict(f, {"x": [-0.5, 0.5]}), read)() for f in (original, switched))
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_one_expert_and_unknown_methods():
    spec = bm.mixture_of_experts("y ~ x", experts=1)
    table = pd.DataFrame({"x": np.arange(20.0), "y": np.arange(20.0) ** 1.1})
    fit = fake_fit(spec, table, {"mu_coef": [[0.0, 1.0]], "sigma": [1.0]})
    assert names.RELABELLING not in bm.relabel(fit).idata.children
    with pytest.raises(bm.SpecError, match="Did you mean 'parameters'"):
        bm.relabel(fit, "parameter")

"""The plot of a prior predictive."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

import bayes_moe as bm


@pytest.fixture(scope="module")
def table():
    x = np.linspace(0, 1, 30)
    return pd.DataFrame({"x": x, "y": 1 + x**2})


@pytest.fixture(scope="module")
def prior(table):
    spec = bm.mixture_of_experts("y ~ x", experts=3)
    return bm.prior_predictive(spec, table, draws=60, random_seed=1)


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def axes_of(pc):
    return {name: pc.viz["plot"][name].item() for name in pc.viz["plot"].data_vars}


@pytest.mark.parametrize("backend", ["matplotlib", "none"])
def test_there_is_a_panel_for_the_response_and_two_for_the_gate(prior, backend):
    pc = bm.plot_prior_predictive(prior, backend=backend)
    assert [*pc.viz["plot"].data_vars] == ["response", "effective_experts", "gate_entropy"]


def test_lines_are_distribution_functions_and_bars_shares(prior):
    axes = axes_of(bm.plot_prior_predictive(prior, draws=7, backend="matplotlib"))
    *drawn, observed = axes["response"].get_lines()
    assert len(drawn) == 7
    y = prior.observed
    np.testing.assert_allclose(observed.get_xdata()[[0, 200, 400]], np.sort(y)[[0, 14, 29]])
    np.testing.assert_allclose(observed.get_ydata(), np.linspace(0, 1, 401))
    low, high = axes["response"].get_xlim()
    assert low < y.min() < y.max() < high
    assert high - low < 5 * np.ptp(y)
    assert "outside" in axes["response"].get_title()
    for name, most in (("effective_experts", 3), ("gate_entropy", np.log(3))):
        assert axes[name].get_xlim()[1] == pytest.approx(most, rel=0.04)
        (mean,) = axes[name].get_lines()
        values = prior.idata["sample_stats_prior"][name].values
        assert mean.get_xdata()[0] == pytest.approx(values.mean())


def test_one_expert_has_no_gate_to_show(table):
    spec = bm.mixture_of_experts("y ~ x", experts=1)
    prior = bm.prior_predictive(spec, table, draws=5, random_seed=1)
    axes = axes_of(bm.plot_prior_predictive(prior, draws=50, backend="matplotlib"))
    assert [*axes] == ["response"]
    assert len(axes["response"].get_lines()) == 6


def test_infinite_responses_end_outside_the_panel(table):
    priors = {"mu_coef": bm.Prior("Normal", sigma=2000)}
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="gamma", priors=priors)
    prior = bm.prior_predictive(spec, table, draws=20, random_seed=1)
    axes = axes_of(bm.plot_prior_predictive(prior, backend="matplotlib"))
    for line in axes["response"].get_lines():
        assert np.isfinite(line.get_xdata()).all()


def test_parts_can_be_left_out_and_changed(prior):
    visuals = {"hist": False, "observed_line": {"color": "red"}, "title": False, "legend": False}
    pc = bm.plot_prior_predictive(prior, visuals=visuals, backend="matplotlib")
    axes = axes_of(pc)
    assert axes["response"].get_lines()[-1].get_color() == "red"
    assert axes["response"].get_title() == ""
    assert not axes["gate_entropy"].patches
    assert "legend" not in pc.viz.children


def test_few_values_have_intervals_of_their_shares(table):
    table = table.assign(y=np.arange(30) % 3 % 2)
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="bernoulli")
    prior = bm.prior_predictive(spec, table, draws=30, random_seed=1)
    axes = axes_of(bm.plot_prior_predictive(prior, backend="matplotlib"))["response"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]
    zero, one, seen_zero, seen_one = axes.get_lines()
    shares = (prior.drawn == 0).mean(axis=-1)
    np.testing.assert_allclose(zero.get_ydata(), np.quantile(shares, [0.05, 0.95]))
    np.testing.assert_allclose(one.get_ydata(), np.quantile(1 - shares, [0.05, 0.95]))
    assert seen_zero.get_ydata()[0] == pytest.approx(2 / 3)
    assert seen_one.get_ydata()[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"visuals": {"histo": False}}, "Did you mean 'hist'"),
        ({"draws": 0}, "draws"),
        ({"figure_kwarg": {}}, "Did you mean 'figure_kwargs'"),
    ],
)
def test_what_it_refuses(prior, wrong, says):
    with pytest.raises(bm.SpecError, match=says):
        bm.plot_prior_predictive(prior, **wrong, backend="none")
    with pytest.raises(bm.SpecError, match=r"takes the result of bm\.prior_predictive"):
        bm.plot_prior_predictive({}, backend="none")

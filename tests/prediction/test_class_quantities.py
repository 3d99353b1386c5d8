"""Probabilities of classes, their intervals and entropies, against sums over draws and experts."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.core import registry
from bayes_moe.core.errors import SpecError
from bayes_moe.model import evaluation
from bayes_moe.prediction import class_quantities
from tests.support import class_families
from tests.support.fits import fake_fit

LEVELS = ("bad", "fair", "good")
TWO = {"gate_coef": [[0.5, 1.0], [-0.5, -1.0]], "p_coef": [[0.5, 2.0], [-1.0, -1.0]]}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setitem(registry.TABLE, "family", registry.TABLE["family"] | class_families.ROWS)


def made(family="kinds", levels=LEVELS, spread=0.3, draws=25):
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"x": rng.normal(size=30)})
    spec = bm.mixture_of_experts("y ~ x", family=family, levels=levels)
    table["y"] = bm.simulate(spec, table, TWO, random_seed=1)["y"]
    return fake_fit(spec, table, TWO, draws=draws, spread=spread)


ROWS = pd.DataFrame({"x": [-3.0, -0.4, 0.0, 1.5]}, index=list("abcd"))


def by_hand(fit, rows=ROWS):
    """Probabilities of experts and classes (chain, draw, obs, expert, class), and gate weights."""
    posterior = fit.idata["posterior"]
    x = np.column_stack([np.ones(len(rows)), rows["x"]])
    eta = posterior["p_coef"].values @ x.T  # (chain, draw, expert, obs)
    trials = len(fit.design.levels) - 1
    y = np.arange(trials + 1)
    p = special.expit(eta).transpose(0, 1, 3, 2)[..., None]
    weights = special.softmax(posterior["gate_coef"].values @ x.T, axis=2).transpose(0, 1, 3, 2)
    return stats.binom.pmf(y, trials, p), weights


@pytest.mark.parametrize(("family", "levels"), [("kinds", LEVELS), ("bernoulli", ("no", "yes"))])
def test_probabilities_are_sums_over_experts_and_draws(family, levels):
    fit = made(family, levels)
    of_experts, weights = by_hand(fit)
    each = np.einsum("cdoek,cdoe->cdok", of_experts, weights)
    predictive = bm.predict(fit, ROWS)
    found = predictive.probabilities()
    assert found.dims == ("obs_id", "class")
    assert found["class"].values.tolist() == list(levels)
    assert found["obs_id"].values.tolist() == list("abcd")
    np.testing.assert_allclose(found, each.mean(axis=(0, 1)), rtol=1e-11)
    draws = predictive.probabilities(draws=True)
    assert draws.dims == ("chain", "draw", "obs_id", "class")
    np.testing.assert_allclose(draws, each, rtol=1e-11)
    experts = predictive.expert_probabilities()
    assert experts.dims == ("obs_id", "expert", "class")
    np.testing.assert_allclose(experts, of_experts.mean(axis=(0, 1)), rtol=1e-11)
    kept = predictive.expert_probabilities(draws=True)
    assert kept.dims == ("chain", "draw", "obs_id", "expert", "class")
    np.testing.assert_allclose(kept, of_experts, rtol=1e-11)
    interval = predictive.probability_interval(0.8)
    assert interval.dims == ("obs_id", "class", "ci_bound")
    expected = np.quantile(each.reshape(-1, *each.shape[2:]), [0.1, 0.9], axis=0)
    np.testing.assert_allclose(interval, expected.transpose(1, 2, 0), rtol=1e-10)
    best = np.array(levels)[each.mean(axis=(0, 1)).argmax(axis=1)]
    assert predictive.classes().values.tolist() == best.tolist()
    assert "class" not in predictive.classes().coords


def test_entropy_is_that_of_the_mean_and_its_parts():
    fit = made()
    of_experts, weights = by_hand(fit)
    each = np.einsum("cdoek,cdoe->cdok", of_experts, weights).reshape(-1, 4, 3)
    mean = each.mean(axis=0)
    found = bm.predict(fit, ROWS).entropy()
    np.testing.assert_allclose(found["entropy"], stats.entropy(mean, axis=1), rtol=1e-11)
    np.testing.assert_allclose(
        found["expected_entropy"], stats.entropy(each, axis=2).mean(axis=0), rtol=1e-11
    )
    divergence = stats.entropy(each, mean, axis=2).mean(axis=0)
    np.testing.assert_allclose(found["mutual_information"], divergence, rtol=1e-8)
    certain = bm.predict(made(spread=0.0), ROWS).entropy()
    np.testing.assert_allclose(certain["mutual_information"], 0, atol=1e-15)


def test_impossible_classes_have_no_entropy():
    fit = made("bernoulli", ("no", "yes"))
    found = bm.predict(fit, pd.DataFrame({"x": [2000.0]}))
    assert found.probabilities().sum() == pytest.approx(1)
    assert np.isfinite(found.entropy().to_array()).all()


def test_chunks_of_rows_change_nothing(monkeypatch):
    def figures(predictive):
        yield predictive.probabilities()
        yield predictive.probability_interval(0.9)
        yield predictive.expert_probabilities(draws=True)
        yield predictive.entropy().to_array()

    fit = made()
    whole = list(figures(bm.predict(fit)))
    monkeypatch.setattr(evaluation, "CHUNK_ELEMENTS", 7 * 50 * 2)
    for a, b in zip(whole, figures(bm.predict(fit)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_zeros_and_ones_are_classes_too():
    fit = made("bernoulli", None)
    assert fit.design.levels is None
    found = bm.predict(fit, ROWS)
    assert found.probabilities()["class"].values.tolist() == [0, 1]
    np.testing.assert_allclose(found.probabilities().sel({"class": 1}), found.mean(), rtol=1e-11)
    truth = made("bernoulli", (False, True))
    assert bm.predict(truth, ROWS).classes().dtype == bool


def test_few_experts_and_no_rows():
    fit = made()
    sparse = bm.predict(fit, ROWS, top_k=1).probabilities()
    of_experts, weights = by_hand(fit)
    best = np.take_along_axis(of_experts, weights.argmax(axis=-1)[..., None, None], axis=3)
    np.testing.assert_allclose(sparse, best[:, :, :, 0].mean(axis=(0, 1)), rtol=1e-11)
    none = bm.predict(fit, {"x": []})
    assert none.probabilities().shape == (0, 3)
    assert none.probability_interval(0.5).shape == (0, 3, 2)
    assert none.classes().shape == (0,)
    assert none.entropy()["entropy"].shape == (0,)


def test_other_responses_have_no_classes():
    spec = bm.mixture_of_experts("y ~ x", family="poisson")
    table = pd.DataFrame({"x": np.linspace(-1, 1, 20), "y": np.arange(20)})
    truth = {"gate_coef": np.zeros((2, 2)), "mu_coef": np.ones((2, 2))}
    predictive = bm.predict(fake_fit(spec, table, truth))
    for name in ("probabilities", "probability_interval", "classes", "entropy",
                 "expert_probabilities"):  # fmt: skip
        with pytest.raises(SpecError, match=r"is a number under family 'poisson'; .*'bernoulli'"):
            getattr(predictive, name)()


def test_codes_of_classes_without_an_order_have_no_mean():
    unordered, ordered = (bm.predict(made(f), ROWS) for f in ("kinds", "grades"))
    for name, arguments, instead in (
        ("mean", (), "probabilities"),
        ("sd", (), "entropy"),
        ("interval", (0.9,), "probability_interval"),
        ("quantile", (0.5,), "probability_interval"),
        ("hdr", (0.9,), "probabilities"),
        ("modes", (), "classes"),
        ("expert_means", (), "expert_probabilities"),
        ("expert_locations", (), "expert_probabilities"),
    ):
        with pytest.raises(SpecError, match=rf"have no order, and so no .*: use {instead}\(\)"):
            getattr(unordered, name)(*arguments)
        getattr(ordered, name)(*arguments)
    assert unordered.sample(5).shape == (5, 4)


def test_the_view_has_classes():
    shown = bm.predict(made(), ROWS)._repr_html_()
    assert ">class</" in shown
    assert any(level in shown for level in LEVELS)


def categorical_fit(constant):
    """Experts of two kinds, so that there are several blocks."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"x": rng.normal(size=60), "y": rng.permutation(np.resize(LEVELS, 60))})
    formula = "y ~ 1" if constant else "y ~ x"
    first = [bm.Expert(formula, "categorical", name, levels=LEVELS) for name in ("a", "b")]
    other = bm.Expert("y ~ I(x**2)", "categorical", "c", levels=LEVELS)
    spec = bm.MixtureOfExperts(bm.gates.Softmax("~ x"), [*first, other])
    return bm.fit(spec, table, "laplace", draws=10, restarts=2, random_seed=1)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
@pytest.mark.parametrize("constant", [False, True])
def test_all_classes_at_once_are_one_after_the_other(constant, monkeypatch):
    """Densities of one class after the other are the oracle of a softmax over all."""
    fit = categorical_fit(constant)
    for k in (None, 2):
        predictive = bm.predict(fit, ROWS, top_k=k)
        at_once = predictive.probabilities(), predictive.expert_probabilities(draws=True)
        with monkeypatch.context() as patched:
            patched.setattr(class_quantities, "_at_once", lambda mixture: False)
            by_class = predictive.probabilities(), predictive.expert_probabilities(draws=True)
        for one, other in zip(at_once, by_class, strict=True):
            assert one.dims == other.dims
            np.testing.assert_allclose(one, other, rtol=1e-11)
        np.testing.assert_allclose(at_once[0].sum("class"), 1, rtol=1e-12)

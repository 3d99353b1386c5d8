"""Prior predictive: against densities and gates, for every piece, and what it prints."""

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.diagnostics import prior_predictive as module
from bayes_moe.model.evaluation import evaluate
from bayes_moe.results.draws import stacked_draws
from tests.support.examples import (
    FAMILIES,
    GATE_EXPERTS,
    GATES,
    PREDICTORS,
    PREDICTORS_WITHOUT_GRADIENT,
    gate_table,
)

N, DRAWS = 50, 40


def family_table(family):
    rng = np.random.default_rng(3)
    x, n = rng.normal(0, 1, N), rng.integers(5, 30, N)
    y = FAMILIES[family].response(2 * x + rng.normal(0, 1, N), rng.poisson(np.exp(1 + x / 2)), n)
    return pd.DataFrame({"x": x, "n": n, "y": y})


def check_groups(prior, table):
    """Shapes, and the gate's figures from the weights of all draws and rows."""
    spec, tree = prior.spec, prior.idata
    shape = (1, DRAWS, len(table))
    assert tree["prior_predictive"]["y"].shape == shape
    assert tree["prior_predictive"]["y"].dims == ("chain", "draw", "obs_id")
    np.testing.assert_array_equal(tree["observed_data"]["y"], table["y"])
    dataset = tree["prior"].to_dataset()
    assert {*spec.variables} <= {*dataset.data_vars}
    mixture = evaluate(spec, stacked_draws(spec, dataset), spec.design(table).rows)
    weights = np.exp(mixture.log_weights)  # (draw, expert, obs)
    figures = tree["sample_stats_prior"].to_dataset().isel(chain=0)
    share = weights.mean(axis=-1)
    np.testing.assert_allclose(figures["share"], share, rtol=1e-12)
    effective = np.exp(stats.entropy(share, axis=-1))
    np.testing.assert_allclose(figures["effective_experts"], effective, rtol=1e-12)
    entropy = stats.entropy(weights, axis=1).mean(axis=-1)
    np.testing.assert_allclose(figures["gate_entropy"], entropy, rtol=1e-10, atol=1e-12)
    for text in (repr(prior), prior._repr_html_()):
        assert spec.response in text
        assert "outside the observed range" in text
        assert ("effective experts" in text) == (spec.n_experts > 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family):
    table = family_table(family)
    options = FAMILIES[family].options
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=family, **options)
    prior = bm.prior_predictive(spec, table, draws=DRAWS, random_seed=1)
    check_groups(prior, table)
    assert prior.drawn.dtype.kind == ("i" if spec.structure.discrete else "f")
    # Each response is possible under the draw that it was drawn with.
    mixture = evaluate(
        spec,
        stacked_draws(spec, prior.idata["prior"].to_dataset()),
        spec.design(table).rows,
    )
    for s in range(5):
        density = mixture.take_samples(np.array([s])).log_density(prior.drawn[s].astype(float))
        assert np.isfinite(density[np.isfinite(prior.drawn[s])[None]]).all()


@pytest.mark.parametrize("name", GATES)
def test_every_gate(name):
    table = gate_table()
    spec = bm.mixture_of_experts("y ~ x", gate=GATES[name], experts=GATE_EXPERTS)
    check_groups(bm.prior_predictive(spec, table, draws=DRAWS, random_seed=1), table)


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor(name):
    predictor, columns = PREDICTORS[name]
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(5, 2, (N, columns)), columns=[f"x{j}" for j in range(columns)])
    table = table.assign(y=rng.normal(size=N), t=np.arange(N))
    formula = " + ".join(f"x{j}" for j in range(columns))
    spec = bm.mixture_of_experts(
        f"y ~ {formula}", gate="~ x0", experts=2, predictor=predictor, time="t"
    )
    check_groups(bm.prior_predictive(spec, table, draws=DRAWS, random_seed=1), table)


def test_responses_follow_the_prior():
    """The sum of independent normals is normal."""
    table = pd.DataFrame({"x": np.linspace(-1, 1, 21), "y": np.linspace(0, 1, 21)})
    priors = {"mu_coef": bm.Prior("Normal", mu=[1, 2], sigma=[0.5, 3])}
    priors["sigma"] = bm.Prior("LogNormal", mu=0, sigma=1e-6)
    spec = bm.mixture_of_experts("y ~ x", experts=1, priors=priors)
    prior = bm.prior_predictive(spec, table, draws=4000, random_seed=1)
    for j in (0, 10, 20):
        x = table["x"][j]
        law = stats.norm(1 + 2 * x, np.sqrt(0.5**2 + (3 * x) ** 2 + 1))
        assert stats.kstest(prior.drawn[:, j], law.cdf).pvalue > 1e-3
    assert prior.gate.loc["effective experts"].tolist() == [1, 1, 1, 1]
    assert prior.outside["below"] == (prior.drawn < 0).mean()
    assert prior.outside["above"] == (prior.drawn > 1).mean()
    quantile = prior.response.loc["prior", "25%"]
    assert quantile == pytest.approx(np.quantile(prior.drawn, 0.25), abs=1e-3)
    assert prior.response.loc["observed", "50%"] == 0.5


def test_a_seed_gives_the_same_draws(tone, tone_spec):
    first, second, other = (
        bm.prior_predictive(tone_spec, tone, draws=5, random_seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.drawn, second.drawn)
    assert not np.array_equal(first.drawn, other.drawn)
    assert len(bm.prior_predictive(tone_spec, tone, draws=1).drawn) == 1


def test_few_values_are_described_by_their_shares():
    table = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40) % 4 // 3})
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="bernoulli")
    prior = bm.prior_predictive(spec, table, draws=DRAWS, random_seed=1)
    assert prior.response.index.tolist() == ["0", "1"]
    assert prior.response["observed"].tolist() == [0.75, 0.25]
    assert prior.response.loc["1", "prior"] == pytest.approx(prior.drawn.mean())
    counts = bm.mixture_of_experts("y ~ x", experts=2, family="poisson")
    others = bm.prior_predictive(counts, table, draws=DRAWS, random_seed=1)
    assert others.response.index.tolist() == ["0", "1", "other"]
    assert others.response.loc["other", "prior"] == pytest.approx((others.drawn > 1).mean())
    assert others.response["prior"].sum() == pytest.approx(1)


def test_classes_are_named():
    labels = np.array(["a", "b", "c"])
    table = pd.DataFrame({"x": np.arange(40.0), "y": labels[np.arange(40) % 4 % 3]})
    family = {"kind": "categorical", "levels": ["a", "b", "c", "never"]}
    spec = bm.mixture_of_experts("y ~ x", experts=2, family=family)
    prior = bm.prior_predictive(spec, table, draws=DRAWS, random_seed=1)
    assert prior.response.index.tolist() == ["a", "b", "c", "never"]
    assert prior.response["observed"].tolist() == [0.5, 0.25, 0.25, 0.0]
    assert prior.response.loc["never", "prior"] == pytest.approx((prior.drawn == 3).mean())
    for text in (repr(prior), prior._repr_html_()):
        assert "never" in text
        assert "range" not in text
    of_table = bm.mixture_of_experts("y ~ x", experts=2, family="categorical")
    found = bm.prior_predictive(of_table, table, draws=5, random_seed=1)
    assert found.levels == ("a", "b", "c")
    assert found.response.index.tolist() == ["a", "b", "c"]


def test_responses_that_overflow_are_counted():
    table = pd.DataFrame({"x": np.linspace(0, 1, N), "y": np.linspace(1, 2, N)})
    priors = {"mu_coef": bm.Prior("Normal", sigma=2000)}
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="gamma", priors=priors)
    prior = bm.prior_predictive(spec, table, draws=DRAWS, random_seed=1)
    assert 0.1 < prior.outside["not finite"] < 0.9
    assert prior.outside["far"] >= prior.outside["not finite"] - 1e-9
    assert "not finite" in repr(prior)
    assert not prior.response.isna().any(axis=None)


def test_of_a_long_table_every_other_row_is_drawn(monkeypatch, tone, tone_spec):
    monkeypatch.setattr(module, "LARGEST", 75 * DRAWS)
    prior = bm.prior_predictive(tone_spec, tone, draws=DRAWS, random_seed=1)
    assert prior.observed.tolist() == tone["tuned"][::2].tolist()
    assert prior.drawn.shape == (DRAWS, 75)
    assert "75 of 150 rows" in repr(prior)


def test_arviz_reads_the_tree(tone, tone_spec, tmp_path):
    prior = bm.prior_predictive(tone_spec, tone, draws=DRAWS, random_seed=1)
    assert {*prior.idata.children} >= {"prior", "prior_predictive", "observed_data"}
    assert az.summary(prior.idata["prior"].to_dataset(), var_names=["sigma"]).shape[0] == 2
    prior.idata.to_netcdf(tmp_path / "prior.nc")
    assert prior.idata["prior"].attrs[names.RESPONSE_TERM] == "tuned"


def test_shares_are_by_expert(tone):
    gate = bm.gates.StickBreaking("~ stretchratio")
    spec = bm.mixture_of_experts("tuned ~ stretchratio", gate=gate, experts=4)
    prior = bm.prior_predictive(spec, tone, draws=200, random_seed=1)
    assert prior.shares.index.name == "expert"
    assert prior.shares.sum() == pytest.approx(1)
    assert prior.shares.iloc[0] > prior.shares.iloc[2]  # sticks favour the first experts


def test_what_it_refuses(tone, tone_spec):
    with pytest.raises(bm.SpecError, match="draws"):
        bm.prior_predictive(tone_spec, tone, draws=0)
    with pytest.raises(bm.DataError, match="tuned"):
        bm.prior_predictive(tone_spec, tone.drop(columns="tuned"))
    bart = PREDICTORS_WITHOUT_GRADIENT["bart"]
    trees = bm.mixture_of_experts("tuned ~ stretchratio", experts=2, predictor=bart)
    with pytest.raises(bm.SpecError, match="no prior density"):
        bm.prior_predictive(trees, tone)

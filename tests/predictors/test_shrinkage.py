"""Shrinkage priors of a gate: features that decide keep their slopes, others fade."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.gates import Softmax
from bayes_moe.predictors import R2D2, Horseshoe, NormalGamma
from tests.support.graphs import internal_graph

KINDS = {"horseshoe": Horseshoe(), "r2d2": R2D2(), "normalgamma": NormalGamma()}
NOISE = 20


def table(seed, n=500, noise=NOISE):
    """Two features that decide between two lines, and others that do not."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2 + noise))
    first = rng.random(n) < 1 / (1 + np.exp(-1.5 * (x[:, 0] - x[:, 1])))
    u = rng.uniform(-1, 1, n)
    y = np.where(first, 2 + u, -1 - 2 * u) + 0.5 * rng.standard_normal(n)
    columns = {f"x{j}": x[:, j] for j in range(2 + noise)}
    return pd.DataFrame(columns | {"u": u, "y": y})


def spec_of(predictor, noise=NOISE):
    formula = "~ " + " + ".join(f"x{j}" for j in range(2 + noise))
    return bm.mixture_of_experts("y ~ u", gate=Softmax(formula, predictor=predictor), experts=2)


def slopes(fit):
    """Sizes of the gate's slopes by feature."""
    coef = fit.idata["posterior"]["gate_coef"].mean(("chain", "draw"))
    return np.abs(coef.sel(expert=1)).drop_sel(gate_term="Intercept").to_series()


def ranked_first(fit):
    return set(slopes(fit).nlargest(2).index) == {"x0", "x1"}


@pytest.mark.parametrize("name", list(KINDS))
def test_features_that_decide_come_first(name):
    for seed in range(2):
        fit = bm.fit(spec_of(name), table(seed), "em", random_seed=1)
        assert ranked_first(fit)
        size = slopes(fit)
        flat = slopes(bm.fit(spec_of(None), table(seed), "em", random_seed=1))
        noise = [f"x{j}" for j in range(2, 2 + NOISE)]
        assert size[noise].mean() < 0.75 * flat[noise].mean()
        assert size[["x0", "x1"]].min() > 0.7 * flat[["x0", "x1"]].min()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(KINDS))
def test_features_that_decide_come_first_in_nine_of_ten_tables(name):
    found = [ranked_first(bm.fit(spec_of(name), table(s), "em", random_seed=1)) for s in range(50)]
    assert sum(found) >= 45


@pytest.mark.parametrize("name", list(KINDS))
def test_the_prior_is_that_of_its_definition(name):
    """Log density of the graph's prior, against SciPy's distributions."""
    spec, data = spec_of(name, noise=1), table(0, noise=1)
    graph = internal_graph(spec, data)
    names = ["gate_raw", "gate_global", "gate_local", "gate_coef"]
    raw, level, local, coef = pm.draw([graph.model[n] for n in names], random_seed=3)
    rvs = [graph.model[n] for n in names[:3]]
    found = sum(
        float(np.sum(pm.logp(rv, value).eval(mode="FAST_COMPILE")))
        for rv, value in zip([rvs[1], rvs[2]], [level, local], strict=True)
    )
    scale = graph.priors["gate_global"].arguments["beta"]
    expected = stats.halfcauchy(scale=scale).logpdf(level).sum()
    law = {
        "horseshoe": stats.halfcauchy(),
        "r2d2": stats.gamma(0.5),
        "normalgamma": stats.gamma(0.5, scale=2.0),
    }[name]
    assert found == pytest.approx(expected + law.logpdf(local).sum(), rel=1e-6)
    wide = {
        "horseshoe": level * local / np.sqrt(1 + (level * local / 2.5) ** 2),
        "r2d2": level * np.sqrt(local / local.sum()),
        "normalgamma": level * np.sqrt(local),
    }[name]
    sd = np.array([data[f"x{j}"].std(ddof=0) for j in range(3)])
    np.testing.assert_allclose(coef[:, 1:], raw.T[:, 1:] * wide / sd, rtol=1e-8)


def test_spreads_are_at_their_marginal_mode():
    """One feature, whose spread is looked for on a grid by Laplace's method."""
    from bayes_moe.em.modes import covariance
    from bayes_moe.em.multistart import SearchSettings, search
    from bayes_moe.em.objective import Objective
    from bayes_moe.em.vector_layout import parameter_vector

    spec, data = spec_of(NormalGamma(shape=1.0), noise=0), table(1, noise=0)
    design = spec.design(data)
    fit = bm.fit(spec, data, "em", random_seed=1)
    posterior = fit.idata["posterior"]
    level, local = (posterior[f"gate_{n}"].values[0, 0] for n in ("global", "local"))

    def evidence(log_level, log_local):
        own = {"gate_global": np.exp(log_level), "gate_local": np.exp(log_local)}
        moving = parameter_vector(spec, design, hyperparameters=own)
        found = search(moving, SearchSettings(4, 200), np.random.default_rng(0))
        theta = found.theta[found.best]
        gate = moving.blocks[0].where
        spread = covariance(Objective(moving), theta)[gate, gate]
        prior = (stats.halfcauchy().logpdf(own["gate_global"]) + log_level).sum()
        prior += (stats.gamma(1.0).logpdf(own["gate_local"]) + log_local).sum()
        return found.value[found.best] + 0.5 * np.linalg.slogdet(spread)[1] + prior

    best = evidence(np.log(level), np.log(local))
    for step in 0.5 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert best > evidence(np.log(level) + step[0], np.log(local) + step[1:]) - 0.02


def test_methods_that_cannot_and_that_can():
    spec, data = spec_of("horseshoe", noise=2), table(0, 200, noise=2)
    em, graph = (bm.fit(spec, data, m, random_seed=1, restarts=2) for m in ("em", "map"))
    for figure in ("objective", "log_likelihood"):
        assert bm.information(em)[figure] == pytest.approx(bm.information(graph)[figure], abs=0.01)
    with pytest.raises(bm.SpecError, match="leaves priors out"):
        bm.fit(spec, data, "em", objective="likelihood")
    fit = bm.fit(spec, data, "laplace", random_seed=1, draws=50, chains=2)
    assert fit.idata["posterior"]["gate_local"].shape == (2, 50, 4)
    assert "gate_local[x0]" in bm.summary(fit).index
    constant = bm.mixture_of_experts("y ~ u", gate=Softmax("~ 1", predictor="r2d2"), experts=2)
    with pytest.raises(bm.SpecError, match="feature to shrink"):
        bm.fit(constant, data, "em")


def test_shrinkage_is_saved_with_the_fit(tmp_path):
    fit = bm.fit(spec_of(Horseshoe(expected=2)), table(0), "em", random_seed=1)
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert again.spec == fit.spec
    assert again.spec.gate.predictor == Horseshoe(expected=2)
    np.testing.assert_array_equal(bm.predict(again).mean(), bm.predict(fit).mean())

"""Compiled densities and graphs of models with a point mass are those of EM's formulas."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.evaluation import log_likelihood
from bayes_moe.sampling.compiled_density import LinearTable, supports


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    zero = rng.random(300) < 0.4
    return pd.DataFrame(
        {
            "x": x,
            "counts": np.where(zero, 0, rng.poisson(np.exp(0.6 + 0.5 * x))),
            "amounts": np.where(zero, 0.0, rng.gamma(3.0, np.exp(0.6 + 0.5 * x) / 3.0)),
        }
    )


@pytest.mark.parametrize(
    ("response", "families"),
    [
        ("counts", ["pointmass", "poisson"]),
        ("amounts", ["pointmass", "gamma"]),
        ("amounts", ["gamma", "pointmass", "normal"]),
    ],
)
def test_all_engines_agree(table, response, families):
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [
            bm.Expert(response if f == "pointmass" else f"{response} ~ x", f, name=f)
            for f in families
        ],
    )
    design = spec.design(table)
    moving = parameter_vector(spec, design, jacobian=True)
    assert supports(spec)
    native, graph = LinearTable(moving).density(), bm.build(spec, design)
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    theta = np.random.default_rng(1).normal(0, 0.5, (3, moving.size))
    values = moving.variables(theta)
    expected = log_likelihood(spec, values, design.rows) + moving.log_prior(theta)[0]
    for j, point in enumerate(theta):
        found, gradient = native(point)
        assert found == pytest.approx(expected[j], rel=1e-9)
        at = graph.unconstrained({n: v[j] for n, v in values.items()})
        assert float(logp(at)) == pytest.approx(expected[j], rel=1e-9)
        for c, e in enumerate(np.eye(moving.size) * 1e-5):
            slope = (native(point + e)[0] - native(point - e)[0]) / 2e-5
            assert gradient[c] == pytest.approx(slope, rel=1e-5, abs=1e-4)

"""Laplace's method against the truth that data are simulated from, and against NUTS."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.inference.importance import pareto_k

TRUTH = {
    "gate_coef": np.array([[-0.3, -0.8], [0.3, 0.8]]),
    "mu_coef": np.array([[-1.0, 0.5], [1.0, 1.5]]),
    "sigma": np.array([0.5, 0.8]),
}
FITS = 200
# Parameters of one fit are correlated: a share over all ten counts as that of 2 x FITS intervals.
WIDTH = {p: 3.3 * np.sqrt(p * (1 - p) / (2 * FITS)) for p in (0.8, 0.95)}


def simulated(seed, rows):
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    x = np.random.default_rng([7, seed]).normal(size=rows)
    return spec, bm.simulate(spec, {"x": x}, TRUTH, random_seed=seed)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_of_pareto_weights(k):
    rng = np.random.default_rng(0)
    found = [pareto_k(-k * np.log(1 - rng.random(4000))) for _ in range(20)]
    assert np.mean(found) == pytest.approx(k, abs=0.1)


@pytest.mark.slow
def test_intervals_hold_the_truth():
    inside = {0.8: [], 0.95: []}
    tails = []
    for seed in range(FITS):
        spec, table = simulated(seed, 1000)
        fit = bm.fit(
            spec, table, method="laplace", draws=1000, chains=1, restarts=10, random_seed=seed
        )
        tails.append(float(fit.idata["fit"]["pareto_k"]))
        for name in spec.variables:
            draws = fit.idata["posterior"][name].values[0]
            for p, found in inside.items():
                low, high = np.quantile(draws, [(1 - p) / 2, (1 + p) / 2], axis=0)
                found += ((low <= TRUTH[name]) & (TRUTH[name] <= high)).ravel().tolist()
    for p, found in inside.items():
        assert np.mean(found) == pytest.approx(p, abs=WIDTH[p])
    assert np.median(tails) < 0.5


@pytest.mark.slow
def test_sds_are_those_of_nuts():
    spec, table = simulated(0, 5000)
    laplace = bm.fit(spec, table, method="laplace", random_seed=1).idata["posterior"]
    nuts = bm.fit(spec, table, random_seed=1, progressbar=False).idata["posterior"]
    errors = bm.fit(spec, table, method="em", random_seed=1).idata["standard_error"]
    for name in spec.variables:
        sd = nuts[name].std(("chain", "draw")).values
        np.testing.assert_allclose(laplace[name].std(("chain", "draw")), sd, rtol=0.15)
        np.testing.assert_allclose(errors[name], sd, rtol=0.15)

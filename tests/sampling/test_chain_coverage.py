"""Posteriors of models with a Markov gate cover the planted parameters."""

import numpy as np
import pytest
from scipy.stats import binom

import bayes_moe as bm
from bayes_moe.gates import Markov
from tests.support.series import regimes

TABLES, SHARE, RISK = 20, 0.9, 0.001


def intervals_cover(fit, driven):
    """Whether 90 % intervals cover each planted parameter, and its name."""
    posterior = fit.idata.posterior.to_dataset().stack(s=("chain", "draw"))
    order = posterior["mu_coef"].isel(mu_term=0).mean("s").values.argsort()
    mu = posterior["mu_coef"].transpose("expert", "mu_term", "s").values[order]
    sigma = posterior["sigma"].transpose("expert", "s").values[order]
    gate = posterior["gate_coef"].transpose("gate_transition", "gate_term", "s").values
    gate = gate.reshape(2, 2, *gate.shape[1:])[order][:, order]
    draws = [*mu.reshape(4, -1), *sigma, *gate[:, 1].reshape(-1, gate.shape[-1])]
    slope = [0.0, driven / 2] if driven else [0.0]
    truth = [-1.0, 0.5, 1.5, -0.5, 0.5, 0.8, *slope, *slope]
    low, high = np.quantile(draws, [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=1)
    return (low <= truth) & (truth <= high)


@pytest.mark.slow
@pytest.mark.parametrize("driven", [0.0, 1.5])
def test_intervals_cover_planted_parameters_as_often_as_they_say(driven):
    gate = Markov("~ z" if driven else "~ 1")
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate=gate, time="t")
    settings = {"draws": 1000, "chains": 4, "cores": 1, "progressbar": False}
    covered = []
    for seed in range(TABLES):
        rows = regimes(200, [7, seed], driven=driven)
        fit = bm.fit(spec, rows, "nuts", random_seed=seed, **settings)
        covered.append(intervals_cover(fit, driven))
    counts = np.sum(covered, axis=0)
    assert (counts >= binom.ppf(RISK / len(counts), TABLES, SHARE)).all(), counts
    # Errors of the parameters of one table are nearly independent.
    total = binom.interval(1 - RISK, TABLES * len(counts), SHARE)
    assert total[0] - 5 <= counts.sum() <= total[1] + 5, counts

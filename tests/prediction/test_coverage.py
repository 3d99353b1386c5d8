"""Predictive intervals hold what they promise on rows the fit has not seen."""

import numpy as np
import pytest
from scipy import stats

import bayes_moe as bm

WINDOWS = {0.5: (0.459, 0.541), 0.8: (0.767, 0.832), 0.95: (0.931, 0.967)}  # 99 %, 1000 rows


@pytest.fixture(scope="module")
def planted_fit(planted):
    spec, train, _, _ = planted
    return bm.fit(spec, train, random_seed=1, draws=500, tune=500, progressbar=False)


@pytest.mark.parametrize("level", list(WINDOWS))
def test_intervals_cover_new_rows(planted_fit, planted, level):
    test = planted[2]
    interval = bm.predict(planted_fit, test).interval(level).values
    inside = (interval[:, 0] <= test["y"]) & (test["y"] <= interval[:, 1])
    low, high = WINDOWS[level]
    assert low <= inside.mean() <= high


def test_probability_integral_transform_is_uniform(planted_fit, planted):
    test = planted[2]
    pit = bm.predict(planted_fit, test).cdf(test["y"].to_numpy())
    assert stats.kstest(pit, "uniform").pvalue > 0.01


def test_true_coefficients_are_in_the_posterior(planted_fit, planted):
    truth = planted[3]
    posterior = planted_fit.idata["posterior"]
    order = np.argsort(truth["mu_coef"][:, 0])
    for name in ("mu_coef", "sigma_coef"):
        draws = posterior[name]
        z = (draws.mean(("chain", "draw")) - truth[name][order]) / draws.std(("chain", "draw"))
        assert np.abs(z).max() < 4

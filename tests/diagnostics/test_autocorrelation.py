"""Autocorrelation of experts' residuals: Ljung-Box's test of one expert, and by responsibility."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.diagnostic import acorr_ljungbox

import bayes_moe as bm
from bayes_moe.diagnostics.autocorrelation import _test, autocorrelations, expert_residuals


def series(n: int, phi: float, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = np.zeros(n)
    for t in range(1, n):
        y[t] = phi * y[t - 1] + rng.normal()
    return pd.DataFrame({"t": np.arange(n), "y": y})


SPEC = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=1, time="t")


@pytest.fixture(scope="module")
def correlated() -> bm.Fit:
    return bm.fit(SPEC, series(200, 0.6), "em", random_seed=1)


def test_one_expert_has_the_statistic_of_ljung_and_box(correlated):
    (found,) = autocorrelations(correlated)
    y = correlated.design.first_response
    expected = acorr_ljungbox(y, lags=[10])
    assert found.statistic == pytest.approx(float(expected["lb_stat"].iloc[0]), rel=1e-9)
    assert found.p == pytest.approx(float(expected["lb_pvalue"].iloc[0]), rel=1e-6)
    z = expert_residuals(correlated)[0]
    sigma = float(correlated.idata["posterior"]["sigma"].values.ravel()[0])
    np.testing.assert_allclose(z, (y - y.mean()) / sigma, rtol=1e-3, atol=1e-3)


def test_strong_correlation_is_a_problem_and_weak_is_not(correlated):
    diagnosis = bm.diagnose(correlated)
    assert any("lag() terms" in problem for problem in diagnosis.problems)
    assert "residuals of expert 0" in diagnosis.table.index
    fine = bm.diagnose(bm.fit(SPEC, series(200, 0.0), "em", random_seed=1))
    assert fine.ok
    untimed = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=1)
    other = bm.diagnose(bm.fit(untimed, series(200, 0.6), "em", random_seed=1))
    assert "residuals of expert 0" not in other.table.index


def test_statistic_of_independent_residuals_is_chi_squared():
    """Of weights that vary, with series that end."""
    rng = np.random.default_rng(3)
    code = np.repeat(np.arange(4), 75)
    found = [
        _test("0", rng.normal(size=300), rng.beta(0.5, 0.5, size=300), code, 5).statistic
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(5.0, abs=4 * np.sqrt(10 / 400))
    assert np.quantile(found, 0.95) == pytest.approx(11.07, abs=1.8)


def test_rows_of_other_series_are_no_neighbours():
    """Two series, each constant but for their level: within a series nothing is correlated."""
    rng = np.random.default_rng(4)
    z = rng.normal(size=100)
    code = np.repeat(np.arange(50), 2)
    paired = np.where(np.arange(100) % 2, z, np.roll(z, -1))  # a row equals the one after it
    assert abs(_test("0", paired, np.ones(100), code, 1).correlations[0]) > 0.5
    assert abs(_test("0", np.roll(paired, 1), np.ones(100), code, 1).correlations[0]) < 0.3


def test_the_expert_whose_rows_are_correlated_is_named():
    rng = np.random.default_rng(2)
    n = 400
    y = series(n, 0.8)["y"].to_numpy()
    day = np.arange(n) % 100 < 50
    data = pd.DataFrame({"t": np.arange(n), "x": day * 1.0, "y": np.where(day, y + 40, 0.0)})
    data.loc[~day, "y"] = rng.normal(size=int((~day).sum()))
    spec = bm.mixture_of_experts("y ~ 1", gate="~ x", experts=2, time="t")
    low, high = autocorrelations(bm.fit(spec, data, "em", random_seed=1))
    assert low.problem is None
    assert high.problem is not None
    assert high.rows == pytest.approx(200, abs=1)

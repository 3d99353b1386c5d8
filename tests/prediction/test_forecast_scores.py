"""Scores of forecasts: exact on numbers by hand, and CRPS beside its integral."""

import numpy as np
import pytest
from scipy import integrate, stats

import bayes_moe as bm
from bayes_moe.prediction.forecast_scores import covered

WEIGHTS = np.array([[0.2, 0.5], [0.3, 0.25], [0.5, 0.25]])
MEANS = np.array([[-1.0, 2.0], [0.5, 2.5], [4.0, -30.0]])
SDS = np.array([[0.3, 1.0], [2.0, 0.1], [1.0, 5.0]])
CAME = np.array([1.3, 2.4])


def integral(y: float, weights: np.ndarray, means: np.ndarray, sds: np.ndarray) -> float:
    def squared(x: float, above: float) -> float:
        return float((weights @ stats.norm.cdf(x, means, sds) - above) ** 2)

    ends = float((means - 12 * sds).min()), float((means + 12 * sds).max())
    points = sorted([*means, *(means - 3 * sds), *(means + 3 * sds)])
    below = [p for p in points if ends[0] < p < y]
    above = [p for p in points if y < p < ends[1]]
    low = integrate.quad(squared, ends[0], y, args=(0.0,), points=below, limit=500, epsabs=1e-12)
    high = integrate.quad(squared, y, ends[1], args=(1.0,), points=above, limit=500, epsabs=1e-12)
    return float(low[0] + high[0])


def test_crps_of_normal_mixtures_is_its_integral():
    found = bm.crps_normal_mixture(CAME, WEIGHTS, MEANS, SDS)
    expected = [integral(CAME[i], WEIGHTS[:, i], MEANS[:, i], SDS[:, i]) for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_crps_of_one_normal_is_the_closed_form():
    y, mean, sd = 1.7, 0.4, 2.5
    z = (y - mean) / sd
    form = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert bm.crps_normal_mixture(y, [1.0], [mean], [sd]) == pytest.approx(form, rel=1e-12)


def test_many_components_are_summed_in_parts(monkeypatch):
    monkeypatch.setattr("bayes_moe.prediction.forecast_scores.MOST_PAIRS", 9)
    whole = [integral(CAME[i], WEIGHTS[:, i], MEANS[:, i], SDS[:, i]) for i in range(2)]
    parts = bm.crps_normal_mixture(CAME, WEIGHTS, MEANS, SDS)
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def test_crps_of_draws_is_the_mean_over_pairs():
    rng = np.random.default_rng(1)
    draws, y = rng.normal(size=(7, 2, 3)), rng.normal(size=(2, 3))
    pairs = [np.abs(draws[i] - draws[j]) for i in range(7) for j in range(7) if i != j]
    expected = np.abs(draws - y).mean(axis=0) - np.mean(pairs, axis=0) / 2
    np.testing.assert_allclose(bm.crps(y, draws), expected, rtol=1e-12)


def test_crps_of_draws_is_unbiased():
    """The mean over many ensembles of four draws is the score of the distribution."""
    draws = np.random.default_rng(2).normal(size=(4, 200_000))
    found = bm.crps(np.full(200_000, 0.7), draws)
    exact = bm.crps_normal_mixture(0.7, [1.0], [0.0], [1.0])
    assert found.mean() == pytest.approx(float(exact), abs=4 * found.std() / np.sqrt(200_000))


def test_scaled_errors_by_hand():
    history, came, forecast = [1.0, 2.0, 4.0, 3.0, 7.0], [5.0, 6.0], [4.0, 9.0]
    # differences two rows apart: 3, 1, 3; errors: 1, -3
    assert bm.mase(came, forecast, history, season=2) == pytest.approx(2 / (7 / 3))
    assert bm.rmsse(came, forecast, history, season=2) == pytest.approx(np.sqrt(5 / (19 / 3)))
    # one row apart: 1, 2, -1, 4
    assert bm.mase(came, forecast, history) == pytest.approx(2 / 2)


def test_ends_belong_to_intervals():
    np.testing.assert_array_equal(covered([0, 1, 2, 3], 1.0, 2.0), [False, True, True, False])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bm.mase([1.0], [1.0, 2.0], [1.0, 2.0]), "one value for each step"),
        (lambda: bm.mase([1.0], [1.0], [1.0, 2.0], season=2), "more than 2 values"),
        (lambda: bm.rmsse([1.0], [1.0], [1.0, 2.0] * 3, season=2), "no scale"),
        (lambda: bm.rmsse([1.0], [1.0], [1.0, 2.0], season=0), "season"),
        (lambda: bm.crps([1.0, 2.0], np.ones((5, 3))), "two draws or more"),
        (lambda: bm.crps(1.0, [1.0]), "two draws or more"),
        (lambda: bm.crps_normal_mixture(1.0, [0.5], [0.0], [1.0]), "sum to one"),
        (lambda: bm.crps_normal_mixture(1.0, [1.0], [0.0], [0.0]), "positive"),
        (lambda: bm.crps_normal_mixture([1.0], [1.0], [0.0], [1.0]), "component"),
    ],
)
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(bm.SpecError, match=words):
        call()

"""Highest-density sets, against enumeration and against sets of known distributions."""

import numpy as np
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.prediction import highest_density
from tests.support.fits import fake_fit, parallel_lines
from tests.support.mixtures import PREDICTED, fine_points, mixture_of, random_mixture


def brute_force_size(law, prob):
    """Length, or number of counts, of the smallest set; and its level."""
    y = fine_points(law, 20_001)
    if law.discrete:
        mass, length = law.density(y), np.ones(y.size)
    else:
        middle, length = 0.5 * (y[1:] + y[:-1]), np.diff(y)
        mass, y = np.diff(law.cdf(y)), middle
    order = np.argsort(-mass / length, kind="stable")
    total = np.cumsum(mass[order])
    count = np.searchsorted(total, prob * (1 - 1e-12)) + 1
    return length[order][:count].sum(), law.density(y[order[count - 1]])


@pytest.mark.parametrize("family", PREDICTED)
@pytest.mark.parametrize("seed", range(6))
def test_sets_are_the_smallest_of_their_probability(family, seed):
    fit, law, row = random_mixture(family, seed)
    prob = [0.5, 0.9, 0.99][seed % 3]
    found = bm.predict(fit, row).hdr(prob)
    bounds = found["bounds"].values[0][: found["n_intervals"].item()]
    assert (np.diff(bounds.ravel()) >= 0).all()
    if law.discrete:
        probability = (law.cdf(bounds[:, 1]) - law.cdf(bounds[:, 0] - 1)).sum()
        size = (bounds[:, 1] - bounds[:, 0] + 1).sum()
        assert (size, bounds) == (brute_force_size(law, prob)[0], pytest.approx(np.round(bounds)))
        assert probability >= prob - 1e-12
    else:
        probability = (law.cdf(bounds[:, 1]) - law.cdf(bounds[:, 0])).sum()
        assert probability == pytest.approx(prob, abs=1e-7)
        least, level = brute_force_size(law, prob)
        size = (bounds[:, 1] - bounds[:, 0]).sum()
        assert size == pytest.approx(least, rel=2e-2)
        low, high = law.laws[0].support()
        inner = bounds[(bounds > low) & (bounds < high)]
        np.testing.assert_allclose(law.density(inner), law.density(inner[0]), rtol=1e-6)
        assert law.density(inner[0]) == pytest.approx(level, rel=0.1)
    assert found["probability"].sum("interval").item() == pytest.approx(probability, abs=1e-9)


def test_a_normal_has_its_equal_tailed_interval():
    fit, _, row = mixture_of("normal", [0.5, 0.5], {"mu": [3.0, 3.0], "sigma": [2.0, 2.0]})
    for prob in (0.1, 0.5, 0.9, 0.999):
        found = bm.predict(fit, row).hdr(prob)
        np.testing.assert_allclose(
            found["bounds"].values[0], [stats.norm(3, 2).interval(prob)], rtol=1e-7
        )


def test_counts_far_apart_are_two_runs():
    fit, _, row = mixture_of("poisson", [0.3, 0.7], {"mu": np.log([5.0, 5000.0])})
    found = bm.predict(fit, row).hdr(0.9)
    assert found["n_intervals"].item() == 2
    assert found["bounds"].dims == ("obs_id", "interval", "ci_bound")
    assert found["bounds"].sel(ci_bound="lower").values[0, 0] == 0
    assert found["probability"].sum().item() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_sets_of_many_draws_are_those_searched_with_all(family, monkeypatch):
    if family == "normal":
        spec, table, truth = parallel_lines(3, n=12)
        fit, row = fake_fit(spec, table, truth, chains=1, draws=150, spread=0.05), table
    else:
        weights, mean = [0.3, 0.3, 0.4], np.log([5.0, 40.0, 60.0])
        fit, _, row = mixture_of(family, weights, {"mu": mean}, draws=150, spread=0.05)
    quick = bm.predict(fit, row).hdr(0.8)
    monkeypatch.setattr(highest_density, "PILOT_DRAWS", 1000)
    whole = bm.predict(fit, row).hdr(0.8)
    for name, values in whole.items():
        np.testing.assert_allclose(quick[name].values, values.values, atol=1e-6, err_msg=name)


def test_rows_with_fewer_intervals_end_with_missing_ones():
    spec, table, truth = parallel_lines(3, n=60)
    fit = fake_fit(spec, table, truth, chains=1, draws=1)
    found = bm.predict(fit, {"x": np.linspace(-9, 9, 30)}).hdr(0.9)
    count = found["n_intervals"].values
    assert len(set(count)) > 1
    assert found.sizes["interval"] == count.max()
    filled = np.isfinite(found["bounds"].values).all(axis=-1)
    np.testing.assert_array_equal(filled, np.arange(count.max()) < count[:, None])
    np.testing.assert_allclose(found["probability"].sum("interval"), 0.9, atol=1e-7)
    none = bm.predict(fit, table.iloc[:0]).hdr(0.9)
    assert none.sizes["obs_id"] == 0

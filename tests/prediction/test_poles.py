"""Predictions of densities with poles at an end of the support, against brute force."""

import numpy as np
import pytest
from scipy import signal, special

import bayes_moe as bm
from tests.support.mixtures import mixture_of

SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 60))]
LEVELS = np.array([1e-6, 1e-3, 0.05, 0.3, 0.5, 0.7, 0.95, 0.999])
SHARE_NEXT_TO_ONE = 1 - 1e-9
"""Doubles beyond are too few for quantiles to be exact."""
LEAST_HEIGHT = 1e-30
"""Least density at a maximum: smaller ones of SciPy near 0 are rounding errors."""


def random_poles(family, seed, draws=1):
    """Fit of two to four experts, many with a pole, its law, and one row."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 5))
    weights = rng.dirichlet(np.full(k, 3.0))
    params = {
        "weibull": {"mu": rng.normal(0, 2, k), "alpha": 10 ** rng.uniform(-0.6, 0.8, k)},
        "beta": {"mu": rng.uniform(-2.5, 2.5, k), "nu": 10 ** rng.uniform(-0.5, 2.5, k)},
    }[family]
    return mixture_of(family, weights, params, draws=draws)


def grid(law):
    """Increasing points at all distances from the ends of the support."""
    if np.isinf(law.laws[0].support()[1]):
        return np.exp(np.linspace(-690, 12, 80_001))
    return special.expit(
        np.concatenate([np.linspace(-690, -30, 10_000), np.linspace(-30, 30, 80_001)])
    )


def brute_force_modes(law, prominence=0.1):
    """Log densities at the prominent maxima, infinite at a pole, and where these are."""
    y = grid(law)
    height = law.density(y)
    padded = np.concatenate([[0.0], height, [0.0]])
    peaks, found = signal.find_peaks(padded, prominence=0.0, plateau_size=1)
    peaks = peaks[found["prominences"] >= prominence * padded[peaks]]
    peaks = peaks[padded[peaks] > LEAST_HEIGHT] - 1
    rises = (peaks == 0) & (height[0] > 1.02 * height[1000])
    rises |= (peaks == y.size - 1) & (height[-1] > 1.02 * height[-20_000])
    return y[peaks], np.where(rises, np.inf, height[peaks])


FAMILIES = ("weibull", "beta")


@pytest.mark.parametrize("draws", [1, 120])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_modes_beside_poles_are_brute_forces(family, seed, draws):
    fit, law, row = random_poles(family, seed, draws)
    found = bm.predict(fit, row).modes(most=8, min_probability=0)
    location, height = brute_force_modes(law)
    count = found["n_modes"].item()
    order = np.argsort(found["location"].values[0, :count])
    own = found["location"].values[0, order], found["density"].values[0, order]
    np.testing.assert_allclose(own[0], location, rtol=1e-2, atol=1e-9)
    finite = np.isfinite(height)
    np.testing.assert_allclose(own[1][finite], height[finite], rtol=1e-3)
    # A pole of a power near 0 is finite at all doubles beside an end other than 0.
    assert (own[1] >= law.density(grid(law)[[0, -1]]).min())[~finite].all()
    assert np.isinf(own[1][(location < 1e-200) & ~finite]).all()
    assert (own[1] >= height * (1 - 1e-6))[finite].all()
    assert np.nansum(found["probability"].values) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_beside_poles_have_their_probability(family, seed):
    fit, law, row = random_poles(family, seed)
    predicted = bm.predict(fit, row)
    found = predicted.quantile(LEVELS).values[0]
    assert (np.diff(found) >= 0).all()
    exact = found < SHARE_NEXT_TO_ONE if family == "beta" else np.full(found.shape, True)
    assert exact[:4].all()
    np.testing.assert_allclose(law.cdf(found[exact]), LEVELS[exact], rtol=1e-8)
    np.testing.assert_allclose(
        law.density(found[exact]), np.ravel(predicted.pdf(found[exact], grid=True)), rtol=1e-8
    )


@pytest.mark.parametrize("prob", [0.5, 0.9])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sets_beside_poles_are_the_smallest(family, seed, prob):
    fit, law, row = random_poles(family, seed)
    found = bm.predict(fit, row).hdr(prob)
    bounds = found["bounds"].values[0][: found["n_intervals"].item()]
    assert (np.diff(bounds.ravel()) >= 0).all()
    own = (law.cdf(bounds[:, 1]) - law.cdf(bounds[:, 0])).sum()
    assert own == pytest.approx(prob, abs=1e-6)
    y = np.concatenate([[0.0], grid(law), [law.laws[0].support()[1]]])
    mass, width = np.diff(law.cdf(y)), np.diff(y)
    order = np.argsort(-mass / np.maximum(width, 1e-320))
    needed = np.searchsorted(np.cumsum(mass[order]), prob)
    least = width[order][:needed].sum()
    most = least + width[order][needed]  # a part of that cell is needed
    length = (bounds[:, 1] - bounds[:, 0]).sum()
    assert least * (1 - 1e-3) - 1e-4 <= length <= most * (1 + 1e-3) + 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_beside_a_pole_are_scipys(family):
    fit, law, row = random_poles(family, 0)
    ends = 10.0 ** np.array([-300.0, -100.0, -20.0, -3.0])
    others = [] if family == "weibull" else [1 - 1e-3, 1 - 1e-12]
    for value in (*ends, *others):
        found = bm.predict(fit, row).pdf(np.array([value])).values.item()
        assert found == pytest.approx(law.density(np.array([value])).item(), rel=1e-9)

"""Modes of the predictive density, against densities whose modes are known."""

import itertools

import numpy as np
import pytest
from scipy import signal, stats

import bayes_moe as bm
from tests.support.fits import fake_fit, parallel_lines
from tests.support.mixtures import PREDICTED, SEEDS, fine_points, mixture_of, random_mixture

WEIGHTS = {2: [0.6, 0.4], 3: [0.5, 0.3, 0.2]}


def fit_of(family="normal", locations=(-2.0, 0.0, 3.0), sd=0.3, n=400, **own):
    rng = np.random.default_rng(0)
    which = rng.choice(len(locations), n, p=WEIGHTS[len(locations)])
    centre = np.array(locations)[which]
    y = rng.poisson(centre) if family == "poisson" else centre + sd * rng.standard_normal(n)
    spec = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=len(locations), family=family, **own)
    return bm.fit(spec, {"y": y}, "em", random_seed=1), y


def test_modes_are_the_components_that_stand_apart():
    fit, _ = fit_of()
    rows = {"x": [0.0, 1.0]}
    found = bm.predict(fit, rows).modes(most=4)
    assert found["n_modes"].values.tolist() == [3, 3]
    posterior = fit.idata["posterior"]
    centres = posterior["mu_coef"].values[0, 0, :, 0]
    weights = bm.predict(fit, rows).weights().values[0]
    order = np.argsort(-weights)
    np.testing.assert_allclose(found["location"].values[0, :3], centres[order], atol=0.01)
    np.testing.assert_allclose(found["probability"].values[0, :3], weights[order], atol=0.01)
    assert np.isnan(found["location"].values[:, 3]).all()
    density = bm.predict(fit, rows).pdf(found["location"].values[:, 0]).values
    np.testing.assert_allclose(found["density"].values[:, 0], density, rtol=1e-3)


def test_a_shoulder_is_no_mode():
    fit, _ = fit_of(locations=(0.0, 0.6), sd=0.4)
    found = bm.predict(fit, {"x": [0.0]}).modes()
    assert found["n_modes"].item() == 1
    assert found["probability"].values[0, 0] == pytest.approx(1)


def test_modes_of_whole_numbers():
    fit, _ = fit_of("poisson", locations=(2.0, 40.0))
    found = bm.predict(fit, {"x": [0.0]}).modes(most=2)
    mu = np.exp(fit.idata["posterior"]["mu_coef"].values[0, 0, :, 0])
    tops = [int(np.argmax(stats.poisson.pmf(np.arange(100), m))) for m in mu]
    assert sorted(found["location"].values[0]) == sorted(tops)
    assert found["probability"].values.sum() == pytest.approx(1)


def brute_force(law, prominence=0.1):
    """Modes, spacing there and probabilities, on points that are dense at every component."""
    y = fine_points(law)
    density = law.density(y)
    padded = np.concatenate([[0.0], density, [0.0]])
    peaks, found = signal.find_peaks(padded, prominence=0.0, plateau_size=1)
    peaks = peaks[found["prominences"] >= prominence * padded[peaks]] - 1
    gaps = [a + density[a : b + 1].argmin() for a, b in itertools.pairwise(peaks)]
    probability = np.diff(np.concatenate([[0.0], law.cdf(y[np.array(gaps, dtype=int)]), [1.0]]))
    spacing = np.maximum(
        y[np.minimum(peaks + 1, y.size - 1)] - y[peaks], y[peaks] - y[np.maximum(peaks - 1, 0)]
    )
    # A pole at zero is beyond the first point.
    return y[peaks], np.where(peaks == 0, np.abs(y[0]) + spacing, spacing), probability


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("family", PREDICTED)
def test_modes_are_brute_forces_at_every_scale(family, seeds):
    several = 0
    for seed in seeds:
        fit, law, row = random_mixture(family, seed)
        found = bm.predict(fit, row).modes(most=6, min_probability=0)
        location, spacing, probability = brute_force(law)
        count = found["n_modes"].item()
        assert count == len(location), seed
        several += count > 1
        order = np.argsort(found["location"].values[0, :count])
        seen = found["location"].values[0, order]
        off = 0.0 if law.discrete else spacing
        assert (np.abs(seen - location) <= off).all(), seed
        mass = found["probability"].values[0]
        np.testing.assert_allclose(mass[order], probability, atol=2e-4, err_msg=str(seed))
        assert np.nansum(mass) == pytest.approx(1, abs=1e-12)
        height = found["density"].values[0, order]
        low, high = law.laws[0].support()
        inner = np.isfinite(height) & (seen > low) & (seen < high)
        np.testing.assert_allclose(height[inner], law.density(seen[inner]), rtol=1e-6)
    assert several > 0 or family in ("bernoulli", "geometric", "exponential", "lomax")


def test_counts_of_very_different_size():
    fit, law, row = mixture_of("poisson", [0.3, 0.7], {"mu": np.log([5.4, 5000.4])})
    found = bm.predict(fit, row).modes()
    assert found["location"].values[0, :2].tolist() == [5000, 5]
    np.testing.assert_allclose(found["probability"].values[0, :2], [0.7, 0.3], rtol=1e-12)
    np.testing.assert_allclose(found["density"].values[0, :2], law.density([5000, 5]), rtol=1e-9)


def test_a_rate_of_millions():
    fit, _, row = mixture_of("poisson", [0.5, 0.5], {"mu": np.log([2_000_000.5, 2_000_000.5])})
    assert bm.predict(fit, row).modes()["location"].values[0, 0] == 2_000_000


def test_a_spike_beside_a_wide_hump():
    fit, _, row = mixture_of("normal", [0.5, 0.5], {"mu": [0.0, 1000.0], "sigma": [0.01, 50.0]})
    found = bm.predict(fit, row).modes()
    assert found["n_modes"].item() == 2
    np.testing.assert_allclose(sorted(found["location"].values[0, :2]), [0, 1000], atol=1e-4)
    np.testing.assert_allclose(found["probability"].values[0, :2], 0.5, rtol=1e-9)


def test_a_plateau_is_one_mode():
    # Two standard normals two apart have a flat top: the first three derivatives vanish.
    for apart, modes in ((2.0, 1), (1.99, 1), (3.0, 2)):
        fit, _, row = mixture_of("normal", [0.5, 0.5], {"mu": [0.0, apart], "sigma": [1.0, 1.0]})
        found = bm.predict(fit, row).modes(prominence=0.0)
        assert found["n_modes"].item() == modes
    # Counts 4 and 5 are equally likely under a rate of 5.
    fit, _, row = mixture_of("poisson", [0.5, 0.5], {"mu": np.log([5.0, 5.0])})
    found = bm.predict(fit, row).modes(prominence=0.0)
    assert found["n_modes"].item() == 1
    assert found["location"].values[0, 0] in (4, 5)


def test_the_pole_of_a_gamma():
    fit, _, row = mixture_of("gamma", [0.4, 0.6], {"mu": np.log([1.0, 50.0]), "alpha": [0.5, 40.0]})
    found = bm.predict(fit, row).modes()
    assert found["location"].values[0, 1] == 0
    assert np.isinf(found["density"].values[0, 1])
    exponential, law, row = mixture_of(
        "gamma", [0.4, 0.6], {"mu": np.log([1.0, 50.0]), "alpha": [1.0, 40.0]}
    )
    found = bm.predict(exponential, row).modes()
    assert found["location"].values[0, 1] == 0
    assert found["density"].values[0, 1] == pytest.approx(law.density(1e-12), rel=1e-6)


def test_improbable_modes_join_a_neighbour():
    fit, _, row = mixture_of(
        "normal", [0.5, 0.4996, 0.0004], {"mu": [0.0, 10.0, 5.0], "sigma": [1.0, 1.0, 0.1]}
    )
    every = bm.predict(fit, row).modes(min_probability=0)
    assert every["n_modes"].item() == 3
    found = bm.predict(fit, row).modes()
    assert found["n_modes"].item() == 2
    assert found["probability"].sum().item() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found["location"][0, :2], every["location"][0, :2], atol=1e-6)


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_modes_of_many_draws_are_those_of_all_of_them(family):
    if family == "normal":
        spec, table, truth = parallel_lines(3, n=8)
        fit, row = fake_fit(spec, table, truth, chains=2, draws=150, spread=0.05), table
    else:
        mean = np.log([5.0, 60.0])
        fit, _, row = mixture_of(family, [0.4, 0.6], {"mu": mean}, draws=300, spread=0.05)
    predictive = bm.predict(fit, row)
    found = predictive.modes(most=3)
    for j in range(found.sizes["mode"]):
        y, top = found["location"].values[:, j], found["density"].values[:, j]
        there = np.isfinite(y)
        y = np.where(there, y, 0.0)
        np.testing.assert_allclose(predictive.pdf(y).values[there], top[there], rtol=1e-6)
        width = 1.0 if family == "poisson" else 0.02
        for shift in (-width, width):
            assert (predictive.pdf(y + shift).values[there] < top[there]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"most": 0},
        {"prominence": 2.0},
        {"prominence": True},
        {"min_probability": 1.0},
        {"min_probability": "0.1"},
    ],
)
def test_settings_that_cannot_be(settings):
    fit, _ = fit_of(locations=(0.0, 3.0))
    with pytest.raises(bm.SpecError):
        bm.predict(fit, {"x": [0.0]}).modes(**settings)

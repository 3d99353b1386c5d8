"""Predictions of mixtures of densities and atoms against brute force."""

import numpy as np
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.prediction.density_modes import density_modes, searched_turning_points
from bayes_moe.prediction.highest_density import (
    PILOT_DRAWS,
    highest_density_sets,
    searched_sets,
)
from bayes_moe.prediction.quantiles import cdf, quantiles, some_draws
from tests.support.atoms import ROWS, gamma_with_atoms, parts

ATOMS = [(0.0,), (-1.0, 2.5), (5.9,)]
LEVELS = np.array([1e-9, 0.01, 0.2, 0.5, 0.8, 0.97, 1 - 1e-9])
GRID = np.linspace(-3.0, 40.0, 430_001)
CASES = [
    pytest.param((atoms, samples, compiled), id=f"{atoms}-{samples}-{compiled}")
    for atoms in ATOMS
    for samples, compiled in ((1, False), (130, False), (130, True))
]


@pytest.fixture(params=CASES)
def case(request):
    atoms, samples, compiled = request.param
    mixture = gamma_with_atoms(samples, atoms, compiled=compiled)
    return mixture, atoms, parts(mixture)


def steps(atoms, masses, y, *, below=False):
    """Probability (obs,) of the atoms up to ``y``, or below it."""
    passed = [a < y if below else a <= y for a in atoms]
    return sum(np.where(p, m, 0.0) for p, m in zip(passed, masses, strict=True))


def test_the_density_is_the_probability_at_an_atom(case):
    mixture, atoms, (pdf, _, masses) = case
    np.testing.assert_allclose(mixture.atom_masses, masses, rtol=1e-12)
    for y in (-0.3, 1.7, 5.9001):
        found = np.exp(mixture.log_density(np.full(ROWS, y))).mean(axis=0)
        np.testing.assert_allclose(found, pdf(y), rtol=1e-10)
    for atom, mass in zip(atoms, masses, strict=True):
        found = np.exp(mixture.log_density(np.full(ROWS, atom))).mean(axis=0)
        np.testing.assert_allclose(found, mass, rtol=1e-12)


def test_the_cdf_jumps_at_atoms(case):
    mixture, atoms, (_, smooth, masses) = case
    for y in (-2.0, -1.0, 0.0, 0.5, 2.5, np.nextafter(2.5, 0), 5.9, 7.0):
        expected = smooth(y) + steps(atoms, masses, y)
        np.testing.assert_allclose(cdf(mixture, y), expected, rtol=1e-10)
        np.testing.assert_allclose(cdf(mixture, y, above=True), 1 - expected, atol=1e-12)


def test_quantiles_are_roots_or_atoms(case):
    mixture, atoms, (_, smooth, masses) = case
    found = quantiles(mixture, LEVELS)
    for level, y in zip(LEVELS, found.T, strict=True):
        up_to = smooth(y) + steps(atoms, masses, y)
        below = smooth(y) + steps(atoms, masses, y, below=True)
        at_atom = np.isin(y, atoms)
        tail = min(level, 1 - level)
        assert (np.abs(up_to - level)[~at_atom] < 1e-8 * tail + 1e-15).all()
        assert ((below <= level) & (level <= up_to))[at_atom].all()
    assert np.isin(found, atoms).any()
    assert not np.isin(found, atoms).all()
    assert (np.diff(found, axis=1) >= 0).all()


def highest(mixture, prob):
    few = mixture.take_samples(some_draws(len(mixture.log_weights), PILOT_DRAWS))
    pilot = mixture.take_samples(some_draws(len(mixture.log_weights), 100))
    guess, points = searched_sets(few, prob), searched_turning_points(pilot)
    return highest_density_sets(mixture, prob, points, guess)


@pytest.mark.parametrize("prob", [0.3, 0.9])
def test_highest_density_sets_take_atoms_first(case, prob):
    mixture, atoms, (pdf, smooth, masses) = case
    found = highest(mixture, prob)
    density = np.array([pdf(y) for y in GRID[::40]])
    for row in range(ROWS):
        sets = found[row][~np.isnan(found[row, :, 0])]
        order = np.argsort(-masses[:, row])
        before = np.cumsum(masses[order, row]) - masses[order, row]
        taken = [atoms[j] for j, b in zip(order, before, strict=True) if b < prob]
        rest = prob - sum(masses[atoms.index(a), row] for a in taken)
        assert all(any(low <= a <= high for low, high, _ in sets) for a in taken)
        lengths, total = np.sum(sets[:, 1] - sets[:, 0]), np.sum(sets[:, 2])
        if rest <= 0:
            assert lengths == 0
            assert sorted(sets[:, 0]) == sorted(taken)
            assert total == pytest.approx(prob - rest)
            continue
        assert total == pytest.approx(prob, abs=1e-7)
        for low, high, p in sets:
            jump = steps(atoms, masses, high)[row] - steps(atoms, masses, low, below=True)[row]
            assert p == pytest.approx(smooth(high)[row] - smooth(low)[row] + jump, abs=1e-9)
        # The smallest set of the density by brute force.
        ordered = np.sort(density[:, row])[::-1]
        step = GRID[40] - GRID[0]
        level = ordered[np.searchsorted(np.cumsum(ordered) * step, rest)]
        ends = [y for y in sets[:, :2][sets[:, 0] < sets[:, 1]].ravel() if y not in (0.0,)]
        np.testing.assert_allclose([pdf(y)[row] for y in ends], level, rtol=0.02)
        assert lengths == pytest.approx((density[:, row] >= level).sum() * step, abs=0.05)


def test_atoms_are_modes_with_their_probability(case):
    mixture, atoms, (pdf, _, masses) = case
    few = mixture.take_samples(some_draws(len(mixture.log_weights), 100))
    found = density_modes(mixture, searched_turning_points(few), 0.1, 6, 1e-3)
    for row in range(ROWS):
        modes = found[row][~np.isnan(found[row, :, 0])]
        assert (np.diff(modes[:, 2]) <= 0).all()
        assert modes[:, 2].sum() == pytest.approx(1, abs=1e-9)
        for atom, mass in zip(atoms, masses[:, row], strict=True):
            own = modes[modes[:, 0] == atom]
            np.testing.assert_allclose(own, [[atom, mass, mass]], rtol=1e-12)
        smooth_modes = modes[~np.isin(modes[:, 0], atoms)]
        for y, height, _ in smooth_modes:
            assert height == pytest.approx(pdf(y)[row], rel=1e-6)
            assert height >= max(pdf(y - 0.01)[row], pdf(y + 0.01)[row])


def test_expenses_with_zeros_have_uniform_transforms():
    table = bm.load_dataset("medical")
    features = "coinsurance + chronic + limited + age + sex + log_income"
    experts = [bm.Expert("expenses", "pointmass")]
    experts += [bm.Expert(f"expenses ~ {features}", "lognormal")] * 2
    spec = bm.MixtureOfExperts(bm.gates.Softmax(f"~ {features}"), experts)
    fit = bm.fit(spec, table, "em", random_seed=1)
    y = table.expenses.to_numpy().astype(float)
    predictive = bm.predict(fit)
    high, low = predictive.cdf(y).values, predictive.cdf(np.nextafter(y, -np.inf)).values
    assert (high - low > 0.01).tolist() == (y == 0).tolist()
    pit = low + np.random.default_rng(0).random(y.size) * (high - low)
    assert stats.kstest(pit, "uniform").pvalue > 0.05
    assert stats.chisquare(np.histogram(pit, 20, (0, 1))[0]).pvalue > 0.05


def test_a_grid_of_responses_has_the_values_of_each():
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"), [bm.Expert("y", "pointmass"), bm.Expert("y ~ x", "gamma")]
    )
    x = np.linspace(-1, 1, 60)
    y = np.where(np.arange(60) % 3, np.exp(x + np.sin(9 * x)), 0.0)
    predictive = bm.predict(bm.fit(spec, {"x": x, "y": y}, "em"), {"x": [-0.5, 0.0, 0.7]})
    for name in ("pdf", "cdf"):
        of = getattr(predictive, name)
        found = of([0.0, 1.3], grid=True).values
        np.testing.assert_array_equal(found, np.stack([of(0.0), of(1.3)], axis=-1))

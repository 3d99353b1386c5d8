"""Quantiles of mixtures against roots found by SciPy."""

import numpy as np
import pytest
from scipy import optimize, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.model import evaluation
from bayes_moe.prediction.quantiles import improved_quantiles
from tests.support.examples import FAMILIES
from tests.support.mixtures import SEEDS, mixture_of, random_mixture
from tests.support.roles import typical

WHOLE = [name for name in FAMILIES if families.by_name(name).discrete]
OWN = {
    "normal": {"mu": [0.0, 9.0], "sigma": [0.01, 2.0]},
    "studentt": {"mu": [0.0, 9.0], "sigma": [0.01, 2.0], "nu": [1.5, 8.0]},
    "gamma": {"mu": [0.0, 5.0], "alpha": [1.7, 30.0]},
    "poisson": {"mu": [1.0, 5.0]},
    "binomial": {"p": [-1.0, 2.0]},
    "bernoulli": {"p": [-1.0, 2.0]},
}
LEVELS = np.array([1e-12, 1e-6, 0.01, 0.5, 0.99, 1 - 1e-9])


PRECISION = {"skewnormal": 1e-6}
"""Relative error of tails in SciPy, where it is larger than ours: see ``families/test_shaped``."""


def scipy_root(law, p):
    """Quantile by Brent's method in the log of the nearer tail, from the components' quantiles."""
    ends = [law_k.ppf(p) if p <= 0.5 else law_k.isf(1 - p) for law_k in law.laws]

    def excess(y):
        tail = law.cdf(y) if p <= 0.5 else law.sf(y)
        return np.log(max(tail, 1e-320)) - np.log(min(p, 1 - p))

    low, high = min(ends), max(ends)
    if low == high or excess(low) == 0:
        return low
    return optimize.brentq(excess, low, high, xtol=1e-300, rtol=1e-14, maxiter=2000)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in WHOLE])
def test_quantiles_are_scipys_roots(family, seeds):
    for seed in seeds:
        fit, law, row = random_mixture(family, seed)
        found = bm.predict(fit, row).quantile(LEVELS).values[0]
        for p, y in zip(LEVELS, found, strict=True):
            tail = law.cdf(y) / p if p <= 0.5 else law.sf(y) / (1 - p)
            # Just below the end of a support, neighbouring doubles have different tails.
            rounding = 4 * law.density(y) * np.spacing(abs(y)) / min(p, 1 - p)
            assert tail == pytest.approx(1, rel=PRECISION.get(family, 2e-9) + rounding), (seed, p)
            assert y == pytest.approx(scipy_root(law, p), rel=1e-7), (seed, p)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("family", WHOLE)
def test_quantiles_of_counts_are_the_least_that_reach_the_level(family, seeds):
    for seed in seeds:
        fit, law, row = random_mixture(family, seed)
        found = bm.predict(fit, row).quantile(LEVELS).values[0]
        for p, y in zip(LEVELS, found, strict=True):
            if p <= 0.5:
                assert law.cdf(y) >= p * (1 - 1e-9), (seed, p)
                assert y == 0 or law.cdf(y - 1) < p, (seed, p)
            else:
                assert law.sf(y) <= (1 - p) * (1 + 1e-6), (seed, p)
                assert y == 0 or law.sf(y - 1) > (1 - p) * (1 - 1e-6), (seed, p)


def test_a_far_tail_of_a_narrow_expert():
    fit, _, row = mixture_of("normal", [0.3, 0.7], {"mu": [0.0, 1000.0], "sigma": [1e-4, 50.0]})
    found = bm.predict(fit, row).quantile(1e-12).item()
    assert found == pytest.approx(1e-4 * stats.norm.ppf(1e-12 / 0.3), rel=1e-11)


@pytest.mark.parametrize("family", ["normal", "studentt", "gamma", "poisson"])
def test_quantiles_of_many_draws_have_their_level(family):
    fit, law, row = mixture_of(family, [0.3, 0.7], OWN[family], draws=400, spread=0.05)
    predictive = bm.predict(fit, row)
    found = predictive.quantile(LEVELS).values[0]
    reached = predictive.cdf(found, grid=True).values[0]
    if law.discrete:
        before = predictive.cdf(found - 1, grid=True).values[0]
        assert (reached >= LEVELS * (1 - 1e-10)).all()
        assert (before < LEVELS).all()
    else:
        np.testing.assert_allclose(reached, LEVELS, rtol=1e-9)


@pytest.fixture
def always_compiled(monkeypatch):
    """Compiled loops for work of any size."""
    import numba  # noqa: F401

    monkeypatch.setattr(evaluation, "COMPILED_ELEMENTS", 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_quantiles_are_those_of_numpy(family, monkeypatch):
    own = {p.name: typical(p.role) for p in families.by_name(family).parameters}
    own = OWN.get(family, own)
    fit, _, row = mixture_of(family, [0.3, 0.7], own, {"trials": 30.0}, 400, 0.1)
    rows = row.loc[[0] * 5]
    reference = bm.predict(fit, rows).quantile(LEVELS).values
    monkeypatch.setattr(evaluation, "COMPILED_ELEMENTS", 1)
    import numba  # noqa: F401

    predictive = bm.predict(fit, rows)
    np.testing.assert_allclose(predictive.quantile(LEVELS).values, reference, rtol=1e-9)
    for kept in (1, 2):
        sparse = bm.predict(fit, rows, top_k=kept)
        found = sparse.cdf(sparse.quantile(0.3).values).values
        assert (found >= 0.3 - 1e-9).all()


@pytest.mark.parametrize("shift", [0.0, 1e-9, 0.03, 4.0, 1e8])
@pytest.mark.parametrize("family", ["normal", "studentt", "gamma", "poisson"])
@pytest.mark.usefixtures("always_compiled")
def test_any_guess_leads_to_the_quantiles(family, shift):
    fit, _, row = mixture_of(family, [0.3, 0.7], OWN[family], draws=300, spread=0.1)
    mixtures = bm.predict(fit, row)._mixtures
    right = mixtures.quantiles(LEVELS)
    whole = family == "poisson"
    guess = right + (np.ceil(shift) if whole else shift)
    found = mixtures.map(lambda m, _: improved_quantiles(m, LEVELS, guess))
    np.testing.assert_allclose(found, right, rtol=0 if whole else 1e-9)


@pytest.mark.parametrize("smallest", [1, 10**9])
def test_cdf_on_a_grid_of_several_rows(smallest, monkeypatch):
    import numba  # noqa: F401

    monkeypatch.setattr(evaluation, "COMPILED_ELEMENTS", smallest)
    fit, law, row = mixture_of("normal", [0.3, 0.7], OWN["normal"])
    points = np.array([-1.0, 0.005, 8.0])
    found = bm.predict(fit, row.loc[[0] * 3]).cdf(points, grid=True)
    np.testing.assert_allclose(found.values, [law.cdf(points)] * 3, rtol=1e-12)

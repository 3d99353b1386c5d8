"""What is recorded of responses of every family: SciPy's distributions, cut by hand."""

import warnings

import numpy as np
import pytest
from scipy import special, stats

from bayes_moe import families
from bayes_moe.families.partial_moments import PARTIAL
from bayes_moe.families.recorded import LOG_SHARE, Flat, Recorded
from tests.support.censored import NAMES, case

HEAVY = ("studentt", "lomax")
"""Families of whose moments the far tails have a part."""
ROWS = 12


def limited(name, seed=0):
    """A family, its law, limits (4, obs) about its quantiles, and parameters (1, obs)."""
    found = case(name, seed=seed, n=ROWS)
    law, rng = found.law, np.random.default_rng([seed, len(name)])
    u = np.sort(rng.uniform(0.02, 0.98, (4, ROWS)), axis=0)
    u = np.stack([u[0], u[3], u[1], u[2]])  # from, to, censored below, censored above
    limits = np.stack([law.ppf(row) for row in u]).astype(float)
    if found.family.discrete:
        limits = np.floor(limits) + np.array([-2.0, 2.0, -1.0, 1.0])[:, None]
    limits[2, 1::3], limits[3, 2::3] = -np.inf, np.inf
    if name not in HEAVY:
        limits[0, ::3], limits[1, ::4] = -np.inf, np.inf
    params = {k: v if k in found.known else v[None] for k, v in found.params.items()}
    recorded = Recorded(found.family, True, True)
    with np.errstate(all="ignore"):
        return found, recorded, limits, recorded.within(limits, params)


def points(found, limits):
    """Nodes and weights (node, obs) for sums or integrals over responses between the limits."""
    law, (bottom, top) = found.law, limits[:2]
    if found.family.discrete:
        y = np.repeat(np.arange(0.0, 4 * law.isf(1e-9).max() + 100)[:, None], ROWS, axis=1)
        return y, ((y >= bottom) & (y <= top)) * law.pmf(y)
    least = 12 if found.family.kind == "inversegaussian" else 30  # SciPy's quantiles end there
    u = np.append(10.0 ** -np.arange(least, 0.9, -1.0), [0.2, 0.3, 0.4])[:, None]
    cuts = np.concatenate([law.ppf(u), law.median()[None], law.isf(u)[::-1], limits])
    cuts = np.where(np.isfinite(cuts), cuts, law.median())
    low, high = np.maximum(bottom, law.ppf(u[0, 0])), np.minimum(top, law.isf(u[0, 0]))
    cuts = np.sort(np.clip(cuts, low, high), axis=0)
    x, w = (v[:, None, None] for v in np.polynomial.legendre.leggauss(40))
    y = cuts[:-1] + 0.5 * (x + 1) * np.diff(cuts, axis=0)
    w = 0.5 * w * np.diff(cuts, axis=0)
    return y.reshape(-1, ROWS), (w * law.pdf(y)).reshape(-1, ROWS)


def beta_moment(found, limits, power):
    """Mean of a power of what is recorded of beta responses, by incomplete beta functions."""
    (a, b), (bottom, top, left, right) = found.law.args, limits
    bottom, top = np.maximum(bottom, 0.0), np.minimum(top, 1.0)
    inner = np.clip(left, bottom, top), np.clip(right, bottom, top)
    own = special.beta(a + power, b) / special.beta(a, b)
    within = own * np.diff([special.betainc(a + power, b, x) for x in inner], axis=0)[0]
    at = [special.betainc(a, b, x) for x in (bottom, *inner, top)]
    low, high = (np.where(np.isfinite(x), x, 0.0) ** power for x in (left, right))
    return (low * (at[1] - at[0]) + within + high * (at[3] - at[2])) / (at[3] - at[0])


def test_moments_of_beta_responses_are_incomplete_beta_functions():
    found, recorded, limits, params = limited("beta")
    mean, square = (beta_moment(found, limits, power) for power in (1, 2))
    np.testing.assert_allclose(recorded.mean(params)[0], mean, rtol=1e-8)
    np.testing.assert_allclose(recorded.variance(params)[0], square - mean**2, rtol=1e-7)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "beta"])
def test_mean_and_variance_are_integrals_by_hand(name):
    found, recorded, limits, params = limited(name)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y, mass = points(found, limits)
    mass = np.where((mass > 0) & np.isfinite(mass), mass, 0.0)
    mass = mass / mass.sum(axis=0)
    cut = np.clip(y, limits[2], limits[3])
    mean = (mass * cut).sum(axis=0)
    variance = (mass * (cut - mean) ** 2).sum(axis=0)
    with np.errstate(all="ignore"):
        got = recorded.mean(params)[0], recorded.variance(params)[0]
    np.testing.assert_allclose(got[0], mean, rtol=1e-8, atol=1e-8 * np.sqrt(variance.max()))
    np.testing.assert_allclose(got[1], variance, rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_tails_are_those_between_the_limits(name):
    found, recorded, limits, params = limited(name, seed=1)
    y = found.law.rvs(random_state=np.random.default_rng(0)).astype(float)
    log_total = found.log_probability(*limits[:2])
    below = np.exp(found.log_probability(limits[0], np.clip(y, limits[0], limits[1])) - log_total)
    below = np.where(y < limits[0], 0.0, np.where(y >= limits[1], 1.0, below))
    below = np.where(y >= limits[3], 1.0, np.where(y < limits[2], 0.0, below))
    np.testing.assert_allclose(recorded.cdf(y, params)[0], below, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(recorded.sf(y, params)[0], 1 - below, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(params[LOG_SHARE][0], log_total, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["normal", "gamma", "poisson", "binomial", "uniform"])
def test_draws_have_the_distribution(name):
    if name == "uniform":
        recorded, limits = Recorded(families.Uniform(0, 2), True, True), np.array([[0.5], [2.5]])
        limits = np.concatenate([limits, [[0.8], [np.inf]]])
        params = recorded.within(
            limits, {k: np.full((1, 1), v) for k, v in (("lower", 0.0), ("upper", 2.0))}
        )
    else:
        _, recorded, limits, params = limited(name, seed=2)
    size = (4000, *params[LOG_SHARE].shape)
    drawn = recorded.random(params, np.random.default_rng(1), size)[:, 0]
    assert (drawn >= np.maximum(limits[0], limits[2])).all() or recorded.discrete
    assert ((drawn <= limits[1]) & (drawn <= limits[3]) & (drawn >= limits[2])).all()
    for level in (0.2, 0.5, 0.8):
        at = np.quantile(drawn, level, axis=0)
        at = np.floor(at) if recorded.discrete else at
        share = (drawn <= at).mean(axis=0)
        np.testing.assert_allclose(recorded.cdf(at, params)[0], share, atol=0.03)


def test_draws_beyond_a_far_limit_are_by_tails():
    recorded = Recorded(families.Normal(), True, True)
    limits = np.array([[9.0, -np.inf], [np.inf, -9.0], [-np.inf] * 2, [np.inf] * 2])
    one = np.ones((1, 2))
    params = recorded.within(limits, {"mu": 0 * one, "sigma": one})
    drawn = recorded.random(params, np.random.default_rng(0), (2000, 1, 2))[:, 0]
    assert (drawn[:, 0] >= 9).all()
    assert (drawn[:, 1] <= -9).all()
    law = stats.truncnorm(9, np.inf)
    for column in (drawn[:, 0], -drawn[:, 1]):
        assert stats.kstest(column, law.cdf).pvalue > 0.01
    np.testing.assert_allclose(recorded.mean(params)[0], [law.mean(), -law.mean()], rtol=1e-10)


@pytest.mark.parametrize("rate", [3.0, 4e4])
def test_sums_of_counts_are_those_by_hand(rate):
    sd = np.sqrt(rate)
    limits = np.array(
        [
            [-np.inf, np.floor(rate + 2 * sd), 0, 1],
            [np.inf, np.inf, np.floor(rate - sd), np.floor(rate + 5 * sd)],
            [-np.inf, -np.inf, -np.inf, np.floor(rate - sd)],
            [np.floor(rate + sd), np.inf, np.inf, np.inf],
        ]
    )
    recorded = Recorded(families.Poisson(), True, True)
    eta = np.full((1, 4), np.log(rate))
    params = recorded.within(limits, {"mu": eta})
    y = np.arange(max(0.0, np.floor(rate - 40 * sd)), rate + 40 * sd)[:, None]
    mass = ((y >= limits[0]) & (y <= limits[1])) * stats.poisson(rate).pmf(y)
    mass, cut = mass / mass.sum(axis=0), np.clip(y, limits[2], limits[3])
    mean = (mass * cut).sum(axis=0)
    np.testing.assert_allclose(recorded.mean(params)[0], mean, rtol=1e-10)
    variance = (mass * (cut - mean) ** 2).sum(axis=0)
    np.testing.assert_allclose(recorded.variance(params)[0], variance, rtol=1e-8)


def test_huge_counts_are_summed_by_few_terms():
    recorded = Recorded(families.Poisson(), True, True)
    limits = np.array([[5.0], [np.inf], [-np.inf], [np.inf]])
    params = recorded.within(limits, {"mu": np.full((1, 1), np.log(1e12))})
    np.testing.assert_allclose(recorded.mean(params), 1e12, rtol=1e-9)
    np.testing.assert_allclose(recorded.variance(params), 1e12, rtol=1e-5)  # SciPy's gammaincc


def test_moments_that_are_infinite_stay_so_unless_the_tail_is_cut():
    recorded = Recorded(families.StudentT(), True, True)
    inf = np.inf
    nu = np.array([[0.8, 0.8, 1.5, 1.5, 0.8]])
    limits = np.array(
        [[0.0, 0.0, 0.0, -inf, -inf], [inf, 3.0, inf, inf, 1.0], [-inf] * 5, [inf] * 5]
    )
    one = np.ones_like(nu)
    params = recorded.within(limits, {"mu": 0 * one, "sigma": one, "nu": nu})
    mean, variance = recorded.mean(params)[0], recorded.variance(params)[0]
    assert mean[0] == inf
    assert mean[4] == -inf
    assert variance[2] == variance[3] == inf
    assert np.isfinite([mean[1], variance[1], mean[2], mean[3]]).all()
    np.testing.assert_allclose(mean[3], 0.0, atol=1e-10)
    half = stats.t(1.5).expect(lambda y: y, lb=0, ub=inf) * 2
    np.testing.assert_allclose(mean[2], half, rtol=1e-6)


def test_experts_that_record_nothing_have_no_moments():
    recorded = Recorded(families.Uniform(0, 1), True, True)
    one = np.ones((1, 1))
    limits = np.array([[2.0], [3.0], [-np.inf], [np.inf]])
    params = recorded.within(limits, {"lower": 0 * one, "upper": one})
    assert np.isnan(recorded.mean(params)).all()
    assert recorded.cdf(np.array([2.5]), params).item() == 0.0
    drawn = recorded.random(params, np.random.default_rng(0), (2, 1, 1))
    assert drawn.shape == (2, 1, 1)


@pytest.mark.parametrize("name", list(PARTIAL))
def test_moments_by_formula_are_those_by_integrals_of_tails(name, monkeypatch):
    _, recorded, limits, params = limited(name, seed=3)
    rest = np.arange(ROWS)
    with np.errstate(all="ignore"):
        found, missing = Flat.of(recorded, params).by_formula(rest)
        assert not missing.size
        monkeypatch.delitem(PARTIAL, name)
        mean, variance = recorded.moments(params)
        monkeypatch.undo()
        narrow = np.array([limits[0], limits[0] + 1e-9, limits[2] - np.inf, limits[3] + np.inf])
        if not recorded.discrete:  # differences have no digits there
            inside = recorded.within(np.where(np.isfinite(narrow), narrow, limits), params)
            assert Flat.of(recorded, inside).by_formula(rest)[1].size
    np.testing.assert_allclose(found[0], mean[0], rtol=1e-9, atol=1e-9 * np.sqrt(variance.min()))
    np.testing.assert_allclose(found[1], variance[0], rtol=1e-9)

"""Generalised and skew normal responses: limits, tails, shapes and signs."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from tests.support.examples import FAMILIES

Z = np.array([-30.0, -1.5, 0.0, 1e-8, 0.7, 12.0])


@pytest.mark.parametrize(
    ("excess", "law"),
    [(1e-12, stats.laplace(2.0, 3.0)), (1.0, stats.norm(2.0, 3.0 / np.sqrt(2)))],
)
def test_excesses_of_zero_and_one_are_laplace_and_normal(excess, law):
    family = families.by_name("generalisednormal")
    params = {"mu": np.array(2.0), "sigma": np.array(3.0), "excess": np.array(excess)}
    y = 2.0 + 3.0 * Z
    np.testing.assert_allclose(family.log_density(y, params, NUMERIC), law.logpdf(y), rtol=1e-10)
    np.testing.assert_allclose(family.cdf(y, params), law.cdf(y), rtol=1e-9)
    np.testing.assert_allclose(family.sf(y, params), law.sf(y), rtol=1e-9)
    assert family.variance(params) == pytest.approx(law.var(), rel=1e-10)
    if excess == 1.0:
        other = families.by_name("normal").derivatives(
            y, {"mu": params["mu"], "sigma": params["sigma"] / np.sqrt(2)}
        )
        found = family.derivatives(y, params)
        np.testing.assert_allclose(found.score[0], other.score[0], rtol=1e-12)
        both = (found.expected_information[0], other.expected_information[0])
        np.testing.assert_allclose(*both, rtol=1e-9)


@pytest.mark.parametrize("excess", [0.1, 0.5, 3.0])
def test_a_power_above_one_has_no_kink(excess):
    family = families.by_name("generalisednormal")
    params = {"mu": np.array(0.0), "sigma": np.array(1.0), "excess": np.array(excess)}
    near = 10.0 ** -np.arange(1.0, 70.0, 20.0)
    for side in (-1.0, 1.0):
        found = family.derivatives(side * near, params)
        expected = side * (1 + excess) * near**excess
        np.testing.assert_allclose(found.score[0], expected, rtol=1e-9)
        assert all(np.isfinite(x).all() for x in found.expected_information)
    at = family.derivatives(np.array([0.0]), params)
    assert at.score[0] == 0
    assert all(np.isfinite(x).all() for row in at.second for x in row)


@pytest.mark.parametrize("excess", [0.2, 1.0, 5.0])
def test_a_generalised_normal_has_scipys_moments(excess):
    family, law = families.by_name("generalisednormal"), stats.gennorm(1 + excess, 1.0, 2.0)
    params = {"mu": np.array(1.0), "sigma": np.array(2.0), "excess": np.array(excess)}
    draws = family.random(params, np.random.default_rng(0), (200_000,))
    assert family.variance(params) == pytest.approx(law.var(), rel=1e-12)
    assert draws.var() == pytest.approx(law.var(), rel=0.02)
    assert stats.kurtosis(draws) == pytest.approx(float(law.stats("k")), abs=0.15)


@pytest.mark.parametrize("excess", [0.4, 1.0, 4.0])
def test_one_generalised_normal_is_the_maximum_of_scipys_log_likelihood(excess):
    rng = np.random.default_rng(8)
    x = rng.normal(size=300)
    y = 1 + 2 * x + 0.5 * stats.gennorm(1 + excess).rvs(300, random_state=rng)
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="generalisednormal")
    fit = bm.fit(spec, pd.DataFrame({"x": x, "y": y}), "em", objective="likelihood")

    def loss(p):
        law = stats.gennorm(1 + np.exp(p[3]), p[0] + p[1] * x, np.exp(p[2]))
        return -law.logpdf(y).sum()

    found = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    own = [
        *found["mu_coef"].values.ravel(),
        *np.log([found["sigma"].item(), found["excess"].item()]),
    ]
    best = optimize.minimize(loss, [1.0, 2.0, -0.7, np.log(excess)], tol=1e-10)
    assert -best.fun <= bm.information(fit)["log_likelihood"] + 1e-6
    assert loss(own) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(own, best.x, atol=2e-3)


def test_experts_of_short_and_long_tails_are_told_apart():
    rng = np.random.default_rng(9)
    second = rng.random(600) < 0.5
    laws = stats.gennorm(1.15), stats.gennorm(6.0)
    y = np.where(
        second,
        laws[1].rvs(600, random_state=rng),
        8 + laws[0].rvs(600, random_state=rng),
    )
    spec = bm.mixture_of_experts("y ~ 1", experts=2, family="generalisednormal")
    fit = bm.fit(spec, pd.DataFrame({"y": y}), "em", random_seed=1)
    found = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    order = np.argsort(found["mu_coef"].values.ravel())
    short, long = found["excess"].values[order]
    assert short > 2.5
    assert long < 0.8


def test_a_skew_normal_without_asymmetry_is_normal():
    family = families.by_name("skewnormal")
    params = {"mu": np.array(2.0), "sigma": np.array(3.0), "alpha": np.array(0.0)}
    law = stats.norm(2.0, 3.0)
    y = 2.0 + 3.0 * Z
    np.testing.assert_allclose(family.log_density(y, params, NUMERIC), law.logpdf(y), rtol=1e-12)
    np.testing.assert_allclose(family.cdf(y, params), law.cdf(y), rtol=1e-12)
    np.testing.assert_allclose(family.sf(y, params), law.sf(y), rtol=1e-12)


@pytest.mark.parametrize(
    ("z", "alpha"),
    [(-4, 1.5), (-4, 3), (-2, 2), (-10, 0.5), (-30, 0.2), (-1.5, 5), (-3, 0.2), (-0.2, 40)],
)
def test_thin_tails_of_a_skew_normal_are_integrals(z, alpha):
    unit = 1 / (abs(z) * (1 + alpha**2))
    ends = unit * np.array([0.0, 1, 3, 8, 20, 50, 150])

    def density(s):  # at z - s, over the normal density at z
        return 2 * np.exp(s * z - 0.5 * s * s) * special.ndtr(alpha * (z - s))

    parts = [integrate.quad(density, *ab, epsabs=0, epsrel=1e-13)[0] for ab in pairwise(ends)]
    expected = sum(parts) * stats.norm.pdf(z)
    family = families.by_name("skewnormal")
    params = {"mu": np.array([5.0]), "sigma": np.array([2.0]), "alpha": np.array([float(alpha)])}
    assert family.cdf(5.0 + 2.0 * z, params)[0] == pytest.approx(expected, rel=1e-12)
    mirrored = params | {"alpha": -params["alpha"]}
    assert family.sf(5.0 - 2.0 * z, mirrored)[0] == pytest.approx(expected, rel=1e-12)


def test_skew_normal_log_densities_keep_their_digits_far_out():
    example = FAMILIES["skewnormal"]
    params = {"mu": np.array(1.0), "sigma": np.array(0.5)}
    for alpha in (-20.0, -1.0, 0.3, 8.0):
        given = params | {"alpha": np.array(alpha)}
        y = 1.0 + 0.5 * np.array([-9.0, -4.0, -0.5, 0.0, 3.0, 9.0])
        expected = example.log_density(y, **given)
        there = np.isfinite(expected)
        found = families.by_name("skewnormal").log_density(y, given, NUMERIC)
        np.testing.assert_allclose(found[there], expected[there], rtol=1e-10)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_two_skewed_experts_are_found_with_their_signs(sign):
    rng = np.random.default_rng(6)
    law = FAMILIES["skewnormal"].law
    x = rng.normal(size=300)
    y = np.where(
        np.arange(300) % 2,
        12 + x + sign * law(0.0, 1.0, 5.0).rvs(300, random_state=rng),
        -x - sign * law(0.0, 1.0, 5.0).rvs(300, random_state=rng),
    )
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="skewnormal")
    fit = bm.fit(spec, pd.DataFrame({"x": x, "y": y}), "em", random_seed=1)
    posterior = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    upper = posterior["mu_coef"].sel(mu_term="Intercept").values > 6
    assert (np.sign(posterior["alpha"].values) == np.where(upper, sign, -sign)).all()


@pytest.mark.parametrize(
    ("truth", "formula"), [((3.0, 0.0), "~ x"), ((0.0, 4.0), "~ x"), ((0.0, -4.0), "~ 0 + x")]
)
def test_an_asymmetry_with_a_formula_leaves_its_saddle(truth, formula):
    """At zero the log likelihood is stationary, whatever the direction of the asymmetry is."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=300)
    y = 1 + x + stats.skewnorm.rvs(truth[0] + truth[1] * x, size=300, random_state=rng)
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="skewnormal", alpha=formula)
    fit = bm.fit(spec, pd.DataFrame({"x": x, "y": y}), "em", objective="likelihood")
    level = float("0" not in formula)

    def loss(p):
        alpha = level * p[3] + p[4] * x
        return -stats.skewnorm.logpdf(y, alpha, p[0] + p[1] * x, np.exp(p[2])).sum()

    best = optimize.minimize(loss, [1.0, 1.0, 0.0, *truth])
    assert bm.information(fit)["log_likelihood"] >= -best.fun - 1e-5
    assert bm.information(fit)["converged"]


def test_two_experts_with_formulas_of_asymmetry_are_found():
    rng = np.random.default_rng(7)
    x = rng.normal(size=600)
    second = np.arange(600) % 2 == 1
    alpha = np.where(second, 5 * x, -4.0)
    y = np.where(second, 12 + x, -x) + stats.skewnorm.rvs(alpha, random_state=rng)
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="skewnormal", alpha="~ x")
    fit = bm.fit(spec, pd.DataFrame({"x": x, "y": y}), "em", random_seed=1)
    found = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    order = np.argsort(found["mu_coef"].sel(mu_term="Intercept").values)
    below, above = found["alpha_coef"].values[order]
    assert below[0] < -1.5
    assert abs(below[1]) < 1.5
    assert abs(above[0]) < 1.5
    assert above[1] > 2

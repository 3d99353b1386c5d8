"""Skew normal responses: the normal limit, tails and signs."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from tests.support.examples import FAMILIES

Z = np.array([-30.0, -1.5, 0.0, 1e-8, 0.7, 12.0])


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

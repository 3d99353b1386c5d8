"""Von Mises responses: normaliser, ends, one expert against SciPy, winds of two regimes."""

import math
from decimal import Decimal, localcontext

import numba
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.core.errors import DataError
from bayes_moe.families import circular_normaliser, functions
from bayes_moe.families.links import ANGLES
from bayes_moe.kernels import special as kernels
from tests.support import contracts
from tests.support.circular import VonMisesLaw

KAPPAS = np.concatenate([10 ** np.linspace(-8, 8, 49), [8.999999, 9.000001, 30.0]])


def bessel(kappa):
    """``exp(-kappa) I_0(kappa)`` and ``I_1 / I_0`` in decimals, by power or asymptotic series."""
    sums = []
    for order in (0, 1):
        term = total = (kappa / 2) ** order if kappa < 120 else Decimal(1)
        for j in range(1, 2000):
            step = (kappa / 2) ** 2 / (j * (j + order))
            if kappa >= 120:
                step = Decimal((2 * j - 1) ** 2 - 4 * order) / (8 * kappa * j)
            term *= step
            if abs(term) < abs(total) * Decimal("1e-45"):
                break
            total += term
        sums.append(total)
    unit = (-kappa).exp() if kappa < 120 else 1 / (2 * Decimal(math.pi) * kappa).sqrt()
    return sums[0] * unit, sums[1] / sums[0]


def test_the_normaliser_is_exact():
    with localcontext() as context:
        context.prec = 50
        pairs = [(Decimal(k), *bessel(Decimal(k))) for k in KAPPAS]
        value = np.array([float(-i0e.ln()) for _, i0e, _ in pairs])
        slope = np.array([float(k * (1 - ratio)) for k, _, ratio in pairs])
        # The derivative of the ratio is 1 - ratio / kappa - ratio^2.
        bend = np.array([float(k * (1 - a) - k * k * (1 - a / k - a * a)) for k, _, a in pairs])
    logs = np.log(KAPPAS)
    found = circular_normaliser.log_normaliser(NUMERIC)(logs)
    np.testing.assert_allclose(found, value, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found, -np.log(special.i0e(KAPPAS)), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(circular_normaliser.slope(logs), slope, rtol=3e-14)
    np.testing.assert_allclose(circular_normaliser.bend(logs), bend, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        circular_normaliser.log_normaliser(symbolic())(logs).eval(mode="FAST_COMPILE"),
        value,
        rtol=1e-13,
        atol=1e-15,
    )
    both = numba.njit(lambda x: kernels._circular_normaliser(x))
    compiled = np.array([both(x) for x in logs]).T
    np.testing.assert_allclose(compiled[0], value, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(compiled[1], slope, rtol=3e-14)


def test_information_of_the_concentration_is_positive_and_tends_to_a_half():
    found = circular_normaliser.information(np.log(KAPPAS))
    assert (found >= 0).all()
    np.testing.assert_allclose(found[KAPPAS > 1e4], 0.5, rtol=1e-4)
    small = KAPPAS < 1e-3
    np.testing.assert_allclose(found[small], KAPPAS[small] ** 2 / 2, rtol=1e-2, atol=1e-20)


@pytest.mark.parametrize("link", ANGLES)
def test_links_of_a_direction(link):
    row, xp = ANGLES[link], symbolic()
    directions = np.linspace(-3.14, 3.14, 41)
    eta = row.of_direction(directions)
    expected = {"tan_half": np.tan(directions / 2), "identity": directions}[link]
    np.testing.assert_allclose(eta, expected, rtol=1e-15)
    np.testing.assert_allclose(row.direction(eta, NUMERIC), directions, rtol=1e-14)
    tensor = row.direction(eta, xp).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(tensor, directions, rtol=1e-14)
    far = row.direction(np.array([-1e6, -7.0, 5.0, 1e6]), NUMERIC)
    assert np.abs(far).max() <= math.pi
    cosine, sine = row.half(functions.numeric(), eta)
    np.testing.assert_allclose([cosine, sine], [np.cos(directions / 2), np.sin(directions / 2)])
    high, low = (row.direction(eta + h, NUMERIC) for h in (1e-6, -1e-6))
    slope = np.broadcast_to(row.slope(eta), eta.shape)
    inner = np.abs(directions) < 3.1  # a turn is taken off beyond
    np.testing.assert_allclose(slope[inner], ((high - low) / 2e-6)[inner], rtol=1e-8)


def test_sines_and_cosines_of_kernels_are_numpys():
    x = np.concatenate([np.linspace(-50, 50, 4001), np.pi * np.arange(-40, 41) / 2, [1e4, -1e4]])
    both = numba.njit(lambda v: (kernels.sin(v), kernels.cos(v)))
    found = np.array([both(v) for v in x]).T
    np.testing.assert_allclose(found, [np.sin(x), np.cos(x)], atol=4e-16)


@pytest.mark.parametrize("check", contracts.FAMILY, ids=lambda check: check.__name__)
def test_the_identity_link_holds_the_contract(check):
    check(families.by_name("vonmises", link="identity"))


def test_a_direction_under_the_identity_is_that_under_the_tangent():
    by_tangent, by_identity = (families.by_name("vonmises", link=link) for link in ANGLES)
    directions, y = np.linspace(-3, 3, 9), np.linspace(-3.1, 3.1, 9)[:, None]
    kappa = np.array(7.0)
    one = {"mu": np.tan(directions / 2), "kappa": kappa}
    for turns in (-2, 0, 1):
        other = {"mu": directions + 2 * np.pi * turns, "kappa": kappa}
        for quantity in ("cdf", "sf"):
            values = (
                getattr(by_tangent, quantity)(y, one),
                getattr(by_identity, quantity)(y, other),
            )
            np.testing.assert_allclose(*values, atol=1e-13)
        densities = (
            by_tangent.log_density(y, one, NUMERIC),
            by_identity.log_density(y, other, NUMERIC),
        )
        np.testing.assert_allclose(*densities, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(by_tangent.mean(one), by_identity.mean(other), atol=1e-12)


def test_winds_about_the_ends_have_a_direction_under_the_identity():
    rng = np.random.default_rng(5)
    second = rng.random(400) < 0.4
    y = rng.vonmises(np.where(second, np.pi, 0.5), np.where(second, 9.0, 25.0))
    family = bm.families.VonMises(link="identity")
    spec = bm.mixture_of_experts("y ~ 1", experts=2, family=family)
    fit = bm.fit(spec, pd.DataFrame({"y": y}), "em", random_seed=1)
    found = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    direction = np.cos(found["mu_coef"].values.ravel())
    np.testing.assert_allclose(np.sort(direction), [-1.0, np.cos(0.5)], atol=0.03)
    kappa = found["kappa"].values[np.argsort(direction)]
    np.testing.assert_allclose(kappa, [9.0, 25.0], rtol=0.3)


@pytest.mark.parametrize("kappa", [1e-6, 0.5, 8.0, 300.0, 1e6])
@pytest.mark.parametrize("mu", [-1e5, -3.0, 0.0, 0.4, 40.0])
def test_probabilities_begin_at_minus_pi_and_keep_their_digits(mu, kappa):
    family, law = families.by_name("vonmises"), VonMisesLaw(2 * np.arctan([mu]), [kappa])
    params = {"mu": np.array([mu]), "kappa": np.array([kappa])}
    near = 2 * np.arctan(mu) + np.array([-30, -8, -1, 0, 0.5, 9]) / np.sqrt(kappa)
    y = np.concatenate([np.linspace(-np.pi, np.pi, 9), np.clip(near, -np.pi, np.pi)])
    with np.errstate(under="ignore"):
        np.testing.assert_allclose(family.cdf(y, params), law.cdf(y), rtol=1e-10, atol=1e-290)
        np.testing.assert_allclose(family.sf(y, params), law.sf(y), rtol=1e-10, atol=1e-290)
    np.testing.assert_array_equal(
        family.cdf(np.array([-4.0, -np.pi, np.pi, 4.0]), params), [0, 0, 1, 1]
    )
    np.testing.assert_allclose(family.mean(params), law.mean(), atol=1e-10)
    np.testing.assert_allclose(family.variance(params), law.var(), rtol=1e-9)
    ends = family.log_density(np.array([-np.pi, np.pi]), params, NUMERIC)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)
    assert (family.log_density(np.array([-3.2, 3.2]), params, NUMERIC) == -np.inf).all()


def test_mass_beyond_an_end_is_at_the_other():
    family = families.by_name("vonmises")
    params = {"mu": np.array([np.tan(1.5)]), "kappa": np.array([4.0])}
    draws = stats.vonmises.rvs(4.0, loc=3.0, size=200_000, random_state=0)
    assert (draws < 0).mean() > 0.2
    for y in (-3.0, -2.0, 0.0, 2.9):
        assert family.cdf(y, params)[0] == pytest.approx((draws <= y).mean(), abs=0.004)
    assert family.mean(params)[0] == pytest.approx(draws.mean(), abs=0.02)
    assert family.location(params)[0] == pytest.approx(3.0)


@pytest.fixture(scope="module")
def winds():
    rng = np.random.default_rng(4)
    x = rng.normal(size=150)
    return pd.DataFrame({"x": x, "y": rng.vonmises(2 * np.arctan(0.3 + 0.4 * x), 5.0)})


def test_one_expert_without_features_is_scipys_fit(winds):
    spec = bm.mixture_of_experts("y ~ 1", experts=1, family="vonmises")
    fit = bm.fit(spec, winds, "em", objective="likelihood")
    kappa, mu, _ = stats.vonmises.fit(winds["y"], fscale=1)
    posterior = fit.idata["posterior"]
    found = 2 * np.arctan(posterior["mu_coef"].values.item())
    assert found == pytest.approx(mu, abs=1e-6)
    assert posterior["kappa"].values.item() == pytest.approx(kappa, rel=1e-5)


@pytest.mark.parametrize("formula", [False, True])
def test_one_expert_is_the_maximum_of_scipys_log_likelihood(winds, formula):
    own = {"kappa": "~ x"} if formula else {}
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="vonmises", **own)
    fit = bm.fit(spec, winds, "em", objective="likelihood")
    x, y = winds["x"].to_numpy(), winds["y"].to_numpy()

    def loss(p):
        kappa = np.exp(p[2] + (p[3] * x if formula else 0.0))
        return -stats.vonmises.logpdf(y, kappa, loc=2 * np.arctan(p[0] + p[1] * x)).sum()

    start = np.array([0.0, 0.0, 1.0, 0.0][: 4 if formula else 3])
    best = optimize.minimize(loss, start, tol=1e-12)
    posterior = fit.idata["posterior"]
    assert bm.information(fit)["log_likelihood"] == pytest.approx(-best.fun, rel=1e-9)
    coefficients = posterior["mu_coef"].values.ravel()
    np.testing.assert_allclose(coefficients, best.x[:2], atol=1e-5)
    name = "kappa_coef" if formula else "kappa"
    other = posterior[name].values.ravel()
    np.testing.assert_allclose(other if formula else np.log(other), best.x[2:], atol=1e-5)


def regimes(n=400, seed=5):
    """Winds from two directions, that of each turning with the season."""
    rng = np.random.default_rng(seed)
    season = rng.uniform(-1, 1, n)
    second = rng.random(n) < special.expit(0.3 + season)
    eta = np.where(second, 1.0 + 0.5 * season, -0.6 - 0.3 * season)
    y = rng.vonmises(2 * np.arctan(eta), np.where(second, 20.0, 6.0))
    return pd.DataFrame({"season": season, "y": y})


def check_regimes(posterior):
    first = posterior["mu_coef"].sel(mu_term="Intercept").values.argmin()
    other = 1 - first
    coefficients = posterior["mu_coef"].values
    np.testing.assert_allclose(coefficients[first], [-0.6, -0.3], atol=0.1)
    np.testing.assert_allclose(coefficients[other], [1.0, 0.5], atol=0.1)
    np.testing.assert_allclose(posterior["kappa"].values[[first, other]], [6.0, 20.0], rtol=0.25)


SPEC = bm.mixture_of_experts("y ~ season", "~ season", experts=2, family="vonmises")


def test_winds_of_two_regimes_are_told_apart():
    fit = bm.fit(SPEC, regimes(), "em", random_seed=1)
    check_regimes(fit.idata["posterior"].to_dataset().isel(chain=0, draw=0))
    pit = bm.predict(fit, regimes(seed=6)).cdf(regimes(seed=6)["y"].to_numpy())
    assert stats.kstest(np.ravel(pit), "uniform").pvalue > 0.01


def test_chains_find_winds_of_two_regimes():
    fit = bm.fit(SPEC, regimes(), "nuts", draws=500, tune=300, chains=2, random_seed=1)
    check_regimes(fit.idata["posterior"].to_dataset().mean(("chain", "draw")))


@pytest.mark.parametrize("bad", [180.0, -3.2])
def test_degrees_are_refused(winds, bad):
    y = winds["y"].copy()
    y[3] = bad
    spec = bm.mixture_of_experts("y ~ x", family="vonmises")
    with pytest.raises(DataError, match=r"at row 3; family 'vonmises' needs angles in radians"):
        bm.fit(spec, winds.assign(y=y), "em")

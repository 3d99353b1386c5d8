"""Families against scipy, at ordinary and at extreme values."""

import numpy as np
import pytensor.tensor as pt
import pytest
from scipy import special, stats

from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.core.errors import DataError, SpecError
from tests.support.examples import FAMILIES, UNDERFLOWING
from tests.support.roles import typical

CONTINUOUS = [name for name in FAMILIES if not families.by_name(name).discrete]
DISCRETE = [name for name in FAMILIES if families.by_name(name).discrete]
OTHERS = {"phi": np.array(2.0), "alpha": np.array(3.5)}
"""Parameters besides the location of discrete families."""


@pytest.fixture(params=FAMILIES)
def case(request):
    """A family, responses, parameters, and its distribution in SciPy."""
    example = FAMILIES[request.param]
    law = example.law(**example.params)
    return families.by_name(request.param), example.y, example.params, law


def test_log_density(case):
    family, y, params, oracle = case
    found = family.log_density(y, params, NUMERIC)
    with np.errstate(over="ignore"):
        expected = oracle.logpmf(y) if family.discrete else oracle.logpdf(y)
    possible = np.isfinite(expected)
    underflows = family.kind in UNDERFLOWING
    assert np.all(
        found[~possible] < (-700 if underflows else -1e300)
    )  # some of SciPy's are logs of densities that underflow
    np.testing.assert_allclose(found[possible], expected[possible], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_are_of_whole_numbers_only_and_sum_to_the_cdf(name):
    family, y = families.by_name(name), np.arange(200.0)
    one = OTHERS | {"mu": np.array(2.0), "p": np.array(0.6), "trials": np.array([30.0])}
    params = {n: one[n] for n in (*(p.name for p in family.parameters), *family.known_counts)}
    mass = np.exp(family.log_density(y, params, NUMERIC))
    np.testing.assert_allclose(family.cdf(y, params), np.cumsum(mass), rtol=1e-12)
    np.testing.assert_allclose(family.cdf(y + 0.999, params), np.cumsum(mass), rtol=1e-12)
    for between in (-1.0, -0.5, 0.5, 1e-9, 3.5, -np.inf, np.inf):
        assert family.log_density(np.array(between), params, NUMERIC) == -np.inf
    np.testing.assert_array_equal(family.cdf(np.array([-np.inf, -1, -0.1]), params), 0)
    np.testing.assert_array_equal(family.cdf(np.array([1e300, np.inf]), params), 1)


@pytest.mark.parametrize("name", DISCRETE)
def test_predictors_of_700_are_finite(name):
    family, y = families.by_name(name), np.array([0.0, 1.0])
    for eta in (-700.0, -40.0, 40.0, 700.0):
        params = {p.name: OTHERS.get(p.name, np.array(eta)) for p in family.parameters}
        params |= {k: np.ones(1) for k in family.known_counts}
        at = family.derivatives(y, params)
        everything = [family.log_density(y, params, NUMERIC), family.cdf(y, params)]
        everything += [family.mean(params), family.scale(params)]
        everything += [family.variance(params)] * bool(np.all(family.mean(params) < 1e150))
        for values in (*everything, at.score[0], at.second[0][0], at.expected_information[0]):
            assert np.isfinite(values).all()
        assert family.scale(params) > 0
        tensor = family.log_density(y, {k: pt.as_tensor(v) for k, v in params.items()}, symbolic())
        found = tensor.eval(mode="FAST_COMPILE")
        np.testing.assert_allclose(found, everything[0], rtol=1e-12, atol=1e-17)


def test_cdf(case):
    family, y, params, oracle = case
    found = family.cdf(y, params)
    with np.errstate(over="ignore"):
        expected = oracle.cdf(y)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)
    if not family.known_counts:
        assert np.all(np.diff(found, axis=-1) >= 0)


def test_mean_and_variance(case):
    family, _, params, oracle = case
    with np.errstate(all="ignore"):
        mean, variance = oracle.mean(), oracle.var()
    if family.kind == "studentt":  # SciPy says that the mean is infinite where there is none
        nu = params["nu"]
        mean = np.where(nu > 1, mean, np.nan)
        variance = np.where(nu > 1, variance, np.nan)
    shape = np.shape(variance)
    np.testing.assert_allclose(np.broadcast_to(family.mean(params), shape), mean)
    np.testing.assert_allclose(np.broadcast_to(family.variance(params), shape), variance, rtol=1e-9)


def test_scale_is_positive_and_finite(case):
    family, _, params, _ = case
    assert np.all(np.isfinite(family.scale(params)))
    assert np.all(family.scale(params) > 0)


def test_draws_have_the_family_s_distribution(case):
    family = case[0]
    params = {p.name: typical(p.role) for p in family.parameters}
    params |= {name: np.array([6.0, 25.0]) for name in family.known_counts}
    drawn = family.random(params, np.random.default_rng(0), (20_000, 2))
    assert drawn.shape == (20_000, 2)
    assert (drawn.dtype.kind == "i") == family.discrete
    for j in range(2):
        own = {name: value[[j]] for name, value in params.items()}
        if family.discrete:
            values, counts = np.unique(drawn[:, j], return_counts=True)
            expected = 20_000 * np.exp(family.log_density(values, own, NUMERIC))
            common = expected > 5
            rare = [20_000 - counts[common].sum(), 20_000 - expected[common].sum()]
            chi2 = ((counts - expected)[common] ** 2 / expected[common]).sum()
            chi2 += (rare[0] - rare[1]) ** 2 / max(rare[1], 1.0)
            assert stats.chi2(common.sum()).sf(chi2) > 1e-3
        else:
            assert stats.kstest(family.cdf(drawn[:, j], own), "uniform").pvalue > 1e-3
    again = family.random(params, np.random.default_rng(0), (20_000, 2))
    np.testing.assert_array_equal(drawn, again)


def test_student_t_lies_between_cauchy_and_normal():
    family = families.by_name("studentt")
    at = {"mu": 0.0, "sigma": 1.0}
    y = np.linspace(-5, 5, 11)
    cauchy = family.log_density(y, at | {"nu": 1.0}, NUMERIC)
    np.testing.assert_allclose(cauchy, stats.cauchy.logpdf(y), rtol=1e-12)
    normal = family.log_density(y, at | {"nu": 1e6}, NUMERIC)
    np.testing.assert_allclose(normal, stats.norm.logpdf(y), atol=2e-4)


LOG_NU = np.array([-10.0, -4.0, -1.0, 0.0, 1.5, 3.0, 3.4, 3.41, 6.0, 12.0, 20.0])[:, None]
Z = np.array([0.0, 1e-8, 1e-3, 0.3, 1.0, 2.0, 30.0, 1e4, 1e10])


def student_at(log_nu, z):
    params = {"mu": np.zeros(1), "sigma": np.ones(1), "nu": np.exp(log_nu)}
    return families.by_name("studentt").derivatives(z, params)


def test_student_t_derivatives_are_finite_everywhere():
    at = student_at(LOG_NU, Z)
    for array in (*at.score, *at.expected_information, *(x for row in at.second for x in row)):
        assert np.isfinite(array).all()
    assert all((working > 0).all() for working in at.expected_information)


def test_student_t_shape_information_is_the_textbooks():
    """Lange, Little and Taylor (1989), by trigamma functions; it cancels for large nu."""
    nu = np.exp(LOG_NU[LOG_NU < 5])
    trigammas = special.polygamma(1, nu / 2) - special.polygamma(1, (nu + 1) / 2)
    expected = nu**2 * (trigammas / 4 - (nu + 5) / (2 * nu * (nu + 1) * (nu + 3)))
    np.testing.assert_allclose(
        student_at(np.log(nu), Z[:1]).expected_information[2], expected, rtol=1e-8
    )
    np.testing.assert_allclose(
        student_at(np.array([20.0]), Z[:1]).expected_information[2], 3.5 * np.exp(-40)
    )


def test_student_t_derivatives_by_shape_have_the_normal_limit():
    """``log f`` is that of a normal plus ``(z^4 - 2 z^2 - 1) / (4 nu)``, and so on."""
    log_nu, z = np.array([18.0]), Z[Z < 10]
    at, correction = student_at(log_nu, z), (z**4 - 2 * z**2 - 1) / 4 * np.exp(-18)
    np.testing.assert_allclose(at.score[2], -correction, rtol=1e-5)
    np.testing.assert_allclose(at.second[2][2], correction, rtol=1e-5)
    np.testing.assert_allclose(at.score[0], z, rtol=1e-5)


def test_student_t_derivatives_meet_where_formulas_change():
    """At ``nu`` of 30, and where the tail is 0.01: a change of ulps changes nothing."""
    for z in (np.array([0.5]), np.sqrt(30.0 / 99) * (1 + np.array([-1e-9, 1e-9]))):
        below, above = (student_at(np.log(np.array([30.0 * s])), z) for s in (1 - 1e-12, 1 + 1e-12))
        for a, b in zip(
            below.score + below.expected_information,
            above.score + above.expected_information,
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-10)
            np.testing.assert_allclose(a, a[..., :1] * np.ones(np.shape(a)), rtol=1e-7)


def test_parameters_are_a_table(case):
    family, _, params, _ = case
    assert [*(p.name for p in family.parameters), *family.known_counts] == list(params)
    value = np.array([1e-6, 0.5, 3.0])
    for parameter in family.parameters:
        assert family.parameter(parameter.name) is parameter
        back = parameter.link.inverse(parameter.link(value, NUMERIC), NUMERIC)
        np.testing.assert_allclose(back, value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(5, 1.5), "response 'size' has zero variance .* all 5 values are 1.5"),
        (np.zeros(3), "zero variance"),
        (1e9 + 1e-9 * np.arange(4), "zero variance"),
        (np.array([0.3, 0.1 + 0.2]), "zero variance up to rounding"),
        (1e160 * np.arange(3), "response 'size' has values up to 2e\\+160.*Change the unit"),
        (1e-160 * np.arange(3), "response 'size' .*Change the unit"),
    ],
)
@pytest.mark.parametrize("name", [n for n in CONTINUOUS if np.isinf(families.by_name(n).upper)])
def test_responses_without_anything_to_model(name, y, message):
    family = families.by_name(name)
    with pytest.raises(DataError, match=message):
        family.check_response(y, "size")
    family.check_response(np.array([1e-13, 1e-12]), "size")
    family.check_response(np.array([1e12, 2e12]), "size")


@pytest.mark.parametrize(
    ("name", "y", "message"),
    [
        ("poisson", [1, 0, 2.5, 3.5], r"'size' is 2.5 at row 12; .* from 0 \(2 row\(s\)"),
        ("poisson", [1, 0, 2, -1], "'size' is -1 at row 13"),
        ("poisson", [2, 2, 2, 2], "zero variance.* all 4 values are 2"),
        ("bernoulli", [0, 1, 2, 0], "'size' is 2 at row 12; .* 0 and 1, or False and True"),
        ("bernoulli", [1, 1, 1, 1], "zero variance"),
        ("binomial", [0, 1, 2, 5], "'size' is 5 at row 13 of 4 trials"),
        ("binomial", [0, 1, 0.5, 3], "'size' is 0.5 at row 12 of 3 trials.* number of trials"),
        ("binomial", [1, 2, 3, 4], "share of successes 'size' has zero variance"),
    ],
)
def test_responses_that_a_discrete_family_cannot_have(name, y, message):
    family = families.by_name(name)
    known = {k: np.array([1.0, 2, 3, 4]) for k in family.known_counts}
    with pytest.raises(DataError, match=message):
        family.check_response(np.array(y, dtype=float), "size", known, np.arange(10, 14))
    family.check_response(np.array([0.0, 1, 0, 1]), "size", known, np.arange(4))


@pytest.mark.parametrize("name", ["Normal", "student", "gausian", None, ["normal"], 3])
def test_unknown_families(name):
    with pytest.raises(SpecError, match=r"Unknown family .*Valid: .*'normal'"):
        families.by_name(name)

"""Families against scipy, at ordinary and at extreme values."""

import numpy as np
import pytest
from scipy import stats

from bayes_moe import families, registry
from bayes_moe.arrays import NUMERIC
from bayes_moe.errors import DataError, SpecError

RESIDUALS = np.array([-1e3, -30.0, -1.5, 0.0, 1e-8, 0.7, 12.0, 1e3])
MU = np.array([-4.0, 0.0, 2e3])[:, None]
SIGMA = np.array([1e-3, 1.0, 50.0])[:, None, None]
NU = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 4.0, 30.0, 1e3, 1e6])[:, None, None, None]
Y = MU + SIGMA * RESIDUALS

CASES = {
    "normal": ({"mu": MU, "sigma": SIGMA}, stats.norm(MU, SIGMA)),
    "studentt": ({"mu": MU, "sigma": SIGMA, "nu": NU}, stats.t(NU, MU, SIGMA)),
}


@pytest.fixture(params=registry.TABLE["family"])
def case(request):
    """Every registered family has a row here."""
    return families.by_name(request.param), *CASES[request.param]


def test_log_density(case):
    family, params, oracle = case
    found = family.log_density(Y, params, NUMERIC)
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(found, oracle.logpdf(Y), rtol=1e-9, atol=1e-8)


def test_log_density_is_of_a_density(case):
    family, params, _ = case
    y = np.linspace(-40, 40, 20001)
    one = {name: np.ravel(value)[-1] for name, value in params.items()} | {"mu": 0.0, "sigma": 1.0}
    np.testing.assert_allclose(
        np.trapezoid(np.exp(family.log_density(y, one, NUMERIC)), y), 1, rtol=1e-6
    )


def test_cdf(case):
    family, params, oracle = case
    found = family.cdf(Y, params)
    np.testing.assert_allclose(found, oracle.cdf(Y), rtol=1e-9, atol=1e-300)
    assert np.all(np.diff(found, axis=-1) >= 0)


def test_mean_and_variance(case):
    family, params, oracle = case
    with np.errstate(all="ignore"):
        mean, variance = oracle.mean(), oracle.var()
    if "nu" in params:  # scipy says that the mean is infinite where there is none
        mean = np.where(NU > 1, mean, np.nan)
        variance = np.where(NU > 1, variance, np.nan)
    shape = np.shape(variance)
    np.testing.assert_allclose(np.broadcast_to(family.mean(params), shape), mean)
    np.testing.assert_allclose(np.broadcast_to(family.variance(params), shape), variance, rtol=1e-9)


def test_scale_is_positive_and_finite(case):
    family, params, _ = case
    assert np.all(np.isfinite(family.scale(params)))
    assert np.all(family.scale(params) > 0)


def test_draws_have_the_family_s_distribution(case):
    family, params, _ = case
    rng = np.random.default_rng(0)
    one = {"mu": np.array([-2.0, 5.0]), "sigma": np.array([0.5, 3.0])}
    one |= {"nu": np.array([2.5, 30.0])} if "nu" in params else {}
    drawn = family.random(one, rng, (20_000, 2))
    assert drawn.shape == (20_000, 2)
    for j in range(2):
        level = family.cdf(drawn[:, j], {name: value[j] for name, value in one.items()})
        assert stats.kstest(level, "uniform").pvalue > 1e-3
    again = family.random(one, np.random.default_rng(0), (20_000, 2))
    np.testing.assert_array_equal(drawn, again)


def test_student_t_lies_between_cauchy_and_normal():
    family = families.by_name("studentt")
    at = {"mu": 0.0, "sigma": 1.0}
    y = np.linspace(-5, 5, 11)
    cauchy = family.log_density(y, at | {"nu": 1.0}, NUMERIC)
    np.testing.assert_allclose(cauchy, stats.cauchy.logpdf(y), rtol=1e-12)
    normal = family.log_density(y, at | {"nu": 1e6}, NUMERIC)
    np.testing.assert_allclose(normal, stats.norm.logpdf(y), atol=2e-4)


def test_parameters_are_a_table(case):
    family, params, _ = case
    assert [p.name for p in family.PARAMS] == list(params)
    assert family.PARAMS[0].role == "location"
    value = np.array([1e-6, 0.5, 3.0])
    for parameter in family.PARAMS:
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
def test_responses_without_anything_to_model(case, y, message):
    family, _, _ = case
    with pytest.raises(DataError, match=message):
        family.check_response(y, "size")
    family.check_response(np.array([0.0, 1e-12]), "size")
    family.check_response(np.array([1e12, 2e12]), "size")


@pytest.mark.parametrize("name", ["Normal", "student", "gausian", None, ["normal"], 3])
def test_unknown_families(name):
    with pytest.raises(SpecError, match=r"Unknown family .*Valid: .*'normal'"):
        families.by_name(name)

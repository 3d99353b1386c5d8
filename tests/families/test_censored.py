"""Log densities of censored and truncated responses: SciPy's, their derivatives, and tensors."""

import numpy as np
import pytest
from scipy import special, stats

from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.families.censored import Censored, Truncation, observed_as
from bayes_moe.families.formula import RowData
from bayes_moe.graph import numpy_mode
from tests.support.censored import NAMES, case
from tests.support.examples import CUSPED, FAMILIES_WITH_ZEROS

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
QUICK = ("normal", "gamma", "negativebinomial")
TENSORS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
LESS = {"skewnormal": {"rtol": 1e-8, "atol": 1e-8}}


def at(family, rows, found):
    """Log density (obs,) of rows under a censored family."""
    with np.errstate(all="ignore"):
        data = family.data(rows, found.known, NUMERIC)
        return family.log_density_at(data, found.etas, NUMERIC)[0]


@pytest.mark.parametrize("name", NAMES)
def test_all_censorings_are_those_of_scipy(name):
    found = case(name)
    np.testing.assert_allclose(
        at(found.censored, found.rows[:2], found), found.expected, **LESS.get(name, TOLERANCE)
    )


@pytest.mark.parametrize("name", NAMES)
def test_probability_of_limits_is_that_of_scipy(name):
    found = case(name, seed=1)
    expected = found.log_probability(*found.rows[2:])
    got = at(found.truncation, found.rows, found)
    np.testing.assert_allclose(got, expected, **LESS.get(name, TOLERANCE))
    unlimited = np.isinf(found.rows[2:]).all(axis=0)
    assert unlimited.any()
    np.testing.assert_array_equal(got[unlimited], 0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["censored", "truncation"])
def test_derivatives_are_differences(name, kind):
    found = case(name, seed=2)
    family = getattr(found, kind)
    data = family.data(found.rows, found.known, NUMERIC)
    distance = np.abs(found.rows - found.etas[0]) / np.exp(found.etas[1:2] or [1.0])[0]
    exact = family.is_exact(data) & (kind == "censored") & (name == "laplace")
    near = (distance <= 0.05).any(axis=0) & (name in CUSPED)  # no differences at a kink
    smooth = ~exact & ~near
    derivatives = family.derivatives_at(data, found.etas)
    step = 2e-3

    def difference(function, j):
        values = []
        for k in (1, -1, 2, -2, 3, -3):
            etas = [eta + k * step if a == j else eta for a, eta in enumerate(found.etas)]
            values.append(np.where(smooth, function(etas), 0.0))
        pairs = (values[0] - values[1], values[2] - values[3], values[4] - values[5])
        return (45 * pairs[0] - 9 * pairs[1] + pairs[2]) / (60 * step)

    for a in range(len(found.etas)):
        slope = difference(lambda etas: family.log_density_at(data, etas, NUMERIC), a)
        score = np.where(smooth, derivatives.score[a], 0.0)
        np.testing.assert_allclose(score, slope, rtol=1e-7, atol=1e-8)
        for b in range(len(found.etas)):
            bend = difference(lambda etas, b=b: family.derivatives_at(data, etas).score[b], a)
            second = np.where(smooth, derivatives.second[a][b], 0.0)
            np.testing.assert_allclose(second, bend, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("kind", ["censored", "truncation"])
def test_tensors_have_the_same_values_and_gradients(name, kind):
    import pytensor
    import pytensor.tensor as pt

    found = case(name, seed=3, n=40)
    family, xp = getattr(found, kind), symbolic()
    rows, etas = pt.matrix(), [pt.matrix() for _ in found.etas]
    value = family.log_density_at(family.data(rows, found.known, xp), etas, xp)
    outputs = [value, *pt.grad(value.sum(), etas)]
    function = pytensor.function([rows, *etas], outputs, mode=numpy_mode.mode())
    got = function(found.rows, *found.etas)
    data = family.data(found.rows, found.known, NUMERIC)
    np.testing.assert_allclose(
        got[0], family.log_density_at(data, found.etas, NUMERIC), rtol=1e-10, atol=1e-10
    )
    for own, score in zip(got[1:], family.derivatives_at(data, found.etas).score, strict=True):
        np.testing.assert_allclose(own, score, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES_WITH_ZEROS)
def test_zeros_of_their_own_are_in_intervals_that_have_zero(name):
    family, n = families.by_name(name), 8
    rng = np.random.default_rng(4)
    known = {k: np.full(n, 9.0) for k in family.known_counts}
    etas = [rng.normal(0.2, 0.5, (1, n)) for _ in family.slots]
    params = family.named(etas, known, NUMERIC)
    top = 0.9 if name.endswith("beta") else 3.0
    lower = np.array([0.0, 0.0, -np.inf, -1.0, 0.5 * top, 0.5 * top, 0.0, 0.0])
    upper = np.array([0.0, top, top, 0.0, np.inf, top, np.inf, 0.0])
    if family.discrete:
        lower, upper = np.ceil(lower), np.floor(upper)
    data = Censored(family).data(np.stack([lower, upper]), known, NUMERIC)
    got = Censored(family).log_density_at(data, etas, NUMERIC)[0]
    left = lower - 1.0 if family.discrete else np.where(lower <= 0.0, -1.0, lower)
    mass = family.cdf(np.minimum(upper, 1e300), params) - family.cdf(
        np.where(np.isfinite(left), left, -1.0), params
    )
    np.testing.assert_allclose(np.exp(got), mass[0], rtol=1e-10)


def test_far_tails_keep_their_digits():
    z = np.array([-35.0, -8.0, 8.0, 35.0])
    y = np.stack([z, np.full(4, np.inf)])
    etas = [np.zeros((1, 4)), np.zeros((1, 4))]
    for name, law in (("normal", stats.norm()), ("logistic", stats.logistic())):
        family = Censored(families.by_name(name))
        data = family.data(y, {}, NUMERIC)
        np.testing.assert_allclose(
            family.log_density_at(data, etas, NUMERIC)[0], law.logsf(z), rtol=1e-14
        )
    family = Censored(families.by_name("gamma"))
    y = np.stack([np.array([3e3, 5e3]), np.full(2, np.inf)])
    etas = [np.zeros((1, 2)), np.full((1, 2), np.log(3.0))]
    got = family.log_density_at(family.data(y, {}, NUMERIC), etas, NUMERIC)[0]
    x = 3.0 * y[0]  # the upper incomplete gamma function of shape 3 is elementary
    np.testing.assert_allclose(got, -x + np.log(1 + x + x * x / 2), rtol=1e-14)


def test_intervals_in_either_tail_are_differences_there():
    lower, upper = np.array([-30.0, 29.9, 5.0]), np.array([-29.9, 30.0, 5.0 + 1e-6])
    family, etas = Censored(families.by_name("normal")), [np.zeros((1, 3)), np.zeros((1, 3))]
    data = family.data(np.stack([lower, upper]), {}, NUMERIC)
    got = family.log_density_at(data, etas, NUMERIC)[0]
    log_tails = special.log_ndtr(np.array([-29.9, -30.0]))
    expected = log_tails[0] + np.log1p(-np.exp(log_tails[1] - log_tails[0]))
    np.testing.assert_allclose(got[:2], expected, rtol=1e-14)
    np.testing.assert_allclose(got[2], stats.norm.logpdf(5.0 + 5e-7) + np.log(1e-6), rtol=1e-9)


def test_limits_beyond_the_support_are_open():
    family, etas = Censored(families.by_name("gamma")), [np.zeros((1, 4)), np.zeros((1, 4))]
    rows = np.array([[-1.0, 0.0, -3.0, 0.5], [2.0, 2.0, np.inf, np.inf]])
    data = family.data(rows, {}, NUMERIC)
    got = family.log_density_at(data, etas, NUMERIC)[0]
    law = stats.gamma(1.0)
    np.testing.assert_allclose(got, [law.logcdf(2.0), law.logcdf(2.0), 0.0, law.logsf(0.5)])
    nothing = family.data(np.array([[-2.0], [-1.0]]), {}, NUMERIC)
    assert nothing.base == -np.inf


def test_counts_have_closed_ends():
    family, etas = Censored(families.by_name("poisson")), [np.zeros((1, 4))]
    rows = np.array([[2.0, 1.2, 0.2, -np.inf], [3.0, 3.9, 0.8, 4.0]])
    data = family.data(rows, {}, NUMERIC)
    with np.errstate(divide="ignore"):
        got = np.exp(family.log_density_at(data, etas, NUMERIC)[0])
    law = stats.poisson(1.0)
    expected = [law.pmf([2, 3]).sum(), law.pmf([2, 3]).sum(), 0.0, law.cdf(4)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_plain_response_was_observed():
    normal, y = families.by_name("normal"), np.array([0.3, -1.0])
    etas = [np.zeros((1, 2)), np.zeros((1, 2))]
    family = Censored(normal)
    np.testing.assert_array_equal(
        family.log_density_at(family.data(y, {}, NUMERIC), etas, NUMERIC),
        normal.log_density_at(normal.data(y, {}, NUMERIC), etas, NUMERIC),
    )
    assert family.family is normal
    assert repr(family) == repr(normal)
    assert family.to_dict() == "normal"


@pytest.mark.parametrize(
    "name", ["categorical", "orderedlogistic", "bernoulli", "vonmises", "multinomial"]
)
def test_families_without_intervals_say_so(name):
    with pytest.raises(SpecError, match="cannot have the response 'censored"):
        observed_as(families.by_name(name), "censored(y, status=s)")


def test_impossible_responses_are_named():
    family = observed_as(families.by_name("gamma"), "censored(lower=l, upper=u)")
    rows = np.array([[1.0, -3.0, 2.0], [2.0, -1.0, 3.0]])
    with pytest.raises(DataError, match="between -3 and -1 at row 7"):
        family.check_response(rows, "y", {}, np.array([5, 7, 9]))
    rows = np.array([[1.0, -3.0, 2.0], [2.0, -3.0, 3.0]])
    with pytest.raises(DataError, match="is -3 at row 7"):
        family.check_response(rows, "y", {}, np.array([5, 7, 9]))


def test_status_without_truncation_needs_no_differences():
    family = observed_as(families.by_name("normal"), "censored(y, status=s)")
    assert "log1mexp" not in family.kernel_text
    assert family.truncation is None
    limited = observed_as(families.by_name("normal"), "truncated(y, lower=0)")
    assert isinstance(limited.truncation, Truncation)
    assert isinstance(limited.data(np.ones((4, 2)), {}, NUMERIC), RowData)

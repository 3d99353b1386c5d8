"""Densities of priors: PyMC's values, and derivatives to the last digits over the whole range."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pymc as pm
import pytensor
import pytest
from scipy import linalg, special, stats

from bayes_moe.priors.coordinates import coordinate_of
from bayes_moe.priors.densities import DENSITIES, kink, log_density, log_density_of_coordinate
from bayes_moe.priors.prior import DISTRIBUTIONS, Prior
from tests.support.examples import CORRELATION, POSITIVE, UNIT, names_of
from tests.support.examples import PRIORS as CASES

CURVED_CASES = [p for p in CASES if p.distribution in (*POSITIVE, *UNIT, *CORRELATION)]

SCIPY = {
    "Normal": lambda mu, sigma: stats.norm(mu, sigma),
    "StudentT": lambda nu, mu, sigma: stats.t(nu, mu, sigma),
    "Laplace": lambda mu, b: stats.laplace(mu, b),
    "Cauchy": lambda alpha, beta: stats.cauchy(alpha, beta),
    "Logistic": lambda mu, s: stats.logistic(mu, s),
    "ZeroSumNormal": lambda sigma: stats.norm(0, sigma),
    "LogNormal": lambda mu, sigma: stats.lognorm(sigma, scale=np.exp(mu)),
    "HalfNormal": lambda sigma: stats.halfnorm(scale=sigma),
    "HalfStudentT": lambda nu, sigma: Twice(stats.t(nu, 0, sigma)),
    "HalfCauchy": lambda beta: stats.halfcauchy(scale=beta),
    "Exponential": lambda lam: stats.expon(scale=1 / lam),
    "Gamma": lambda alpha, beta: stats.gamma(alpha, scale=1 / beta),
    "InverseGamma": lambda alpha, beta: stats.invgamma(alpha, scale=beta),
    "Weibull": lambda alpha, beta: stats.weibull_min(alpha, scale=beta),
    "Beta": lambda alpha, beta: stats.beta(alpha, beta),
    "LogitNormal": lambda mu, sigma: LogitNormal(mu, sigma),
    "LKJ": lambda eta: stats.beta(eta, eta, loc=-1, scale=2),
    "FisherNormal": lambda mu, sigma: FisherNormal(mu, sigma),
}


class Twice:
    def __init__(self, law):
        self.law = law

    def logpdf(self, x):
        return np.log(2) + self.law.logpdf(x)


class LogitNormal:
    def __init__(self, mu, sigma):
        self.law = stats.norm(mu, sigma)

    def logpdf(self, x):
        return self.law.logpdf(special.logit(x)) - np.log(x * (1 - x))


class FisherNormal:
    def __init__(self, mu, sigma):
        self.law = stats.norm(mu, sigma)

    def logpdf(self, x):
        return self.law.logpdf(np.arctanh(x)) - np.log1p(-x * x)


def values_of(prior):
    """Everyday values, on which the other libraries can be relied."""
    if prior.distribution in POSITIVE:
        return np.exp(np.linspace(-5, 4, 40))
    if prior.distribution in UNIT:
        return special.expit(np.linspace(-6, 6, 40))
    if prior.distribution in CORRELATION:
        return np.tanh(np.linspace(-3, 3, 40))
    return np.linspace(-30, 30, 41) + 0.01


def evaluate(variable):
    return pytensor.function([], variable, mode="FAST_COMPILE")()


def test_every_prior_has_a_density():
    assert list(DENSITIES) == list(DISTRIBUTIONS)
    for name, density in DENSITIES.items():
        assert (density.of_coordinate is not None) == (name in (*POSITIVE, *UNIT, *CORRELATION))
        assert density.kink is None or density.kink == DISTRIBUTIONS[name].location


@pytest.mark.parametrize("name", [n for n in DISTRIBUTIONS if n != "ZeroSumNormal"])
def test_values_are_pymc_s(name):
    # PyMC doubles the density of these two by a log(2) of 32 bits; scipy.stats below does not.
    atol = 3e-9 if name in ("HalfStudentT", "HalfCauchy") else 1e-12
    cases = [p for p in CASES if p.distribution == name]
    x = values_of(cases[0])
    # Arrays, since PyTensor makes Python's 1.5 a constant of 32 bits, and takes logarithms in them.
    arguments = [{k: np.asarray(v) for k, v in p.arguments.items()} for p in cases]
    if name in CORRELATION:
        with pm.Model():
            laws = [p.rv(f"rho_{j}", ()) for j, p in enumerate(cases)]
    else:
        laws = [getattr(pm, name).dist(**given) for given in arguments]
    expected = evaluate([pm.logp(law, x) for law in laws])
    for prior, reference in zip(cases, expected, strict=True):
        np.testing.assert_allclose(log_density(prior, x)[0], reference, rtol=1e-12, atol=atol)
        if name in (*POSITIVE, *UNIT, *CORRELATION):
            found = log_density_of_coordinate(prior, coordinate_of(prior).of_value(x))[0]
            np.testing.assert_allclose(found, reference, rtol=1e-12, atol=atol)


@pytest.mark.parametrize("prior", CASES, ids=names_of(CASES))
def test_values_are_scipy_s(prior):
    x = values_of(prior)
    expected = SCIPY[prior.distribution](**prior.arguments).logpdf(x)
    np.testing.assert_allclose(log_density(prior, x)[0], expected, rtol=1e-12, atol=1e-12)


# --- derivatives: differences in arithmetic of so many digits that nothing is lost ------------


def student(x, nu, mu, sigma):
    return -(nu + 1) / 2 * (1 + ((x - mu) / sigma) ** 2 / nu).ln()


def normal(x, mu, sigma):
    return -(((x - mu) / sigma) ** 2) / 2


KERNELS = {
    "Normal": normal,
    "StudentT": student,
    "Laplace": lambda x, mu, b: -abs(x - mu) / b,
    "Cauchy": lambda x, alpha, beta: student(x, Decimal(1), alpha, beta),
    "Logistic": lambda x, mu, s: -abs(x - mu) / s - 2 * (1 + (-abs(x - mu) / s).exp()).ln(),
    "ZeroSumNormal": lambda x, sigma: normal(x, 0, sigma),
    "LogNormal": lambda x, mu, sigma: normal(x.ln(), mu, sigma) - x.ln(),
    "HalfNormal": lambda x, sigma: normal(x, 0, sigma),
    "HalfStudentT": lambda x, nu, sigma: student(x, nu, 0, sigma),
    "HalfCauchy": lambda x, beta: student(x, Decimal(1), 0, beta),
    "Exponential": lambda x, lam: -lam * x,
    "Gamma": lambda x, alpha, beta: (alpha - 1) * x.ln() - beta * x,
    "InverseGamma": lambda x, alpha, beta: -(alpha + 1) * x.ln() - beta / x,
    "Weibull": lambda x, alpha, beta: (alpha - 1) * x.ln() - (alpha * (x / beta).ln()).exp(),
    "Beta": lambda x, alpha, beta: (alpha - 1) * x.ln() + (beta - 1) * (1 - x).ln(),
    "LogitNormal": lambda x, mu, sigma: normal((x / (1 - x)).ln(), mu, sigma) - (x * (1 - x)).ln(),
    "LKJ": lambda x, eta: (eta - 1) * (1 - x * x).ln(),
    "FisherNormal": lambda x, mu, sigma: (
        normal(((1 + x) / (1 - x)).ln() / 2, mu, sigma) - (1 - x * x).ln()
    ),
}


VALUES = {
    "real": lambda u: u,
    "positive": lambda u: u.exp(),
    "unit": lambda u: 1 / (1 + (-u).exp()),
    "correlation": lambda u: 2 / (1 + (-u).exp()) - 1,
}


def reference(prior, points, *, of_coordinate=False):
    """Kernel and its first two derivatives by central differences in very many digits."""
    kernel = KERNELS[prior.distribution]
    value = VALUES[prior.kind.support] if of_coordinate else VALUES["real"]
    rows = []
    digits = 200 if of_coordinate else 1000  # enough for 1 + x**2 with the smallest x
    with decimal.localcontext(prec=digits, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]):
        arguments = {k: Decimal(v) for k, v in prior.arguments.items()}
        for point in map(Decimal, points.tolist()):
            distance = {"unit": min(point, 1 - point), "correlation": 1 - abs(point)}
            near = distance.get(prior.kind.support, abs(point))
            h = Decimal("1e-20") * (1 if of_coordinate else near)
            steps = (point - h, point, point + h)
            low, here, high = (kernel(value(p), **arguments) for p in steps)
            first, second = (high - low) / (2 * h), (high - 2 * here + low) / h**2
            rows.append([float(here), float(first), float(second)])
    return np.array(rows).T


def constant(prior):
    """What the kernel lacks; at one value, since the others have been compared."""
    x = np.array([0.6])
    return log_density(prior, x)[0] - reference(prior, x)[0]


def compare(found, expected, constant, *, atol=0.0):
    kernel, *derivatives = expected
    assert all(np.all(~np.isnan(part)) for part in found)
    some = np.isfinite(kernel)  # elsewhere the density is no double, nor is its logarithm
    assert np.all(found[0][~some] == -np.inf)
    np.testing.assert_allclose(found[0], kernel + constant, rtol=1e-12, atol=1e-12)
    for part, derivative in zip(found[1:], derivatives, strict=True):
        np.testing.assert_allclose(part[some], derivative[some], rtol=1e-12, atol=atol)


@pytest.mark.parametrize("prior", CASES, ids=names_of(CASES))
def test_derivatives_to_the_last_digits(prior):
    if prior.distribution in POSITIVE:
        sizes = [1e-300, 1e-155, 1e-20, 1e-3, 0.3, 1.1, 2.7, 17, 400, 1e20, 1e150, 1e300]
        x = np.array(sizes)
    elif prior.distribution in UNIT:
        x = np.array([1e-300, 1e-155, 1e-20, 1e-3, 0.31, 0.5, 0.77, 1 - 1e-6, 1 - 1e-15])
    elif prior.distribution in CORRELATION:
        x = np.array([-1 + 1e-15, -1 + 1e-6, -0.7, -0.1, 1e-20, 0.3, 0.8, 1 - 1e-6, 1 - 1e-15])
    else:
        sizes = np.array([1e-300, 1e-150, 1e-8, 0.3, 1.6, 5, 40, 400, 1e8, 1e20, 1e150])
        x = np.concatenate([-sizes, sizes])
    compare(log_density(prior, x), reference(prior, x), constant(prior))


@pytest.mark.parametrize("prior", CURVED_CASES, ids=names_of(CURVED_CASES))
def test_derivatives_for_the_coordinate_to_the_last_digits(prior):
    u = np.concatenate([np.linspace(-50, 50, 21), [-1.3, -0.2, 0.4, 1.7]])
    found = log_density_of_coordinate(prior, u)
    compare(found, reference(prior, u, of_coordinate=True), constant(prior), atol=1e-30)


@pytest.mark.parametrize("prior", CURVED_CASES, ids=names_of(CURVED_CASES))
def test_value_and_coordinate_agree_by_the_chain_rule(prior):
    x = values_of(prior)
    log_p, first, second = log_density(prior, x)
    coordinate = coordinate_of(prior)
    u = coordinate.of_value(x)
    slope = coordinate.slope(u)
    bend = slope * coordinate.log_slope(u)[1]
    found = log_density_of_coordinate(prior, u)
    chained = log_p, first * slope, second * slope**2 + first * bend
    for part, expected in zip(found, chained, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("prior", CURVED_CASES, ids=names_of(CURVED_CASES))
def test_there_is_nothing_outside_the_support(prior):
    outside = [] if prior.distribution in CORRELATION else [0.0]
    outside += [] if prior.distribution in POSITIVE else [1.0, 1.5]
    log_p, first, second = log_density(prior, np.array([-np.inf, -1.0, *outside, np.inf]))
    assert np.all(log_p == -np.inf)
    assert not np.any(first)
    assert not np.any(second)


@pytest.mark.parametrize("prior", CASES, ids=names_of(CASES))
def test_a_value_that_is_none_has_no_density(prior):
    assert np.isnan(log_density(prior, np.array([np.nan, 1.0]))[0]).tolist() == [True, False]


# --- arguments and shapes ----------------------------------------------------------------------


@pytest.mark.parametrize("prior", CASES, ids=names_of(CASES))
def test_arguments_broadcast_along_the_last_axis(prior):
    factors = np.array([1.0, 1.5, 0.3])
    vector = Prior(prior.distribution, **{k: v * factors for k, v in prior.arguments.items()})
    x = values_of(prior)[:36].reshape(4, 3, 3)
    for function in (log_density, log_density_of_coordinate):
        found = function(vector, x)
        for j in range(3):
            arguments = {k: v[j] for k, v in vector.arguments.items()}
            expected = function(Prior(prior.distribution, **arguments), x[..., j])
            for part, column in zip(found, expected, strict=True):
                assert part.shape == x.shape
                np.testing.assert_array_equal(part[..., j], column)
        for shape in [(), (0, 3), (5,)]:
            for part in function(prior, np.ones(shape)):
                assert isinstance(part, np.ndarray)
                assert part.shape == shape
                part[...] = 0  # its own memory
        for shape in [(), (4, 1), (3, 2)]:  # no terms, one term, two
            with pytest.raises(ValueError, match=r"(fit the arguments|broadcast)"):
                function(vector, np.ones(shape))


def test_the_kink_of_laplace():
    for prior in CASES:
        assert (kink(prior) is None) == (prior.distribution != "Laplace")
    one = Prior("Laplace", mu=3, b=2)
    assert kink(one).shape == ()
    assert kink(one) == 3
    np.testing.assert_array_equal(kink(Prior("Laplace", mu=[1, 2], b=2)), [1, 2])
    _, first, second = log_density(one, np.array([2.9, 3.0, 3.1]))
    assert first.tolist() == [0.5, 0, -0.5]
    assert second.tolist() == [0, 0, 0]


# --- zero-sum priors ---------------------------------------------------------------------------


@pytest.mark.parametrize("experts", [2, 3, 4, 5])
def test_zero_sum_priors_are_normal_in_orthonormal_coordinates(experts):
    """Of (term, expert) variables, with the standard deviations in a column, one a term."""
    prior = Prior("ZeroSumNormal", sigma=[1.5, 0.3, 4.0])
    coords = {"term": range(3), "expert": range(experts)}
    with pm.Model(coords=coords) as model:
        raw = prior.rv("raw", ("term", "expert"), column=True)
    c = np.random.default_rng(experts).normal(size=(experts - 1, 3))  # terms on the last axis
    expected = log_density(prior, c)[0].sum(axis=0)

    basis = linalg.null_space(np.ones((1, experts)))
    np.testing.assert_allclose(basis.T @ basis, np.eye(experts - 1), atol=1e-14)
    found = evaluate(pm.logp(raw, (basis @ c).T))
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, rtol=1e-12)

    # The coordinates in which PyMC samples are of that kind, and need no Jacobian.
    (free,) = model.value_vars
    log_p = model.compile_logp(mode="FAST_COMPILE")({free.name: c.T})
    np.testing.assert_allclose(log_p, expected.sum(), rtol=1e-12)


def test_constants_of_one_zero_sum_prior():
    """Two experts: one coordinate, sqrt(2) times the first expert's value."""
    log_p, first, second = log_density(Prior("ZeroSumNormal", sigma=2.0), np.array(math.sqrt(2)))
    np.testing.assert_allclose(log_p, stats.norm(0, 2).logpdf(math.sqrt(2)))
    np.testing.assert_allclose([first, second], [-math.sqrt(2) / 4, -0.25])


def test_normalised():
    """Total mass one, by the trapezoidal rule on the logarithm or the inverse hyperbolic sine."""
    t = np.linspace(-60, 60, 24001)
    for prior in CASES:
        if prior.distribution in POSITIVE:
            log_mass = log_density_of_coordinate(prior, t)[0] + t
        elif prior.distribution in (*UNIT, *CORRELATION):
            log_mass = log_density_of_coordinate(prior, t)[0] + coordinate_of(prior).log_slope(t)[0]
        else:
            log_mass = log_density(prior, np.sinh(t))[0] + np.log(np.cosh(t))
        mass = special.logsumexp(log_mass) + np.log(t[1] - t[0])
        np.testing.assert_allclose(mass, 0, atol=1e-5, err_msg=repr(prior))

"""Compiled tails against SciPy's distributions, far out and for extreme shapes."""

import numpy as np
import pytest
from scipy import special, stats

from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.kernels import tail_tables
from bayes_moe.kernels.tails import tails

SMALLEST = 1e-290
NONE = np.zeros(1)
SIDES = (1.0, -1.0)


def sums(family, y, mu, scale=1.0, table=NONE, of_rows=NONE, side=1.0):
    """Probability, density and slope (3, point) of one expert."""
    y = np.ascontiguousarray(y, dtype=float)
    count = y.size
    arrays = [
        y,
        np.array([side]),
        np.ones(count),
        np.ascontiguousarray(np.broadcast_to(mu, (count,)), dtype=float),
        np.array([1.0 / scale]),
        np.ascontiguousarray(table),
        np.ascontiguousarray(of_rows),
    ]
    addresses = np.array([a.ctypes.data for a in arrays])
    out, sizes = np.zeros((3, count)), np.array([1, 1, count, count, 1, 1])
    tails(family)(addresses.ctypes.data, out.ctypes.data, sizes.ctypes.data)
    return out


def agrees(found, expected, rtol, positive=None):
    """Compare where the expected numbers are normal doubles."""
    positive = expected if positive is None else positive
    where = positive > SMALLEST
    assert where.mean() > 0.3
    np.testing.assert_allclose(found[where], expected[where], rtol=rtol)


@pytest.mark.parametrize("side", SIDES)
def test_normal(side):
    z = np.concatenate([-np.geomspace(1e-12, 60, 900), np.geomspace(1e-12, 60, 900)])
    mu, sigma = 2.0, 3.0
    y = mu + sigma * z
    tail, density, slope = sums("normal", y, mu, sigma, side=side)
    agrees(tail, special.ndtr(side * (y - mu) / sigma), 3e-13)
    expected = stats.norm.pdf(y, mu, sigma)
    agrees(density, expected, 1e-12)
    agrees(slope, -(y - mu) / sigma**2 * expected, 1e-12, expected)
    assert tail[-1] == (1.0 if side > 0 else 0.0)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("nu", [0.2, 0.5, 1.0, 1.5, 3.0, 7.3, 30.0, 300.0, 1e4, 1e7])
def test_student(nu, side):
    far = 1e5 if nu < 20 else 25
    z = np.concatenate([-np.geomspace(1e-3, far, 500), np.geomspace(1e-3, far, 500), [0.0]])
    table = tail_tables.student_table(np.array([[nu]]))
    tail, density, slope = sums("studentt", 1 + 2 * z, 1.0, 2.0, table, side=side)
    expected = 0.5 * special.betainc(0.5 * nu, 0.5, nu / (nu + z * z))
    expected = np.where(side * z < 0, expected, 1 - expected)
    # Near the centre, and for a large nu, the argument of SciPy's first function is rounded.
    rounded = (np.abs(z) < 0.1) | (nu > 1e3)
    agrees(tail, np.where(rounded, special.stdtr(nu, side * z), expected), 2e-11)
    height = stats.t.pdf(z, nu) / 2
    agrees(density, height, 1e-11)
    agrees(slope, -(nu + 1) * z / (nu + z * z) / 2 * height, 1e-11, height)


def test_student_with_one_degree_of_freedom_is_cauchys():
    z = -np.geomspace(1e-3, 1e12, 500)
    table = tail_tables.student_table(np.array([[1.0]]))
    tail = sums("studentt", z, 0.0, 1.0, table)[0]
    np.testing.assert_allclose(tail, np.arctan2(1, -z) / np.pi, rtol=1e-13)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("alpha", [1.0, 1.3, 2.0, 6.5, 40.0, 1e3, 1e5])
def test_gamma(alpha, side):
    width = 1 / np.sqrt(alpha)
    y = np.exp(0.3 + np.linspace(-25, 5, 999) * width)
    table = tail_tables.gamma_table(np.array([[alpha]]))
    tail, density, slope = sums("gamma", y, 0.3, 1.0, table, side=side)
    x = alpha * np.exp(np.log(y) - 0.3)
    exact = special.gammainc if side > 0 else special.gammaincc
    agrees(tail, exact(alpha, x), 2e-11)
    # SciPy's density has fewer digits for a large shape.
    params = {"mu": 0.3, "alpha": np.array(alpha)}
    expected = np.exp(families.by_name("gamma").log_density(y, params, NUMERIC))
    agrees(density, expected, 1e-11)
    difference = ((alpha - 1) / y - alpha * np.exp(-0.3)) * expected
    where = expected > SMALLEST
    scale = (alpha / y * expected)[where]
    np.testing.assert_allclose(slope[where] / scale, difference[where] / scale, atol=1e-10)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("y", [0, 1, 2, 17, 400, 99_999])
def test_poisson(y, side):
    level = np.log(y + 1.0)
    eta = level + np.linspace(-8, 6, 999) / np.sqrt(y + 1.0)
    table = tail_tables.gamma_table(np.full(eta.size, y + 1.0))[:, None]
    of_rows = np.swapaxes(table, 0, 2)
    tail, density, _ = sums("poisson", np.full(eta.size, level), eta, of_rows=of_rows, side=side)
    exact = special.gammaincc if side > 0 else special.gammainc
    rtol = 2e-12 + 2e-14 * y  # of the rounding of the log rate
    agrees(tail, exact(y + 1.0, np.exp(eta)), rtol)
    agrees(density, stats.poisson.pmf(y, np.exp(eta)), rtol)


@pytest.mark.parametrize("side", SIDES)
def test_at_the_mean_itself(side):
    """The two polynomials of a gamma meet there."""
    alpha, one = 2.5, np.ones(1)
    table = tail_tables.gamma_table(np.array([[alpha]]))
    below = special.gammainc(alpha, alpha)
    tail = sums("gamma", one, 0.0, table=table, side=side)[0, 0]
    assert tail == pytest.approx(below if side > 0 else 1 - below, rel=1e-12)
    shape = np.array([3.0])
    of_rows = np.swapaxes(tail_tables.gamma_table(shape)[:, None], 0, 2)
    at = np.log(shape)
    tail = sums("poisson", at, at, of_rows=of_rows, side=side)[0, 0]
    above = special.gammainc(3.0, 3.0)
    assert tail == pytest.approx(1 - above if side > 0 else above, rel=1e-12)
    for family, given in (("normal", NONE), ("studentt", np.array([[4.0]]))):
        own = tail_tables.student_table(given) if family == "studentt" else NONE
        assert sums(family, one, 1.0, 2.0, own, side=side)[0, 0] == pytest.approx(0.5, rel=1e-14)


def test_unknown_numbers_stay_unknown():
    assert np.isnan(sums("normal", [np.nan, 1.0], 0.0)[0]).tolist() == [True, False]

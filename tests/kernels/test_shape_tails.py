"""Compiled tails by shapes against decimals, and kernels of limited responses against formulas."""

import ctypes
import math
from decimal import Decimal, localcontext
from functools import cache
from types import FunctionType

import numba
import numpy as np
import pytest

from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families import functions, log_tails
from bayes_moe.families.derivation import has_loops, variadic
from bayes_moe.families.formula import SCORES
from bayes_moe.families.tail_rules import TOGETHER
from bayes_moe.kernels import family_rows as layout
from bayes_moe.kernels import large_shapes, shape_tails, skew_tail
from bayes_moe.kernels.families import has_kernel, kernel_of
from tests.support import decimals
from tests.support.censored import NAMES, case

ROWS = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)
QUICK = ("gamma", "negativebinomial", "logistic")
SLOW = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]


@cache
def compiled(name):
    """A function of numbers, compiled by itself."""
    found = getattr(shape_tails, name, None) or getattr(skew_tail, name)
    return numba.njit(error_model="numpy")(found)


def exact(function, points, *derivatives):
    """Values and derivatives by some arguments, of a function of decimals."""
    with localcontext() as context:
        context.prec = 55
        rows = [[Decimal(float(v)) for v in point] for point in points]
        slopes = [[decimals.slope(function, r, j) for r in rows] for j in derivatives]
        return np.array([[function(*r) for r in rows], *slopes]).astype(float)


def gamma_points():
    rng = np.random.default_rng(0)
    log_shape = np.concatenate([rng.uniform(-6, 7, 20), [0.0, math.log(2.0)]])
    unit = np.exp(-0.5 * np.maximum(log_shape, 0.0))
    return np.stack([log_shape, log_shape + unit * rng.normal(0, 2.5, log_shape.size)], axis=1)


def test_tails_of_the_gamma_distribution_are_exact():
    points = gamma_points()
    found = np.array([compiled("gamma_tails")(*p) for p in points]).T
    for side in (0, 1):
        value, slope = exact(lambda *v, s=side: decimals.log_gamma_tails(*v)[s], points, 0)
        np.testing.assert_allclose(found[side], value, rtol=2e-12, atol=1e-14)
        np.testing.assert_allclose(found[2 + side], slope, rtol=2e-11, atol=1e-13)
        function = (log_tails.log_gamma_below, log_tails.log_gamma_above)[side]
        np.testing.assert_allclose(function(*points.T), value, rtol=1e-12, atol=1e-14)


def test_tails_of_the_beta_distribution_are_exact():
    rng = np.random.default_rng(1)
    shapes = rng.uniform(-5, 5, (2, 24))
    unit = np.sqrt(np.exp(-shapes) + 1.0).prod(axis=0) / 2
    logit = shapes[0] - shapes[1] + np.minimum(unit, 5.0) * rng.normal(0, 1.5, 24)
    logit[:6] = -np.array([13.0, 20.0, 30.0, 36.5, 40.0, 90.0])
    points = np.stack([*shapes, logit], axis=1)
    expected = exact(decimals.log_beta_below, points, 0, 1, 2)
    found = np.array([compiled("beta_tail")(*p) for p in points]).T
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(log_tails.log_beta_below(*points.T), expected[0], rtol=2e-11)


def test_tails_of_students_t_are_exact():
    rng = np.random.default_rng(2)
    points = np.stack([rng.normal(0, 3, 16), rng.uniform(-2, 5, 16)], axis=1)
    points[-4:] = [[-12.0, 6.0], [6.0, 7.2], [-2.0, 7.2], [-0.3, 7.2]]
    expected = exact(decimals.log_student_below, points, 1)
    found = np.array([compiled("log_student_tail")(*p) for p in points]).T
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(log_tails.log_student_below(*points.T), expected[0], rtol=1e-11)


def without(function, limit):
    """A function of numbers, compiled with a limit of large shapes that none reaches."""
    known = function.__globals__ | {limit: np.inf}
    return numba.njit(error_model="numpy")(FunctionType(function.__code__, known))


def test_series_of_large_shapes_meet_the_fractions():
    """At shapes for which both are right."""
    assert math.log(large_shapes.GAMMA_SHAPE) < 10.5
    points = [(s, s + t * math.exp(-s / 2)) for s in (10.5, 12.0) for t in (-5.0, -0.4, 0.0, 3.0)]
    large = np.array([compiled("gamma_tails")(*p) for p in points])
    fraction = without(shape_tails.gamma_tails, "GAMMA_SHAPE")
    other = np.array([fraction(*p) for p in points])
    assert (large != other).any(axis=1).all()
    np.testing.assert_allclose(large, other, rtol=1e-10)
    assert math.log(large_shapes.STUDENT_NU) < 7.2
    points = [(z, n) for n in (7.2, 9.0) for z in (-6.0, -0.4, 0.01, 3.0)]
    large = np.array([compiled("log_student_tail")(*p) for p in points])
    fraction = without(shape_tails.log_student_tail, "STUDENT_NU")
    other = np.array([fraction(*p) for p in points])
    assert (large != other).any(axis=1).all()
    np.testing.assert_allclose(large, other, rtol=1e-10, atol=1e-12)


def test_tails_of_the_beta_binomial_are_sums():
    rng = np.random.default_rng(3)
    trials = rng.integers(1, 30, 40).astype(float)
    points = [np.floor(rng.uniform(0, trials)), trials, *rng.uniform(-3, 3, (2, 40))]
    found = np.array([compiled("log_betabinomial_tail")(*p) for p in zip(*points, strict=True)]).T
    own = log_tails.log_betabinomial_below
    expected = own(*points), *(log_tails.slope_of(own, j)(*points) for j in (2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 2.0, 100.0])
def test_tails_of_the_skew_normal_are_those_of_owens_function(scale):
    rng = np.random.default_rng(4)
    z, alpha = rng.normal(0, 2, 300), rng.normal(0, scale, 300)
    z[:3] = 0.0, -9.0, 9.0
    found = np.array([compiled("skew_tail")(*p)[0] for p in zip(z, alpha, strict=True)])
    np.testing.assert_allclose(found, log_tails.log_skew_below(z, alpha), rtol=1e-11, atol=1e-13)


def on_numbers(text):
    """The function of a kernel's source, with functions of NumPy and compiled tails."""
    known = vars(functions.numeric())
    names = {name: compiled(name) for name, _ in TOGETHER.values()} if has_loops(text) else {}
    names |= {"inf": math.inf} | known | {f"{n}_{k}": known[n] for n, k in variadic(text)}
    exec(text, names)
    return names["row"]


@pytest.mark.parametrize("kind", ["censored", "truncation"])
@pytest.mark.parametrize("name", NAMES)
def test_sources_of_kernels_are_the_formulas(name, kind):
    found = case(name, seed=5, n=60)
    family = getattr(found, kind)
    assert has_kernel(family)
    values, scores = formulas(family, found)
    row, data = on_numbers(family.kernel_text), family.data(found.rows, found.known, NUMERIC)
    columns = np.broadcast_arrays(*data.values, *(eta[0] for eta in found.etas))
    with np.errstate(all="ignore"):
        got = np.array([row(*map(float, numbers)) for numbers in zip(*columns, strict=True)]).T
    np.testing.assert_allclose(got[0], values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[1:], scores, rtol=1e-9, atol=1e-9)


def formulas(family, found):
    """Log densities (obs,) and scores (parameter, obs) by NumPy."""
    data = family.data(found.rows, found.known, NUMERIC)
    with np.errstate(all="ignore"):
        values = family.log_density_at(data, found.etas, NUMERIC)[0]
        scores = family.derivatives_at(data, found.etas, SCORES).score
    return values, np.stack([np.broadcast_to(s, (1, values.size))[0] for s in scores])


@pytest.mark.parametrize("kind", ["censored", "truncation"])
@pytest.mark.parametrize("name", SLOW)
def test_kernels_are_the_formulas(name, kind):
    found = case(name, seed=6)
    family = getattr(found, kind)
    values, scores = formulas(family, found)
    data, count = family.data(found.rows, found.known, NUMERIC), found.rows.shape[1]
    packs, scratch = -(-count // layout.PACK), np.zeros(layout.SCRATCH)
    given = {layout.T: data.t, layout.U: data.u, layout.BASE: data.base}
    given |= {layout.REST + j * layout.WIDTH: x for j, x in enumerate(data.more)}
    given |= {layout.ETA + j * layout.STEP: eta[0] for j, eta in enumerate(found.etas)}
    for at, numbers in given.items():
        scratch[at : at + packs * layout.PACK] = np.resize(
            np.broadcast_to(numbers, (count,)), packs * layout.PACK
        )
    assert ROWS(kernel_of(family).address)(scratch.ctypes.data, 0, packs) == 0
    starts = [layout.VALUE, *(layout.SCORE + j * layout.STEP for j in range(len(found.etas)))]
    got = np.stack([scratch[at : at + count] for at in starts])
    np.testing.assert_allclose(got[0], values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[1:], scores, rtol=1e-9, atol=1e-9)


def test_families_with_elementary_tails_have_no_branches():
    for name, loops in (("normal", False), ("inversegaussian", False), ("gamma", True)):
        text = case(name, n=5).censored.kernel_text
        assert has_loops(text) == loops
        assert ("if x_2" in text) == loops
    assert families.by_name("gamma").kernel_text.count("if x_2") == 0

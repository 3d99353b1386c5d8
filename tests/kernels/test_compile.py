"""Compiled functions equal the NumPy formulas, are kept on disk, and run in child processes."""

import ctypes
import math
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext

import numba
import numpy as np
import pytest
from scipy import special

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.families.student_t import Normaliser
from bayes_moe.kernels import elementary as arithmetic
from bayes_moe.kernels import family_rows as rows
from bayes_moe.kernels import priors
from bayes_moe.kernels import special as special_functions
from bayes_moe.kernels.compile import once
from bayes_moe.kernels.families import has_kernel, kernel_of
from bayes_moe.priors.coordinates import COORDINATES, coordinate_of
from bayes_moe.priors.densities import (
    DENSITIES,
    formula,
    formula_arguments,
    log_density,
    log_density_of_coordinate,
)
from bayes_moe.priors.prior import Prior
from bayes_moe.sampling.compiled_density import LinearTable
from tests.support.decimals import log_gamma
from tests.support.examples import CUSPED, DOUBLY_EXPONENTIAL, FAMILIES, UNDERFLOWING, names_of
from tests.support.examples import PRIORS as CASES
from tests.support.roles import REACH, unit_of

COUNT = 200


# --- elementary functions ------------------------------------------------------------------------


def over(function):
    """Run a compiled function of one number over a vector."""

    @numba.njit
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    def evaluate(x):
        x = np.asarray(x, dtype=float)
        out = np.empty_like(x)
        loop(x, out)
        return out

    return evaluate


def uniform(low, high, size=50_000):
    return np.random.default_rng(0).uniform(low, high, size)


TINY, HUGE = np.finfo(float).tiny, np.finfo(float).max
BOTH = np.concatenate([uniform(-708, 800), uniform(-3, 3)])  # beyond: see the edges
SIZES = 10 ** np.concatenate([uniform(-307, 308), uniform(-17, 3)])
ELEMENTARY = {
    "exp": (np.exp, np.concatenate([uniform(-708, 709), uniform(-1, 1)])),
    "log": (np.log, np.concatenate([SIZES, uniform(0.4, 3), 1 + 1e-6 * uniform(-1, 1)])),
    "log1p": (np.log1p, SIZES),
    "softplus": (lambda x: np.logaddexp(0, x), BOTH),
    "logistic": (special.expit, BOTH),
    "expm1": (
        np.expm1,
        np.concatenate([-SIZES, SIZES[SIZES < 709], uniform(-60, 709), uniform(-1, 1)]),
    ),
    "tanh": (np.tanh, np.concatenate([SIZES, -SIZES, uniform(-25, 25), uniform(-1, 1)])),
}


@pytest.mark.parametrize("name", list(ELEMENTARY))
def test_elementary_functions_are_numpy_s_to_the_last_digits(name):
    reference, x = ELEMENTARY[name]
    expected = reference(x)
    found = over(getattr(arithmetic, name))(x)
    most = 8 if name in ("expm1", "tanh") else 4
    assert np.max(np.abs(found - expected) / np.spacing(np.abs(expected))) <= most


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [np.inf, 1e308, 710, -709, -1e308, -np.inf], [np.inf] * 3 + [0.0] * 3),
        ("exp", [0.0, -0.0, 5e-324, np.nan], [1.0, 1.0, 1.0, np.nan]),
        ("log", [1.0, TINY, HUGE], [0.0, math.log(TINY), math.log(HUGE)]),
        ("log1p", [0.0, 5e-324, 2.0**53, 1e308], np.log1p([0.0, 5e-324, 2.0**53, 1e308])),
        ("softplus", [np.inf, 1e308, 0.0, -1e308, -np.inf], [np.inf, 1e308, np.log(2), 0.0, 0.0]),
        ("logistic", [np.inf, 1e308, 0.0, -1e308, -np.inf], [1.0, 1.0, 0.5, 0.0, 0.0]),
        ("expm1", [np.inf, 1e308, 710.0], [np.inf] * 3),
        ("expm1", [-np.inf, -1e308, -51.0, -0.0, -5e-324], [-1.0, -1.0, -1.0, 0.0, -5e-324]),
        ("tanh", [np.inf, 1e308, 0.0, -1e308, -np.inf], [1.0, 1.0, 0.0, -1.0, -1.0]),
        ("softplus", [np.nan], [np.nan]),
        ("expm1", [np.nan], [np.nan]),
        ("tanh", [np.nan], [np.nan]),
        ("logistic", [np.nan], [np.nan]),
    ],
)
def test_elementary_functions_at_the_edges(name, x, expected):
    np.testing.assert_allclose(over(getattr(arithmetic, name))(x), expected, rtol=5e-16)


# --- the normaliser of Student's t ---------------------------------------------------------------


def log_normaliser(nu):
    return log_gamma((nu + 1) / 2) - log_gamma(nu / 2) - (nu / 2).ln() / 2


def test_the_normaliser_of_students_t_is_exact():
    nu = np.concatenate([10 ** np.linspace(-6, 12, 80), [1, 2, 16, 16.0000001, 15.999999, 30]])
    both = numba.njit(lambda x: special_functions._student_normaliser(math.log(x)))
    value, score = np.array([both(x) for x in nu]).T
    with localcontext() as context:
        context.prec = 60
        exact = [Decimal(x) for x in nu]
        expected = [float(log_normaliser(x)) for x in exact]
        up, down = 1 + Decimal("1e-18"), 1 - Decimal("1e-18")
        slope = [
            float((log_normaliser(x * up) - log_normaliser(x * down)) / Decimal("2e-18"))
            for x in exact
        ]
    np.testing.assert_allclose(value, expected, rtol=3e-14, atol=3e-15)
    np.testing.assert_allclose(score, slope, rtol=3e-14, atol=1e-15)
    np.testing.assert_allclose(score, Normaliser.at(nu).score / 2, rtol=1e-12)


def log_gamma_normaliser(alpha):
    return alpha * alpha.ln() - alpha - log_gamma(alpha) - Decimal(2 * math.pi).ln() / 2


def test_the_normaliser_of_the_gamma_distribution_is_exact():
    alpha = np.concatenate([10 ** np.linspace(-6, 9, 80), [1, 2, 8, 8.0000001, 7.999999, 30]])
    both = numba.njit(lambda x: special_functions.gamma_normaliser_parts(math.log(x)))
    value, score, _ = np.array([both(x) for x in alpha]).T
    with localcontext() as context:
        context.prec = 60
        exact = [Decimal(x) for x in alpha]
        expected = [float(log_gamma_normaliser(x)) for x in exact]
        up, down = 1 + Decimal("1e-18"), 1 - Decimal("1e-18")
        slope = [
            float(
                (log_gamma_normaliser(x * up) - log_gamma_normaliser(x * down)) / Decimal("2e-18")
            )
            for x in exact
        ]
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=3e-14)
    np.testing.assert_allclose(score, slope, rtol=1e-13)


# --- families ------------------------------------------------------------------------------------

ROWS = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)


def called(kernel, data, etas, shared=False):
    """Values (obs,) and scores (parameter, obs) of a kernel; what is not given is NaN."""
    scratch = np.full(rows.SCRATCH, np.nan)
    count = len(etas[0])
    packs = -(-count // rows.PACK)
    given = {rows.T: data.t, rows.U: data.u, rows.BASE: data.base}
    given |= {rows.ETA + j * rows.STEP: eta for j, eta in enumerate(etas)}
    for at, values in given.items():
        long = np.resize(np.broadcast_to(values, (count,)), packs * rows.PACK)
        scratch[at : at + long.size] = long
    if shared:
        for j in range(1, len(etas)):
            at = rows.ETA + j * rows.STEP
            scratch[at + 1 : at + rows.WIDTH] = np.nan  # only the first number is read
    assert ROWS(kernel.address)(scratch.ctypes.data, int(shared), packs) == 0
    value = scratch[rows.VALUE : rows.VALUE + count]
    firsts = (rows.SCORE + j * rows.STEP for j in range(len(etas)))
    return value, np.stack([scratch[at : at + count] for at in firsts])


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture
def family(name):
    return families.by_name(name)


@pytest.fixture
def kernel(family):
    return kernel_of(family)


def test_every_kernel_is_of_a_family_s_slots(family, kernel):
    assert has_kernel(family)
    assert kernel.parameters == len(family.slots) <= rows.LARGEST


def params_of(family, etas, known):
    """The arguments of a family's functions from its predictors."""
    linked = zip(family.parameters, etas, strict=True)
    return {p.name: p.link.inverse(eta, NUMERIC) for p, eta in linked} | known


MODERATE = {role: reach.moderate for role, reach in REACH.items()}
FAR = {role: reach.far for role, reach in REACH.items()}
FARTHER = {role: 300.0 if reach.far == 25.0 else reach.far for role, reach in REACH.items()}


def points(family, reach, shared, seed=0):
    """Responses (obs,), predictors (parameter, obs) and known counts."""
    rng = np.random.default_rng(seed)
    etas = np.array([uniform_of(rng, reach[p.role]) for p in family.parameters])
    if shared:
        etas[1:] = etas[1:, :1]
    known = {k: rng.integers(1, 40, COUNT).astype(float) for k in family.known_counts}
    if family.discrete:
        most = known.get("trials", 1.0 if family.parameters[0].role == "odds" else 1000.0)
        y = np.floor(rng.uniform(0, 1, COUNT) * (most + 1))
    elif family.upper == 1:
        y = 1 / (1 + np.exp(-rng.uniform(-15, 15, COUNT)))
    elif np.isfinite(family.upper):
        y = rng.uniform(family.lower, family.upper, COUNT)
    elif family.lower == 0:
        ratio = rng.choice([-1.0, 1.0], COUNT) * 10 ** rng.uniform(-6, 1, COUNT)
        y = np.exp(np.clip(etas[0] + ratio, -700, 700))
    else:
        y = etas[0] + rng.choice([-1.0, 1.0], COUNT) * 10 ** rng.uniform(-3, 3, COUNT)
    return y, etas, known


def uniform_of(rng, reach):
    values = rng.uniform(-reach, reach, COUNT)
    values[:2] = -reach, reach
    return values


def evaluated(family, kernel, y, etas, known, shared=False):
    return called(kernel, family.data(y, known, NUMERIC), etas, shared)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("reach", [MODERATE, FAR], ids=["moderate", "far"])
def test_a_kernel_is_the_family_s_log_density_with_its_derivatives(family, kernel, reach, shared):
    for seed in range(10):
        y, etas, known = points(family, reach, shared, seed)
        params = params_of(family, etas, known)
        value, score = evaluated(family, kernel, y, etas, known, shared)
        expected = np.broadcast_to(family.log_density(y, params, NUMERIC), y.shape)
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
        for own, its in zip(score, family.derivatives(y, params).score, strict=True):
            np.testing.assert_allclose(own, np.broadcast_to(its, y.shape), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "link"), [("beta", "probit"), ("beta", "cloglog"), ("vonmises", "identity")]
)
@pytest.mark.parametrize("shared", [False, True])
def test_kernels_of_other_links_are_the_families(name, link, shared):
    family = families.by_name(name, link=link)
    assert has_kernel(family)
    y, etas, known = points(family, MODERATE, shared)
    params = params_of(family, etas, known)
    value, score = evaluated(family, kernel_of(family), y, etas, known, shared)
    expected = np.broadcast_to(family.log_density(y, params, NUMERIC), y.shape)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    for own, its in zip(score, family.derivatives(y, params).score, strict=True):
        np.testing.assert_allclose(own, np.broadcast_to(its, y.shape), rtol=1e-9, atol=1e-9)


def test_a_finite_kernel_is_the_family_s(family, kernel):
    """Where the density is steepest, a derivative may lose what is rounding of the density."""
    for seed in range(10):
        y, etas, known = points(family, FARTHER, False, seed)
        params = params_of(family, etas, known)
        value, score = evaluated(family, kernel, y, etas, known)
        with np.errstate(all="ignore"):
            expected = family.log_density(y, params, NUMERIC)
            scores = family.derivatives(y, params).score
        for own, its in zip((value, *score), (expected, *scores), strict=True):
            finite = np.isfinite(value) & np.isfinite(own)
            assert finite.mean() > 0.5
            limit = 1e-11 * np.maximum(1, np.maximum(np.abs(expected), np.abs(its)))
            assert np.all(np.abs(own - its)[finite] <= limit[finite])


def test_a_kernel_is_scipy_s_log_density(family, kernel, name):
    y, etas, known = points(family, MODERATE, False)
    with np.errstate(all="ignore"):
        expected = FAMILIES[name].log_density(y, **params_of(family, etas, known))
    value, _ = evaluated(family, kernel, y, etas, known)
    there = np.isfinite(expected)
    assert there.all() or name in UNDERFLOWING
    assert np.all(value[~there] < -700)
    value, expected = np.maximum(value[there], -1e99), np.maximum(expected[there], -1e99)
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)


def test_a_kernel_s_scores_are_those_of_differences(family, kernel):
    y, etas, known = points(family, MODERATE, False)
    value, score = evaluated(family, kernel, y, etas, known)
    width = np.exp(etas[1]) if len(etas) > 1 else np.ones(COUNT)
    for j, p in enumerate(family.parameters):
        step = np.zeros_like(etas)
        step[j] = 1e-3 * unit_of(p.role, width, y - etas[0])

        def moved(times, step=step):
            return evaluated(family, kernel, y, etas + times * step, known)[0]

        slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step[j])
        scale = np.maximum(np.abs(value), 1) / step[j]
        close = np.abs(score[j] - slope) <= 1e-6 * np.abs(slope) + 1e-12 * scale
        # Differences across a kink, and where the density falls doubly exponentially, are inexact.
        inexact = (value < -1e6) & (family.kind in DOUBLY_EXPONENTIAL)
        if family.kind in CUSPED:
            inexact = np.abs(y - etas[0]) < 0.1 * np.exp(etas[1])
        assert inexact.mean() < 0.5
        assert np.all(close | inexact)


def test_a_response_that_cannot_be_has_no_probability(family, kernel):
    if not family.discrete:
        pytest.skip("every number is a response")
    y, etas, known = points(family, MODERATE, False)
    value, _ = evaluated(family, kernel, y + 0.5, etas, known)
    np.testing.assert_array_equal(value, -np.inf)


# --- priors --------------------------------------------------------------------------------------

PRIOR = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_int64] * 4)


def prior_called(formula, given, x):
    """Log density and slopes of the compiled formula, which are added to what is there."""
    arguments = np.concatenate([np.zeros(0), *(np.broadcast_to(a, x.shape) for a in given)])
    slopes = np.full(x.size, 0.5)
    compiled = PRIOR(priors.address(formula, len(given)))
    value = compiled(x.ctypes.data, arguments.ctypes.data, x.size, slopes.ctypes.data)
    return value, slopes - 0.5


def test_every_prior_has_room_for_its_arguments():
    assert all(len(formula_arguments(p)) <= priors.LARGEST for p in CASES)


def close_to(value, slope, expected, first):
    assert value == pytest.approx(expected.sum(), rel=1e-12, abs=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(slope, first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prior", CASES, ids=names_of(CASES))
def test_a_compiled_prior_is_the_formula(prior):
    density, given = DENSITIES[prior.distribution], formula_arguments(prior)
    u = np.random.default_rng(0).normal(0, 2, 60)
    if density.of_coordinate is not None:
        expected, first, _ = log_density_of_coordinate(prior, u)
        close_to(*prior_called(density.of_coordinate, given, u), expected, first)
    x = 10 * u if density.of_coordinate is None else coordinate_of(prior).value(u)
    expected, first, _ = log_density(prior, x)
    close_to(*prior_called(density.of_value, given, x), expected, first)


@pytest.mark.parametrize("prior", CASES, ids=names_of(CASES))
def test_a_compiled_prior_far_away(prior):
    given = formula_arguments(prior)
    for x in np.array([-600.0, -50.0, -1e-9, 0.0, 1e-9, 50.0, 600.0])[:, None]:
        expected, first, _ = log_density_of_coordinate(prior, x)
        value, slope = prior_called(formula(prior), given, x)
        if np.isfinite(expected[0]):
            close_to(value, slope, expected, first)
        else:
            assert not np.isfinite(value)


def test_a_compiled_prior_takes_one_argument_a_value():
    prior = Prior("StudentT", nu=(3.0, 4.0, 9.0), mu=(0.0, 1.0, -2.0), sigma=(1.0, 0.1, 7.0))
    x = np.array([0.3, -2.0, 8.0])
    expected, first, _ = log_density(prior, x)
    close_to(*prior_called(formula(prior), formula_arguments(prior), x), expected, first)


@pytest.mark.parametrize("support", ["positive", "unit"])
def test_a_compiled_log_jacobian_is_the_formula(support):
    u = np.array([-600.0, -40.0, -1.3, 0.0, 1e-9, 2.0, 50.0, 700.0])
    log_slope = COORDINATES[support].log_slope
    expected, first, _ = log_slope(u)
    close_to(*prior_called(log_slope, (), u), expected, first + 0.0 * u)


# --- on disk and in other processes --------------------------------------------------------------

ONE_KERNEL = """
from bayes_moe.families import by_name
from bayes_moe.kernels import families, priors
from bayes_moe.priors.coordinates import COORDINATES, coordinate_of
from bayes_moe.priors.densities import DENSITIES
assert families.kernel_of(by_name("poisson")).address
assert priors.address(DENSITIES["Normal"].of_value, 2)
print("done")
"""
WHOLE_DENSITY = """
import numpy as np
import bayes_moe as bm
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.sampling.compiled_density import LinearTable
spec = bm.mixture_of_experts("y ~ x", experts=2)
table = {"x": np.arange(9.0), "y": np.arange(9.0) % 4}
moving = parameter_vector(spec, spec.design(table), jacobian=True)
print(repr(LinearTable(moving).density()(np.linspace(-0.5, 0.5, moving.size))))
"""


def run(program, **environment):
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {k: str(v) for k, v in environment.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_without_a_place_to_keep_them_functions_are_compiled(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    place = {"NUMBA_CACHE_DIR": blocked / "below", "HOME": blocked}
    only = "UserProvidedCacheLocator"  # not beside the sources either
    assert run(ONE_KERNEL, NUMBA_CACHE_LOCATOR_CLASSES=only, **place) == "done\n"
    assert blocked.read_text() == ""


def test_a_second_process_compiles_nothing(tmp_path):
    def kept():
        return {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nb?")}

    first = run(WHOLE_DENSITY, NUMBA_CACHE_DIR=tmp_path)
    files = kept()
    assert any(n.endswith(".nbc") for n in files)
    assert run(WHOLE_DENSITY, NUMBA_CACHE_DIR=tmp_path) == first
    assert kept() == files


def small_density(spec, table, theta):
    return LinearTable(parameter_vector(spec, spec.design(table), jacobian=True)).density()(theta)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_finds_the_same_density(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    spec = bm.mixture_of_experts("y ~ x", experts=2)
    table = {"x": np.arange(40.0), "y": np.arange(40.0) % 7}
    theta = np.linspace(-0.5, 0.5, parameter_vector(spec, spec.design(table)).size)
    value, gradient = small_density(spec, table, theta)
    with multiprocessing.get_context(method).Pool(1) as pool:
        again, other = pool.apply_async(small_density, (spec, table, theta)).get(timeout=120)
    assert again == value
    np.testing.assert_array_equal(other, gradient)


def test_a_function_of_no_arguments_runs_once_for_all_threads():
    runs = []

    @once
    def compiled():
        time.sleep(0.05)
        runs.append(None)
        return object()

    with ThreadPoolExecutor(4) as pool:
        found = {id(f.result()) for f in [pool.submit(compiled) for _ in range(4)]}
    assert len(runs) == len(found) == 1

"""A density in the coordinates of a normal approximation is the same density."""

import ctypes

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.em.floors import without_floors
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.kernels.families import has_kernel
from bayes_moe.results.draws import stacked_draws
from bayes_moe.sampling import chain_starts
from bayes_moe.sampling.compiled_density import LinearTable
from bayes_moe.sampling.frame import Framed
from tests.support.constrained import MODELS as MODELS_WITH_CONSTRAINTS
from tests.support.constrained import table as rows
from tests.support.linear_models import MODELS, table

COMPILED = [
    name
    for name, spec in MODELS.items()
    if all(has_kernel(expert.family) for expert in spec.experts)
]
DENSITY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)
COPY = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 2, *[ctypes.c_void_p] * 3)


def addresses(*arrays):
    return [a.ctypes.data for a in arrays]


@pytest.mark.parametrize("name", COMPILED)
def test_value_gradient_and_stored_point_are_those_of_the_objective(name):
    spec = MODELS[name]
    vector = without_floors(parameter_vector(spec, spec.design(table()), jacobian=True))
    rng = np.random.default_rng(1)
    size = vector.size
    half = rng.normal(size=(size, size))
    centre, covariance = rng.normal(0, 0.3, size), 0.1 * (half @ half.T / size + np.eye(size))
    framed = Framed.of(LinearTable(vector).density(), centre, covariance)
    z = rng.normal(size=size)
    gradient, value, stored = np.empty(size), np.empty(1), np.empty(size)
    status = DENSITY(framed.log_density.address)(size, *addresses(z, gradient, value, framed.table))
    assert status == 0
    theta = centre + np.linalg.cholesky(covariance) @ z
    expected = Objective(vector).evaluate(theta[None], Curvature.COMPLETE)
    np.testing.assert_allclose(value[0], expected.value[0], rtol=1e-10)
    slope = np.linalg.cholesky(covariance).T @ expected.gradient[0]
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.abs(slope).max())
    assert COPY(framed.copy.address)(size, size, *addresses(z, stored, framed.table)) == 0
    np.testing.assert_allclose(stored, theta, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(framed.coordinates(theta), z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS_WITH_CONSTRAINTS)
@pytest.mark.parametrize("normal", [False, True])
def test_free_coordinates_have_the_density_of_the_objective(name, normal):
    spec = MODELS_WITH_CONSTRAINTS[name]
    vector = without_floors(parameter_vector(spec, spec.design(rows()), jacobian=True))
    constraint, density = vector.constraint, LinearTable(vector).density()
    rng = np.random.default_rng(1)
    theta = constraint.project(0.3 * rng.normal(size=(2, vector.size)))
    framed, root = Framed.constrained(density, constraint), constraint.matrix
    if normal:
        half = rng.normal(size=(len(constraint.at),) * 2)
        covariance = constraint.covariance(0.1 * half @ half.T + np.eye(len(half)))
        framed = Framed.of(density, theta[1], covariance, constraint)
        root = framed.root
        np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)
    z = framed.coordinates(theta[0])
    gradient, value, stored = np.empty(len(z)), np.empty(1), np.empty(vector.size)
    arrays = addresses(z, gradient, value, framed.table)
    assert DENSITY(framed.log_density.address)(len(z), *arrays) == 0
    expected = Objective(vector).evaluate(theta[:1], Curvature.COMPLETE)
    np.testing.assert_allclose(value[0], expected.value[0], rtol=1e-10)
    slope = root.T @ expected.gradient[0]
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.abs(slope).max())
    copied = COPY(framed.copy.address)(len(z), vector.size, *addresses(z, stored, framed.table))
    assert copied == 0
    np.testing.assert_allclose(stored, theta[0], rtol=1e-12, atol=1e-12)


def test_a_singular_covariance_scales_coordinates(tone, tone_spec):
    vector = without_floors(parameter_vector(tone_spec, tone_spec.design(tone), jacobian=True))
    scales = np.arange(float(vector.size))
    covariance = np.outer(scales, scales)
    framed = Framed.of(LinearTable(vector).density(), np.zeros(vector.size), covariance)
    np.testing.assert_allclose(framed.root, np.diag(np.where(scales > 0, scales, 1.0)))


def test_the_posterior_at_a_mode_is_nearly_a_standard_normal(tone, tone_spec):
    found = chain_starts.starts(tone_spec, tone_spec.design(tone), 1)
    framed = Framed.of(
        LinearTable(without_floors(found.parameters)).density(), *found.approximation
    )
    z = np.zeros(framed.size)
    size, step = framed.size, 1e-4
    slopes = []
    for point in [z, *(step * np.eye(size))]:
        gradient, value = np.empty(size), np.empty(1)
        DENSITY(framed.log_density.address)(size, *addresses(point, gradient, value, framed.table))
        slopes.append(gradient)
    np.testing.assert_allclose(slopes[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(slopes[1:], -step * np.eye(size), atol=1e-2 * step)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_draws_are_in_the_models_own_coordinates(tone, tone_spec):
    """The sampler's log density of each draw is that of the reported parameters."""
    short = {"draws": 60, "tune": 60, "chains": 2, "progressbar": False, "relabel": "none"}
    fit = bm.fit(tone_spec, tone, random_seed=1, **short)
    vector = without_floors(parameter_vector(tone_spec, fit.design, jacobian=True))
    posterior = fit.idata["posterior"]
    draws = stacked_draws(tone_spec, posterior.to_dataset())
    expected = Objective(vector).value(vector.points(draws))
    logp = fit.idata["sample_stats"]["logp"].values.ravel()
    np.testing.assert_allclose(logp, expected, rtol=1e-9)
    assert np.ptp(logp) > 1

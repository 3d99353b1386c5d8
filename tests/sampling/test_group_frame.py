"""Coordinates of a normal approximation with a block for each group are those of dense matrices."""

import ctypes

import numpy as np
import pytest

from bayes_moe.core.linalg import differences, rough_inverse
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.optimize.network_table import GroupedTable
from bayes_moe.sampling.group_frame import GroupFrame, largest_grouping
from tests.support.linear_models import plain, table

DENSITY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)
COPY = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 2, *[ctypes.c_void_p] * 3)


@pytest.fixture(
    scope="module",
    params=["normal ~ x + (z | g)", "normal ~ 1 + (1 | g)", "normal ~ x + (1 | g) + (x || h)"],
)
def model(request):
    """Free variables and compiled density, and the number of effects of a group of g."""
    spec = plain("normal", formula=request.param, gate="~ z + (1 | g)", experts=3)
    code = np.arange(60)
    design = spec.design(table().assign(g=code % 6, h=code % 4))
    free = FreeVariables.of(spec, design, spec.resolve_priors(design))
    effects = 8 if "(z | g)" in request.param else 5
    return free, GroupedTable(free, jacobian=True).density(), effects


def root_of(frame):
    """Matrix (coordinate, coordinate) from coordinates to a point, by its definition."""
    root = np.zeros((frame.size, frame.size))
    root[np.ix_(frame.fixed, frame.fixed)] = frame.root
    for own, factor, slope in zip(frame.groups, frame.roots, frame.slopes, strict=True):
        root[np.ix_(own, own)] = factor
        root[np.ix_(own, frame.fixed)] = -slope @ frame.root
    return root


def framed(model):
    free, density, _ = model
    centre = 0.3 * np.random.default_rng(1).standard_normal(free.size)
    return GroupFrame.near(density, centre, largest_grouping(free), np.zeros(free.size, bool))


def test_groups_of_the_largest_grouping_are_blocks(model):
    free, _, effects = model
    groups = largest_grouping(free)
    assert groups.shape == (6, effects)
    assert np.unique(groups).size == groups.size
    x = np.zeros((1, free.size))
    x[0, groups[3]] = 1.0  # effects of group 3 alone
    values = free.variables(x)
    for name in ("mu_g_effect", "gate_g_effect"):
        moved = np.abs(values[name]).max(axis=(0, 1, 3)) > 1e-12
        np.testing.assert_array_equal(moved, np.arange(6) == 3)


def test_value_gradient_and_stored_point_are_those_by_the_matrix(model):
    frame, (_, density, _) = framed(model), model
    root = root_of(frame)
    z = np.random.default_rng(2).standard_normal(frame.size)
    theta = frame.centre + root @ z
    gradient, value, stored = np.empty(frame.size), np.empty(1), np.empty(frame.size)
    arrays = (a.ctypes.data for a in (z, gradient, value, frame.table))
    assert DENSITY(frame.log_density.address)(frame.size, *arrays) == 0
    expected, slope = density(theta)
    assert value[0] == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(gradient, root.T @ slope, rtol=1e-8, atol=1e-8)
    arrays = (a.ctypes.data for a in (z, stored, frame.table))
    assert COPY(frame.copy.address)(frame.size, frame.size, *arrays) == 0
    np.testing.assert_allclose(stored, theta, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(frame.coordinates(theta), z, rtol=1e-9, atol=1e-9)


def test_groups_have_the_information_of_differences_one_by_one(model):
    frame, (_, density, _) = framed(model), model

    def slopes(points):
        return np.array([density(point)[1] for point in points])

    information = -differences(slopes, frame.centre, np.arange(frame.size))
    for own, factor, slope in zip(frame.groups, frame.roots, frame.slopes, strict=True):
        given = rough_inverse(information[np.ix_(own, own)])
        np.testing.assert_allclose(factor @ factor.T, given, rtol=1e-4, atol=1e-6)
        across = information[np.ix_(own, frame.fixed)]
        np.testing.assert_allclose(slope, given @ across, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("curvature", [2.0, -3.0])
def test_scales_without_a_maximum_have_variance_one(curvature):
    """The others have the covariance that they have given the scales."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(7, 7))
    information = half @ half.T + np.eye(7)
    groups, scales = np.array([[3, 4], [5, 6]]), np.arange(7) == 1
    information[3:5, 5:] = information[5:, 3:5] = 0.0
    rest = np.ix_(~scales, ~scales)
    given = np.linalg.inv(information[rest])
    assert np.linalg.eigvalsh(given)[0] > 0
    across = information[~scales][:, scales]
    information[1, 1] = curvature + (across.T @ given @ across).item()

    def density(x):
        return 0.0, -information @ x

    root = root_of(GroupFrame.near(density, rng.normal(size=7), groups, scales))
    covariance = root @ root.T
    np.testing.assert_allclose(covariance[1, 1], 0.5 if curvature > 0 else 1.0, rtol=1e-6)
    if curvature > 0:
        np.testing.assert_allclose(covariance @ information, np.eye(7), atol=1e-4)
    np.testing.assert_allclose(np.linalg.inv(covariance)[rest], information[rest], atol=1e-4)
    slope = -covariance[~scales, 1] / covariance[1, 1]
    np.testing.assert_allclose(slope, (given @ across)[:, 0], rtol=1e-5, atol=1e-6)

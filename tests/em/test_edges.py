"""Ends of EM at edges of the density: which are maxima, and steps along edges."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import bayes_moe as bm
from bayes_moe.em.climb import run_em
from bayes_moe.em.edges import edge_steps
from bayes_moe.em.objective import Objective
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from tests.support.problems import climbs


def median_regression(seed=0, n=41):
    """Vector of one Laplace expert, features and response, and coefficients of least deviation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 1 + 2 * x + rng.laplace(size=n)
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="laplace")
    design = spec.design(pd.DataFrame({"x": x, "y": y}))
    vector = parameter_vector(spec, design, likelihood=True)
    features = np.column_stack([np.ones(n), x])
    cost = np.concatenate([np.zeros(2), np.ones(2 * n)])
    equations = np.hstack([features, np.eye(n), -np.eye(n)])
    bounds = [(None, None)] * 2 + [(0, None)] * (2 * n)
    best = optimize.linprog(cost, A_eq=equations, b_eq=y, bounds=bounds)
    return vector, features, y, best.x[:2]


def point(vector, coef, residual):
    scale = np.abs(residual).mean()
    return vector.points({"mu_coef": coef[None, None], "b": np.array([[scale]])})


def test_the_least_deviation_fit_is_a_maximum_and_other_corners_are_not():
    vector, features, y, best = median_regression()
    objective = Objective(vector)
    theta = point(vector, best, y - features @ best)
    step, gain, norm = edge_steps(objective, theta)
    assert norm[0] < 1e-9
    assert gain[0] < 1e-12
    on_line = np.argsort(np.abs(y - features @ best))
    for pair in ((0, 9), (3, 7), (2, 30)):
        rows = on_line[list(pair)]
        corner = np.linalg.solve(features[rows], y[rows])
        theta = point(vector, corner, y - features @ corner)
        step, gain, norm = edge_steps(objective, theta)
        assert norm[0] > 0.1
        small = 1e-6
        rise = objective.value(theta + small * step) - objective.value(theta)
        assert rise[0] == pytest.approx(small * gain[0], rel=1e-3)


def test_steps_stay_on_edges_that_hold():
    vector, features, y, best = median_regression()
    row = int(np.argsort(np.abs(y - features @ best))[1])
    off = best - 0.3 * np.array([-features[row, 1], 1.0])  # the line still meets the row
    theta = point(vector, off, y - features @ off)
    step, gain, _ = edge_steps(Objective(vector), theta)
    moved = vector.variables(theta + step)["mu_coef"].ravel()
    assert gain[0] > 0
    assert features[row] @ moved == pytest.approx(y[row], abs=1e-9)


def test_without_edges_a_step_is_newtons():
    vector, features, y, best = median_regression()
    theta = point(vector, best + np.array([0.013, -0.017]), y - features @ best)
    step, _, norm = edge_steps(Objective(vector), theta)
    at = Objective(vector)
    slope = [
        (at.value(theta + e) - at.value(theta - e)).item() / 2e-7 for e in 1e-7 * np.eye(3)[:, None]
    ]
    assert norm[0] == pytest.approx(np.linalg.norm(slope), rel=1e-5)
    assert np.dot(slope, step[0]) > 0


@pytest.mark.parametrize(("number", "restarts"), [(85, 5), (36, 5)])
def test_what_is_called_converged_has_no_way_up(number, restarts):
    """At kinks too, where sweeps and Newton steps may fail below a maximum."""
    objective, _, found = climbs(number, False, restarts, 120, family="laplace")
    for j in np.flatnonzero(found.converged):
        theta, value = found.theta[j : j + 1], found.value[j]
        step, gain, norm = edge_steps(objective, theta)
        assert norm[0] <= 1e-5 * (1 + abs(value)) or gain[0] <= 1e-11 * (1 + abs(value))
        for length in (1.0, 1e-2, 1e-4):
            assert objective.value(theta + length * step)[0] <= value + 1e-9 * (1 + abs(value))


def test_a_laplace_prior_and_a_laplace_density_have_edges_at_once():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 4))
    y = x[:, 0] + rng.laplace(size=60)
    table = pd.DataFrame(x, columns=list("abcd")).assign(y=y)
    prior = {"mu_coef": bm.Prior("Laplace", mu=0.0, b=0.05)}
    spec = bm.mixture_of_experts("y ~ a + b + c + d", experts=1, family="laplace", priors=prior)
    vector = parameter_vector(spec, spec.design(table))
    objective = Objective(vector)
    found = run_em(objective, initial_points(objective, np.ones((1, 1, 60))), max_iter=500)
    assert found.converged.all()
    assert (found.theta == vector.kinks).sum() > 0
    for direction in np.random.default_rng(2).standard_normal((200, objective.size)):
        moved = found.theta + 1e-5 * direction
        assert objective.value(moved)[0] <= found.value[0] + 1e-10 * abs(found.value[0])

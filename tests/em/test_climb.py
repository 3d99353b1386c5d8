"""Climbs: none falls, breaks or claims too much, whatever the problem."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em.climb import run_em
from bayes_moe.em.modes import covariance
from bayes_moe.em.newton import newton_step
from bayes_moe.em.objective import Curvature, Evaluation, Objective
from bayes_moe.em.partitions import KINDS, initial_partitions, sweeps
from bayes_moe.em.proximal_newton import predicted_gain, proximal_step
from bayes_moe.em.starting_points import equal_experts, initial_points
from bayes_moe.em.vector_layout import parameter_vector
from tests.support.examples import (
    CLASSES,
    FAMILIES,
    FAMILIES_WITH_ZEROS,
    OF_SEVERAL_RESPONSES,
    WITHOUT_PARAMETERS,
)
from tests.support.problems import climbs, faults, problem

FAST = range(16)
SLOW = range(1000, 1500)
OF_A_FAMILY = range(2000, 2200)
ONE_RESPONSE = (*FAMILIES, *CLASSES, *WITHOUT_PARAMETERS, *FAMILIES_WITH_ZEROS)


def fates(found, max_iter):
    """How every climb ended."""
    named = (("singular", found.floored), ("separated", found.running.any(axis=1)))
    named = (*named, ("converged", found.converged), ("max_iter", found.iterations >= max_iter))
    return [next((n for n, flag in named if flag[j]), "stuck") for j in range(len(found.value))]


def check(numbers):
    total = Counter()
    for number in numbers:
        for likelihood in (False, True):
            objective, start, found = climbs(number, likelihood)
            assert faults(objective, start, found) == [], (number, likelihood)
            total.update((likelihood, fate) for fate in fates(found, 1000))
    return total


def test_random_problems():
    total = check(FAST)
    assert not any(total[where, fate] for where in (False, True) for fate in ("stuck", "max_iter"))
    assert total[False, "separated"] == 0
    assert total[False, "converged"] > 0.97 * sum(n for (lik, _), n in total.items() if not lik)


@pytest.mark.slow
def test_many_random_problems():
    total = check(SLOW)
    print(total)
    for likelihood in (False, True):
        own = {fate: n for (lik, fate), n in total.items() if lik == likelihood}
        assert own.get("stuck", 0) + own.get("max_iter", 0) <= 0.005 * sum(own.values())


@pytest.mark.slow
@pytest.mark.parametrize("family", [*ONE_RESPONSE, *OF_SEVERAL_RESPONSES])
def test_random_problems_of_a_family(family):
    for number in OF_A_FAMILY:
        likelihood = number % 2 == 1
        found = climbs(number, likelihood, restarts=2, max_iter=200, family=family)
        assert faults(*found) == [], number


def test_no_step_from_where_there_is_nothing_to_gain(tone, tone_spec):
    objective = Objective(parameter_vector(tone_spec, tone_spec.design(tone)))
    split = initial_partitions(tone_spec, objective.rows, 4, np.random.default_rng(0))
    first = run_em(objective, initial_points(objective, split), max_iter=100)
    again = run_em(objective, first.theta, max_iter=100, newton_first=True)
    assert first.converged.all()
    assert again.converged.all()
    assert (again.iterations <= 2).all()
    np.testing.assert_allclose(again.theta, first.theta, atol=1e-8)


def test_climbs_do_not_depend_on_their_company(tone, tone_spec):
    objective = Objective(parameter_vector(tone_spec, tone_spec.design(tone)))
    split = initial_partitions(tone_spec, objective.rows, 6, np.random.default_rng(0))
    start = initial_points(objective, split)
    together = run_em(objective, start, max_iter=100)
    for j in range(6):
        alone = run_em(objective, start[[j]], max_iter=100)
        np.testing.assert_allclose(alone.value[0], together.value[j], rtol=1e-10)


def test_the_neutral_point_has_equal_experts(tone, tone_spec):
    objective = Objective(parameter_vector(tone_spec, tone_spec.design(tone)))
    values = objective.vector.variables(equal_experts(objective, 3))
    np.testing.assert_allclose(values["sigma"], np.std(tone["tuned"]) / 2)
    np.testing.assert_allclose(values["mu_coef"][..., 0], np.mean(tone["tuned"]))
    np.testing.assert_allclose(values["mu_coef"][..., 1], 0, atol=1e-12)


def test_newton_steps_go_up_whatever_the_curvature():
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal((50, 6))
    root = rng.standard_normal((50, 6, 6)) * 10 ** rng.uniform(-6, 6, (50, 1, 6))
    signs = rng.choice([-1.0, 1.0], (50, 1, 6))
    signs[:25] = 1.0
    curvature = np.einsum("bij,bzj,bkj->bik", root, signs, root)
    rest = (gradient, curvature, np.zeros((50, 2)), np.zeros((50, 2)), np.zeros(50))
    step, concave, _ = newton_step(Evaluation(np.zeros(50), gradient, curvature, *rest))
    assert (np.einsum("bi,bi->b", gradient, step) > 0).all()
    assert concave[:25].all()
    nan = Evaluation(np.zeros(50), gradient, curvature * np.nan, *rest)
    assert not newton_step(nan)[1].any()


# --- splits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", list(KINDS))
@pytest.mark.parametrize("formula", ["tuned ~ stretchratio", "tuned ~ 1"])
def test_splits_are_shares_of_all_rows(tone, way, formula):
    spec = bm.mixture_of_experts(formula, experts=3)
    rows = spec.design(tone).rows
    split = initial_partitions(spec, rows, 5, np.random.default_rng(0), mix=(way,))
    again = initial_partitions(spec, rows, 5, np.random.default_rng(0), mix=(way,))
    assert split.shape == (5, 3, 150)
    np.testing.assert_allclose(split.sum(axis=1), 1)
    assert (split > 0).all()
    assert len({s.tobytes() for s in split}) > 2
    np.testing.assert_array_equal(split, again)


def test_sharp_splits_are_held_longer():
    assert sweeps(7, ("random", "regions")).tolist() == [2, 10, 2, 10, 2, 10, 2]


# --- kinks -----------------------------------------------------------------------------------


def lasso(b, rows=80, columns=6):
    """A regression of which the prior takes most slopes to their kink."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((rows, columns))
    x[:, 1] += 0.9 * x[:, 0]
    table = pd.DataFrame(x, columns=[f"x{j}" for j in range(columns)])
    table["y"] = 1 + 2 * x[:, 0] + rng.standard_normal(rows)
    names = " + ".join(table.columns[:-1])
    widths = [1e6] + [b] * columns
    prior = {"mu_coef": bm.Prior("Laplace", mu=[0.0] * (columns + 1), b=widths)}
    return bm.mixture_of_experts(f"y ~ {names}", experts=1, priors=prior), table


def test_a_mode_on_kinks_is_the_lasso():
    from sklearn.linear_model import Lasso

    spec, table = lasso(0.02)
    fit = bm.fit(spec, table, method="em")
    assert bm.information(fit)["converged"]
    posterior = fit.idata["posterior"].isel(chain=0, draw=0)
    slopes, sigma = posterior["mu_coef"].values[0, 1:], float(posterior["sigma"][0])
    x = table.drop(columns="y").to_numpy()
    oracle = Lasso(alpha=sigma**2 / (0.02 * len(x)), tol=1e-12, max_iter=100_000)
    oracle.fit(x, table["y"])
    assert 0 < (oracle.coef_ == 0).sum() < 6
    np.testing.assert_array_equal(slopes == 0, oracle.coef_ == 0)
    np.testing.assert_allclose(slopes, oracle.coef_, atol=1e-6)
    errors = fit.idata["standard_error"]["mu_coef"].values[0, 1:]
    np.testing.assert_array_equal(errors == 0, slopes == 0)  # as if known


def test_climbs_with_kinks_end():
    for number in (0, 5, 9, 16, 22, 38):
        spec, table = problem(number)
        for name in table.columns.drop("n"):
            if name != "y" or spec.experts[0].family.kind in ("normal", "studentt"):
                table[name] = (table[name] - table[name].mean()) / table[name].std()
        prior = {spec.structure.blocks[0].components[0].variable: bm.Prior("Laplace", mu=0, b=0.1)}
        spec = bm.MixtureOfExperts(spec.gate, spec.experts, prior)
        design = spec.design(table)
        objective = Objective(parameter_vector(spec, design))
        split = initial_partitions(spec, design.rows, 4, np.random.default_rng(number))
        found = run_em(objective, initial_points(objective, split), max_iter=1000)
        assert (found.converged | found.floored).all(), number
        assert (np.diff(found.path, axis=0)[~np.isnan(np.diff(found.path, axis=0))] >= 0).all()
        for theta in found.theta:
            assert covariance(objective, theta) is not None


def test_kinked_steps_maximise_their_model():
    spec, table = lasso(0.02)
    objective = Objective(parameter_vector(spec, spec.design(table)))
    moving = objective.vector
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((20, objective.size))
    theta[:10, 1:4] = moving.kinks[1:4]
    found = objective.evaluate(theta, Curvature.COMPLETE)
    step = proximal_step(moving, theta, found, found.curvature)

    def model(step):
        bend = np.einsum("bi,bij,bj->b", step, found.curvature, step)
        return predicted_gain(moving, theta, found, step) - bend / 2

    best = model(step)
    assert (best > 0).all()
    for scale in (1e-4, 1e-2, 1.0):
        for _ in range(200):
            assert (model(step + scale * rng.standard_normal(step.shape)) <= best).all()

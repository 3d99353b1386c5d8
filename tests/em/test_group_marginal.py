"""Sums by group are those of a dense table; the marginal likelihood has the gradient of
differences, and is that of a graph."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em import marginal_draws
from bayes_moe.em.effect_information import EffectInformation
from bayes_moe.em.group_marginal import GroupMarginal
from bayes_moe.em.grouped_rows import GroupedRows
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import StickBreaking, Tree
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity

GROUPS, ROWS = 9, 7


def table():
    rng = np.random.default_rng(1)
    size = GROUPS * ROWS
    x, z = rng.normal(size=(2, size))
    return pd.DataFrame(
        {
            "y": rng.normal(size=size) + x,
            "c": rng.poisson(2, size),
            "label": rng.choice(["a", "b", "c"], size),
            "x": x + 1.0,
            "z": z,
            "w": rng.integers(1, 4, size).astype(float),
            "id": [f"p{j}" for j in np.repeat(np.arange(GROUPS), ROWS)],
            "h": rng.integers(0, 4, size),
            "status": rng.integers(0, 2, size),
        }
    )


moe = bm.mixture_of_experts
SPECS = {
    "one expert": moe("y ~ x + (1 | id)", experts=1),
    "gate and slopes": moe("y ~ x + (x || id)", "~ z + (1 | id)", 2),
    "scales": moe("y ~ x + (0 + x | id)", "~ z", 3, sigma="~ x + (1 | id)", center=False),
    "correlated": moe("y ~ x + (x + z | id)", "~ z + (1 + x | id)", 2),
    "crossed": moe("y ~ x + (1 | id) + (1 | h)", "~ z + (1 | id:h)", 2),
    "sticks": moe("c ~ x + (1 | id)", StickBreaking("~ z + (1 | h)"), 3, family="poisson"),
    "tree": moe("y ~ x", Tree([[0, 1], 2], formula="~ z + (1 | id)"), family="studentt"),
    "classes": moe("label ~ x + (1 | id)", "~ z", 2, family="categorical", levels=list("abc")),
    "weights": moe("y ~ x + (1 | id)", "~ z", 2, weights="w"),
    "censored": moe("censored(y, status) ~ x + (1 | id)", "~ z", 2),
    "truncated": moe("truncated(y, lower=-5) ~ x + (1 | id)", "~ z + (1 | id)", 2),
    "offset": moe("c ~ offset(log(w)) + x + (1 | id)", "~ z", 2, family="poisson"),
}


@pytest.fixture(scope="module", params=list(SPECS))
def case(request):
    spec = SPECS[request.param]
    design = spec.design(table())
    vector = parameter_vector(spec, design, jacobian=True)
    theta = 0.3 * np.random.default_rng(2).normal(size=(2, vector.size))
    return vector, GroupedRows(vector, design.rows), theta


def test_sums_by_group_are_those_of_a_dense_table(case):
    vector, rows, theta = case
    fixed, effects = rows.parted(theta)
    np.testing.assert_array_equal(rows.joined(fixed, effects), theta)
    dense = Objective(vector).evaluate(theta, Curvature.OBSERVED)
    likelihood = dense.value - vector.log_prior(theta)[0]
    np.testing.assert_allclose(rows.value(fixed, effects), likelihood, rtol=1e-12)
    information = EffectInformation(rows)
    own = information.derivatives(fixed[0], effects[0])
    (inner,) = information.inner(fixed, effects)
    np.testing.assert_allclose(inner[0], own.inner, atol=1e-10)
    at, of = (p[0].astype(int) for p in rows.parted(np.arange(vector.size)[None]))
    gradient, curvature = dense.likelihood_gradient[0], dense.likelihood_curvature[0]
    np.testing.assert_allclose(own.by_fixed, gradient[at], atol=1e-10)
    np.testing.assert_allclose(own.by_effect, gradient[of], atol=1e-10)
    np.testing.assert_allclose(own.within, curvature[np.ix_(at, at)], atol=1e-10)
    np.testing.assert_allclose(own.across, curvature[np.ix_(at, of)], atol=1e-10)
    whole = own.inner
    if information.matrices.blocked:
        whole = np.zeros((rows.size, rows.size))
        for places, block in zip(information.matrices.index.T, own.inner, strict=True):
            whole[np.ix_(places, places)] = block
    np.testing.assert_allclose(whole, curvature[np.ix_(of, of)], atol=1e-10)


def test_the_gradient_is_that_of_differences(case):
    vector, rows, theta = case
    marginal = GroupMarginal(rows, likelihood=False)
    fixed, effects = rows.parted(theta)
    psi = marginal.point(fixed[0], vector.hyperparameters)
    axes = np.diag(np.linspace(0.5, 1.5, marginal.size))
    point = marginal.evaluate(psi, 0.0 * effects[0], axes)
    step = 5e-5
    for j in range(marginal.size):
        moved = step * np.eye(marginal.size)[j]
        ends = [marginal.value(psi + s * moved, point.effects) for s in (1, -1)]
        assert point.gradient[j] == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=2e-4
        )
        modes = [marginal.mode(psi + s * moved, point.effects)[0] for s in (1, -1)]
        slope = (modes[0] - modes[1]) / (2 * step)
        np.testing.assert_allclose(point.slopes[:, j], slope, atol=1e-5)


@pytest.mark.parametrize("case", ["correlated", "sticks", "classes", "weights"], indirect=True)
def test_the_density_of_draws_is_that_of_the_graph(case):
    vector, rows, theta = case
    marginal = GroupMarginal(rows, likelihood=False)
    fixed, effects = rows.parted(theta)
    scales = {n: v * np.exp(0.1) for n, v in vector.hyperparameters.items()}
    psi = np.stack([marginal.point(f, scales) for f in fixed])
    density = marginal_draws.log_density(marginal, psi, effects)
    values = marginal_draws.variables(marginal, psi, effects)
    surface = GraphLogDensity(build_design(vector.spec, vector.design, "symbolic"), jacobian=True)
    for j, at in enumerate(psi):
        # The sampler's effects are in units of their standard deviations.
        volume = sum(
            p.effects.shape[1] * np.log(np.diagonal(p.factor, axis1=-2, axis2=-1)).sum()
            for p in marginal.group_priors(at)
        )
        x = surface.point({n: v[j] for n, v in values.items()})
        assert surface(x)[0] == pytest.approx(density[j] + volume, rel=1e-9)
        again = surface.variables(x)
        for name in vector.spec.variables:
            np.testing.assert_allclose(again[name], values[name][j], atol=1e-10)

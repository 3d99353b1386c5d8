"""The marginal likelihood of groups that share an expert has the gradient of differences."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.em.group_marginal import GroupMarginal
from bayes_moe.em.grouped_rows import GroupedRows
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import StickBreaking
from bayes_moe.model.evaluation import log_likelihood
from tests.support.growth import growth_table

moe = bm.mixture_of_experts
SPECS = {
    "slopes": moe("y ~ t + (t | id)", "~ a", 2, group="id"),
    "independent": moe("y ~ t + (t || id)", "~ 1", 2, group="id", sigma="~ t"),
    "weights": moe("y ~ t + (1 | id)", "~ a", 3, group="id", weights="w"),
    "nested": moe("y ~ t + (1 | id/visit)", "~ 1", 2, group="id"),
    "counts": moe("c ~ t + (t | id)", StickBreaking("~ a"), 3, family="poisson", group="id"),
    "binary": moe("b ~ t + (1 | id)", "~ a", 2, family="bernoulli", group="id"),
    "heavy tails": moe("y ~ t + (1 | id)", "~ a", 2, family="studentt", group="id"),
    "scales": moe("y ~ t + (1 | id)", "~ a", 2, sigma="~ 1 + (1 | id)", group="id"),
    "classes": moe(
        "visit ~ t + (1 | id)", "~ a", 2, family="categorical", levels=[0, 1, 2], group="id"
    ),
    "two kinds": bm.MixtureOfExperts(
        bm.gates.Softmax("~ a"),
        [bm.Expert("y ~ t + (t | id)", name="own"), bm.Expert("y ~ 1", name="same")],
        group="id",
    ),
}


@pytest.fixture(scope="module", params=list(SPECS))
def case(request):
    spec = SPECS[request.param]
    design = spec.design(growth_table(10))
    vector = parameter_vector(spec, design, jacobian=True)
    rng = np.random.default_rng(2)
    marginal = SharedMarginal.of(vector, likelihood=False)
    psi = marginal.point(0.3 * rng.normal(size=marginal.fixed), vector.hyperparameters)
    psi[marginal.fixed :] += 0.2 * rng.normal(size=marginal.count)
    return marginal, psi


def test_the_gradient_is_that_of_differences(case):
    marginal, psi = case
    none = np.zeros(marginal.rows.size)
    point = marginal.evaluate(psi, none, np.eye(marginal.size))
    assert point.value == pytest.approx(marginal.value(psi), rel=1e-13)
    again = marginal.evaluate(psi, point.effects + 0.1, np.eye(marginal.size))
    np.testing.assert_allclose(again.gradient, point.gradient, rtol=1e-6, atol=1e-6)
    step = 2e-4
    for j, axis in enumerate(np.eye(marginal.size)):
        far = [marginal.value(psi + s * step * axis) for s in (2, 1, -1, -2)]
        slope = (8 * (far[1] - far[2]) - far[0] + far[3]) / (12 * step)
        assert point.gradient[j] == pytest.approx(slope, rel=1e-6, abs=1e-6)
        ends = [marginal.evaluate(psi + s * step * axis, none, axis).effects for s in (1, -1)]
        slopes = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(point.slopes[:, j], slopes, atol=5e-6)


def test_the_likelihood_is_that_of_the_reported_variables(case):
    marginal, psi = case
    point = marginal.evaluate(psi, np.zeros(marginal.rows.size), np.eye(marginal.size))
    vector = marginal.vector.with_hyperparameters(marginal.scales(psi))
    theta = marginal.rows.joined(psi[None, : marginal.fixed], point.effects[None])
    found = log_likelihood(vector.spec, vector.variables(theta), vector.design.rows)[0]
    assert point.value - point.log_prior == pytest.approx(found, rel=1e-11)


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_one_expert_is_a_mixed_model_without_groups(family):
    response = {"normal": "y", "poisson": "c"}[family]
    table = growth_table(10)
    points = []
    for group in ("id", None):
        spec = moe(f"{response} ~ t + (t | id)", experts=1, family=family, group=group)
        vector = parameter_vector(spec, spec.design(table), jacobian=True)
        if group is None:
            marginal = GroupMarginal(GroupedRows(vector, vector.design.rows), likelihood=False)
        else:
            marginal = SharedMarginal.of(vector, likelihood=False)
        fixed = np.linspace(-0.5, 0.5, marginal.fixed)
        psi = marginal.point(fixed, vector.hyperparameters)
        none = np.zeros(marginal.rows.size)
        points.append(marginal.evaluate(psi, none, np.eye(marginal.size)))
    one, other = points
    assert one.value == pytest.approx(other.value, rel=1e-12)
    np.testing.assert_allclose(one.effects, other.effects, atol=1e-8)
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one.slopes, other.slopes, atol=1e-6)

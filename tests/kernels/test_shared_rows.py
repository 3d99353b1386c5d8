"""Compiled densities of rows that share an expert by group, or have a known one."""

import numpy as np
import pytest

from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.kernels.families import has_kernel
from bayes_moe.sampling.compiled_density import LinearTable, supports
from tests.support.groups import NAMES, group_table, grouped
from tests.support.linear_models import MODELS, points

COMPILED = [n for n in NAMES if all(has_kernel(e.family) for e in MODELS[n].experts)]
COLUMNS = {
    "groups": {"group": "g"},
    "labels": {"expert": "label"},
    "both": {"group": "g", "expert": "label"},
    "weights": {"group": "g", "expert": "label", "weights": "w"},
}


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_density_is_the_objective(name, columns):
    spec = grouped(name, **columns)
    data = group_table(labels=spec.n_experts)
    data["w"] = 0.5 + data["g"].str[1:].astype(int) % 3
    assert supports(spec)
    vector = parameter_vector(spec, spec.design(data), jacobian=True)
    theta = points(vector)
    expected = Objective(vector).evaluate(theta, Curvature.COMPLETE)
    density = LinearTable(vector).density()
    for point, value, gradient in zip(theta, expected.value, expected.gradient, strict=True):
        found, slopes = density(point)
        assert found == pytest.approx(value, rel=1e-10)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-7, atol=1e-9 * np.abs(gradient).max())


@pytest.mark.parametrize("gate", ["normal-2", "binary tree"])
def test_groups_may_lie_in_different_chunks(gate):
    spec = grouped(gate)
    data = group_table()
    long = data.loc[np.tile(data.index, 12)].reset_index(drop=True)  # several chunks of rows
    vector = parameter_vector(spec, spec.design(long), jacobian=True)
    theta = points(vector)
    density, objective = LinearTable(vector).density(), Objective(vector)
    for point, value in zip(theta, objective.value(theta), strict=True):
        assert density(point)[0] == pytest.approx(value, rel=1e-10)

"""The mixture as a random variable: rows that share an expert by group, or have a known one."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest

import bayes_moe as bm
from tests.support import contracts
from tests.support.groups import group_table, grouped

GROUPS, LABELS = {"group": "g"}, {"expert": "label"}
CASES = [
    ("normal-2", GROUPS),
    ("normal-2", LABELS),
    ("binomial-4", GROUPS | LABELS),
    ("binary tree", GROUPS),
    ("sticks", LABELS),
    ("three responses, own formulas", GROUPS | LABELS),
]


@pytest.mark.parametrize(("name", "columns"), CASES)
def test_the_objective_is_the_graphs_log_density(name, columns):
    spec = grouped(name, **columns)
    contracts.objective_is_the_graphs_log_density(
        spec, spec.design(group_table(labels=spec.n_experts))
    )


def test_draws_of_a_group_are_of_one_expert():
    spec = bm.mixture_of_experts(
        "y ~ 1",
        experts=2,
        gate="~ 1",
        group="g",
        fixed={"mu_coef": [[0.0], [100.0]], "sigma": 1.0},
        priors={"gate_coef": bm.Prior("Normal", mu=0.0, sigma=0.01)},
    )
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"g": rng.integers(0, 30, 200), "y": rng.normal(0, 50, 200)})
    model = bm.build(spec, table).model
    high = pm.draw(model["y"], draws=5, random_seed=1) > 50
    for draw in high:
        by_group = pd.Series(draw).groupby(table["g"]).nunique()
        assert (by_group == 1).all()
        assert 0.2 < draw.mean() < 0.8

"""Initial partitions of groups, and of rows whose expert is known."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em.partitions import MIX, initial_partitions, standardised
from bayes_moe.em.units import Units
from tests.support.groups import group_table, grouped


@pytest.mark.parametrize("kind", MIX)
@pytest.mark.parametrize("name", ["normal-2", "binomial-4", "two responses"])
def test_partitions_are_of_groups(name, kind):
    spec = grouped(name, group="g", expert="label")
    rows = spec.design(group_table(labels=spec.n_experts)).rows
    found = initial_partitions(spec, rows, 4, np.random.default_rng(0), (kind,))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    group, known = rows.observation.group, rows.observation.expert
    for partition in found:
        assert (pd.DataFrame(partition.T).groupby(group).nunique() == 1).all(axis=None)
        of_known = partition[:, known >= 0]
        np.testing.assert_array_equal(of_known[known[known >= 0], np.arange(of_known.shape[1])], 1)


def test_parts_are_matched_to_the_experts_that_are_known():
    known = np.array([2, 2, 0, -1, 1, 1])
    units = Units(None, (), (), known)
    shares = np.eye(3)[[0, 0, 1, 1, 2, 2]].T
    np.testing.assert_array_equal(units.matched(shares).argmax(axis=0), [2, 2, 0, 0, 1, 1])


def test_groups_that_differ_by_their_slopes_are_told_apart():
    """Their means are the same; the products of residuals with the feature are not."""
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(40), 6), np.tile(np.linspace(-1, 1, 6), 40)
    slope = np.where(g < 20, 3.0, -3.0)
    table = pd.DataFrame({"g": g, "x": x, "y": slope * x + rng.normal(0, 0.5, 240)})
    spec = bm.mixture_of_experts("y ~ x", experts=2, gate="~ 1", group="g")
    rows = spec.design(table).rows
    units = Units.of(rows, standardised(spec, rows))
    like = units.columns[1]
    assert np.abs(like[:20].mean(axis=0) - like[20:].mean(axis=0)).max() > 1.5
    found = initial_partitions(spec, rows, 4, rng, ("clusters",))
    agreed = [(partition.argmax(axis=0) == (g < 20)).mean() for partition in found]
    assert max(np.abs(np.array(agreed) - 0.5)) > 0.4

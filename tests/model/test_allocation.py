"""How rows share experts: sums over groups, their places, and chunks that never cut one."""

import numpy as np
import pytest
from scipy import special

from bayes_moe.data.observation import Observation
from bayes_moe.model.allocation import (
    EACH_ROW,
    ByGroup,
    allocation_of,
    group_slices,
    random_rows,
    some_rows,
    whole_groups,
)
from bayes_moe.model.evaluation import chunks
from tests.support.groups import group_table, grouped

GROUPS = {
    "next to each other": np.repeat([4, 2, 9], [3, 1, 2]),
    "scattered": np.array([7, 3, 7, 1, 3, 7, 1]),
    "one": np.zeros(5, dtype=int),
    "each its own": np.arange(4)[::-1],
}


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("labels", [False, True])
def test_units_are_summed_and_spread(group, labels):
    rng = np.random.default_rng(0)
    of_group = {g: k % 3 for k, g in enumerate(np.unique(group))}
    known = np.where(rng.random(len(group)) < 0.5, [of_group[g] for g in group], -1)
    known = known if labels else None
    shared = allocation_of(Observation(group=group, expert=known))
    weights, densities = rng.normal(size=(2, 4, 3, len(group)))
    value, r = np.zeros((4, len(group))), np.empty((4, 3, len(group)))
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        joint = weights[..., rows[0]] + densities[..., rows].sum(axis=-1)
        if labels and (known[rows] >= 0).any():
            joint[:, np.arange(3) != of_group[g]] = -np.inf
        value[:, rows[0]] = special.logsumexp(joint, axis=-1)
        r[..., rows] = special.softmax(joint, axis=-1)[..., None]
    np.testing.assert_allclose(shared.log_marginal(weights, densities), value, rtol=1e-12)
    np.testing.assert_allclose(shared.responsibilities(weights, densities), r, rtol=1e-12)
    assert shared.leads.sum() == len(np.unique(group))
    np.testing.assert_array_equal(group[shared.leader], group)
    first = np.sort(np.unique(group, return_index=True)[1])
    np.testing.assert_array_equal(shared.first, first)


def test_rows_without_groups_are_units():
    assert allocation_of(Observation()) is EACH_ROW
    known = allocation_of(Observation(expert=np.array([1, -1])))
    joint = np.zeros((2, 2))
    np.testing.assert_allclose(known.responsibilities(joint, joint), [[0, 0.5], [1, 0.5]])


@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_chunks_have_whole_groups(step):
    design = grouped("normal-2").design(group_table())
    group = design.rows.observation.group
    parts = [*whole_groups(design.rows, step)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(group)))
    seen = [set(group[part]) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == len(np.unique(group))
    assert all(len(part) <= max(step, 9) for part in parts)


def test_slices_begin_at_groups():
    starts = np.array([0, 4, 5, 9])
    assert [*group_slices(starts, 12, 5)] == [(0, 5), (5, 9), (9, 12)]
    assert [*group_slices(starts, 12, 1)] == [(0, 4), (4, 5), (5, 9), (9, 12)]
    assert [*group_slices(starts, 12, 50)] == [(0, 12)]


def test_some_rows_are_those_of_whole_groups():
    rows = grouped("normal-2").design(group_table()).rows
    group = rows.observation.group
    for which in (
        random_rows(rows, 20, np.random.default_rng(0)),
        some_rows(rows, 20, lambda size, most: np.linspace(0, size - 1, most).astype(int)),
    ):
        assert 0 < len(which) < 40
        assert not set(group[which]) & set(np.delete(group, which))
        np.testing.assert_array_equal(which, np.sort(which))


def test_the_mixture_is_evaluated_on_whole_groups(monkeypatch):
    from bayes_moe.model import evaluation

    spec = grouped("normal-2")
    rows = spec.design(group_table()).rows
    draws = {"gate_coef": np.zeros((1, 2, 2)), "mu_coef": np.zeros((1, 2, 2))}
    draws["sigma"] = np.ones((1, 2))
    monkeypatch.setattr(evaluation, "CHUNK_ELEMENTS", 1)
    found = [where for where, _, _ in chunks(spec, draws, rows)]
    assert len(found) == len(ByGroup.of(rows.observation.group).first)

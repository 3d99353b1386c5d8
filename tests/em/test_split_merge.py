"""Moves that merge and split experts: which there are, where they start, and what they find."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em import multistart, split_merge
from bayes_moe.em.climb import run_em
from bayes_moe.em.modes import SAME_VALUE
from bayes_moe.em.multistart import SearchSettings, Start, search
from bayes_moe.em.objective import Objective
from bayes_moe.em.split_merge import Pool, moved_points, random_move, responsibilities
from bayes_moe.em.vector_layout import parameter_vector


def two_kinds():
    gate = bm.gates.Softmax("~ x")
    line, curve = bm.Expert("y ~ x", name="line"), bm.Expert("y ~ x", "studentt", name="curve")
    return bm.MixtureOfExperts(gate=gate, experts=[line, curve, line, curve, line])


def table(n=240, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, n)
    means = np.select([x < -1.5, x < 0, x < 1.5], [x + 4, -2 * x, x - 3], 2 - x)
    return pd.DataFrame({"x": x, "z": rng.normal(size=n), "y": rng.normal(means, 0.2)})


def test_only_experts_of_one_kind_merge_and_split():
    spec, rng = two_kinds(), np.random.default_rng(0)
    blocks = [set(block.positions) for block in spec.structure.blocks]
    assert {len(b) for b in blocks} == {2, 3}
    moves = {random_move(spec, rng) for _ in range(300)}
    assert all(any({*move} <= block for block in blocks) for move in moves)
    # Ordered pairs, times experts of the kind but for the merged one: 6 * 2 and 2 * 1.
    assert len(moves) == 14


@pytest.mark.parametrize("share_of_transfers", [0.0, 1.0])
def test_moves_are_partitions_and_keep_the_other_kind(monkeypatch, share_of_transfers):
    spec = two_kinds()
    vector = parameter_vector(spec, spec.design(table()))
    objective, rng = Objective(vector), np.random.default_rng(0)
    theta = rng.normal(size=(3, objective.size))
    shares = responsibilities(objective, theta)
    seen = []
    monkeypatch.setattr(split_merge, "TRANSFERS", share_of_transfers)
    monkeypatch.setattr(split_merge, "SOFTNESS", 0.0)
    monkeypatch.setattr(split_merge, "initial_points", lambda o, moved, sweeps: seen.append(moved))
    moved_points(objective, theta, 40, rng)
    (moved,) = seen
    np.testing.assert_allclose(moved.sum(axis=1), 1, atol=1e-10)
    kinds = [list(block.positions) for block in spec.structure.blocks]
    for move in moved:
        apart = [np.abs(shares[:, kind] - move[kind]).max(axis=(1, 2)) for kind in kinds]
        if share_of_transfers == 0:  # one kind is as it was in one of the points
            assert np.min(apart) <= 1e-12
        else:  # an expert has the rows of one of its kind in another point
            pairs = np.abs(move[:, None, None] - shares).max(axis=-1)  # (expert, point, expert)
            assert min(pairs[np.ix_(kind, range(3), kind)].min() for kind in kinds) <= 1e-12


@pytest.mark.parametrize("experts", [1, 2])
def test_least_experts(experts):
    """One expert has no moves; of two, the merged one is split."""
    spec = bm.mixture_of_experts("y ~ x", experts=experts)
    vector = parameter_vector(spec, spec.design(table()))
    objective, rng = Objective(vector), np.random.default_rng(0)
    run = partial(run_em, tol=1e-9)
    pool = Pool.of_ends(objective, run(objective, np.zeros((1, objective.size)), max_iter=1))
    after = pool.after_moves(objective, run, 3, rng)
    assert after.value.shape == (1,)
    assert (after.value[0] > pool.value[0]) == (experts > 1)


GATES = {
    "softmax": (bm.gates.Softmax("~ x"), 4),
    "two": (bm.gates.Softmax("~ x"), 2),
    "sticks": (bm.gates.StickBreaking("~ x"), 3),
    "tree": (bm.gates.Tree(branching=(2, 2), formula="~ x"), 4),
    "gaussian": (bm.gates.Gaussian("~ x"), 3),
}


@pytest.mark.parametrize("likelihood", [False, True])
@pytest.mark.parametrize("name", list(GATES))
def test_moves_never_lower_the_best_mode(name, likelihood, monkeypatch):
    """Starts are the same with and without moves, and keep their hits."""
    gate, experts = GATES[name]
    spec = bm.MixtureOfExperts(gate=gate, experts=[bm.Expert("y ~ x")] * experts)
    vector = parameter_vector(spec, spec.design(table()), likelihood=likelihood)
    monkeypatch.setattr(multistart, "CERTAIN", -1.0)
    settings = {moves: SearchSettings(restarts=3, moves=moves, max_iter=200) for moves in (0, 9)}
    found = {m: search(vector, s, np.random.default_rng(4)) for m, s in settings.items()}
    value = {m: modes.value[modes.best] for m, modes in found.items()}
    assert value[9] >= value[0]
    assert not found[9].singular[found[9].best]
    assert [modes.hits.sum() for modes in found.values()] == [3, 3]
    assert found[9].new_mode_chance == found[0].new_mode_chance
    assert len(found[9].value) >= len(found[0].value)
    away = np.abs(found[0].value[:, None] - found[9].value).min(axis=1)
    assert away.max() <= SAME_VALUE + 1e-9 * abs(value[9])


def planes(n=250, sd=0.2):
    """Six planes over five features, some of few rows, and the gate knows nothing."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 5))
    expert = rng.choice(6, size=n, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    coef = rng.normal(size=(6, 6))
    mean = (x * coef[expert, 1:]).sum(axis=1) + coef[expert, 0]
    return pd.DataFrame(x, columns=list("abcde")).assign(y=rng.normal(mean, sd)), expert


@pytest.fixture(scope="module")
def six_planes():
    data, expert = planes()
    spec = bm.mixture_of_experts("y ~ a + b + c + d + e", gate="~ 1", experts=6)
    return parameter_vector(spec, spec.design(data)), expert


def test_moves_find_what_starts_miss(six_planes):
    """A mode at least as high as that of the true partition, the same from several seeds."""
    vector, expert = six_planes
    true = (expert == np.arange(6)[:, None])[None].astype(float)
    known = search(vector, SearchSettings(), np.random.default_rng(0), Start(allocation=true))
    found = []
    for seed in (0, 1):
        starts = SearchSettings(restarts=6, moves=0)
        without = search(vector, starts, np.random.default_rng(seed))
        assert without.value[without.best] < known.value[0] - 3
        starts = SearchSettings(restarts=6, moves=48)
        modes = search(vector, starts, np.random.default_rng(seed))
        assert modes.converged[modes.best]
        assert modes.hits[modes.best] == 0
        found.append(modes.value[modes.best])
    assert min(found) >= known.value[0]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_threads_change_nothing(six_planes):
    vector, _ = six_planes
    settings = (SearchSettings(restarts=2, moves=8, cores=cores) for cores in (1, 2))
    one, two = (search(vector, s, np.random.default_rng(3)) for s in settings)
    np.testing.assert_array_equal(one.theta, two.theta)
    np.testing.assert_array_equal(one.hits, two.hits)


def test_labels_make_no_point_distinct(six_planes):
    """Of points that differ only by labels a pool keeps one, with the same value."""
    vector, _ = six_planes
    objective, rng = Objective(vector), np.random.default_rng(5)
    theta = rng.normal(size=(2, objective.size))
    orders = np.array([rng.permutation(6) for _ in range(8)])
    permuted = vector.permute(np.repeat(theta, 4, axis=0), orders)
    run = partial(run_em, objective, max_iter=0)
    pool, of_all = (Pool.of_ends(objective, run(points)) for points in (theta, permuted))
    assert len(pool.value) == 2
    np.testing.assert_allclose(of_all.value, pool.value, rtol=1e-10)

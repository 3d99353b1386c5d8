"""Moves that merge and split experts: which there are, where they start, and what they find."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em import multistart, split_merge
from bayes_moe.em.linear_mixtures import LinearMixtures
from bayes_moe.em.modes import SAME_VALUE
from bayes_moe.em.multistart import SearchSettings, Start, search
from bayes_moe.em.partitions import initial_partitions, standardised
from bayes_moe.em.split_merge import (
    _counterparts,
    _with_exchange,
    distance,
    distinct,
    moved_shares,
    random_move,
    replaced,
)
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


def partitions_of(count, experts, rows, seed=0):
    return (
        np.random.default_rng(seed).dirichlet(np.full(experts, 0.3), (count, rows)).swapaxes(1, 2)
    )


@pytest.mark.parametrize("count", [1, 3])
def test_moves_are_partitions_and_keep_the_other_kind(monkeypatch, count):
    spec = two_kinds()
    rows = spec.design(table()).rows
    shares = partitions_of(count, 5, rows.size)
    monkeypatch.setattr(split_merge, "SOFTNESS", 0.0)
    before = shares.copy()
    moved, parents = moved_shares(
        spec, standardised(spec, rows), shares, 60, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(shares, before)
    np.testing.assert_allclose(moved.sum(axis=1), 1, atol=1e-10)
    assert moved.min() >= -1e-12
    kinds = [list(block.positions) for block in spec.structure.blocks]
    for move, (this, other) in zip(moved, parents, strict=True):
        assert (this == other) == (count == 1)
        apart = [np.abs(shares[this][kind] - move[kind]).max() for kind in kinds]
        pairs = np.abs(move[:, None] - shares[other]).max(axis=-1)  # (expert, expert)
        given = min(pairs[np.ix_(kind, kind)].min() for kind in kinds)
        # One kind is as before, unless an expert has the rows of one of its kind elsewhere.
        assert min(min(apart), given) <= 1e-12
        assert max(apart) > 0.01


def test_rows_are_exchanged_by_pairs_of_experts():
    """Against a loop over rows that each partition gives to one expert."""
    rng, n, k = np.random.default_rng(2), 60, 4
    here, there = (np.eye(k)[:, rng.integers(k, size=n)] for _ in range(2))
    order = _counterparts(here @ there.T)
    assert sorted(order) == list(range(k))
    moved = _with_exchange(list(range(k)), here.copy(), there, np.random.default_rng(5))
    goes, chosen = 0, {}
    for i in range(n):
        a, b = here[:, i].argmax(), there[order][:, i].argmax()
        now = moved[:, i].argmax()
        assert moved[:, i].max() == 1
        assert now in (a, b)
        assert chosen.setdefault((a, b), now) == now  # all rows of a pair go, or none
        goes += now != a
    assert 0 < goes < n


def test_counterparts_undo_a_permutation():
    shares = partitions_of(1, 5, 80)[0]
    order = np.random.default_rng(1).permutation(5)
    np.testing.assert_array_equal(shares[order][_counterparts(shares @ shares[order].T)], shares)


@pytest.mark.parametrize("experts", [1, 2])
def test_least_experts(experts, monkeypatch):
    """One expert has no moves; of two, the merged one is split."""
    spec = bm.mixture_of_experts("y ~ x", experts=experts)
    vector = parameter_vector(spec, spec.design(table()))
    monkeypatch.setattr(multistart, "CERTAIN", -1.0)
    modes = search(vector, SearchSettings(restarts=2, moves=20), np.random.default_rng(0))
    assert modes.converged[modes.best]
    assert (len(modes.value) > 1) == (experts > 1)


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


def test_the_pool_only_improves_and_stays_distinct(six_planes):
    vector, _ = six_planes
    spec, rows, rng = vector.spec, vector.design.rows, np.random.default_rng(5)
    mixtures = LinearMixtures(spec, rows)
    pool = distinct(mixtures.fitted(initial_partitions(spec, rows, 20, rng), 5))
    for _ in range(3):
        moved, parents = moved_shares(spec, standardised(spec, rows), pool.shares, 16, rng)
        after = replaced(pool, mixtures.fitted(moved, 10), parents)
        assert (after.value >= pool.value).all()
        pool = after
    away = [distance(pool.density, each) for each in pool.density]
    assert np.min(away + np.eye(len(away))) > split_merge.DISTANCE


def test_labels_make_no_partition_distinct(six_planes):
    """Of partitions that differ only by labels a pool keeps one, with the same value."""
    vector, _ = six_planes
    shares, rng = partitions_of(2, 6, vector.design.rows.size), np.random.default_rng(5)
    permuted = np.concatenate([each[[rng.permutation(6) for _ in range(4)]] for each in shares])
    mixtures = LinearMixtures(vector.spec, vector.design.rows)
    pool, of_all = (distinct(mixtures.fitted(x, 3)) for x in (shares, permuted))
    assert len(pool.value) == len(of_all.value) == 2
    np.testing.assert_allclose(of_all.value, pool.value, rtol=1e-3)

"""Members of an ensemble: their parts of the rows, where they stop, and their weights."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.optimize.adam import Schedule
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.members import (
    AdamRun,
    HeldOut,
    densities,
    fold_splits,
    held_out_score,
    resampled,
    stopped_runs,
)
from bayes_moe.optimize.stopped_starts import WIDE, has_trunk, wide_starts
from tests.support.tables import inverse_sine

SPEC = bm.mixture_density("y ~ x", components=2, hidden=(4,))


@pytest.fixture(scope="module")
def density():
    return log_density(SPEC, SPEC.design(inverse_sine(150)))


@pytest.fixture(scope="module")
def starts(density):
    return wide_starts(SPEC, density.design, 4, np.random.default_rng(1))


def test_folds_are_a_partition():
    splits = fold_splits(23, 7, 0.2, np.random.default_rng(0))
    held = np.concatenate([s.held_out for s in splits[:5]])
    assert sorted(held) == list(range(23))
    assert splits[5] is splits[0]
    for split in splits:
        assert sorted([*split.train, *split.held_out]) == list(range(23))
    assert len(fold_splits(2, 3, 0.01, np.random.default_rng(0))[0].train) == 1


def test_starts_are_wide(starts):
    assert len(starts) == 4
    assert all((start["trunk_decay"] == WIDE).all() for start in starts)
    own = bm.mixture_of_experts("y ~ x", experts=2, predictor=bm.predictors.MLP((4,)))
    assert not has_trunk(own)
    assert has_trunk(SPEC)


def test_members_stop_where_the_average_of_those_that_left_rows_out_is_best(density, starts):
    schedule = Schedule(epochs=30, learning_rate=0.05)
    splits = fold_splits(150, 4, 0.5, np.random.default_rng(2))
    found = stopped_runs(density, starts, splits, schedule, range(4), 1)
    runs = [
        AdamRun(density, density.point(v), split, schedule, np.random.default_rng(j))
        for j, (v, split) in enumerate(zip(starts, splits, strict=True))
    ]
    scores, points = [], []
    for until in np.arange(41) / 40:
        for run in runs:
            run.advance(until)
        points.append([run.adam.average.copy() for run in runs])
        log_density = densities(density, points[-1], density.design.rows)
        average = np.empty(150)
        for pair, split in zip(([0, 2], [1, 3]), splits[:2], strict=True):
            held_out = split.held_out
            average[held_out] = np.log(np.exp(log_density[pair][:, held_out]).mean(axis=0))
        scores.append(average.mean())
        assert held_out_score(runs, points[-1]) == pytest.approx(scores[-1], rel=1e-12)
    best = int(np.argmax(scores))
    assert 0 < best < 40
    for run, x in zip(found, points[best], strict=True):
        np.testing.assert_array_equal(run.x, x)
    assert found[0].value == pytest.approx(density(found[0].x)[0], rel=1e-12)


def test_the_number_of_cores_changes_nothing(density, starts):
    splits = fold_splits(150, 4, 0.5, np.random.default_rng(2))
    one, two = (
        stopped_runs(density, starts, splits, Schedule(epochs=3), range(4), cores)
        for cores in (1, 3)
    )
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.x, second.x)


def test_weights_are_those_of_the_best_held_out_score():
    rng = np.random.default_rng(3)
    left_out = np.zeros((3, 60), dtype=bool)
    for row in range(60):
        left_out[rng.choice(3, 2, replace=False), row] = True
    held = HeldOut(rng.normal(size=(3, 60)) + np.array([[0.6], [0.0], [0.3]]), left_out)
    weights = held.weights()
    assert weights.sum() == pytest.approx(1.0)
    grid = [(a, b, 1 - a - b) for a in np.arange(0, 1.01, 0.02) for b in np.arange(0, 1 - a, 0.02)]
    with np.errstate(all="ignore"):
        scores = [held.score(np.array(w)) for w in grid if sum(x > 0 for x in w) > 1]
    assert held.score(weights) > max(scores) - 1e-4
    brute = [
        np.log((weights * np.exp(held.log_density[:, i]) * out)[out].sum() / weights[out].sum())
        for i, out in enumerate(left_out.T)
    ]
    assert held.score(weights) == pytest.approx(np.mean(brute), rel=1e-12)
    alone = HeldOut(held.log_density, np.arange(60) % 3 == np.arange(3)[:, None])
    np.testing.assert_allclose(alone.weights(), 1 / 3)
    for j in range(3):
        assert held.means[j] == pytest.approx(held.log_density[j, left_out[j]].mean())


def test_members_are_repeated_in_proportion_to_their_weights():
    weights = np.array([0.5, 0.031, 0.0, 0.469])
    counts = np.bincount(resampled(weights, 40), minlength=4)
    assert (np.abs(counts - 40 * weights) < 1).all()
    np.testing.assert_array_equal(resampled(np.full(5, 0.2), 5), np.arange(5))

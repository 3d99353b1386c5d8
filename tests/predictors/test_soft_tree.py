"""Soft trees: planted partitions are recovered, alone, in mixtures, and beside other kinds."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.em.objective import Objective
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.optimize import linear_surrogate as standin
from bayes_moe.predictors import Site, SoftTree
from bayes_moe.predictors.base import Target
from bayes_moe.predictors.soft_tree import paths
from tests.support.examples import GATE, matrix_of
from tests.support.three_kinds import KINDS, rows, specs

LEVELS = np.array([0.0, 1.0, 3.0, 2.0])
RESPONSE = np.array([1.0, 2.0, 4.0])


def cells(x, w):
    """Four nested cells (obs,) of two features."""
    return np.where(x < 0.3, np.where(w < -0.5, 0, 1), np.where(w < 0.8, 2, 3))


def planted(n, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(-2, 2, (2, n))
    cell = cells(x, w)
    return {"x": x, "w": w, "y": LEVELS[cell] + 0.3 * rng.standard_normal(n)}, cell


def leaf_of(fit, stem="mu"):
    """The likeliest leaf (row, obs) of the fitted rows, at the first draw."""
    place, tree = next((p, t) for p, t in fit.spec.structure.sites if p.stem == stem)
    posterior = fit.idata["posterior"]
    draws = {name: posterior[name].values[:, 0] for name in tree.variables(place).dims}
    return tree.leaves(place, draws, fit.design.rows.matrices[stem])[0].argmax(axis=1)


def accuracy(leaf, cell):
    """Share of rows in the right cell, after the best matching of leaves to cells."""
    table = np.zeros((leaf.max() + 1, cell.max() + 1))
    np.add.at(table, (leaf, cell), 1)
    return table[linear_sum_assignment(-table)].sum() / len(cell)


# --- the formula ----------------------------------------------------------------------------------


def test_leaves_are_products_along_their_paths():
    matrix, tree = matrix_of(2, n=7), SoftTree(depth=3)
    place = Site("mu", "location", names.EXPERT, 2, each=True)
    rng = np.random.default_rng(0)
    initial = tree.variables(place).initial(place.bind(matrix), rng)
    values = {n: v[None] for n, v in initial.items()}
    found = tree.leaves(place, values, matrix)
    assert found.shape == (1, 2, 8, 7)
    np.testing.assert_allclose(found.sum(axis=2), 1)
    split, sharpness = values["mu_split"][0], values["mu_sharpness"][0]
    right = 1 / (1 + np.exp(-sharpness[..., None] * split @ matrix.standardised.T))
    for i, path in enumerate(paths(3)):
        expected, position = 1.0, 0
        for depth, turn in enumerate(path):
            at = right[:, 2**depth - 1 + position]
            expected = expected * (at if turn == "R" else 1 - at)
            position += 2**depth * (turn == "R")
        assert position == i
        np.testing.assert_allclose(found[0, :, i], expected, atol=1e-12)


def test_rows_of_a_gate_share_a_tree():
    matrix, tree = matrix_of(2), SoftTree()
    values = tree.variables(GATE).initial(GATE.bind(matrix), np.random.default_rng(0))
    found = tree.leaves(GATE, {n: v[None] for n, v in values.items()}, matrix)
    assert found.shape == (1, 1, 4, 40)


def test_climbs_begin_at_a_regression_tree():
    data, cell = planted(400, 0)
    spec = bm.mixture_of_experts("y ~ x + w", experts=1, predictor="softtree")
    design = spec.design(data)
    (place, tree), matrix = spec.structure.sites[-1], design.rows.matrices["mu"]
    starts = [
        tree.project(
            place.bind(matrix, data["y"]), Target(data["y"][None], np.random.default_rng(seed))
        )
        for seed in range(8)
    ]
    found = [
        accuracy(
            tree.leaves(place, {n: v[None] for n, v in s.items()}, matrix)[0, 0].argmax(0), cell
        )
        for s in starts
    ]
    assert max(found) > 0.9
    assert len({s["mu_split"].tobytes() for s in starts}) > 1


def test_empty_nodes_and_constant_rows_have_splits():
    matrix, tree = matrix_of(2, n=6), SoftTree(depth=4)
    place = Site("mu", "location", names.EXPERT, 1, each=True)
    for target in (np.arange(6.0), np.ones(6)):
        for weights in (None, np.zeros((1, 6))):
            found = tree.initial_values(
                place.bind(matrix), target[None], np.random.default_rng(0), weights
            )
            assert np.isfinite(found["mu_split"]).all()
            assert (np.abs(found["mu_split"][..., 1:]).sum(axis=-1) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"depth": 0}, "`depth`"), ({"depth": 7}, "at most 6"), ({"sharpness": 0}, "`sharpness`")],
)
def test_bad_settings(settings, message):
    with pytest.raises(bm.SpecError, match=message):
        SoftTree(**settings)


@pytest.mark.parametrize("formula", ["y ~ 0 + x", "y ~ 1"])
def test_formulas_that_do_not_serve(formula):
    spec = bm.mixture_of_experts(formula, experts=1, predictor="softtree")
    with pytest.raises(bm.SpecError, match="an intercept and a feature"):
        bm.build(spec, planted(30, 0)[0])


# --- recovery -------------------------------------------------------------------------------------


def test_a_planted_partition_is_recovered():
    data, cell = planted(1000, 1)
    spec = bm.mixture_of_experts("y ~ x + w", experts=1, predictor=SoftTree(depth=2))
    fit = bm.fit(spec, data, method="map", restarts=3, random_seed=1)
    assert accuracy(leaf_of(fit)[0], cell) >= 0.95
    mean = bm.predict(fit, data).mean().values.ravel()
    assert np.sqrt(np.mean((mean - LEVELS[cell]) ** 2)) < 0.2


def two_trees(n, seed):
    """Rows of two experts with partitions of their own, gated by ``z``."""
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(-2, 2, (2, n))
    z = rng.uniform(-2, 2, n)
    expert = (rng.uniform(size=n) < 1 / (1 + np.exp(-4 * z))).astype(int)
    cell = np.where(expert == 0, cells(x, w), cells(w, -x))
    means = np.where(expert == 0, LEVELS[cell], 6 - 1.5 * LEVELS[cell])
    return {"x": x, "w": w, "z": z, "y": means + 0.3 * rng.standard_normal(n)}, expert, cell


@pytest.mark.slow
def test_two_experts_recover_partitions_of_their_own():
    data, expert, cell = two_trees(1000, 0)
    spec = bm.mixture_of_experts("y ~ x + w", gate="~ z", experts=2, predictor=SoftTree(depth=2))
    fit = bm.fit(spec, data, method="map", restarts=20, random_seed=0)
    owner = bm.responsibilities(fit).values.reshape(-1, 2).argmax(axis=1)
    swapped = np.mean(owner == expert) < 0.5
    assert np.mean((owner == expert) != swapped) >= 0.9
    leaf = leaf_of(fit)
    for k in range(2):
        own = expert == k
        assert accuracy(leaf[1 - k if swapped else k][own], cell[own]) >= 0.95


# --- beside other kinds ---------------------------------------------------------------------------


def test_a_start_hands_out_experts_to_the_kinds_that_suit_them():
    """The likeliest of some ways: where the stand-in knows the parts, each goes to its kind."""
    data, part = rows(600, 3)
    spec = specs()["mixed"]
    design = spec.design(data)
    simple = standin.LinearSurrogate.of(spec)
    seen = simple.design(design)
    split = (0.97 * np.equal.outer(np.arange(3), part) + 0.01)[None]
    moving = parameter_vector(simple.spec, seen)
    values = moving.variables(initial_points(Objective(moving, seen.rows), split))
    point = {name: v[0] for name, v in values.items()}
    turns = [
        standin._likeliest(spec, simple, design, point, np.random.default_rng(seed))
        for seed in range(6)
    ]
    assert np.mean([np.array_equal(turn, [0, 1, 2]) for turn in turns]) > 0.5  # 1/6 by chance


@pytest.mark.slow
def test_three_kinds_beat_each_single_kind():
    train, _ = rows(900, 1)
    test, _ = rows(2000, 2)
    score = {}
    for name, spec in specs().items():
        fit = bm.fit(spec, train, method="map", restarts=20, random_seed=0)
        score[name] = float(bm.log_density(fit, test).mean())
    assert score["mixed"] > -0.36  # that of the truth is -0.281
    assert score["mixed"] > max(score[name] for name in KINDS) + 0.02

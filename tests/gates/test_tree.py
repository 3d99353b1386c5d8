"""Hierarchical mixtures: planted trees are found, branches keep their leaves, LIDAR converges."""

import itertools
import warnings

import arviz as az
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import bayes_moe as bm
from bayes_moe.core.errors import ConvergenceWarning
from bayes_moe.diagnostics.check import check
from bayes_moe.em.climb import run_em
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions, sweeps
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.tree_starts import tree_starts
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.results import relabelling
from tests.support.fits import fake_fit

TREE = bm.hierarchical_mixture("y ~ x0", gate="~ x0 + x1", branching=(2, 2))
SEEDS = range(10)


def planted(seed, rows=1000, separation=4.0):
    """A nested partition of a square into four leaves, whose levels are so many sds apart."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (rows, 2))
    right = x[:, 0] > 0.1
    up = np.where(right, x[:, 1] > 0.3, x[:, 1] > -0.3)
    leaf = 2 * right + up
    level = separation * rng.permutation(4)
    slope = np.array([1.0, -1.0, 0.5, -0.5])
    y = level[leaf] + slope[leaf] * x[:, 0] + rng.standard_normal(rows)
    return pd.DataFrame({"x0": x[:, 0], "x1": x[:, 1], "y": y}), leaf


def agreement(fit, leaf):
    """Adjusted Rand index of the leaves and of each row's most responsible expert."""
    share = bm.responsibilities(fit).mean(("chain", "draw"))
    return adjusted_rand_score(leaf, share.transpose("obs_id", "expert").values.argmax(axis=1))


@pytest.mark.parametrize("seed", [0, 6])
def test_em_finds_a_planted_tree(seed):
    table, leaf = planted(seed)
    fit = bm.fit(TREE, table, method="em", random_seed=seed, progressbar=False)
    assert agreement(fit, leaf) >= 0.9
    # Siblings of the planted tree are siblings in the answer.
    share = bm.responsibilities(fit)[0, 0].transpose("obs_id", "expert").values
    home = np.array([np.bincount(leaf[share.argmax(axis=1) == k]).argmax() for k in range(4)])
    assert sorted(home) == [0, 1, 2, 3]
    assert home[0] // 2 == home[1] // 2
    assert home[2] // 2 == home[3] // 2


def test_nuts_agrees_on_a_planted_tree():
    table, leaf = planted(2)
    fit = bm.fit(TREE, table, random_seed=2, progressbar=False)
    figures = check(fit.idata, fit.spec, fit.design).figures
    assert figures.divergences == 0
    assert figures.rhat < 1.01
    assert figures.rhat_invariant < 1.01
    assert agreement(fit, leaf) >= 0.9


# --- labels ---------------------------------------------------------------------------------------

BRANCHES = {  # orders of four leaves that keep siblings together, and no others
    tuple(order)
    for pair in ([0, 1, 2, 3], [2, 3, 0, 1])
    for left, right in itertools.product((1, -1), repeat=2)
    for order in [pair[:2][::left] + pair[2:][::right]]
}


def tree_of_levels(levels):
    """Draws about a tree whose leaves have these levels from left to right."""
    rng = np.random.default_rng(3)
    spec = bm.hierarchical_mixture("y ~ x", gate="~ x", branching=(2, 2), sigma="~ x")
    gate = np.array([[0.5, -2.0], [-0.3, 1.0], [0.4, 1.5]])  # of each split's first branch
    parameters = {
        "gate_coef": np.stack([gate, -gate], axis=1).reshape(6, 2),
        "mu_coef": np.column_stack([levels, rng.normal(0, 0.3, 4)]),
        "sigma_coef": np.column_stack([np.full(4, -1.0), rng.normal(0, 0.1, 4)]),
    }
    table = bm.simulate(spec, {"x": rng.uniform(-2, 2, 150)}, parameters, random_seed=3)
    return spec, table, parameters


def switched(fit, orders):
    """The fit with one of these orders of leaves in every draw, and which."""
    sizes = fit.idata["posterior"].sizes
    drawn = np.random.default_rng(4).integers(len(orders), size=(sizes["chain"], sizes["draw"]))
    order = np.array(sorted(orders))[drawn]
    tree = fit.idata.copy()
    posterior = relabelling.permute(fit.idata["posterior"].to_dataset(), fit.spec, order)
    tree["posterior"] = type(tree)(posterior)
    return bm.Fit(fit.spec, fit.design, tree), order


@pytest.mark.parametrize("method", ["responsibilities", "parameters"])
@pytest.mark.parametrize("levels", [(0.0, 3.0, 6.0, 9.0), (0.0, 6.0, 3.0, 9.0)])
def test_planted_switches_of_branches_are_undone(levels, method):
    spec, table, parameters = tree_of_levels(levels)
    original = fake_fit(spec, table, parameters, spread=0.03)
    mixed, order = switched(original, BRANCHES)
    assert len(np.unique(order.reshape(-1, 4), axis=0)) == 8
    # A leaf's weights go with it: what is planted is the same model under other labels.
    np.testing.assert_allclose(
        bm.log_density(mixed, table), bm.log_density(original, table), rtol=1e-9
    )
    aligned = bm.relabel(mixed, method)
    for name in spec.variables:  # branches are already in the order of their location
        np.testing.assert_array_equal(
            aligned.idata["posterior"][name].values, original.idata["posterior"][name].values
        )
    assert float(aligned.idata["relabelling"]["certainty"].min()) > 0.98


@pytest.mark.parametrize("method", ["responsibilities", "parameters"])
def test_leaves_of_different_branches_never_mix(method):
    """Not even where chains have different trees, so that mixing leaves would align them."""
    spec, table, parameters = tree_of_levels((0.0, 3.0, 6.0, 9.0))
    original = fake_fit(spec, table, parameters, spread=0.03)
    across = {**parameters, "mu_coef": parameters["mu_coef"][[0, 2, 1, 3]]}
    other = fake_fit(spec, table, across, spread=0.03)
    tree = original.idata.copy()
    posterior = tree["posterior"].to_dataset().copy(deep=True)
    for name in spec.variables:
        posterior[name][1] = other.idata["posterior"][name].values[1]
    tree["posterior"] = type(tree)(posterior)
    aligned = bm.relabel(bm.Fit(spec, original.design, tree), method)
    found = aligned.idata["relabelling"]["permutation"].values.reshape(-1, 4)
    assert {tuple(map(int, order)) for order in found} <= BRANCHES


# --- at length ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_grown_starts_are_as_good_as_random_ones():
    wins = 0
    for seed in SEEDS:
        table, _ = planted(seed)
        design = TREE.design(table)
        objective = Objective(parameter_vector(TREE, design), cores=1)
        split = initial_partitions(
            TREE, design.rows, 20, np.random.default_rng(seed), mix=("random",)
        )
        at_random = initial_points(objective, split, sweeps(20, ("random",)))
        starts = tree_starts(objective, 20, np.random.default_rng(seed))
        best, other = (run_em(objective, s, max_iter=1000).value.max() for s in (starts, at_random))
        wins += best >= other - 1e-6 * abs(other)
    assert wins >= 8


@pytest.mark.slow
def test_nuts_finds_planted_trees():
    found = []
    for seed in SEEDS:
        table, leaf = planted(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit = bm.fit(TREE, table, draws=300, tune=500, random_seed=seed, progressbar=False)
        found.append(agreement(fit, leaf))
    assert np.mean(found) >= 0.9


def lidar_models():
    """A plateau and two lines under a tree and under one softmax."""
    before = bm.Expert("logratio ~ 1", sigma="~ range", name="before")
    line = bm.Expert("logratio ~ range", sigma="~ range", name="line")
    gates = {
        "tree": bm.gates.Tree([0, [1, 2]], formula="~ range"),
        "flat": bm.gates.Softmax("~ range"),
    }
    return {name: bm.MixtureOfExperts(gate, [before, line, line]) for name, gate in gates.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lidar_has_one_mode_and_nuts_converges(seed):
    lidar = bm.load_dataset("lidar")
    score = {}
    for name, spec in lidar_models().items():
        fit = bm.fit(spec, lidar, random_seed=seed, progressbar=False)
        figures = check(fit.idata, spec, fit.design).figures
        assert figures.divergences == 0
        assert figures.rhat < 1.01
        assert figures.rhat_invariant < 1.01
        assert bm.diagnose(fit).ok
        assert float(fit.idata["modes"]["mass"].max()) > 0.99
        score[name] = az.loo(fit.idata, reff=1.0)
        assert float(score[name].pareto_k.max()) < 0.7
    assert abs(score["tree"].elpd - score["flat"].elpd) < 4


@pytest.mark.slow
def test_three_equal_lines_on_lidar_have_two_trees():
    lidar = bm.load_dataset("lidar")
    spec = bm.hierarchical_mixture("logratio ~ range", tree=[[0, 1], 2], sigma="~ range")
    modes = bm.modes(bm.fit(spec, lidar, method="em", random_seed=1, progressbar=False))
    best, second = modes["objective"].iloc[:2]
    assert 0 < best - second < 2
    share = modes.filter(like="share").iloc[:2].to_numpy()
    np.testing.assert_allclose(np.sort(share[0]), np.sort(share[1]), atol=0.03)  # one partition
    np.testing.assert_allclose(share[:, 2], [0.51, 0.32], atol=0.03)  # and what stands alone

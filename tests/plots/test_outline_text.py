"""A tree in words: a condition is written only if it tells the rows of a branch from others."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import bayes_moe as bm
from bayes_moe.gates import Tree
from bayes_moe.plots.tree_outline import direction
from tests.support.fits import fake_fit

N = 400


def split_fit(x, slope, middle, z_slope=0.0, formula="~ x + z"):
    """Two experts; the second has the probability expit(slope (x - middle) + z_slope z)."""
    rows = pd.DataFrame({"x": x, "z": np.random.default_rng(1).normal(size=len(x))})
    spec = bm.mixture_of_experts("y ~ x", gate=formula, experts=2)
    second = np.array([-slope * middle, slope, z_slope][: 2 + ("z" in formula)]) / 2
    truth = {
        "gate_coef": np.stack([-second, second]),
        "mu_coef": [[0.0, 1.0], [3.0, -1.0]],
        "sigma": [0.3, 0.3],
    }
    table = bm.simulate(spec, rows, truth, random_seed=1)
    return fake_fit(spec, table, truth, chains=1, draws=2, spread=1e-9), rows


def words_of(text):
    """What the lines of a text say in brackets, and the first line's rule."""
    lines = text.splitlines()
    return re.match(r"root: (.*?) +100 %", lines[0])[1], [
        re.match(r"[├└]─ expert . \((.*?)\):", line)[1] for line in lines[1:3]
    ]


NORMAL = np.random.default_rng(0).normal(size=N)
SKEWED = np.exp(3 * NORMAL)
SHARP = {
    "steep": (NORMAL, 9.0, 0.1),
    "reversed": (NORMAL, -9.0, 0.1),
    "most rows on one side": (NORMAL, 30.0, 1.2),
    "a step between two rows": (NORMAL, 1e4, np.sort(NORMAL)[200:202].mean()),
    "large numbers": (1e6 + NORMAL, 9.0, 1e6 + 0.3),
    "skewed": (SKEWED, 20.0, 0.5),
}
NOT_SHARP = {
    "flat, at an end": (NORMAL, 0.8, np.quantile(NORMAL, 0.985), "by x"),
    "flat, in the middle": (NORMAL, 0.1, 0.0, "weakly by x"),
    "flat and reversed": (NORMAL, -0.1, 0.2, "weakly by x"),
    "gradual": (NORMAL, 1.5, 0.25, "by x, 50 % at 0.25"),
    "even": (NORMAL, 1e-6, 0.0, "weakly by x"),
    "out of range": (NORMAL, 0.8, NORMAL.max() + 0.5, "by x"),
    "far out of range": (NORMAL, 9.0, NORMAL.max() + 2, "weakly by x"),
    "below the range": (NORMAL, 0.8, NORMAL.min() - 0.5, "by x"),
    "skewed": (SKEWED, 0.001, 300.0, "by x"),
}


@pytest.mark.parametrize("name", SHARP)
def test_a_sharp_split_has_the_threshold_that_its_rows_obey(name):
    x, slope, middle = SHARP[name]
    fit, _ = split_fit(x, slope, middle, formula="~ x")
    text = bm.tree_text(fit)
    rule, branches = words_of(text)
    said = float(rule.removeprefix("by x, 50 % at "))
    assert np.array_equal(x < said, x < middle)
    assert said == pytest.approx(middle, rel=1e-3)
    signs = "<>" if slope > 0 else "><"
    assert [branch.rsplit(" ", 1) for branch in branches] == [
        [f"x {sign}", rule.split()[-1]] for sign in signs
    ]
    taken = expit(slope * (x - middle))
    shares = [int(line.split()[-2]) for line in text.splitlines()[1:3]]
    for c, side in enumerate([(x < middle), (x > middle)][:: 1 if slope > 0 else -1]):
        assert np.average([1 - taken, taken][c][side]) >= 0.8
        assert 100 * side.mean() == pytest.approx(shares[c], abs=5)


@pytest.mark.parametrize("name", NOT_SHARP)
def test_other_splits_have_the_range_of_probabilities_of_their_rows(name):
    x, slope, middle, expected = NOT_SHARP[name]
    fit, _ = split_fit(x, slope, middle, formula="~ x")
    rule, branches = words_of(bm.tree_text(fit))
    assert rule == expected
    second = expit(slope * (x - middle))
    for said, p, sign in zip(branches, (1 - second, second), (-slope, slope), strict=True):
        low, high = f"{100 * p.min():.0f}", f"{100 * p.max():.0f}"
        if low == high:
            assert said == f"probability {low} %"
        elif rule.startswith("weakly"):
            assert said == f"probability {low} to {high} %"
        elif sign > 0:
            assert said == f"probability rises from {low} to {high} %"
        else:
            assert said == f"probability falls from {high} to {low} %"


def test_a_threshold_is_written_exactly_where_the_rows_obey_it():
    said = set()
    for slope in (-20.0, -3, -0.2, 1, 2, 4):
        for middle in (-1.0, 0, 0.5, 2, 4):
            fit, _ = split_fit(NORMAL, slope, middle, formula="~ x")
            second = expit(slope * (NORMAL - middle))
            above = (middle < NORMAL) == (slope > 0)
            parts = [(above, second), (~above, 1 - second)]
            obeyed = all(
                side.any() and min(p[side].mean(), p[side].sum() / p.sum()) >= 0.8
                for side, p in parts
            )
            _, branches = words_of(bm.tree_text(fit))
            assert all(("probability" in branch) != obeyed for branch in branches)
            said.add(obeyed)
    assert said == {True, False}


def test_a_threshold_at_fixed_columns_is_no_condition_on_rows_that_others_move():
    fit, rows = split_fit(NORMAL, 9.0, 0.1, z_slope=8.0)
    rule, branches = words_of(bm.tree_text(fit))
    middle = 0.1 - 8 * rows["z"].median() / 9
    assert float(rule.removeprefix("by x, 50 % at ")) == pytest.approx(middle, rel=1e-3)
    assert branches == ["probability 0 to 100 %"] * 2
    fit, _ = split_fit(NORMAL, 9.0, 0.1, z_slope=0.5)
    assert all("x " in branch for branch in words_of(bm.tree_text(fit))[1])


def test_ranges_below_another_split_are_of_the_rows_that_come_there():
    rows = pd.DataFrame({"x": NORMAL})
    spec = bm.mixture_of_experts("y ~ x", gate=Tree([[0, 1], 2], formula="~ x"), experts=3)
    truth = {
        # To the left where x < 0; then hardly anywhere.
        "gate_coef": np.array([[0.0, -20.0], [0.0, 20.0], [0.0, -0.1], [0.0, 0.1]]),
        "mu_coef": [[0.0, 1.0], [3.0, -1.0], [9.0, 0.0]],
        "sigma": [0.3] * 3,
    }
    fit = fake_fit(spec, bm.simulate(spec, rows, truth, random_seed=1), truth, spread=1e-9)
    lines = bm.tree_text(fit).splitlines()
    assert "─ 0 (x < " in lines[1]
    assert ": weakly by x  " in lines[1]
    reaching = expit(0.2 * NORMAL[expit(-40 * NORMAL) >= 0.5])
    assert f"expert 1 (probability {100 * reaching.min():.0f} to 50 %)" in lines[3]


@pytest.mark.parametrize("sharp", [True, False])
def test_categories_are_written_if_they_tell_the_rows(sharp):
    table = pd.DataFrame({"g": np.repeat(["u", "v", "w"], 40)})
    spec = bm.mixture_of_experts("y ~ 1", gate="~ g", experts=2)
    size = 3.0 if sharp else 0.4
    truth = {
        "gate_coef": [[-size, 2 * size, 0.0], [size, -2 * size, 0.0]],
        "mu_coef": [[0.0], [5.0]],
        "sigma": [1.0, 1.0],
    }
    table = bm.simulate(spec, table, truth, random_seed=1)
    fit = fake_fit(spec, table, truth, spread=1e-9)
    rule, branches = words_of(bm.tree_text(fit))
    assert rule == "by g"
    low, high = (f"{100 * expit(2 * s * size):.0f}" for s in (-1, 1))
    ranges = [f"probability {low} to {high} %"] * 2
    assert branches == (["g = v", "g = u, w"] if sharp else ranges)


def test_the_middle_of_a_split_is_exact_whatever_the_spacing_of_rows():
    for x in (NORMAL, SKEWED, np.r_[NORMAL, 1e7]):
        fit, _ = split_fit(x, 5.0, 0.25, formula="~ x")
        split = fit.spec.structure.gate.splits.splits[0]
        assert direction(fit, split).middle == pytest.approx(0.25, abs=1e-5)

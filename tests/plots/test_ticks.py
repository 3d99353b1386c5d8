"""Tick labels after drawing: none overlap or leave the figure, and counts have whole numbers."""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.plots.ticks import shortened_labels
from tests.support.fits import fake_fit

mpl.use("Agg")
PLOTS = {"gate": bm.plot_gate, "experts": bm.plot_experts, "predictive": bm.plot_predictive}
LONG = [
    "Upper secondary school",
    "No formal qualification",
    "University degree or equivalent",
    "Vocational training (dual system)",
    "Other, not elsewhere classified",
    "Doctorate",
]
CATEGORIES = {
    "short": ["a", "b", "c"],
    "dollars": ["$a_1$", "$5 and more", "x^2"],
    "sentences": LONG,
    "one word": ["Donaudampfschifffahrtsgesellschaft" + end for end in "abcd"],
    "the same start": ["the regional hospital of " + c for c in ("Ulm", "Jena", "Bonn", "Kiel")],
    "twelve": [f"{text} {year}" for text in LONG for year in (1990, 2000)],
    "forty": [f"district {j:02d}" for j in range(40)],
    "eighty": [f"ward {j:03d} of the city" for j in range(80)],
}
CASES = [
    pytest.param(labels, id=name, marks=[pytest.mark.slow] if name == "eighty" else [])
    for name, labels in CATEGORIES.items()
]


@pytest.fixture(autouse=True)
def _closed_figures():
    from matplotlib import pyplot

    yield
    pyplot.close("all")


def category_fit(labels):
    """Two experts of a response, and a gate, that depend on a column with these categories."""
    levels = sorted(labels)
    table = pd.DataFrame({"g": np.tile(levels, 3)})
    spec = bm.mixture_of_experts("y ~ g", gate="~ g", experts=2)
    rng = np.random.default_rng(0)
    gate = rng.normal(size=len(levels))
    truth = {
        "gate_coef": np.stack([gate, -gate]),
        "mu_coef": rng.normal(size=(2, len(levels))),
        "sigma": [0.5, 0.5],
    }
    return fake_fit(spec, bm.simulate(spec, table, truth, random_seed=0), truth, draws=2)


def labels_of(axes):
    return [t for t in axes.get_xticklabels() if t.get_text()]


def check_labels(axes):
    """No two labels of the horizontal axis overlap, and none leaves the figure."""
    boxes = [text.get_window_extent() for text in labels_of(axes)]
    assert boxes
    for left, right in pairwise(boxes):
        assert left.x1 < right.x0
    figure = axes.figure.bbox
    name = axes.xaxis.label.get_window_extent()
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.width
        assert box.y0 >= name.y1


@pytest.mark.parametrize("labels", CASES)
def test_categories_do_not_overlap(labels):
    fit = category_fit(labels)
    few = len(labels) < 20
    for name in PLOTS if labels is LONG else ["gate"]:
        pc = PLOTS[name](fit)
        figure, axes = pc.viz["figure"].item(), pc.viz["plot"].item()
        figure.canvas.draw()
        check_labels(axes)
        assert axes.bbox.height > 0.35 * figure.bbox.height
        texts = [t.get_text().replace("\\", "") for t in labels_of(axes)]
        assert len({*texts}) == len(texts)
        assert len(texts) == len(labels) or not few
        for text, level in zip(texts, sorted(labels), strict=False):
            starts = text.replace("\n", " ").split("…")[0]
            assert not few or level.startswith(starts)


@pytest.mark.parametrize("labels", CASES)
def test_categories_of_a_tree_do_not_overlap(labels):
    pc = bm.plot_tree(category_fit(labels))
    figure = pc.viz["figure"].item()
    figure.canvas.draw()
    for axes in pc.viz["plot"].values:
        check_labels(axes)
        assert len(labels_of(axes)) == len(labels) or len(labels) > 8
        text = " ".join(t.get_text() for t in labels_of(axes))
        assert len({*text.split()}) > 1


def test_short_labels_are_left_alone():
    axes = bm.plot_gate(category_fit(CATEGORIES["short"])).viz["plot"].item()
    texts = labels_of(axes)
    assert [t.get_text() for t in texts] == ["a", "b", "c"]
    assert {t.get_rotation() for t in texts} == {0}


def test_shortened_labels_differ_where_the_labels_do():
    assert shortened_labels(["abcdefgh", "xy"], 6) == ["abcde…", "xy"]
    assert shortened_labels(["abcdefgh", "abcdefgi"], 6) == ["ab…fgh", "ab…fgi"]
    assert shortened_labels(["Doctorate", "Other"], 3) == ["Doc", "Oth"]
    for labels in CATEGORIES.values():
        for letters in (24, 16, 12, 10):
            short = shortened_labels(labels, letters)
            assert max(map(len, short)) <= letters
            assert len({*short}) == len(labels)


COUNTS = {
    "poisson": ({}, {"mu_coef": [[0.2, 0.1], [1.9, -0.05]]}),
    "binomial": ({"trials": 12}, {"p_coef": [[-1.0, 0.1], [1.0, 0.05]]}),
}


def count_fit(family):
    options, truth = COUNTS[family]
    spec = bm.mixture_of_experts("y ~ k", experts=2, family=family, **options)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"k": rng.integers(0, 11, 60)})
    truth = {"gate_coef": [[2.0, -0.5], [-2.0, 0.5]], **truth}
    table = bm.simulate(spec, table, truth, random_seed=1)
    return fake_fit(spec, table.assign(y=table["y"].clip(upper=10)), truth, draws=2)


def ticks_within(axis):
    low, high = sorted(axis.get_view_interval())
    return [t for t in axis.get_ticklocs() if low <= t <= high]


@pytest.mark.parametrize("family", COUNTS)
@pytest.mark.parametrize("size", [(7, 4.3), (4, 2)])
def test_axes_of_counts_have_whole_numbers(family, size):
    fit = count_fit(family)
    for plot in (bm.plot_experts, bm.plot_predictive):
        axes = plot(fit, figure_kwargs={"figsize": size}).viz["plot"].item()
        axes.figure.canvas.draw()
        for axis in (axes.xaxis, axes.yaxis):
            ticks = ticks_within(axis)
            assert len(ticks) > 1
            assert all(t == round(t) for t in ticks)
            assert all(
                float(t.get_text().replace("−", "-")) % 1 == 0 for t in axis.get_ticklabels()
            )


def test_axes_of_counts_have_whole_numbers_in_a_tree():
    pc = bm.plot_tree(count_fit("poisson"))
    pc.viz["figure"].item().canvas.draw()
    for node, axes in zip(pc.viz["plot"]["node"].values, pc.viz["plot"].values, strict=True):
        for axis in (axes.xaxis, axes.yaxis) if "expert" in node else (axes.xaxis,):
            assert all(t == round(t) for t in ticks_within(axis))


def test_other_axes_keep_their_ticks():
    spec = bm.mixture_of_experts("y ~ x", experts=2, family="bernoulli")
    truth = {"gate_coef": [[2.0, -1], [-2, 1]], "p_coef": [[0.2, 0.1], [1.9, -0.05]]}
    table = pd.DataFrame({"x": np.random.default_rng(0).uniform(0, 3, 40)})
    fit = fake_fit(spec, bm.simulate(spec, table, truth, random_seed=1), truth, draws=2)
    axes = bm.plot_predictive(fit).viz["plot"].item()
    axes.figure.canvas.draw()
    # The mean of a Bernoulli response is a probability.
    assert any(0 < t < 1 for t in ticks_within(axes.yaxis))
    assert any(t % 1 for t in ticks_within(axes.xaxis))

"""Marks of rows whose response is only known in part, in the plots that show the data."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.plots.data_points import MARKS, marks_of_rows


@pytest.fixture(scope="module")
def fit():
    """Thirty rows: ten observed, ten at most 1, five at least 2, five between 1 and 3."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = 1 + x + 0.3 * rng.normal(size=30)
    table = pd.DataFrame({"x": x, "low": y, "high": y})
    table.loc[10:19, ["low", "high"]] = [-np.inf, 1.0]
    table.loc[20:24, ["low", "high"]] = [2.0, np.inf]
    table.loc[25:, ["low", "high"]] = [1.0, 3.0]
    spec = bm.mixture_of_experts("censored(lower=low, upper=high) ~ x", experts=1)
    return bm.fit(spec, table, method="em", random_seed=0)


def test_each_row_has_the_mark_of_what_is_known(fit):
    np.testing.assert_array_equal(marks_of_rows(fit), [0] * 10 + [2] * 10 + [1] * 5 + [3] * 5)


@pytest.mark.parametrize("plot", [bm.plot_experts, bm.plot_predictive])
def test_marks_are_drawn_at_their_limits_and_in_the_legend(fit, plot):
    viz = plot(fit).viz
    marks, heights = marks_of_rows(fit), fit.design.plain_response
    for position, mark in enumerate(MARKS):
        drawn = viz[mark.part]["value"].item().get_offsets()
        own = marks == position
        expected = np.column_stack([fit.design.columns["x"][own], heights[own]])
        np.testing.assert_allclose(drawn, expected)
    np.testing.assert_array_equal(heights[10:], [1.0] * 10 + [2.0] * 10)
    texts = [t.get_text() for t in viz["legend"]["expert"].item().get_texts()]
    assert texts[-4:] == ["data", *(mark.text for mark in MARKS[1:])]


def test_a_plot_without_censored_rows_has_one_mark():
    x = np.arange(20.0)
    spec = bm.mixture_of_experts("y ~ x", experts=1)
    fit = bm.fit(spec, {"x": x, "y": np.sin(x)}, method="em", random_seed=0)
    drawn = bm.plot_experts(fit).viz
    assert not {mark.part for mark in MARKS[1:]} & {*drawn.children}
    texts = [t.get_text() for t in drawn["legend"]["expert"].item().get_texts()]
    assert texts == ["expert 0", "data"]


def test_marks_are_in_the_experts_panels_of_a_tree(fit):
    spec = bm.hierarchical_mixture("censored(lower=low, upper=high) ~ x", "~ 1", branching=(2,))
    viz = bm.plot_tree(bm.fit(spec, fit.design.columns, method="em", random_seed=0)).viz
    for mark, count in zip(MARKS, (10, 5, 10, 5), strict=True):
        panels = viz[mark.part]["value"]
        assert [len(panels.sel(expert=k).item().get_offsets()) for k in (0, 1)] == [count] * 2

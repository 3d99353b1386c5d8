"""The plot of a tree of splits: probabilities of branches, shares of rows, experts' locations.

It is a matplotlib figure with panels in rows by depth, returned as an arviz-plots
``PlotCollection`` as other plots are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.reference_grid import Grid, choose_feature, columns_of
from bayes_moe.plots.canvas import PLOT_ARGUMENTS, Look, check_visuals
from bayes_moe.plots.legends import band_entries
from bayes_moe.plots.reference import (
    at_observed,
    band_probabilities,
    expert_stems,
    fixed_columns,
    panel_grid,
    shown_rows,
    thinned,
)
from bayes_moe.plots.tree_canvas import (
    INKS,
    SMALL,
    TreeFigure,
    TreePanelsSpec,
    as_collection,
    open_figure,
)
from bayes_moe.plots.tree_content import class_entries, expert_figures
from bayes_moe.plots.tree_layout import LINE
from bayes_moe.plots.tree_outline import Direction, OutlineNode, directions, outline
from bayes_moe.plots.tree_panels import FAINT, draw_edges, draw_experts, draw_split
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    from arviz_plots import PlotCollection

MAX_DRAWS = 50
"""Number of draws for the choice of the experts' column."""

PARTS = (
    "branch_line",
    "branch_band",
    "pe_line",
    "ci_band",
    "observed_scatter",
    "edge",
    "share",
    "title",
    "xlabel",
    "ylabel",
    "legend",
)


def plot_tree(
    fit: Fit,
    feature: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    ci_prob: float | Sequence[float] | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot the tree of a gate: its splits, how many rows pass each branch, and its experts.

    A split's panel shows the probability of each of its branches against a feature, a leaf's panel
    the expert's location over the data, or its probabilities of classes over the rows of each class
    in a strip. Lines are posterior means, bands equal-tailed credible intervals over draws. A
    dotted line marks where two branches are equally likely. A ribbon is as thick as the share of
    the rows' responsibility that passes the branch; branches to experts have the colours of
    :func:`plot_experts`, others are grey, as their lines are.

    Experts' panels have the rows of the data whose categories are those that the experts' columns
    are fixed at. A row has the expert's colour in that expert's panel, mixed with grey the more the
    smaller the expert's responsibility for it. Outside the central 98 % of an expert's
    responsibility (of a categorical feature, where less than 1 % of it is), its line is thin and
    dotted and has no band.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits: a tree, sticks, or one softmax, which is one split.
    feature : str, optional
        A column, for all panels. By default each split has the column with the largest
        standardised slope (see :func:`tree_text`), and experts the column with the largest effect
        on their locations.
    at : mapping of str to value, optional
        Values to fix other columns at, in their own units. By default numeric columns are fixed
        at their median and others at their most frequent category. They are written below the
        legend.
    ci_prob : float or sequence of float, optional
        Probability inside the band, or one a band; by default ArviZ's
        ``rcParams["stats.ci_prob"]``.
    backend : {"matplotlib"}, optional
        By default ArviZ's ``rcParams["plot.backend"]``; other backends cannot draw ribbons.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``branch_line``, ``branch_band``, ``pe_line``, ``ci_band``
        and ``observed_scatter`` (arviz-plots' words: ``color``, ``alpha``, ``width``, ...),
        ``edge``, ``share``, ``title``, ``xlabel``, ``ylabel`` and ``legend`` (matplotlib's);
        False leaves a part out.
    **pc_kwargs
        ``figure_kwargs``, for example ``{"figsize": (9, 6)}``, and ``color``, the experts' colours.

    Returns
    -------
    PlotCollection
        Its panels are in ``.viz["plot"]`` by node, its parts by branch or by expert.

    Raises
    ------
    SpecError
        If the gate has no splits, and for other backends.
    DataError
        For columns that the model does not use, and categories that were not observed.

    Examples
    --------
    >>> pc = bm.plot_tree(fit, ci_prob=0.9)  # doctest: +SKIP
    >>> pc.savefig("tree.png")  # doctest: +SKIP
    """
    check_visuals(visuals, PARTS)
    for name in pc_kwargs:
        if name not in ("figure_kwargs", "color"):
            valid = ("figure_kwargs", "color", *PLOT_ARGUMENTS)
            raise SpecError(unknown("argument of plot_tree", name, valid))
    _check_backend(backend)
    fit.one_response("bm.plot_tree")
    root = outline(fit)
    probabilities = band_probabilities(ci_prob)
    spec = _panels_spec(fit, root, feature, at or {}, probabilities)
    tree = open_figure(fit, root, visuals or {}, probabilities, spec, pc_kwargs)
    for node in root.nodes():
        if node.split is not None:
            draw_split(tree, node)
            draw_edges(tree, node)
    draw_experts(tree)
    _draw_legend(tree)
    return as_collection(tree)


def _check_backend(backend: str | None) -> None:
    """Raise :class:`SpecError` for other backends than matplotlib."""
    from arviz_base import rcParams

    name = backend or str(rcParams["plot.backend"])
    if name != "matplotlib":
        raise SpecError(
            f"`plot_tree` draws with matplotlib only; the backend is {name!r}. Give "
            "backend='matplotlib', or read the tree with bm.tree_text(fit)."
        )


def _panels_spec(
    fit: Fit,
    root: OutlineNode,
    feature: str | None,
    at: Mapping[str, Any],
    probabilities: Sequence[float],
) -> TreePanelsSpec:
    """Return the column of every panel, and the values of the fixed ones."""
    stems = expert_stems(fit)
    if feature is not None:
        feature = choose_feature(fit.design, feature, stems, fit.spec.structure.row_count_formulas)
    experts = panel_grid(fit, feature or _expert_feature(fit, stems, at), at)
    by_label, fixed = directions(fit, root, feature, at)
    splits = {label: along or Direction(experts) for label, along in by_label.items()}
    fixed = fixed_columns(fit, experts, stems) | fixed
    return TreePanelsSpec(splits, experts, fixed, _legend_entries(fit, experts, probabilities))


def _expert_feature(fit: Fit, stems: Sequence[str], at: Mapping[str, Any]) -> str:
    """Return the experts' column; of several the one with the largest effect on locations."""
    columns = columns_of(fit.design, stems)
    # Experts without columns are plotted against a column of the gate.
    if len(columns) < 2:
        known = fit.spec.structure.row_count_formulas
        return choose_feature(fit.design, columns[0] if columns else None, stems, known)
    subset = thinned(fit, MAX_DRAWS)

    def effect(column: str) -> float:
        """Variance over the fitted rows, summed over the experts."""
        grid = panel_grid(fit, column, at)
        figures = expert_figures(subset, grid)
        return float(sum(np.var(curve) for curve in at_observed(fit, grid, figures)))

    counts = columns_of(fit.design, fit.spec.structure.row_count_formulas)
    return max([c for c in columns if c not in counts] or columns, key=effect)


def _legend_entries(fit: Fit, grid: Grid, probabilities: Sequence[float]) -> dict[str, Look]:
    """Return keyword arguments of the legend's lines by label."""
    ink = INKS[0]
    entries = class_entries(fit)
    if not grid.levels:
        outside = {"color": ink, "linewidth": 1.0, "linestyle": ":"}
        entries["outside the expert's data"] = outside
    others = shown_rows(fit, grid, expert_stems(fit)).label("data of other experts")
    others = others.replace("\n", " ")
    entries[others] = {"color": FAINT, "marker": "o", "markersize": 4, "linestyle": "none"}
    if not fit.is_point:
        for label, look in band_entries(probabilities, grid, ink).items():
            entries[label] = look if grid.levels else _thick_line(look)
    return entries


def _thick_line(look: Look) -> Look:
    """Return matplotlib's arguments of a legend's line that stands for a band."""
    line = {"color": look["color"], "linewidth": look["width"], "alpha": look["alpha"]}
    return line | {"solid_capstyle": "butt"}


def _draw_legend(tree: TreeFigure) -> None:
    """Draw a legend below the tree, and the values of the fixed columns."""
    from matplotlib.lines import Line2D

    layout, entries = tree.layout, tree.spec.legend
    high, lines = layout.size[1], len(layout.foot.splitlines())
    # Artists of the panels would give one entry per panel.
    handles = [Line2D([], [], **look) for look in entries.values()]
    look: Look = {"loc": "lower center", "bbox_to_anchor": (0.5, LINE * lines / high)}
    look |= {"ncols": layout.legend_columns, "fontsize": SMALL, "frameon": False}
    look |= {"borderaxespad": 0.2, "labelspacing": 0.3}
    labels = [tree.canvas.text(label) for label in layout.legend]
    tree.draw("legend", "legend", tree.figure.legend, handles, labels, **look)
    if lines and tree.canvas.wanted("legend", {}) is not None:
        text = tree.canvas.text(layout.foot)
        tree.figure.text(0.5, 0.06 / high, text, ha="center", va="bottom", fontsize=SMALL)

"""Panels of a tree figure: probabilities of splits, locations of experts, ribbons between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.group_terms import AVERAGE
from bayes_moe.data.reference_grid import Grid
from bayes_moe.plots.canvas import (
    BAND_ALPHA,
    BAR_WIDTHS,
    dodge,
    jitter,
)
from bayes_moe.plots.data_points import MARKS
from bayes_moe.plots.reference import (
    expert_stems,
    few_draws,
    mean_responsibilities,
    over_draws,
    shown_rows,
)
from bayes_moe.plots.ticks import fit_short_categories, whole_locator
from bayes_moe.plots.tree_canvas import SMALL, TICKS, Panel, TreeFigure, shortened
from bayes_moe.plots.tree_content import Content, Line, expert_content
from bayes_moe.plots.tree_layout import ABOVE, BELOW, BETWEEN, HEIGHT
from bayes_moe.plots.tree_outline import OutlineNode
from bayes_moe.prediction.branch_probabilities import node_probabilities

if TYPE_CHECKING:
    import xarray as xr

SPLIT_PARTS = ("branch_line", "branch_band")
EXPERT_PARTS = ("pe_line", "ci_band")
RIBBON = 18.0  # width in points of a ribbon with all rows
ASIDE = 0.14  # of the distance between two categories
TAIL, MIN_TOTAL = 0.01, 1.0
FAINT = "#d0d0d0"


def draw_split(tree: TreeFigure, node: OutlineNode) -> None:
    """Draw the probabilities of a split's branches against a feature."""
    direction = tree.spec.splits[node.label]
    grid, labels = direction.grid, [child.branch for child in node.children]
    panel = Panel(tree, node, grid)
    few = few_draws(tree.fit, len(grid.rows))
    draws = node_probabilities(few, grid.rows, draws=True, unseen=AVERAGE)
    mean, band = over_draws(draws.sel({names.GATE_BRANCH: labels}), tree.probabilities)
    for c, label in enumerate(labels):
        x = grid.x + dodge(len(labels))[c] if grid.levels else grid.x
        branch = {names.GATE_BRANCH: label}
        lines = mean.sel(branch), band.sel(branch)
        _draw_curve(panel, x, *lines, label, SPLIT_PARTS, tree.colour(node, c))
    if direction.middle is not None:
        panel.axes.axvline(direction.middle, color="black", linewidth=0.7, linestyle=":", zorder=0)
    panel.axes.set_ylim(-0.04, 1.04)
    panel.axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    _label_feature(panel)
    _draw_title(panel, _branch_colour(tree, node))
    _label_response(panel, "probability", node.depth == 0)


def draw_edges(tree: TreeFigure, node: OutlineNode) -> None:
    """Draw the ribbons from a split's panel to those below, with their shares of the rows."""
    above = tree.layout.boxes[node.label]
    for c, child in enumerate(node.children):
        below = tree.layout.boxes[child.label]
        start = above.left + above.width * (0.2 + 0.6 * c / (len(node.children) - 1))
        ends = (start, above.bottom - BELOW), (below.centre, below.bottom + HEIGHT + ABOVE - 0.06)
        look = {"edgecolor": tree.colour(node, c), "facecolor": "none", "alpha": 0.55}
        # Negative order: ribbons are below the panels' axes.
        look |= {"linewidth": max(RIBBON * child.share, 0.8), "capstyle": "butt", "zorder": -2}
        tree.draw("edge", child.branch, _draw_ribbon, tree, *ends, **look)
        text = f"{100 * child.share:.0f} %"
        middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        tree.draw("share", child.branch, _write, tree, middle, text, fontsize=SMALL)


def _draw_ribbon(
    tree: TreeFigure, start: Sequence[float], end: Sequence[float], **look: Any
) -> Any:
    """Draw a curve between two points in inches that is vertical at both, and return it."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    height = (start[1] + end[1]) / 2
    points = np.array([start, (start[0], height), (end[0], height), end]) / tree.layout.size
    curve = Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])
    patch = PathPatch(curve, transform=tree.figure.transFigure, **look)
    return tree.figure.add_artist(patch)


def _write(tree: TreeFigure, where: Sequence[float], text: str, **look: Any) -> Any:
    """Write on a white background, centred at a point in inches, and return the text."""
    x, y = np.array(where) / tree.layout.size
    background = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2}
    settings = {"ha": "center", "va": "center", "bbox": background} | look
    return tree.figure.text(x, y, tree.canvas.text(text), **settings)


def draw_experts(tree: TreeFigure) -> None:
    """Draw every expert's location, or its probabilities of classes, over the data."""
    fit, grid = tree.fit, tree.spec.experts
    rows = shown_rows(fit, grid, expert_stems(fit)).rows
    content, table = (
        expert_content(fit, grid, rows, tree.probabilities),
        fit.design.columns.iloc[rows],
    )
    share = np.empty((0, fit.spec.n_experts))
    if len(rows):
        share = mean_responsibilities(fit, table)  # (obs, expert)
    positions = grid.positions(table)
    first = content.mean.isel({names.CLASS: 0}, missing_dims="ignore")
    used = first.copy(data=np.stack([_used(grid, positions, r) for r in share.T], axis=-1))
    x = positions + jitter(len(positions)) - ASIDE if grid.levels else positions
    limits = content.limits_of(used)
    for node in tree.root.nodes():
        if node.expert is None:
            continue
        panel, label = Panel(tree, node, grid), fit.spec.expert_labels[node.expert]
        colour = tree.canvas.colours[label]
        _draw_rows(panel, x, content, share[:, node.expert], label)
        expert = {names.EXPERT: label}
        for line in content.lines:
            values = content.mean.sel(expert | line.which), content.band.sel(expert | line.which)
            _draw_expert(panel, line, *values, used.sel(expert), label)
        panel.axes.set_ylim(*limits)
        if content.limits is not None:
            panel.axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        elif fit.spec.structure.discrete and limits[1] - limits[0] >= 2:
            whole_locator(panel.axes, "y", TICKS)
        _label_feature(panel)
        _draw_title(panel, colour)
        _label_response(panel, content.label, not _has_left_neighbour(panel))


def _used(grid: Grid, x: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Whether an expert has rows at each point of a grid, from its responsibilities (obs,)."""
    total = share.sum()
    # Quantiles of less than one row are not informative.
    if total < MIN_TOTAL:
        return np.zeros(len(grid.x), dtype=bool)
    if grid.levels:
        by_level = np.bincount(x.astype(int), share, len(grid.levels)) / total
        return np.asarray(by_level[grid.x.astype(int)] >= TAIL)
    order = np.argsort(x)
    cumulative = np.cumsum(share[order]) / total
    low, high = x[order][np.searchsorted(cumulative, [TAIL, 1 - TAIL])]
    return (grid.x >= low) & (grid.x <= high)


def _draw_rows(
    panel: Panel, x: np.ndarray, content: Content, share: np.ndarray, label: Any
) -> None:
    """Draw rows of the data, those of the expert on top and in its colour, or their class's."""
    from arviz_plots.backend import matplotlib as backend
    from matplotlib.colors import to_rgb

    # Points that are drawn later cover earlier ones.
    order = np.argsort(share, kind="stable")
    colours = content.colours or [panel.tree.canvas.colours[label]] * len(x)
    pale, full = np.array(to_rgb(FAINT)), np.array([to_rgb(c) for c in colours]).reshape(-1, 3)
    mixed = pale + share[order, None] * (full[order] - pale)
    crowd = min(1.0, (100 / max(1, len(x))) ** 0.5)
    look = {"edgecolor": "none", "size": 3 + 9 * crowd, "alpha": 0.85, "zorder": 1}
    for position, mark in enumerate(MARKS):
        some = content.marks[order] == position
        if some.any() or not position:
            own = look | mark.look("matplotlib") | {"facecolor": mixed[some]}
            key = (label, mark.ending) if mark.ending else label
            place = x[order[some]], content.heights[order[some]], panel.axes
            panel.tree.draw("observed_scatter", key, backend.scatter, *place, **own)


def _draw_expert(
    panel: Panel,
    line: Line,
    mean: xr.DataArray,
    band: xr.DataArray,
    used: xr.DataArray,
    label: Any,
) -> None:
    """Draw an expert's line: in use thick with a band, elsewhere thin and dotted."""
    from arviz_plots.backend import matplotlib as backend

    grid = panel.grid
    colour = line.colour or panel.tree.canvas.colours[label]
    x = grid.x + 2 * ASIDE + line.shift / 2 if grid.levels else grid.x
    key = (label, line.ending) if line.ending else label
    _draw_curve(panel, x, mean.where(used), band.where(used), key, EXPERT_PARTS, colour)
    if not grid.levels:
        unused = mean.where(~used).values
        look = {"color": colour, "width": 1.0, "linestyle": ":", "zorder": 2}
        key = (label, "_".join(part for part in (line.ending, "unused") if part))
        panel.tree.draw("pe_line", key, backend.line, x, unused, panel.axes, **look)


def _draw_curve(
    panel: Panel,
    x: np.ndarray,
    mean: xr.DataArray,
    band: xr.DataArray,
    key: Any,
    parts: tuple[str, str],
    colour: str,
) -> None:
    """Draw a mean (point,) and nested intervals (prob, point, ci_bound); bars at categories."""
    from arviz_plots.backend import matplotlib as backend

    tree, axes, (line, area) = panel.tree, panel.axes, parts
    for j, interval in enumerate([] if tree.fit.is_point else band):
        ends = [interval.sel({names.CI_BOUND: bound}).values for bound in names.CI_BOUNDS]
        look: dict[str, Any] = {"color": colour, "zorder": 2}
        if panel.grid.levels:
            look |= {"width": BAR_WIDTHS[j > 0]}
            tree.draw(area, _nth(key, j), backend.ciliney, x, *ends, axes, **look)
        else:
            look |= {"alpha": BAND_ALPHA}
            tree.draw(area, _nth(key, j), backend.fill_between_y, x, *ends, axes, **look)
    if panel.grid.levels:
        dot = {"facecolor": colour, "edgecolor": "black", "size": 26, "zorder": 3}
        tree.draw(line, key, backend.scatter, x, mean.values, axes, **dot)
    else:
        stroke = {"color": colour, "width": 1.8, "zorder": 3}
        tree.draw(line, key, backend.line, x, mean.values, axes, **stroke)


def _nth(key: Any, j: int) -> tuple[Any, Any]:
    """Return the key of the interval number ``j`` of a line."""
    if not isinstance(key, tuple):
        return key, j
    return key[0], f"{key[1]}_{j}" if j else key[1]


def _label_feature(panel: Panel) -> None:
    """Write the feature below a panel, and its categories."""
    tree, axes, grid = panel.tree, panel.axes, panel.grid
    text = tree.canvas.text(panel.short(grid.feature))
    tree.draw("xlabel", panel.node.label, axes.set_xlabel, text, fontsize=SMALL, labelpad=1)
    if grid.levels:
        axes.set_xlim(-0.5, len(grid.levels) - 0.5)
        fit_short_categories(axes, [str(level) for level in grid.levels], tree.canvas)
    else:
        axes.set_xlim(grid.x[0], grid.x[-1])
        if grid.whole and grid.x[-1] - grid.x[0] >= 2:
            whole_locator(axes, "x", TICKS)


def _draw_title(panel: Panel, colour: str) -> None:
    node = panel.node
    name = node.branch if node.split is not None and node.branch else node.label
    look = {"fontsize": SMALL, "color": colour, "pad": 3, "fontweight": "bold"}
    text = panel.tree.canvas.text(panel.short(name))
    panel.tree.draw("title", node.label, panel.axes.set_title, text, **look)


def _branch_colour(tree: TreeFigure, node: OutlineNode) -> str:
    """Return the colour of the branch to a split; the root's is black."""
    for parent in tree.root.nodes():
        if node in parent.children:
            return tree.colour(parent, parent.children.index(node))
    return "black"


def _label_response(panel: Panel, text: str, named: bool) -> None:
    """Label the vertical axis if ``named``; otherwise omit its numbers in an expert's panel."""
    tree, node = panel.tree, panel.node
    if named:
        text = tree.canvas.text(shortened(text, HEIGHT + ABOVE))
        tree.draw("ylabel", node.label, panel.axes.set_ylabel, text, fontsize=SMALL, labelpad=4)
    elif node.split is None:
        panel.axes.tick_params(labelleft=False)


def _has_left_neighbour(panel: Panel) -> bool:
    """Whether another expert's panel is directly to the left."""
    box = panel.box
    for node in panel.tree.root.nodes():
        other = panel.tree.layout.boxes[node.label]
        adjacent = 0 < box.left - other.left < 1.5 * (box.width + BETWEEN)
        if node.expert is not None and other.bottom == box.bottom and adjacent:
            return True
    return False

"""Panels, ribbons and labels of a tree figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.reference_grid import Grid, plain_name
from bayes_moe.plots.canvas import (
    BAND_ALPHA,
    BAR_WIDTHS,
    BOUND,
    MOST_LETTERS,
    Canvas,
    Look,
    dodge,
    jitter,
)
from bayes_moe.plots.curves import (
    MOST_VALUES,
    over_draws,
    shown_rows,
    span,
)
from bayes_moe.plots.tree_layout import ABOVE, BELOW, BETWEEN, HEIGHT, LETTER, Layout
from bayes_moe.plots.tree_outline import Direction, OutlineNode
from bayes_moe.prediction.branch_probabilities import BRANCH, node_probabilities
from bayes_moe.prediction.predict import predict, responsibilities, thinned
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr


SPLIT_PARTS = ("branch_line", "branch_band")


EXPERT_PARTS = ("pe_line", "ci_band")


RIBBON = 18.0  # points, of all rows


SMALL, TINY = 9.0, 7.5  # points


ASIDE = 0.14  # of the distance between two categories


TAIL, LEAST_ROWS = 0.01, 1.0


INKS = ("#404040", "#8f8f8f", "#686868", "#b8b8b8")


FAINT = "#d0d0d0"


@dataclass(frozen=True, eq=False)
class TreePanelsSpec:
    """What the panels show: how each split goes, by label, and rows along the experts' column.

    ``held`` is what other columns are held at, ``legend`` the looks of lines by label.
    """

    splits: Mapping[str, Direction]
    experts: Grid
    held: Mapping[str, Any]
    legend: Mapping[str, Look]


@dataclass(frozen=True, eq=False)
class TreeFigure:
    """What is being drawn: the fit, its tree, the canvas, and the parts made so far."""

    fit: Fit
    root: OutlineNode
    canvas: Canvas
    layout: Layout
    figure: Any
    panels: Mapping[str, Any]
    probabilities: Sequence[float]
    course: TreePanelsSpec
    made: dict[str, dict[Any, Any]]

    def draw(self, part: str, key: Any, draw: Callable[..., Any], *args: Any, **look: Any) -> None:
        """Draw a part unless the user leaves it out, and keep what was made."""
        wanted = self.canvas.wanted(part, look)
        if wanted is not None:
            self.made.setdefault(part, {})[key] = draw(*args, **wanted)

    def colour(self, split: OutlineNode, branch: int) -> str:
        """An expert's own colour; of branches to further splits shades of grey."""
        child = split.children[branch]
        if child.expert is not None:
            return list(self.canvas.colours.values())[child.expert]
        greys = [c for c, other in enumerate(split.children) if other.expert is None]
        return INKS[greys.index(branch) % len(INKS)]


def draw_split(drawing: TreeFigure, node: OutlineNode) -> None:
    """Draw the probabilities of a split's branches against a feature."""
    axes, fit = drawing.panels[node.label], drawing.fit
    found = drawing.course.splits[node.label]
    grid, labels = found.grid, [child.branch for child in node.children]
    draws = node_probabilities(_few(fit, len(grid.rows)), grid.rows, draws=True)
    mean, band = over_draws(draws.sel({BRANCH: labels}), drawing.probabilities)
    for c, label in enumerate(labels):
        look = {"color": drawing.colour(node, c)}
        own, x = {BRANCH: label}, grid.x
        if grid.levels:
            x = x + dodge(len(labels))[c]
        lines = mean.sel(own), band.sel(own)
        _draw_curve(drawing, axes, x, bool(grid.levels), *lines, label, SPLIT_PARTS, look)
    if found.middle is not None:
        axes.axvline(found.middle, color="black", linewidth=0.7, linestyle=":", zorder=0)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    _label_feature(drawing, axes, node, grid)
    _title(drawing, axes, node, _title_colour(drawing, node))
    _label_response(drawing, axes, node, "probability", node.depth == 0)


def draw_edges(drawing: TreeFigure, node: OutlineNode) -> None:
    """Draw the ribbons from a split's panel to those below, and write their shares."""
    above = drawing.layout.places[node.label]
    for c, child in enumerate(node.children):
        below = drawing.layout.places[child.label]
        start = above.left + above.width * (0.2 + 0.6 * c / (len(node.children) - 1))
        ends = (start, above.bottom - BELOW), (below.middle, below.bottom + HEIGHT + ABOVE - 0.06)
        look = {"edgecolor": drawing.colour(node, c), "facecolor": "none", "alpha": 0.55}
        look |= {"linewidth": max(RIBBON * child.share, 0.8), "capstyle": "butt", "zorder": -2}
        drawing.draw("edge", child.branch, _ribbon, drawing, *ends, **look)
        text = f"{100 * child.share:.0f} %"
        middle = [(a + b) / 2 for a, b in zip(*ends, strict=True)]
        drawing.draw("share", child.branch, _write, drawing, middle, text, fontsize=SMALL)


def _ribbon(drawing: TreeFigure, start: Sequence[float], end: Sequence[float], **look: Any) -> Any:
    """Draw a curve between two points in inches that starts and ends upright."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    bend = (start[1] + end[1]) / 2
    points = np.array([start, (start[0], bend), (end[0], bend), end]) / drawing.layout.size
    curve = Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])
    patch = PathPatch(curve, transform=drawing.figure.transFigure, **look)
    return drawing.figure.add_artist(patch)


def _write(drawing: TreeFigure, where: Sequence[float], text: str, **look: Any) -> Any:
    """Write on a white ground, centred at a point in inches."""
    x, y = np.array(where) / drawing.layout.size
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2}
    placed = {"ha": "center", "va": "center", "bbox": ground} | look
    return drawing.figure.text(x, y, drawing.canvas.text(text), **placed)


def draw_leaves(drawing: TreeFigure) -> None:
    """Draw every expert's location over the data."""
    fit, grid = drawing.fit, drawing.course.experts
    seen = predict(_few(fit, len(grid.rows)), grid.rows)
    mean, band = over_draws(seen.expert_locations(draws=True), drawing.probabilities)
    rows = shown_rows(fit)
    table, y = fit.design.columns.iloc[rows], fit.design.response[rows]
    share = responsibilities(_few(fit, len(rows)), table).mean((names.CHAIN, names.DRAW)).values
    places = grid.positions(table)
    used = mean.copy(data=np.stack([_reach(grid, places, r) for r in share.T], axis=-1))
    x = places + jitter(len(places)) - ASIDE if grid.levels else places
    limits = span(y, mean.where(used))
    for node in drawing.root.walk():
        if node.expert is None:
            continue
        axes, label = drawing.panels[node.label], fit.spec.expert_labels[node.expert]
        colour = drawing.canvas.colours[label]
        _draw_rows(drawing, axes, label, x, y, share[:, node.expert], colour)
        own = {names.EXPERT: label}
        parts = mean.sel(own), band.sel(own), used.sel(own)
        _draw_expert(drawing, axes, grid, *parts, label, colour)
        axes.set_ylim(*limits)
        _label_feature(drawing, axes, node, grid)
        _title(drawing, axes, node, colour)
        response = plain_name(fit.spec.response)
        _label_response(drawing, axes, node, response, not _has_left(drawing, node))


def _reach(grid: Grid, x: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Where on a grid (point,) an expert has its rows, from responsibilities (obs,)."""
    total = share.sum()
    if total < LEAST_ROWS:
        return np.zeros(len(grid.x), dtype=bool)
    if grid.levels:
        own = np.bincount(x.astype(int), share, len(grid.levels)) / total
        return own[grid.x.astype(int)] >= TAIL
    order = np.argsort(x)
    reached = np.cumsum(share[order]) / total
    low, high = x[order][np.searchsorted(reached, [TAIL, 1 - TAIL])]
    return (grid.x >= low) & (grid.x <= high)


def _draw_rows(
    drawing: TreeFigure,
    axes: Any,
    label: Any,
    x: np.ndarray,
    y: np.ndarray,
    share: np.ndarray,
    colour: str,
) -> None:
    """Draw rows of the data, those of the expert on top and in its colour."""
    from arviz_plots.backend import matplotlib as backend
    from matplotlib.colors import to_rgb

    order = np.argsort(share, kind="stable")
    pale, full = np.array(to_rgb(FAINT)), np.array(to_rgb(colour))
    mixed = pale + share[order, None] * (full - pale)
    crowd = min(1.0, (100 / len(x)) ** 0.5)
    look = {"facecolor": mixed, "edgecolor": "none", "size": 3 + 9 * crowd, "alpha": 0.85}
    drawing.draw(
        "observed_scatter", label, backend.scatter, x[order], y[order], axes, zorder=1, **look
    )


def _draw_expert(
    drawing: TreeFigure,
    axes: Any,
    grid: Grid,
    mean: xr.DataArray,
    band: xr.DataArray,
    used: xr.DataArray,
    label: Any,
    colour: str,
) -> None:
    """Draw an expert's line: in use thick with a band, elsewhere thin and dotted."""
    from arviz_plots.backend import matplotlib as backend

    x = grid.x + 2 * ASIDE if grid.levels else grid.x
    look = {"color": colour}
    lines = mean.where(used), band.where(used)
    _draw_curve(drawing, axes, x, bool(grid.levels), *lines, label, EXPERT_PARTS, look)
    if not grid.levels:
        rest = mean.where(~used).values
        thin = {"color": colour, "width": 1.0, "linestyle": ":", "zorder": 2}
        drawing.draw("pe_line", (label, "unused"), backend.line, x, rest, axes, **thin)


def _draw_curve(
    drawing: TreeFigure,
    axes: Any,
    x: np.ndarray,
    categories: bool,
    mean: xr.DataArray,
    band: xr.DataArray,
    key: Any,
    parts: tuple[str, str],
    look: Look,
) -> None:
    """Draw a mean (point,) and nested intervals (prob, point, ci_bound): points at categories."""
    from arviz_plots.backend import matplotlib as backend

    line, area = parts
    bounds = [[b.sel({BOUND: side}).values for side in ("lower", "upper")] for b in band]
    for j, (low, high) in enumerate([] if drawing.fit.is_point else bounds):
        if categories:
            bar = look | {"width": BAR_WIDTHS[j > 0], "zorder": 2}
            drawing.draw(area, (key, j), backend.ciliney, x, low, high, axes, **bar)
        else:
            shade = look | {"alpha": BAND_ALPHA, "zorder": 2}
            drawing.draw(area, (key, j), backend.fill_between_y, x, low, high, axes, **shade)
    if categories:
        dot = {"facecolor": look["color"], "edgecolor": "black", "size": 26, "zorder": 3}
        drawing.draw(line, key, backend.scatter, x, mean.values, axes, **dot)
    else:
        drawing.draw(line, key, backend.line, x, mean.values, axes, width=1.8, zorder=3, **look)


def _label_feature(drawing: TreeFigure, axes: Any, node: OutlineNode, grid: Grid) -> None:
    """Name the feature below a panel, and its categories."""
    text = drawing.canvas.text(_short(drawing, node, grid.feature))
    look = {"fontsize": SMALL, "labelpad": 1}
    drawing.draw("xlabel", node.label, axes.set_xlabel, text, **look)
    if grid.levels:
        labels = [drawing.canvas.text(str(level)) for level in grid.levels]
        short = MOST_LETTERS / 3
        if sum(len(label) + 2 for label in labels) > short:
            keep = max(1, int(short / len(labels)) - 2)
            labels = [label if len(label) <= keep else f"{label[:keep]}…" for label in labels]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    else:
        axes.set_xlim(grid.x[0], grid.x[-1])


def _title(drawing: TreeFigure, axes: Any, node: OutlineNode, colour: str) -> None:
    name = node.branch if node.split is not None and node.branch else node.label
    look = {"fontsize": SMALL, "color": colour, "pad": 3, "fontweight": "bold"}
    text = drawing.canvas.text(_short(drawing, node, name))
    drawing.draw("title", node.label, axes.set_title, text, **look)


def _title_colour(drawing: TreeFigure, node: OutlineNode) -> str:
    """Colour of the branch that leads to a split; the root's is black."""
    for other in drawing.root.walk():
        if node in other.children:
            return drawing.colour(other, other.children.index(node))
    return "black"


def _short(drawing: TreeFigure, node: OutlineNode, text: str) -> str:
    """Return a text, cut so that it does not reach the next panel."""
    return _cut(text, drawing.layout.places[node.label].width + BETWEEN)


def _cut(text: str, inches: float) -> str:
    most = int(inches / LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _label_response(
    drawing: TreeFigure, axes: Any, node: OutlineNode, text: str, named: bool
) -> None:
    """Name the vertical axis where nothing stands to the left, and leave out its numbers else."""
    if named:
        look = {"fontsize": SMALL, "labelpad": 4}
        text = drawing.canvas.text(_cut(text, HEIGHT + ABOVE))
        drawing.draw("ylabel", node.label, axes.set_ylabel, text, **look)
    elif node.split is None:
        axes.tick_params(labelleft=False)


def _has_left(drawing: TreeFigure, node: OutlineNode) -> bool:
    """Whether another leaf's panel stands directly to the left of one's."""
    own = drawing.layout.places[node.label]
    for other in drawing.root.walk():
        place = drawing.layout.places[other.label]
        near = 0 < own.left - place.left < 1.5 * (own.width + BETWEEN)
        if other.expert is not None and place.bottom == own.bottom and near:
            return True
    return False


def _few(fit: Fit, n_rows: int) -> Fit:
    return thinned(fit, MOST_VALUES / (n_rows * fit.spec.n_experts))

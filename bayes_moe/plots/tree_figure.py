"""The picture of a tree of splits: what each split decides, how many rows pass, what leaves say.

Panels stand in rows by depth and are joined by ribbons. It is laid out in inches on one matplotlib
figure, and handed out as an arviz-plots ``PlotCollection`` like the other pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.reference_grid import Grid, choose_feature, columns_of, plain_name, state, walk
from bayes_moe.plots.canvas import (
    BAND_ALPHA,
    BAR_WIDTHS,
    BOUND,
    MOST_LETTERS,
    VALUE,
    Canvas,
    Look,
    band_entries,
    check_visuals,
    dodge,
    jitter,
)
from bayes_moe.plots.curves import (
    MOST_VALUES,
    band_probabilities,
    counted,
    over_draws,
    shown_rows,
    span,
)
from bayes_moe.plots.tree_layout import ABOVE, BELOW, BETWEEN, HEIGHT, LETTER, LINE, Layout, lay_out
from bayes_moe.plots.tree_outline import Direction, Node, direction, outline, stems_of
from bayes_moe.prediction.branch_probabilities import BRANCH, node_probabilities
from bayes_moe.prediction.predictive import predict, responsibilities, thinned
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

NODE = "node"
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
SPLIT_PARTS = ("branch_line", "branch_band")
EXPERT_PARTS = ("pe_line", "ci_band")

RIBBON = 18.0  # points, of all rows
SMALL, TINY = 9.0, 7.5  # points
ASIDE = 0.14  # of the distance between two categories
TAIL, LEAST_ROWS = 0.01, 1.0
INKS = ("#404040", "#8f8f8f", "#686868", "#b8b8b8")
FAINT = "#d0d0d0"


@dataclass(frozen=True, eq=False)
class Course:
    """What the panels show: how each split goes, by label, and rows along the experts' column.

    ``held`` is what other columns are held at, ``legend`` the looks of lines by label.
    """

    splits: Mapping[str, Direction]
    experts: Grid
    held: Mapping[str, Any]
    legend: Mapping[str, Look]


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is being drawn: the fit, its tree, the canvas, and the parts made so far."""

    fit: Fit
    root: Node
    canvas: Canvas
    layout: Layout
    figure: Any
    panels: Mapping[str, Any]
    probabilities: Sequence[float]
    course: Course
    made: dict[str, dict[Any, Any]]

    def draw(self, part: str, key: Any, draw: Callable[..., Any], *args: Any, **look: Any) -> None:
        """Draw a part unless the user leaves it out, and keep what was made."""
        wanted = self.canvas.wanted(part, look)
        if wanted is not None:
            self.made.setdefault(part, {})[key] = draw(*args, **wanted)

    def colour(self, split: Node, branch: int) -> str:
        """An expert's own colour; of branches to further splits shades of grey."""
        child = split.children[branch]
        if child.expert is not None:
            return list(self.canvas.colours.values())[child.expert]
        greys = [c for c, other in enumerate(split.children) if other.expert is None]
        return INKS[greys.index(branch) % len(INKS)]


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
    the expert's location over the data. Lines are posterior means, bands equal-tailed credible
    intervals over draws. A dotted line marks where two branches are equally likely. A ribbon is as
    thick as the share of the rows' responsibility that passes the branch; branches to experts have
    the colours of :func:`plot_experts`, others are grey, as their lines are.

    A row of the data has the expert's colour in that expert's panel, mixed with grey the more the
    smaller the expert's responsibility for it. Outside the central 98 % of an expert's
    responsibility (of a categorical feature, where less than 1 % of it is), its line is thin and
    dotted and has no band.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits: a tree, sticks, or one softmax, which is one split.
    feature : str, optional
        A column, for all panels. By default each split has the column that moves it most, the one
        with the largest standardised slope (see :func:`tree_text`), and experts the column that
        moves their locations most.
    at : mapping of str to value, optional
        Where to hold other columns, in their own units. By default numeric columns are held at
        their median and others at their most frequent category. The foot of the figure says where.
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
            raise SpecError(unknown("argument of plot_tree", name, ("figure_kwargs", "color")))
    _check_backend(backend)
    root = outline(fit)
    probabilities = band_probabilities(ci_prob)
    course = _course(fit, root, feature, at or {}, probabilities)
    drawing = _open(fit, root, visuals or {}, probabilities, course, pc_kwargs)
    for node in root.walk():
        if node.split is not None:
            _draw_split(drawing, node)
            _draw_edges(drawing, node)
    _draw_leaves(drawing)
    _draw_legend(drawing)
    return _collected(drawing)


def _check_backend(backend: str | None) -> None:
    from arviz_base import rcParams

    wanted = backend or str(rcParams["plot.backend"])
    if wanted != "matplotlib":
        raise SpecError(
            f"`plot_tree` draws with matplotlib only; the backend is {wanted!r}. Give "
            "backend='matplotlib', or read the tree with bm.tree_text(fit)."
        )


def _course(
    fit: Fit,
    root: Node,
    feature: str | None,
    at: Mapping[str, Any],
    probabilities: Sequence[float],
) -> Course:
    """Choose the column of every panel, and note what the others are held at."""
    stems = [stem for block in fit.spec.blocks for stem in block.formulas]
    if feature is not None:
        feature = choose_feature(fit.design, feature, stems)
    experts = _walk(fit, feature or _leaf_feature(fit, stems, at), at)
    splits, held = {}, _relevant(fit, experts, stems)
    for node in root.walk():
        if node.split is not None:
            found = direction(fit, node.split, feature, at) or Direction(experts)
            splits[node.label] = found
            held |= _relevant(fit, found.grid, stems_of(fit, node.split))
    return Course(splits, experts, held, _entries(fit, experts, probabilities))


def _relevant(fit: Fit, grid: Grid, stems: Sequence[str]) -> dict[str, Any]:
    """What the columns of some predictors are held at."""
    relevant = columns_of(fit.design, stems)
    return {c: v for c, v in grid.held.items() if c in relevant}


def _open(
    fit: Fit,
    root: Node,
    visuals: Mapping[str, Any],
    probabilities: Sequence[float],
    course: Course,
    pc_kwargs: Mapping[str, Any],
) -> Drawing:
    """Make the figure with an empty panel for every node."""
    import xarray as xr
    from arviz_plots import PlotCollection
    from matplotlib import pyplot

    layout = lay_out(root, state(course.held), list(course.legend))
    wanted: Look = {"figsize": layout.size} | dict(pc_kwargs.get("figure_kwargs", {}))
    figure = pyplot.figure(**wanted)
    wide, high = layout.size
    panels = {}
    for node in root.walk():
        p = layout.places[node.label]
        box = (p.left / wide, p.bottom / high, p.width / wide, p.height / high)
        panels[node.label] = figure.add_axes(box)
        panels[node.label].tick_params(labelsize=TINY, length=2, pad=2)
        panels[node.label].spines[["top", "right"]].set_visible(False)
        panels[node.label].locator_params(nbins=4)
    experts = xr.DataArray(
        np.zeros(fit.spec.n_experts), {names.EXPERT: fit.spec.expert_labels}, (names.EXPERT,)
    ).to_dataset(name=VALUE)
    viz = xr.DataTree.from_dict({"/": xr.Dataset({"figure": ((), _held_object(figure))})})
    colours = {"color": pc_kwargs["color"]} if "color" in pc_kwargs else {}
    collection = PlotCollection(
        experts, viz, aes={"color": [names.EXPERT]}, backend="matplotlib", **colours
    )
    canvas = Canvas(collection, visuals)
    return Drawing(fit, root, canvas, layout, figure, panels, probabilities, course, {})


def _draw_split(drawing: Drawing, node: Node) -> None:
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


def _draw_edges(drawing: Drawing, node: Node) -> None:
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


def _ribbon(drawing: Drawing, start: Sequence[float], end: Sequence[float], **look: Any) -> Any:
    """Draw a curve between two points in inches that starts and ends upright."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    bend = (start[1] + end[1]) / 2
    points = np.array([start, (start[0], bend), (end[0], bend), end]) / drawing.layout.size
    curve = Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])
    patch = PathPatch(curve, transform=drawing.figure.transFigure, **look)
    return drawing.figure.add_artist(patch)


def _write(drawing: Drawing, where: Sequence[float], text: str, **look: Any) -> Any:
    """Write on a white ground, centred at a point in inches."""
    x, y = np.array(where) / drawing.layout.size
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2}
    placed = {"ha": "center", "va": "center", "bbox": ground} | look
    return drawing.figure.text(x, y, drawing.canvas.text(text), **placed)


def _draw_leaves(drawing: Drawing) -> None:
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
    drawing: Drawing,
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
    drawing: Drawing,
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
    drawing: Drawing,
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


def _label_feature(drawing: Drawing, axes: Any, node: Node, grid: Grid) -> None:
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


def _title(drawing: Drawing, axes: Any, node: Node, colour: str) -> None:
    name = node.branch if node.split is not None and node.branch else node.label
    look = {"fontsize": SMALL, "color": colour, "pad": 3, "fontweight": "bold"}
    text = drawing.canvas.text(_short(drawing, node, name))
    drawing.draw("title", node.label, axes.set_title, text, **look)


def _title_colour(drawing: Drawing, node: Node) -> str:
    """Colour of the branch that leads to a split; the root's is black."""
    for other in drawing.root.walk():
        if node in other.children:
            return drawing.colour(other, other.children.index(node))
    return "black"


def _short(drawing: Drawing, node: Node, text: str) -> str:
    """Return a text, cut so that it does not reach the next panel."""
    return _cut(text, drawing.layout.places[node.label].width + BETWEEN)


def _cut(text: str, inches: float) -> str:
    most = int(inches / LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _label_response(drawing: Drawing, axes: Any, node: Node, text: str, named: bool) -> None:
    """Name the vertical axis where nothing stands to the left, and leave out its numbers else."""
    if named:
        look = {"fontsize": SMALL, "labelpad": 4}
        text = drawing.canvas.text(_cut(text, HEIGHT + ABOVE))
        drawing.draw("ylabel", node.label, axes.set_ylabel, text, **look)
    elif node.split is None:
        axes.tick_params(labelleft=False)


def _has_left(drawing: Drawing, node: Node) -> bool:
    """Whether another leaf's panel stands directly to the left of one's."""
    own = drawing.layout.places[node.label]
    for other in drawing.root.walk():
        place = drawing.layout.places[other.label]
        near = 0 < own.left - place.left < 1.5 * (own.width + BETWEEN)
        if other.expert is not None and place.bottom == own.bottom and near:
            return True
    return False


def _entries(fit: Fit, grid: Grid, probabilities: Sequence[float]) -> dict[str, Look]:
    """Looks of the legend's lines by label."""
    ink = INKS[0]
    others = counted("data of other experts", fit, shown_rows(fit)).replace("\n", " ")
    outside: Look = {"color": ink, "linewidth": 1.0, "linestyle": ":"}
    found: dict[str, Look] = {} if grid.levels else {"outside the expert's data": outside}
    found[others] = {"color": FAINT, "marker": "o", "markersize": 4, "linestyle": "none"}
    for label, look in {} if fit.is_point else band_entries(probabilities, grid, ink).items():
        own = {"linewidth": look["width"], "alpha": look.get("alpha", 1.0)}
        found[label] = {"color": ink, "solid_capstyle": "butt"} | own
    return found


def _draw_legend(drawing: Drawing) -> None:
    """Put a legend under the tree, and what other columns are held at."""
    from matplotlib.lines import Line2D

    layout, entries = drawing.layout, drawing.course.legend
    high, lines = layout.size[1], len(layout.foot.splitlines())
    handles = [Line2D([], [], **look) for look in entries.values()]
    placed: Look = {"loc": "lower center", "bbox_to_anchor": (0.5, LINE * lines / high)}
    placed |= {"ncols": layout.columns, "fontsize": SMALL, "frameon": False}
    placed |= {"borderaxespad": 0.2, "labelspacing": 0.3}
    drawing.draw("legend", "legend", drawing.figure.legend, handles, list(entries), **placed)
    if lines and drawing.canvas.wanted("legend", {}) is not None:
        text = drawing.canvas.text(layout.foot)
        drawing.figure.text(0.5, 0.06 / high, text, ha="center", va="bottom", fontsize=SMALL)


def _leaf_feature(fit: Fit, stems: Sequence[str], at: Mapping[str, Any]) -> str:
    """Return the column of the experts; of several the one that moves their locations most."""
    columns = columns_of(fit.design, stems)
    if len(columns) < 2:
        return choose_feature(fit.design, columns[0] if columns else None, stems)
    few = thinned(fit, 50)

    def moved(column: str) -> float:
        grid = _walk(fit, column, at)
        lines = predict(few, grid.rows).expert_locations().values  # (point, expert)
        seen = grid.positions(fit.design.columns)
        return float(sum(np.var(np.interp(seen, grid.x, line)) for line in lines.T))

    known = columns_of(fit.design, fit.spec.known_formulas)
    return max([c for c in columns if c not in known] or columns, key=moved)


def _walk(fit: Fit, feature: str, at: Mapping[str, Any]) -> Grid:
    others = {c: v for c, v in at.items() if c != feature}
    return walk(fit.design, feature, others, fit.spec.known_formulas)


def _few(fit: Fit, n_rows: int) -> Fit:
    return thinned(fit, MOST_VALUES / (n_rows * fit.spec.n_experts))


def _collected(drawing: Drawing) -> PlotCollection:
    """Hand the parts to the collection: by node, by branch, or by expert."""
    collection = drawing.canvas.collection
    experts = {"pe_line": names.EXPERT, "observed_scatter": names.EXPERT, "ci_band": names.EXPERT}
    nodes = dict.fromkeys(("title", "xlabel", "ylabel"), NODE)
    _keep(collection, "plot", NODE, drawing.panels)
    for part, made in drawing.made.items():
        plain = {key: value for key, value in made.items() if not isinstance(key, tuple)}
        for name, parts in (("", plain), *_grouped(made).items()):
            if part in nodes:
                parts = {label: parts.get(label) for label in drawing.panels}
            if parts:
                _keep(collection, f"{part}{name}", (experts | nodes).get(part, BRANCH), parts)
    return collection


def _grouped(made: Mapping[Any, Any]) -> dict[str, dict[Any, Any]]:
    """Parts of which there are several: their names' endings, and the parts of each."""
    found: dict[str, dict[Any, Any]] = {}
    for key, value in made.items():
        if isinstance(key, tuple):
            ending = "" if key[1] == 0 else f"_{key[1]}"
            found.setdefault(ending, {})[key[0]] = value
    return found


def _keep(collection: PlotCollection, part: str, dim: str, made: Mapping[Any, Any]) -> None:
    """Store drawn things in the collection's tree of parts."""
    import xarray as xr

    things = np.empty(len(made), dtype=object)
    things[:] = list(made.values())
    data = xr.DataArray(things, {dim: list(made)}, (dim,), name=VALUE)
    if part == "plot":
        collection.viz["plot"] = data
    else:
        collection.viz[part] = xr.DataTree(data.to_dataset(name=VALUE))


def _held_object(thing: Any) -> np.ndarray:
    """Array () that holds one Python object."""
    box = np.empty((), dtype=object)
    box[()] = thing
    return box

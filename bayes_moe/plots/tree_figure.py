"""The picture of a tree of splits: what each split decides, how many rows pass, what leaves say.

Panels stand in rows by depth and are joined by ribbons. It is laid out in inches on one matplotlib
figure, and handed out as an arviz-plots ``PlotCollection`` like the other pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.reference_grid import Grid, choose_feature, columns_of, grid_along, state
from bayes_moe.plots.canvas import (
    VALUE,
    Canvas,
    Look,
    band_entries,
    check_visuals,
)
from bayes_moe.plots.curves import (
    band_probabilities,
    counted,
    shown_rows,
)
from bayes_moe.plots.tree_layout import LINE, lay_out
from bayes_moe.plots.tree_outline import Direction, OutlineNode, direction, outline, stems_of
from bayes_moe.plots.tree_panels import (
    FAINT,
    INKS,
    SMALL,
    TINY,
    TreeFigure,
    TreePanelsSpec,
    draw_edges,
    draw_leaves,
    draw_split,
)
from bayes_moe.prediction.branch_probabilities import BRANCH
from bayes_moe.prediction.predict import predict, thinned
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
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
            draw_split(drawing, node)
            draw_edges(drawing, node)
    draw_leaves(drawing)
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
    root: OutlineNode,
    feature: str | None,
    at: Mapping[str, Any],
    probabilities: Sequence[float],
) -> TreePanelsSpec:
    """Choose the column of every panel, and note what the others are held at."""
    stems = [stem for block in fit.spec.blocks for stem in block.formulas]
    if feature is not None:
        feature = choose_feature(fit.design, feature, stems)
    experts = _grid(fit, feature or _leaf_feature(fit, stems, at), at)
    splits, held = {}, _relevant(fit, experts, stems)
    for node in root.walk():
        if node.split is not None:
            found = direction(fit, node.split, feature, at) or Direction(experts)
            splits[node.label] = found
            held |= _relevant(fit, found.grid, stems_of(fit, node.split))
    return TreePanelsSpec(splits, experts, held, _entries(fit, experts, probabilities))


def _relevant(fit: Fit, grid: Grid, stems: Sequence[str]) -> dict[str, Any]:
    """What the columns of some predictors are held at."""
    relevant = columns_of(fit.design, stems)
    return {c: v for c, v in grid.held.items() if c in relevant}


def _open(
    fit: Fit,
    root: OutlineNode,
    visuals: Mapping[str, Any],
    probabilities: Sequence[float],
    course: TreePanelsSpec,
    pc_kwargs: Mapping[str, Any],
) -> TreeFigure:
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
    return TreeFigure(fit, root, canvas, layout, figure, panels, probabilities, course, {})


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


def _draw_legend(drawing: TreeFigure) -> None:
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
        grid = _grid(fit, column, at)
        lines = predict(few, grid.rows).expert_locations().values  # (point, expert)
        seen = grid.positions(fit.design.columns)
        return float(sum(np.var(np.interp(seen, grid.x, line)) for line in lines.T))

    known = columns_of(fit.design, fit.spec.known_formulas)
    return max([c for c in columns if c not in known] or columns, key=moved)


def _grid(fit: Fit, feature: str, at: Mapping[str, Any]) -> Grid:
    others = {c: v for c, v in at.items() if c != feature}
    return grid_along(fit.design, feature, others, fit.spec.known_formulas)


def _collected(drawing: TreeFigure) -> PlotCollection:
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

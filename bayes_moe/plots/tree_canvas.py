"""The matplotlib figure of a tree: one empty panel per node, and the artists drawn so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.reference_grid import Grid, state
from bayes_moe.plots.canvas import VALUE, Canvas, Look
from bayes_moe.plots.tree_layout import BETWEEN, LETTER, Layout, PanelBox, lay_out
from bayes_moe.plots.tree_outline import Direction, OutlineNode
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    from arviz_plots import PlotCollection

SMALL, TINY = 9.0, 7.5  # font sizes in points
TICKS = 4  # most ticks of an axis, less one
INKS = ("#404040", "#8f8f8f", "#686868", "#b8b8b8")

EXPERT_PARTS = ("pe_line", "ci_band", "observed_scatter")
NODE_PARTS = ("title", "xlabel", "ylabel")


@dataclass(frozen=True, eq=False)
class TreePanelsSpec:
    """What the panels show: the direction of each split by label, and the experts' grid.

    ``fixed`` are the values of other columns, ``legend`` the keyword arguments of the legend's
    lines by label.
    """

    splits: Mapping[str, Direction]
    experts: Grid
    fixed: Mapping[str, Any]
    legend: Mapping[str, Look]


@dataclass(frozen=True, eq=False)
class TreeFigure:
    """A figure in progress: fit, tree, canvas, panels by label, and artists by part and key."""

    fit: Fit
    root: OutlineNode
    canvas: Canvas
    layout: Layout
    figure: Any
    panels: Mapping[str, Any]
    probabilities: Sequence[float]
    spec: TreePanelsSpec
    artists: dict[str, dict[Any, Any]]

    def draw(self, part: str, key: Any, draw: Callable[..., Any], *args: Any, **look: Any) -> None:
        """Draw a part unless the user omits it, and keep its artist."""
        wanted = self.canvas.wanted(part, look)
        if wanted is not None:
            self.artists.setdefault(part, {})[key] = draw(*args, **wanted)

    def colour(self, split: OutlineNode, branch: int) -> str:
        """Return the colour of a branch: its expert's, or a shade of grey for a split."""
        child = split.children[branch]
        if child.expert is not None:
            return list(self.canvas.colours.values())[child.expert]
        greys = [c for c, other in enumerate(split.children) if other.expert is None]
        return INKS[greys.index(branch) % len(INKS)]


@dataclass(frozen=True, eq=False)
class Panel:
    """The panel of one node, and the rows of its horizontal axis."""

    tree: TreeFigure
    node: OutlineNode
    grid: Grid

    @property
    def axes(self) -> Any:
        """The matplotlib axes."""
        return self.tree.panels[self.node.label]

    @property
    def box(self) -> PanelBox:
        """Position of the panel in inches."""
        return self.tree.layout.boxes[self.node.label]

    def short(self, text: str) -> str:
        """Return a text, cut so that it does not overlap the next panel."""
        return shortened(text, self.box.width + BETWEEN)


def shortened(text: str, inches: float) -> str:
    """Return a text, cut to a width in inches."""
    most = int(inches / LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def open_figure(
    fit: Fit,
    root: OutlineNode,
    visuals: Mapping[str, Any],
    probabilities: Sequence[float],
    spec: TreePanelsSpec,
    pc_kwargs: Mapping[str, Any],
) -> TreeFigure:
    """Return a figure with an empty panel for each node."""
    from matplotlib import pyplot

    layout = lay_out(root, state(spec.fixed), list(spec.legend))
    settings: Look = {"figsize": layout.size} | dict(pc_kwargs.get("figure_kwargs", {}))
    figure = pyplot.figure(**settings)
    wide, high = layout.size
    panels = {}
    for node in root.nodes():
        box = layout.boxes[node.label]
        axes = figure.add_axes(
            (box.left / wide, box.bottom / high, box.width / wide, box.height / high)
        )
        axes.tick_params(labelsize=TINY, length=2, pad=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.locator_params(nbins=TICKS)
        panels[node.label] = axes
    canvas = Canvas(_collection(fit, figure, pc_kwargs), visuals)
    return TreeFigure(fit, root, canvas, layout, figure, panels, probabilities, spec, {})


def _collection(fit: Fit, figure: Any, pc_kwargs: Mapping[str, Any]) -> PlotCollection:
    """Return a plot collection with the figure and a colour per expert."""
    import xarray as xr
    from arviz_plots import PlotCollection

    experts = xr.DataArray(
        np.zeros(fit.spec.n_experts), {names.EXPERT: fit.spec.expert_labels}, (names.EXPERT,)
    ).to_dataset(name=VALUE)
    # NumPy would convert the figure to an array of its parts.
    item = np.empty((), dtype=object)
    item[()] = figure
    viz = xr.DataTree.from_dict({"/": xr.Dataset({"figure": ((), item)})})
    colours = {"color": pc_kwargs["color"]} if "color" in pc_kwargs else {}
    return PlotCollection(
        experts, viz, aes={"color": [names.EXPERT]}, backend="matplotlib", **colours
    )


def as_collection(tree: TreeFigure) -> PlotCollection:
    """Return the plot collection, with the artists by node, by branch or by expert."""
    collection = tree.canvas.collection
    _store(collection, "plot", names.NODE, tree.panels)
    for part, artists in tree.artists.items():
        dim = names.GATE_BRANCH
        if part in EXPERT_PARTS:
            dim = names.EXPERT
        elif part in NODE_PARTS:
            dim = names.NODE
        for ending, group in _by_ending(artists).items():
            if part in NODE_PARTS:
                group = {label: group.get(label) for label in tree.panels}
            if group:
                _store(collection, f"{part}{ending}", dim, group)
    return collection


def _by_ending(artists: Mapping[Any, Any]) -> dict[str, dict[Any, Any]]:
    """Return artists by the ending of their part's name: keys are ``key`` or ``(key, ending)``.

    The first of several intervals, number 0, has no ending.
    """
    groups: dict[str, dict[Any, Any]] = {"": {}}
    for key, artist in artists.items():
        if not isinstance(key, tuple):
            groups[""][key] = artist
    for key, artist in artists.items():
        if isinstance(key, tuple):
            ending = "" if key[1] == 0 else f"_{key[1]}"
            groups.setdefault(ending, {})[key[0]] = artist
    return groups


def _store(collection: PlotCollection, part: str, dim: str, artists: Mapping[Any, Any]) -> None:
    """Store artists in the collection's tree of parts."""
    import xarray as xr

    items = np.empty(len(artists), dtype=object)
    items[:] = list(artists.values())
    data = xr.DataArray(items, {dim: list(artists)}, (dim,), name=VALUE)
    if part == "plot":
        collection.viz["plot"] = data
    else:
        collection.viz[part] = xr.DataTree(data.to_dataset(name=VALUE))

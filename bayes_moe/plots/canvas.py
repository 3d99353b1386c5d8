"""Curves with bands, points, axis labels and legends on an arviz-plots ``PlotCollection``.

Data are passed to the collection as one variable, ``value``, with the package's dimension names,
so that no column of the user's table can clash with them.
"""

from __future__ import annotations

import colorsys
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.reference_grid import Grid
from bayes_moe.diagnostics.backtest_table import FORECAST

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

VISUALS = ("pe_line", "ci_band", "observed_scatter", "xlabel", "ylabel", "legend")
PLOT_ARGUMENTS = ("at", "backend", "ci_prob", "feature", "kind", "plot_collection", "visuals")
"""Arguments of the plots beside those of a collection, for hints at misspelt ones."""
VALUE = "value"
COLOURED = (names.EXPERT, names.CLASS, FORECAST)
"""Dimensions that colours tell apart."""

SIZE = (7.0, 4.3)  # inches
BAND_ALPHA = 0.22
BAR_WIDTHS = (1.5, 4.0)  # outermost interval, inner ones
DODGE = 0.6  # of the distance between two categories
GOLDEN = 0.6180339887498949
PALETTE = 10  # colours of ArviZ's palette

Look = dict[str, Any]
"""Keyword arguments of a visual: colour, width, ..."""


@dataclass(frozen=True)
class Marks:
    """Visuals of means and intervals: names in arviz-plots, and their keyword arguments."""

    mean: str
    used: Look
    unused: Look
    interval: str
    interval_look: Look


LINES = Marks(
    mean="line_xy",
    used={"width": 2},
    unused={"width": 1.2, "linestyle": "C2"},
    interval="fill_between_y",
    interval_look={"alpha": BAND_ALPHA},
)
DOTS = Marks(
    mean="scatter_xy",
    used={"size": 45, "edgecolor": "B1", "width": 0.8},
    unused={"size": 15, "alpha": 0.5},
    interval="ciliney",
    interval_look={"color": "B1"},
)


@dataclass(frozen=True)
class Canvas:
    """A plot collection, and the user's settings of its parts."""

    collection: PlotCollection
    visuals: Mapping[str, Any]

    @property
    def backend(self) -> str:
        """Name of the plotting backend."""
        return str(self.collection.backend)

    @property
    def colours(self) -> dict[Any, str]:
        """Colour of each expert or class."""
        mapping = self.collection.aes["color"]["mapping"]
        (dim,) = mapping.dims
        return dict(zip(mapping[dim].values.tolist(), mapping.values.tolist(), strict=True))

    def wanted(self, part: str, defaults: Look) -> Look | None:
        """Return keyword arguments of a part, or None if the user omits it."""
        settings = self.visuals.get(part, True)
        if settings is False:
            return None
        return defaults if settings is True else defaults | dict(settings)

    def draw(
        self, part: str, visual: Callable[..., Any], data: xr.DataArray, look: Look, label: str = ""
    ) -> None:
        """Draw a part once per level of the aesthetics whose dimensions the data have."""
        wanted = self.wanted(part, look)
        if wanted is None:
            return
        aes = self.collection.aes
        # arviz-plots would look up an aesthetic in dimensions that the data lack.
        ignored = {a for a in self.collection.aes_set if not {*aes[a].dims} <= {*data.dims}}
        dataset = data.to_dataset(name=VALUE)
        self.collection.map(visual, label or part, data=dataset, ignore_aes=ignored, **wanted)

    def set(self, visual: str | Callable[..., Any], **look: Any) -> None:
        """Set limits or ticks of the plot."""
        self.collection.facet_map(visual, store_artist=False, **look)

    def text(self, text: str) -> str:
        """Return a text with dollar signs escaped, which matplotlib parses as mathematics."""
        return text.replace("$", r"\$") if self.backend == "matplotlib" else text


def open_canvas(
    collection: PlotCollection | None,
    backend: str | None,
    visuals: Mapping[str, Any] | None,
    data: xr.DataArray,
    pc_kwargs: Mapping[str, Any],
    parts: Sequence[str] = VISUALS,
) -> Canvas:
    """Return a canvas on the user's collection, or on a new one with one plot.

    Raises
    ------
    SpecError
        For parts in ``visuals`` that are none of ``parts``, and if the data have experts or classes
        but the collection does not map their dimension to colours.
    """
    check_visuals(visuals, parts)
    check_options(pc_kwargs)
    if collection is None:
        collection = _new_collection(backend, data, dict(pc_kwargs))
    dim = coloured(data)
    if dim and not ("color" in collection.aes_set and dim in collection.aes["color"].dims):
        raise SpecError(f"The plot collection must map 'color' to the dimension {dim!r}.")
    return Canvas(collection, visuals or {})


def coloured(data: xr.DataArray) -> str | None:
    """Return the dimension of the data that colours tell apart, such as experts, or None."""
    return next((dim for dim in COLOURED if dim in data.dims), None)


def class_colours(count: int) -> dict[str, list[str]]:
    """Return the argument ``color`` of a collection with more classes than a palette has colours.

    Hues are evenly spaced, and neighbours of another lightness.
    """
    if count <= PALETTE:
        return {}
    parts = [colorsys.hls_to_rgb(j / count, (0.38, 0.6)[j % 2], 0.65) for j in range(count)]
    return {"color": ["#" + "".join(f"{round(255 * v):02x}" for v in rgb) for rgb in parts]}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise :class:`SpecError` for arguments that neither a plot nor a collection has."""
    from arviz_plots import PlotCollection

    aesthetics = {"color", *options.get("aes", {})}
    known = {*inspect.signature(PlotCollection.wrap).parameters, *aesthetics} - {"data", "kwargs"}
    for name in options:
        if name not in known:
            raise SpecError(unknown("argument of the plot", name, {*known, *PLOT_ARGUMENTS}))


def _new_collection(
    backend: str | None, data: xr.DataArray, options: dict[str, Any]
) -> PlotCollection:
    """Return a collection with one plot, and a colour for each expert or class of the data."""
    from arviz_base import rcParams
    from arviz_plots import PlotCollection

    backend = backend or str(rcParams["plot.backend"])
    figure = dict(options.pop("figure_kwargs", {}))
    if backend == "matplotlib":
        figure = {"figsize": SIZE, "layout": "constrained"} | figure
    elif "figsize" not in figure:
        # Other backends have no inches; 100 dots per inch is matplotlib's resolution.
        figure |= {"figsize": tuple(100 * s for s in SIZE), "figsize_units": "dots"}
    dim = coloured(data)
    if dim is not None:
        options["aes"] = {"color": [dim]} | options.get("aes", {})
    return PlotCollection.wrap(
        data.to_dataset(name=VALUE), backend=backend, figure_kwargs=figure, **options
    )


def check_visuals(visuals: Mapping[str, Any] | None, valid: Sequence[str]) -> None:
    """Raise :class:`SpecError` for parts that a plot does not have."""
    for part in visuals or {}:
        if part not in valid:
            raise SpecError(unknown("part in `visuals`", part, valid))


def curves(
    canvas: Canvas,
    grid: Grid,
    mean: xr.DataArray,
    band: xr.DataArray,
    used: xr.DataArray | bool = True,
    ranks: Sequence[int] | None = None,
    **look: Any,
) -> None:
    """Draw means (..., obs_id) and nested intervals (prob, ..., obs_id, ci_bound).

    They are lines and bands, or points and bars over categories. Where ``used`` is false, the
    mean is a thin dotted line or a small point, without an interval. ``ranks`` has the number of
    intervals that each is inside of, by default its position.
    """
    import xarray as xr
    from arviz_plots import visuals

    marks = DOTS if grid.levels else LINES
    used = xr.ones_like(mean, dtype=bool) & used
    x = xr.DataArray(grid.x, dims=names.OBS)
    dim = coloured(mean)
    if grid.levels and dim is not None:
        x = x + mean[dim].copy(data=dodge(mean[dim].size))
    ranks = range(len(band)) if ranks is None else ranks
    widths = [BAR_WIDTHS[rank > 0] for rank in ranks] if grid.levels else None
    nested: Look = {"mark": marks.interval, "widths": widths}
    nested["artist_dims"] = {names.INTERVAL_PROBABILITY: len(band)}
    draw_mean = getattr(visuals, marks.mean)
    common = {"x": x} | look
    canvas.draw("ci_band", _nested, band.where(used), marks.interval_look | nested | common)
    # The collection keeps one artist per label.
    canvas.draw("pe_line", draw_mean, mean.where(~used), marks.unused | common, "pe_line_unused")
    canvas.draw("pe_line", draw_mean, mean.where(used), marks.used | common)


def points(
    canvas: Canvas,
    x: np.ndarray,
    y: np.ndarray,
    colour: str | list[str],
    *,
    count: int = 0,
    label: str = "",
    **more: Any,
) -> None:
    """Draw rows of the data; the more there are, the smaller and more transparent each is.

    ``count`` is the number of all rows in the plot, of which these are some. ``label`` is the
    artist's, and ``more`` are further keyword arguments of its visual.
    """
    import xarray as xr
    from arviz_plots.visuals import scatter_xy

    if not len(x):
        return
    crowd = min(1.0, (200 / max(count, len(x))) ** 0.5)
    look = {
        "x": xr.DataArray(x, dims=names.OBS),
        "facecolor": colour,
        "edgecolor": "B0",
        "width": 0.4 * crowd,
        "size": 4 + 22 * crowd,
        "alpha": 0.2 + 0.6 * crowd,
    }
    look |= more
    canvas.draw("observed_scatter", scatter_xy, xr.DataArray(y, dims=names.OBS), look, label)


def dodge(experts: int) -> np.ndarray:
    """Return horizontal offsets of experts from their category (expert,)."""
    return DODGE * ((np.arange(experts) + 0.5) / experts - 0.5)


def axis_limits(*arrays: Any) -> tuple[float, float]:
    """Return limits of an axis that shows all finite values, with a margin."""
    values = np.concatenate([np.ravel(a) for a in arrays])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def jitter(n: int, experts: int = 1) -> np.ndarray:
    """Return deterministic horizontal offsets of rows from their category or expert (obs,)."""
    # Multiples of the golden ratio are evenly spread for every number of rows.
    return 0.8 * DODGE / experts * (np.arange(n) * GOLDEN % 1 - 0.5)


def label_axes(canvas: Canvas, grid: Grid, response: str) -> None:
    """Label the axes, and name the categories of a categorical feature."""
    name_axes(canvas, grid.feature, response)
    if grid.levels:
        labels = [canvas.text(str(level)) for level in grid.levels]
        canvas.set("set_xticks", values=list(range(len(labels))), labels=labels)
        canvas.set("set_xlim", limits=(-0.5, len(labels) - 0.5))


def name_axes(canvas: Canvas, x: str, y: str) -> None:
    """Write the names of the axes."""
    for part, text in (("xlabel", x), ("ylabel", y)):
        wanted = canvas.wanted(part, {"text": canvas.text(text)})
        if wanted is not None:
            canvas.collection.facet_map(f"labelled_{part[0]}", part, **wanted)


def set_yticks(da: xr.DataArray, target: Any, values: Sequence[float], labels: Any) -> Any:
    """Put ticks of the vertical axis at some values: a visual for :meth:`Canvas.set`."""
    from arviz_plots.plot_collection import backend_from_object

    return backend_from_object(target).yticks(values, labels, target)


def _nested(
    da: xr.DataArray,
    target: Any,
    x: xr.DataArray,
    mark: str,
    widths: Sequence[float] | None,
    **look: Any,
) -> np.ndarray:
    """Draw nested intervals (prob, obs_id, ci_bound), the widest first."""
    from arviz_plots.plot_collection import backend_from_object

    draw = getattr(backend_from_object(target), mark)
    artists = np.empty(len(da), dtype=object)
    for j, interval in enumerate(da):
        low, high = (interval.sel({names.CI_BOUND: bound}).values for bound in names.CI_BOUNDS)
        width = {} if widths is None else {"width": widths[j]}
        artists[j] = draw(x.values, low, high, target, **(width | look))
    return artists

"""Panels over time, one for each series: lines, bands, and a strip of stacked weights below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.data.tables import kind
from bayes_moe.data.timeline import Timeline
from bayes_moe.plots.canvas import BAND_ALPHA, VALUE, Canvas, Look, open_canvas
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

PANEL = "panel"
"""Dimension over the panels of a figure."""
POINT = "point"
"""Dimension along time."""

PARTS = ("history", "pe_line", "ci_band", "weights", "last", "title", "xlabel", "ylabel", "legend")
MOST_PANELS = 6
PANEL_HEIGHT = 2.5  # inches
FIRST_HEIGHT = 1.6  # inches, of a figure of one panel beyond that
WIDTH = 9.0  # inches

STRIP, GAP = 0.2, 0.06
"""Heights of the strip of weights and of the room above it, of the height of the lines."""
WEIGHT_ALPHA = 0.85
MOST_BINS = 600
"""Most neighbouring rows, or averages of such, that a strip shows."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Rows of one series: times (point,) and numbers (point,)."""

    x: np.ndarray
    y: np.ndarray


def chosen_series(timeline: Timeline, series: Any, what: str) -> list[int]:
    """Numbers of the series that are shown: by default the first ones.

    Raises
    ------
    DataError
        For labels that no series has.
    SpecError
        For more series than there is room for.
    """
    if series is None:
        return list(range(min(len(timeline.labels), MOST_PANELS)))
    wanted = list(series) if isinstance(series, list | tuple | np.ndarray) else [series]
    for label in wanted:
        if label not in timeline.labels:
            raise DataError(unknown("series", label, timeline.labels))
    if not 1 <= len(wanted) <= MOST_PANELS:
        raise SpecError(f"`{what}` shows 1 to {MOST_PANELS} series, not {len(wanted)}.")
    return [timeline.labels.index(label) for label in wanted]


def panels(
    data: Mapping[str, Sequence[Any]],
    settings: tuple[PlotCollection | None, str | None, Mapping[str, Any] | None],
    pc_kwargs: Mapping[str, Any],
    parts: Sequence[str] = PARTS,
) -> Canvas:
    """A canvas with one panel below another; ``data`` are its dimensions and their labels."""
    import xarray as xr
    from arviz_base import rcParams

    collection, backend, visuals = settings
    count = len(data[PANEL])
    figure: Look = dict(pc_kwargs.get("figure_kwargs", {}))
    if "figsize" not in figure:
        size = (WIDTH, count * PANEL_HEIGHT + FIRST_HEIGHT / count)
        matplotlib = (backend or str(rcParams["plot.backend"])) == "matplotlib"
        figure |= {"figsize": size if matplotlib else tuple(100 * s for s in size)}
        figure |= {} if matplotlib else {"figsize_units": "dots"}
    options = {"cols": [PANEL], "col_wrap": 1} | dict(pc_kwargs) | {"figure_kwargs": figure}
    shape = [len(labels) for labels in data.values()]
    empty = xr.DataArray(np.zeros(shape), dims=tuple(data), coords=dict(data), name=VALUE)
    return open_canvas(collection, backend, visuals, empty, options, parts)


def line(canvas: Canvas, part: str, traces: Mapping[Any, Trace], **look: Any) -> None:
    """Draw one line in each panel."""
    from arviz_plots.visuals import line_xy

    x, y = stacked(traces, canvas)
    canvas.draw(part, line_xy, y, {"x": x, **look})


def stacked(
    traces: Mapping[Any, Trace], canvas: Canvas, axis: int = 0
) -> tuple[xr.DataArray, xr.DataArray]:
    """Times (panel, point) and values (panel, ..., point), the last ones repeated as NaN."""
    import xarray as xr

    most = max((len(t.x) for t in traces.values()), default=0)
    x = np.stack([np.concatenate([t.x, t.x[-1:].repeat(most - len(t.x))]) for t in traces.values()])
    rows = [
        np.concatenate([t.y, np.full((most - len(t.x), *t.y.shape[1:]), np.nan)])
        for t in traces.values()
    ]
    coords = {PANEL: list(traces)}
    extra = [f"part_{j}" for j in range(rows[0].ndim - 1)]
    values = xr.DataArray(np.stack(rows), dims=(PANEL, POINT, *extra), coords=coords)
    return xr.DataArray(x, dims=(PANEL, POINT), coords=coords), values


def band(canvas: Canvas, traces: Mapping[Any, Trace], **look: Any) -> None:
    """Draw nested bands in each panel; ``y`` of a trace is (point, band, 2), the widest first."""
    x, bounds = stacked(traces, canvas)
    count = bounds.sizes["part_0"]
    more = {"artist_dims": {names.INTERVAL_PROBABILITY: count}}
    canvas.draw("ci_band", _bands, bounds, {"x": x, **more, **look})


def strip(
    canvas: Canvas, traces: Mapping[Any, Trace], limits: Mapping[Any, tuple[float, float]]
) -> None:
    """Draw stacked weights below the lines of each panel; ``y`` of a trace is (point, expert)."""
    import xarray as xr

    traces = {panel: _binned(t) for panel, t in traces.items()}
    shares = {panel: _edges(t, strip_of(limits[panel])) for panel, t in traces.items()}
    x, edges = stacked(shares, canvas)
    experts = list(canvas.colours)
    bounds = xr.concat(
        [
            edges.isel(part_0=slice(k, k + 2)).assign_coords(part_0=[0, 1])
            for k in range(len(experts))
        ],
        dim=xr.IndexVariable(names.EXPERT, experts),
    )
    look: Look = {"x": x, "alpha": WEIGHT_ALPHA}
    if canvas.backend == "matplotlib":
        look["linewidth"] = 0
    canvas.draw("weights", _between, bounds, look)


def of_experts(
    canvas: Canvas, lines: Mapping[Any, Trace], bands: Mapping[Any, Trace] | None
) -> None:
    """Draw a line and nested bands of each expert in each panel.

    ``y`` of a line's trace is (point, expert), that of bands (point, band, 2, expert).
    """
    import xarray as xr
    from arviz_plots.visuals import line_xy

    experts = xr.IndexVariable(names.EXPERT, list(canvas.colours))
    if bands is not None:
        x, bounds = stacked(bands, canvas)
        bounds = bounds.rename(part_2=names.EXPERT).assign_coords({names.EXPERT: experts})
        more = {"artist_dims": {names.INTERVAL_PROBABILITY: bounds.sizes["part_0"]}}
        look: Look = {"x": x, "alpha": BAND_ALPHA, **more}
        canvas.draw("ci_band", _bands, bounds, look)
    x, values = stacked(lines, canvas)
    values = values.rename(part_0=names.EXPERT).assign_coords({names.EXPERT: experts})
    canvas.draw("pe_line", line_xy, values, {"x": x, "width": 1.5})


def expert_shares(canvas: Canvas) -> dict[str, Look]:
    """Legend entries of the experts in a strip."""
    return {f"expert {k}": {"color": c, "width": 8} for k, c in canvas.colours.items()}


def strip_of(limits: tuple[float, float]) -> tuple[float, float]:
    """Bottom and top of the strip below lines between limits."""
    height = limits[1] - limits[0]
    return limits[0] - (GAP + STRIP) * height, limits[0] - GAP * height


def set_limits(
    canvas: Canvas, limits: Mapping[Any, tuple[float, float]], with_strip: bool, dates: bool
) -> None:
    """Set the vertical axes, with room for the strip; their ticks are those of the lines."""
    import xarray as xr
    from matplotlib.ticker import MaxNLocator

    low, high, ticks = [], [], []
    for bounds in limits.values():
        bottom = strip_of(bounds)[0] - 0.02 * (bounds[1] - bounds[0]) if with_strip else bounds[0]
        low.append(bottom)
        high.append(bounds[1])
        found = MaxNLocator(4).tick_values(*bounds)
        ticks.append([v for v in found if bounds[0] <= v <= bounds[1]])
    most = max(map(len, ticks))
    padded = [row + [np.nan] * (most - len(row)) for row in ticks]
    coords = {PANEL: list(limits)}

    def per_panel(values: Any, *dims: str) -> xr.DataArray:
        return xr.DataArray(np.array(values), dims=(PANEL, *dims), coords=coords)

    look: Look = {"low": per_panel(low), "high": per_panel(high)}
    look |= {"ticks": per_panel(padded, "tick"), "dates": dates}
    blank = xr.DataArray(np.zeros(len(low)), dims=PANEL, coords=coords)
    data = blank.to_dataset(name=VALUE)
    canvas.collection.map(_limited, data=data, ignore_aes="all", store_artist=False, **look)


def titles(canvas: Canvas, texts: Mapping[Any, str]) -> None:
    """Write the title of each panel."""
    import xarray as xr

    wanted = canvas.wanted("title", {})
    if wanted is None:
        return
    coords = {PANEL: list(texts)}
    text = xr.DataArray([canvas.text(t) for t in texts.values()], dims=PANEL, coords=coords)
    data = xr.DataArray(np.zeros(len(texts)), dims=PANEL, coords=coords).to_dataset(name=VALUE)
    canvas.collection.map(_titled, "title", data=data, ignore_aes="all", text=text, **wanted)


def axis_names(canvas: Canvas, time: str, texts: Mapping[Any, str]) -> None:
    """Write the names of the axes: that of time below the last panel."""
    import xarray as xr

    coords = {PANEL: list(texts)}
    data = xr.DataArray(np.zeros(len(texts)), dims=PANEL, coords=coords).to_dataset(name=VALUE)
    below = [""] * (len(texts) - 1) + [canvas.text(time)]
    for part, found in (("xlabel", below), ("ylabel", [canvas.text(t) for t in texts.values()])):
        wanted = canvas.wanted(part, {})
        if wanted is not None:
            text = xr.DataArray(found, dims=PANEL, coords=coords)
            look = {"text": text, "axis": part, **wanted}
            canvas.collection.map(_named, part, data=data, ignore_aes="all", **look)


def has_dates(timeline: Timeline) -> bool:
    """Whether times are dates, and not numbers."""
    return kind(timeline.table[timeline.columns.time]) == "dates"


def fitted_times(fit: Fit, rows: np.ndarray) -> np.ndarray:
    """Times (row,) of fitted rows as plots take them: numbers, or dates without a time zone."""
    timeline, time = fit.design.past.timeline, fit.design.rows.observation.time
    assert timeline is not None
    assert time is not None
    if not has_dates(timeline):
        return np.asarray(time[rows])
    position = {t: j for j, t in enumerate(timeline.times)}
    column = timeline.table[timeline.columns.time].iloc[[position[t] for t in time[rows]]]
    return plain_times(column)


def plain_times(column: Any) -> np.ndarray:
    """Times (row,) of a column: numbers, or dates as clocks show them."""
    zone = getattr(column.dtype, "tz", None)
    return np.asarray(column if zone is None else column.dt.tz_localize(None))


def _binned(trace: Trace) -> Trace:
    """A trace of averages over neighbouring rows, if there are many of them."""
    if len(trace.x) <= MOST_BINS:
        return trace
    starts = np.linspace(0, len(trace.x), MOST_BINS, endpoint=False).astype(int)
    counts = np.diff([*starts, len(trace.x)])
    means = np.add.reduceat(trace.y, starts, axis=0) / counts[:, None]
    return Trace(np.append(trace.x[starts], trace.x[-1:]), np.concatenate([means, means[-1:]]))


def _edges(trace: Trace, ends: tuple[float, float]) -> Trace:
    """Edges (point, expert + 1) between stacked shares in a strip, as steps in time."""
    cumulative = np.concatenate([np.zeros((len(trace.y), 1)), np.cumsum(trace.y, axis=1)], axis=1)
    return Trace(trace.x, ends[0] + (ends[1] - ends[0]) * np.clip(cumulative, 0, 1))


def _bands(da: xr.DataArray, target: Any, x: xr.DataArray, **look: Any) -> np.ndarray:
    """Draw nested bands (point, band, 2)."""
    from arviz_plots.plot_collection import backend_from_object

    draw = backend_from_object(target).fill_between_y
    artists = np.empty(da.sizes["part_0"], dtype=object)
    for j in range(len(artists)):
        low, high = da.values[:, j, 0], da.values[:, j, 1]
        known = np.isfinite(low)
        artists[j] = draw(x.values[known], low[known], high[known], target, **look)
    return artists


def _between(da: xr.DataArray, target: Any, x: xr.DataArray, **look: Any) -> Any:
    """Fill between two edges (point, 2)."""
    from arviz_plots.plot_collection import backend_from_object

    known = np.isfinite(da.values[:, 0])
    low, high = da.values[known].T
    return backend_from_object(target).fill_between_y(x.values[known], low, high, target, **look)


def _limited(
    da: xr.DataArray,
    target: Any,
    low: xr.DataArray,
    high: xr.DataArray,
    ticks: xr.DataArray,
    dates: bool,
) -> None:
    """Set limits and ticks of the vertical axis, and short dates below the other."""
    from arviz_plots.plot_collection import backend_from_object

    backend, values = backend_from_object(target), ticks.values[np.isfinite(ticks.values)]
    backend.ylim((float(low), float(high)), target)
    backend.yticks(values.tolist(), [f"{v:g}" for v in values], target)
    if dates and hasattr(target, "xaxis") and hasattr(target.xaxis, "set_major_locator"):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(maxticks=9)
        target.xaxis.set_major_locator(locator)
        target.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _titled(da: xr.DataArray, target: Any, text: xr.DataArray, **look: Any) -> Any:
    from arviz_plots.plot_collection import backend_from_object

    return backend_from_object(target).title(str(text.item()), target, **look)


def _named(da: xr.DataArray, target: Any, text: xr.DataArray, axis: str, **look: Any) -> Any:
    from arviz_plots.plot_collection import backend_from_object

    return getattr(backend_from_object(target), axis)(str(text.item()), target, **look)

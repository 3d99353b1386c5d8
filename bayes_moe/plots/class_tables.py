"""Plots of how good predicted classes are: a reliability diagram, and a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.plots.canvas import Canvas, Look, class_colours, name_axes, open_canvas, set_yticks
from bayes_moe.plots.legends import add_legend
from bayes_moe.plots.matrix_cells import shade_cells, write_cells
from bayes_moe.plots.ticks import fit_categories
from bayes_moe.prediction.class_quantities import as_array, probability_inside
from bayes_moe.prediction.class_scores import confusion_matrix, reliability
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from arviz_plots import PlotCollection

BIN = "bin"
GREY = "#808080"
RELIABILITY = ("observed_scatter", "pe_line", "ci_line", "ref_line", "xlabel", "ylabel", "legend")
CONFUSION = ("cell", "count", "xlabel", "ylabel")
DARKEST = 0.85
"""Opacity of a cell with all rows of its class."""


def plot_reliability(
    fit: Fit,
    rows: Any = None,
    *,
    bins: int | Iterable[float] = 10,
    ci_prob: float | None = None,
    classes: Iterable[Any] | None = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot how often classes occur against their predictive probability, in bins.

    Points are shares of the rows in a bin of :func:`reliability`, at the mean probability there;
    lines are binomial intervals of the shares. Of calibrated probabilities, points are near the
    diagonal, and most intervals contain it.

    Parameters
    ----------
    fit, rows, bins, ci_prob, classes
        As in :func:`reliability`.
    plot_collection, backend, **pc_kwargs
        As in :func:`plot_classes`.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``observed_scatter``, ``pe_line`` (between the points),
        ``ci_line``, ``ref_line``, ``xlabel``, ``ylabel`` and ``legend``; False leaves a part out.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by class.

    Raises
    ------
    DataError, SpecError
        As :func:`reliability` does.

    Examples
    --------
    >>> pc = bm.plot_reliability(fit, held_out)  # doctest: +SKIP
    """
    import xarray as xr
    from arviz_plots.visuals import line_xy, scatter_xy

    inside = probability_inside(ci_prob)
    table = reliability(fit, rows, bins=bins, ci_prob=inside, classes=classes)
    by_bin = {name: _by_class(table, name) for name in ("predicted", "observed", "lower", "upper")}
    x, share = by_bin["predicted"], by_bin["observed"]
    labels = share[names.CLASS].values
    looks = class_colours(len(labels)) | pc_kwargs
    canvas = open_canvas(plot_collection, backend, visuals, share, looks, RELIABILITY)
    ends = xr.DataArray([0.0, 1.0], dims=BIN)
    canvas.draw("ref_line", line_xy, ends, {"x": ends, "color": GREY, "linestyle": "C1"})
    bounds: Look = {"x": x, "lower": by_bin["lower"], "upper": by_bin["upper"], "width": 1.2}
    canvas.draw("ci_line", _bars, share, bounds)
    canvas.draw("pe_line", line_xy, share, {"x": x, "width": 1, "alpha": 0.5})
    canvas.draw("observed_scatter", scatter_xy, share, {"x": x, "size": 40, "edgecolor": "B0"})
    for limits in ("set_xlim", "set_ylim"):
        canvas.set(limits, limits=(-0.02, 1.02))
    what = "probability" if len(labels) > 1 else f"probability of {labels[0]}"
    name_axes(canvas, f"predicted {what}", "share of rows")
    _add_reliability_legend(canvas, inside)
    return canvas.collection


def plot_confusion(
    fit: Fit,
    rows: Any = None,
    *,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot the confusion matrix: how many rows of each class are predicted to be of each class.

    Cells of :func:`confusion_matrix`, a line for each observed class, from the top. A cell is
    the darker the larger its share of the rows of its line, cells on the diagonal, of rows
    predicted right, have another colour than others.

    Parameters
    ----------
    fit, rows
        As in :func:`confusion_matrix`.
    backend, **pc_kwargs
        As in :func:`plot_classes`.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``cell``, ``count``, ``xlabel`` and ``ylabel``; False leaves
        a part out.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``.

    Raises
    ------
    DataError, SpecError
        As :func:`confusion_matrix` does.

    Examples
    --------
    >>> pc = bm.plot_confusion(fit, held_out)  # doctest: +SKIP
    """
    import xarray as xr

    table = confusion_matrix(fit, rows)
    cells = xr.DataArray(table.to_numpy(), dims=("observed", "predicted"))
    canvas = open_canvas(None, backend, visuals, cells, pc_kwargs, CONFUSION)
    count = len(table)
    artists = {"artist_dims": {"observed": count, "predicted": count}}
    canvas.draw("cell", _cells, cells, artists)
    canvas.draw("count", _counts, cells, artists | {"size": 12 if count <= 12 else 8})
    labels = [canvas.text(str(label)) for label in table.index]
    positions = list(range(count))
    canvas.set("set_xticks", values=positions, labels=labels)
    canvas.set(set_yticks, values=positions, labels=labels)
    canvas.set("set_xlim", limits=(-0.5, count - 0.5))
    canvas.set("set_ylim", limits=(count - 0.5, -0.5))
    name_axes(canvas, "predicted", "observed")
    fit_categories(canvas, [str(label) for label in table.index])
    return canvas.collection


def _by_class(table: pd.DataFrame, column: str) -> xr.DataArray:
    """Return a column of the reliability table as (class, bin), NaN in bins without rows."""
    import xarray as xr

    labels = tuple(table["class"].drop_duplicates())
    groups = [table.loc[(table["class"] == label).to_numpy(), column] for label in labels]
    values = np.full((len(labels), max(map(len, groups))), np.nan)
    for line, group in zip(values, groups, strict=True):
        line[: len(group)] = group
    return xr.DataArray(values, {names.CLASS: as_array(labels)}, (names.CLASS, BIN))


def _bars(
    da: xr.DataArray, target: Any, x: xr.DataArray, lower: Any, upper: Any, **look: Any
) -> Any:
    """Draw vertical lines between two bounds (bin,)."""
    from arviz_plots.plot_collection import backend_from_object

    return backend_from_object(target).ciliney(x.values, lower.values, upper.values, target, **look)


def _cells(da: xr.DataArray, target: Any, **look: Any) -> np.ndarray:
    """Draw the cells of a matrix of counts (observed, predicted), with each line's shares."""
    counts = da.values
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades: dict[tuple[int, ...], Look] = {
        (i, j): {"color": "C0" if i == j else "C1", "alpha": DARKEST * float(share)}
        for (i, j), share in np.ndenumerate(shares)
    }
    return shade_cells(target, counts.shape, shades, look)


def _counts(da: xr.DataArray, target: Any, **look: Any) -> np.ndarray:
    """Write the counts of a matrix (observed, predicted) into its cells."""
    texts = {at: f"{count:,}" for at, count in np.ndenumerate(da.values)}
    return write_cells(target, da.shape, texts, look)


def _add_reliability_legend(canvas: Canvas, inside: float) -> None:
    """Add the classes, unless there is one, the intervals and the diagonal."""
    colours = canvas.colours
    several = len(colours) > 1
    point: Look = {"marker": "o", "markersize": 6, "linestyle": "none"}
    bar: Look = {"marker": "|", "markersize": 12, "linestyle": "none", "markeredgewidth": 1.2}
    entries = {str(label): {"color": c} | point for label, c in colours.items() if several}
    ink = GREY if several else next(iter(colours.values()))
    entries[f"{100 * inside:g} % interval"] = {"color": ink} | bar
    entries["calibrated"] = {"color": GREY, "linestyle": "C1"}
    add_legend(canvas, entries, {})

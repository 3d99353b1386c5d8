"""Picture of a word alignment: the posterior probability of each source word by target word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.plots.canvas import Canvas, Look, name_axes, open_canvas, set_yticks
from bayes_moe.plots.matrix_cells import shade_cells, write_cells
from bayes_moe.plots.ticks import fit_categories
from bayes_moe.text.fitted_alignment import Alignment

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

PARTS = ("cell", "probability", "likeliest", "xlabel", "ylabel")
DARKEST = 0.75
"""Opacity of a cell of probability 1: black text on it stays legible."""
LEAST_SHADED = 0.005
"""Least probability whose cell is shaded."""
LEAST_WRITTEN = 0.05
"""Least probability that is written into its cell."""
MOST_WRITTEN = 16
"""Words of a side up to which cells have room for their probability."""
CELL = 0.42
"""Inches of a cell's side."""
MARGINS = (1.9, 1.3)
"""Inches for labels, beside and below the cells."""


def plot_alignment(
    fit: Alignment,
    pair: Any = 0,
    *,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot which source word made each target word of a sentence pair.

    Columns are target words, rows source words, the last of them NULL. The darker a cell, the
    larger the posterior probability; of sentences of at most 16 words it is written into the cell,
    from .05 on. The likeliest source of each target word has an outline.

    Parameters
    ----------
    fit : Alignment
        A word alignment.
    pair : int or pair of sentences
        As for ``Alignment.posterior``.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``cell``, ``probability``, ``likeliest``, ``xlabel`` and
        ``ylabel``; False leaves a part out.
    **pc_kwargs
        As in :func:`plot_gate`.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``.

    Raises
    ------
    SpecError
        For parts that the plot does not have, and as ``Alignment.posterior`` does.

    Examples
    --------
    >>> pc = bm.text.plot_alignment(fit, 3)  # doctest: +SKIP
    """
    import xarray as xr

    if not isinstance(fit, Alignment):
        raise SpecError(f"`fit` must be an Alignment, got {type(fit).__name__}.")
    posterior = fit.posterior(pair)
    order = [*range(1, posterior.sizes["source"]), 0]
    cells = xr.DataArray(posterior.values[order], dims=("source", "target"))
    down = [str(posterior["source"].values[i]) for i in order]
    across = [str(word) for word in posterior["target"].values]
    canvas = open_canvas(None, backend, visuals, cells, _sized(pc_kwargs, cells, backend), PARTS)
    artists: Look = {"artist_dims": {"source": len(down), "target": len(across)}}
    canvas.draw("cell", _cells, cells, artists | {"color": "C0"})
    if max(cells.shape) <= MOST_WRITTEN + 1:
        canvas.draw("probability", _numbers, cells, artists | {"size": 9})
    outlines: Look = {"artist_dims": {"target": len(across)}, "color": "B1", "width": 1.6}
    canvas.draw("likeliest", _outlines, cells, outlines)
    _label(canvas, down, across)
    return canvas.collection


def _sized(options: Mapping[str, Any], cells: xr.DataArray, backend: str | None) -> Look:
    """Options of a collection whose cells are about square, unless the user sets its size."""
    from arviz_base import rcParams

    down, across = cells.shape
    size = (MARGINS[0] + CELL * max(across, 5), MARGINS[1] + CELL * max(down, 5))
    if (backend or rcParams["plot.backend"]) == "matplotlib":
        figure: Look = {"figsize": size}
    else:
        figure = {"figsize": tuple(100 * side for side in size), "figsize_units": "dots"}
    if "figsize" in options.get("figure_kwargs", {}):
        figure = {}
    return {**options, "figure_kwargs": figure | dict(options.get("figure_kwargs", {}))}


def _label(canvas: Canvas, down: list[str], across: list[str]) -> None:
    """Write the words, the first source word on top."""
    for setter, words in (("set_xticks", across), (set_yticks, down)):
        labels = [canvas.text(word) for word in words]
        canvas.set(setter, values=list(range(len(words))), labels=labels)
    canvas.set("set_xlim", limits=(-0.5, len(across) - 0.5))
    canvas.set("set_ylim", limits=(len(down) - 0.5, -0.5))
    name_axes(canvas, "target", "source")
    fit_categories(canvas, across)


def _cells(da: xr.DataArray, target: Any, **look: Any) -> np.ndarray:
    """Shade the cells (source, target) by their probabilities."""
    # A lighter one than the least is not seen.
    shades: dict[tuple[int, ...], Look] = {
        at: {"alpha": DARKEST * float(share)}
        for at, share in np.ndenumerate(da.values)
        if share >= LEAST_SHADED
    }
    return shade_cells(target, da.shape, shades, look)


def _numbers(da: xr.DataArray, target: Any, **look: Any) -> np.ndarray:
    """Write probabilities (source, target) into their cells."""
    texts = {
        at: f"{share:.2f}".removeprefix("0")
        for at, share in np.ndenumerate(da.values)
        if share >= LEAST_WRITTEN
    }
    return write_cells(target, da.shape, texts, look)


def _outlines(da: xr.DataArray, target: Any, **look: Any) -> np.ndarray:
    """Draw a line around the likeliest cell of each column of (source, target)."""
    from arviz_plots.plot_collection import backend_from_object

    draw = backend_from_object(target).line
    artists = np.empty(da.shape[1], dtype=object)
    for j, i in enumerate(da.values.argmax(axis=0)):
        x = j + np.array([-0.47, 0.47, 0.47, -0.47, -0.47])
        y = i + np.array([-0.47, -0.47, 0.47, 0.47, -0.47])
        artists[j] = draw(x, y, target, **look)
    return artists

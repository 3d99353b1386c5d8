"""Plot of the probabilities of classes against one feature, of the mixture or of one expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.reference_grid import Grid, choose_feature
from bayes_moe.plots.canvas import (
    DOTS,
    Canvas,
    Look,
    class_colours,
    curves,
    jitter,
    label_axes,
    open_canvas,
    points,
    set_yticks,
)
from bayes_moe.plots.curves import DARK_GREY, LEAST_WEIGHT
from bayes_moe.plots.legends import add_legend, band_entries, mean_entry, point_entries
from bayes_moe.plots.reference import (
    MAX_VALUES,
    ShownRows,
    band_probabilities,
    expert_stems,
    feature_grid,
    fixed_columns,
    over_draws,
    shown_rows,
    thinned,
)
from bayes_moe.plots.ticks import feature_ticks
from bayes_moe.prediction.class_quantities import class_labels
from bayes_moe.prediction.predict import predict_one
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

STRIP, STRIPS = 0.045, 0.3
"""Height of the strip with the rows of a class, and most of all strips below the axis."""

MARGIN = 0.02
"""Room beyond a line at 0 or 1, which keeps its width."""


def plot_classes(
    fit: Fit,
    feature: str | None = None,
    *,
    expert: Any = None,
    at: Mapping[str, Any] | None = None,
    ci_prob: float | Sequence[float] | None = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot the probability of each class against a feature, over the rows of each class.

    The line is the posterior mean, the band the equal-tailed credible interval over draws; of two
    classes only the second is drawn. Rows of the data are below, in a strip for each class; of two
    classes the second's are above.

    Parameters
    ----------
    fit : Fit
        A fit whose response is a class.
    feature : str, optional
        A column; by default the model's only numeric column, or its only column.
    expert : label, optional
        Probabilities of this expert alone; where its gate weight is below 5 %, its lines are thin
        and dotted and have no band. By default those of the mixture.
    at, ci_prob, plot_collection, backend, visuals, **pc_kwargs
        As in :func:`plot_experts`; a ``plot_collection`` must map ``color`` to the dimension
        ``class``.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by class. Of more than 2000 rows a random 2000 are shown, and
        the legend has the number.

    Raises
    ------
    SpecError
        If the response is no class, for an unknown expert, and if ``feature`` is needed; the
        message names the candidates.
    DataError
        For columns that the model does not use, and categories that were not observed.

    Examples
    --------
    >>> pc = bm.plot_classes(fit, "x", ci_prob=0.9)  # doctest: +SKIP
    >>> pc = bm.plot_classes(fit, "x", expert=1)  # doctest: +SKIP
    """
    labels = class_labels(fit)
    if expert is not None and expert not in fit.spec.expert_labels:
        raise SpecError(unknown("expert", expert, fit.spec.expert_labels))
    counts = fit.spec.structure.row_count_formulas
    stems = [s for s in fit.design.formulas if s not in counts]
    stems = stems if expert is None else expert_stems(fit)
    grid = feature_grid(fit, choose_feature(fit.design, feature, stems, counts), at)
    probabilities = band_probabilities(ci_prob)
    drawn, used = _probabilities(fit, grid, expert, len(labels))
    mean, band = over_draws(drawn, probabilities)
    looks = class_colours(len(labels)) | pc_kwargs
    canvas = open_canvas(plot_collection, backend, visuals, mean, looks)
    shown = shown_rows(fit, grid, stems)
    limits = _draw_strips(canvas, fit, grid, shown, len(labels))
    curves(canvas, grid, mean, band, used)
    canvas.set("set_ylim", limits=limits)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    canvas.set(set_yticks, values=ticks, labels=[f"{tick:g}" for tick in ticks])
    whose = "" if expert is None else f", expert {expert}"
    what = "probability" if len(labels) > 2 else f"probability of {labels[1]}"
    label_axes(canvas, grid, what + whose)
    entries = _entries(canvas, fit, grid, probabilities)
    rows = "data" if len(labels) > 2 else f"data: {labels[1]} above, {labels[0]} below"
    entries |= point_entries(canvas, shown.label(rows), DARK_GREY)
    add_legend(canvas, entries, fixed_columns(fit, grid, stems))
    feature_ticks(canvas, grid)
    return canvas.collection


def _probabilities(
    fit: Fit, grid: Grid, expert: Any, count: int
) -> tuple[xr.DataArray, xr.DataArray | bool]:
    """Return probabilities (chain, draw, obs_id, class), and where they are in use (obs_id,)."""
    most = max(fit.spec.n_experts, count) if expert is None else fit.spec.n_experts * count
    predictive = predict_one(thinned(fit, MAX_VALUES / (len(grid.rows) * most)), grid.rows)
    used: xr.DataArray | bool = True
    if expert is None:
        drawn = predictive.probabilities(draws=True)
    else:
        chosen = {names.EXPERT: expert}
        drawn = predictive.expert_probabilities(draws=True).sel(chosen, drop=True)
        used = predictive.weights().sel(chosen, drop=True) >= LEAST_WEIGHT
    # The probability of the first of two classes is known from the second's.
    return (drawn if count > 2 else drawn.isel({names.CLASS: [1]})), used


def _draw_strips(
    canvas: Canvas, fit: Fit, grid: Grid, shown: ShownRows, count: int
) -> tuple[float, float]:
    """Draw rows of the data in a strip for each class; return the limits of the axis."""
    codes = fit.design.response[shown.rows].astype(int)
    x = grid.positions(fit.design.columns.iloc[shown.rows])
    if count == 2:
        spread = 0.7 * STRIP * uneven(len(x))
        heights = np.where(codes == 1, 1 + STRIP, -STRIP) + spread
        limits = -1.6 * STRIP - MARGIN, 1 + 1.6 * STRIP + MARGIN
        colours: str | list[str] = DARK_GREY
    else:
        heights, limits = strips(codes, count)
        palette = list(canvas.colours.values())
        colours = [palette[code] for code in codes]
    points(canvas, x + jitter(len(x)) if grid.levels else x, heights, colours)
    return limits


def strips(codes: np.ndarray, count: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Return heights (obs,) of rows below zero, a strip for each class, and limits of the axis."""
    strip = min(STRIP, STRIPS / count)
    heights = -MARGIN - strip * (codes + 0.5) + 0.7 * strip * uneven(len(codes))
    return heights, (-2 * MARGIN - strip * count, 1 + MARGIN)


def uneven(n: int) -> np.ndarray:
    """Return numbers (obs,) between -0.5 and 0.5, not in step with the horizontal jitter."""
    return np.arange(n) * 2**0.5 % 1 - 0.5


def _entries(
    canvas: Canvas, fit: Fit, grid: Grid, probabilities: Sequence[float]
) -> dict[str, Look]:
    """Return legend entries of the classes and the bands."""
    entries = {str(label): mean_entry(grid, c) for label, c in canvas.colours.items()}
    if not fit.is_point:
        ink = DOTS.interval_look["color"] if grid.levels else "B2"
        entries |= band_entries(probabilities, grid, ink)
    return entries

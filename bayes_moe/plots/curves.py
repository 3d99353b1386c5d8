"""Plots of gate weights, experts and predictions against one feature.

All have the same signature and return an arviz-plots ``PlotCollection``. They show
:func:`bayes_moe.predict` on a grid of reference rows. Long chains are thinned
(:func:`bayes_moe.plots.reference.few_draws`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import AVERAGE
from bayes_moe.data.reference_grid import Grid, choose_feature, plain_name
from bayes_moe.plots.canvas import (
    DOTS,
    Canvas,
    Look,
    axis_limits,
    curves,
    dodge,
    jitter,
    label_axes,
    open_canvas,
)
from bayes_moe.plots.data_points import draw_rows, marks_of_rows, row_entries
from bayes_moe.plots.legends import (
    add_legend,
    band_entries,
    expert_entries,
    mean_entry,
)
from bayes_moe.plots.reference import (
    band_probabilities,
    density_bands,
    expert_stems,
    feature_grid,
    few_draws,
    fixed_columns,
    mean_responsibilities,
    over_draws,
    shown_rows,
)
from bayes_moe.plots.ticks import feature_ticks, whole_ticks
from bayes_moe.prediction.predict import predict, predict_one
from bayes_moe.prediction.predictive import Predictive
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

LEAST_WEIGHT = 0.05
GREY = "#a8a8a8"
DARK_GREY = "#606060"
KINDS = {"interval": "interval", "hdr": "highest-density set"}


def plot_gate(
    fit: Fit,
    feature: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    ci_prob: float | Sequence[float] | None = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot each expert's gate weight ``w_k(x)`` against a feature.

    The line is the posterior mean, the band the equal-tailed credible interval over draws. A
    categorical feature gives points and intervals by category.

    Parameters
    ----------
    fit : Fit
        A fit with at least two experts.
    feature : str, optional
        A column; by default the gate's only numeric column, or its only column.
    at : mapping of str to value, optional
        Values to fix other columns at, in their own units. By default numeric columns are fixed
        at their median and others at their most frequent category.
    ci_prob : float or sequence of float, optional
        Probability inside the band, or one a band; by default ArviZ's
        ``rcParams["stats.ci_prob"]``.
    plot_collection : PlotCollection, optional
        Draw into this one, which must map ``color`` to the dimension ``expert``; a legend that
        it has is kept.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``pe_line``, ``ci_band``, ``xlabel``, ``ylabel`` and
        ``legend``; False leaves a part out.
    **pc_kwargs
        Passed to :meth:`arviz_plots.PlotCollection.wrap`, for example
        ``figure_kwargs={"figsize": (6, 4)}`` or ``color=["black", "red"]``.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by expert.

    Raises
    ------
    SpecError
        If there is one expert, or ``feature`` is needed; the message names the candidates.
    DataError
        For columns that the model does not use, and categories that were not observed.

    Examples
    --------
    >>> pc = bm.plot_gate(fit, ci_prob=0.9)  # doctest: +SKIP
    >>> pc.savefig("gate.png")  # doctest: +SKIP
    """
    if fit.spec.n_experts == 1:
        raise SpecError("The fit has one expert, whose gate weight is 1: there is no gate to plot.")
    stems = list(fit.spec.gate.formulas)
    grid = _grid(fit, feature, stems, at)
    probabilities = band_probabilities(ci_prob)
    few = few_draws(fit, len(grid.rows))
    weights = predict(few, grid.rows, unseen=AVERAGE).weights(draws=True)
    mean, band = over_draws(weights, probabilities)
    canvas = open_canvas(plot_collection, backend, visuals, mean, pc_kwargs)
    curves(canvas, grid, mean, band)
    canvas.set("set_ylim", limits=(-0.02, 1.02))  # lines at 0 and 1 keep their width
    label_axes(canvas, grid, "gate weight")
    entries = _expert_and_band_entries(canvas, fit, grid, probabilities)
    add_legend(canvas, entries, fixed_columns(fit, grid, stems))
    _set_ticks(canvas, grid)
    return canvas.collection


def plot_experts(
    fit: Fit,
    feature: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    ci_prob: float | Sequence[float] | None = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot each expert's location against a feature, over the data.

    The location is the expert's mean, or the centre of a Student t, which may have no mean. The
    line is its posterior mean, the band its equal-tailed credible interval over draws. Where an
    expert's gate weight is below 5 %, its line is thin and dotted and has no band. The response
    axis covers the data and the lines in use.

    A censored row is a triangle at its limit, which points to where its response is, or a
    diamond in the middle of its interval. A row of the data has the colour of its most
    responsible expert, mixed with grey the more the smaller the lead ``r_1 - r_2`` of that
    expert's posterior mean responsibility over the next one's: full colour is certain, grey is
    undecided. This has the same meaning for any number of experts, which a mixture of all their
    colours would not. With a categorical feature, points are beside their expert, with a
    horizontal jitter.

    Parameters
    ----------
    fit : Fit
        A fit.
    feature : str, optional
        A column; by default the experts' only numeric column, or their only column.
    at, ci_prob, plot_collection, backend, visuals, **pc_kwargs
        As in :func:`plot_gate`; a further part is ``observed_scatter``. Rows of the data are shown
        if they have the categories that the experts' columns are fixed at, whatever their values in
        numeric columns, and the legend says so. The backend bokeh cannot colour points one by
        one: give ``visuals={"observed_scatter": {"facecolor": "grey"}}``.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by expert. Of more than 2000 rows a random 2000 are shown, and
        the legend has the number.

    Raises
    ------
    SpecError
        If ``feature`` is needed; the message names the candidates.
    DataError
        For columns that the model does not use, and categories that were not observed.

    Examples
    --------
    >>> pc = bm.plot_experts(fit, "x", at={"group": "b"})  # doctest: +SKIP
    """
    label, response = fit.one_response("bm.plot_experts")
    grid = _grid(fit, feature, expert_stems(fit), at)
    probabilities = band_probabilities(ci_prob)
    predictive = _predict(fit, grid)
    mean, band = over_draws(predictive.expert_locations(draws=True), probabilities)
    used = predictive.weights() >= LEAST_WEIGHT
    canvas = open_canvas(plot_collection, backend, visuals, mean, pc_kwargs)
    shown = shown_rows(fit, grid, expert_stems(fit))
    _draw_responsible(canvas, fit, grid, shown.rows)
    curves(canvas, grid, mean, band, used)
    limits = axis_limits(response[shown.rows], mean.where(used))
    canvas.set("set_ylim", limits=limits)
    label_axes(canvas, grid, plain_name(label))
    entries = _expert_and_band_entries(canvas, fit, grid, probabilities)
    what, colour = "undecided data", GREY
    if fit.spec.n_experts == 1:
        what, colour = "data", next(iter(canvas.colours.values()))
    entries |= row_entries(canvas, shown.label(what), colour, marks_of_rows(fit)[shown.rows])
    add_legend(canvas, entries, grid.fixed)
    _set_ticks(canvas, grid, fit, limits)
    return canvas.collection


def plot_predictive(
    fit: Fit,
    feature: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    kind: Literal["interval", "hdr"] = "interval",
    ci_prob: float | Sequence[float] | None = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot the posterior predictive distribution against a feature, over the data.

    The line is the predictive mean ``E[y | x]``, or the median where there is no mean (Student t
    with ``nu <= 1``). The bands contain a new response with their probability. By default they are
    equal-tailed predictive intervals, which include the unlikely responses between two humps of a
    distribution; highest-density sets leave these out, and then consist of several bands. The
    response of a censored or truncated row is predicted as if nothing were cut off; censored rows
    are marked as in :func:`plot_experts`.

    Parameters
    ----------
    fit : Fit
        A fit.
    feature : str, optional
        A column; by default the model's only numeric column, or its only column.
    kind : {"interval", "hdr"}
        Equal-tailed intervals, or the highest-density sets of :meth:`Predictive.hdr`. Those of a
        discrete family are drawn a quarter beyond their least and greatest numbers.
    ci_prob : float or sequence of float, optional
        Probability inside the band, or one a band; by default 0.5 and ArviZ's
        ``rcParams["stats.ci_prob"]``.
    at, plot_collection, backend, visuals, **pc_kwargs
        As in :func:`plot_experts`; rows are shown if they have the categories that the model's
        columns are fixed at.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``. Of more than 2000 rows a random 2000 are shown, and the legend
        has the number.

    Raises
    ------
    SpecError
        If ``feature`` is needed, the message names the candidates; and for another ``kind``.
    DataError
        For columns that the model does not use, and categories that were not observed.

    Examples
    --------
    >>> pc = bm.plot_predictive(fit, "x", ci_prob=(0.5, 0.9))  # doctest: +SKIP
    >>> pc = bm.plot_predictive(fit, "x", kind="hdr")  # doctest: +SKIP
    """
    check_one_of("kind", kind, [*KINDS])
    label, values = fit.one_response("bm.plot_predictive")
    stems = [s for s in fit.design.formulas if s not in fit.spec.structure.row_count_formulas]
    grid = _grid(fit, feature, stems, at)
    probabilities = band_probabilities(ci_prob, 0.5)
    predictive = _predict(fit, grid)
    centre, centre_name = _centre(predictive)
    band, ranks = _predictive_bands(predictive, probabilities, grid, kind)
    canvas = open_canvas(plot_collection, backend, visuals, centre, pc_kwargs)
    shown = shown_rows(fit, grid, stems)
    response = values[shown.rows]
    x = grid.positions(fit.design.columns.iloc[shown.rows])
    marks = marks_of_rows(fit)[shown.rows]
    draw_rows(canvas, x + jitter(len(x)) if grid.levels else x, response, DARK_GREY, marks)
    curves(canvas, grid, centre, band, ranks=ranks, color="C0")
    label_axes(canvas, grid, plain_name(label))
    entries = {centre_name: mean_entry(grid, "C0")}
    entries |= band_entries(probabilities, grid, "C0", KINDS[kind])
    entries |= row_entries(canvas, shown.label("data"), DARK_GREY, marks)
    add_legend(canvas, entries, grid.fixed)
    _set_ticks(canvas, grid, fit, axis_limits(response, band))
    return canvas.collection


def _centre(predictive: Predictive) -> tuple[xr.DataArray, str]:
    """Return the predictive means (obs_id), or the medians if there are no means."""
    mean = predictive.mean()
    # One draw with nu <= 1 is enough for the mean to be missing.
    return (mean, "mean") if np.isfinite(mean).all() else (predictive.quantile(0.5), "median")


def _predictive_bands(
    predictive: Predictive, probabilities: Sequence[float], grid: Grid, kind: str
) -> tuple[xr.DataArray, list[int]]:
    """Return bands (prob, obs_id, ci_bound), and each one's rank among the probabilities."""
    import xarray as xr

    if kind == "hdr":
        return density_bands(predictive, probabilities, grid)
    intervals = [predictive.interval(p) for p in probabilities]
    band = xr.concat(intervals, dim=names.INTERVAL_PROBABILITY)
    return band, list(range(len(probabilities)))


def _set_ticks(
    canvas: Canvas, grid: Grid, fit: Fit | None = None, limits: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Fit the labels of categories into the axis, and give axes of counts whole numbers only.

    ``limits`` are those of the response's axis, of a plot that has one.
    """
    if fit is not None and fit.spec.structure.discrete:
        whole_ticks(canvas, "y", limits)
    feature_ticks(canvas, grid)


def _grid(
    fit: Fit, feature: str | None, stems: Sequence[str], at: Mapping[str, Any] | None
) -> Grid:
    """Return the grid over a feature, by default the only one of the predictors ``stems``."""
    counts = fit.spec.structure.row_count_formulas
    return feature_grid(fit, choose_feature(fit.design, feature, stems, counts), at)


def _predict(fit: Fit, grid: Grid) -> Predictive:
    return predict_one(few_draws(fit, len(grid.rows)), grid.rows)


def _expert_and_band_entries(
    canvas: Canvas, fit: Fit, grid: Grid, probabilities: Sequence[float]
) -> dict[str, Look]:
    """Return legend entries of the experts, and of their bands unless the fit is one mode."""
    entries = expert_entries(canvas, grid)
    ink = DOTS.interval_look["color"] if grid.levels else "B2"
    return entries if fit.is_point else entries | band_entries(probabilities, grid, ink)


def _draw_responsible(canvas: Canvas, fit: Fit, grid: Grid, rows: np.ndarray) -> None:
    """Draw rows of the data in their experts' colours; on categories, beside their expert."""
    if not len(rows):
        return
    table, experts = fit.design.columns.iloc[rows], fit.spec.n_experts
    share = mean_responsibilities(fit, table)  # (obs, expert)
    x = grid.positions(table)
    if grid.levels:
        x = x + dodge(experts)[share.argmax(axis=1)] + jitter(len(x), experts)
    response = fit.one_response()[1]
    colours = blend(list(canvas.colours.values()), share)
    draw_rows(canvas, x, response[rows], colours, marks_of_rows(fit)[rows])


def blend(colours: Sequence[str], share: np.ndarray) -> list[str]:
    """Return each row's colour: its first expert's, greyer the smaller the lead over the second."""
    from matplotlib.colors import to_hex, to_rgb

    palette, grey = np.array([to_rgb(c) for c in colours]), np.array(to_rgb(GREY))
    # The zero is the second-largest responsibility if there is one expert.
    ranked = np.sort(np.pad(share, ((0, 0), (1, 0))), axis=1)
    lead = (ranked[:, -1] - ranked[:, -2])[:, None]
    return [to_hex(c) for c in grey + lead * (palette[share.argmax(axis=1)] - grey)]

"""Pictures of a fit against one feature, on arviz-plots' ``PlotCollection``.

All share one signature. Their numbers come from :func:`bayes_moe.predict` on a grid of reference
rows (:func:`bayes_moe.data.reference_grid.grid_along`). Of a long chain only evenly spaced draws
are used: as many as keep (draw, point, expert) within ``MOST_VALUES``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.reference_grid import Grid, choose_feature, columns_of, grid_along, plain_name
from bayes_moe.plots.canvas import (
    BOUND,
    PROB,
    Canvas,
    add_legend,
    band_entries,
    curves,
    dodge,
    expert_entries,
    jitter,
    label_axes,
    open_canvas,
    point_entries,
    points,
)
from bayes_moe.prediction.predict import predict, responsibilities, thinned
from bayes_moe.prediction.predictive import Predictive
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from arviz_plots import PlotCollection

MOST_VALUES = 2**21
MOST_ROWS = 2000
LEAST_WEIGHT = 0.05
GREY = "#a8a8a8"
DARK_GREY = "#606060"


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
        Where to hold other columns, in their own units. By default numeric columns are held at
        their median and others at their most frequent category.
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
    grid = _walk(fit, feature, stems, at)
    probabilities = band_probabilities(ci_prob)
    mean, band = over_draws(_predict(fit, grid.rows).weights(draws=True), probabilities)
    canvas = open_canvas(plot_collection, backend, visuals, mean, pc_kwargs)
    curves(canvas, grid, mean, band)
    canvas.set("set_ylim", limits=(-0.02, 1.02))
    label_axes(canvas, grid, "gate weight")
    entries = expert_entries(canvas)
    if not fit.is_point:  # one mode has no band
        entries |= band_entries(probabilities, grid, "B2")
    relevant = columns_of(fit.design, stems)
    add_legend(canvas, entries, {c: v for c, v in grid.held.items() if c in relevant})
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

    A row of the data has the colour of its most responsible expert, mixed with grey the more
    the smaller the lead ``r_1 - r_2`` of that expert's posterior mean responsibility over the
    next one's: full colour is certain, grey is undecided. This reads the same for any number of
    experts, where a mixture of all their colours would not. With a categorical feature, points
    stand beside their expert and are spread sideways.

    Parameters
    ----------
    fit : Fit
        A fit.
    feature : str, optional
        A column; by default the experts' only numeric column, or their only column.
    at, ci_prob, plot_collection, backend, visuals, **pc_kwargs
        As in :func:`plot_gate`; a further part is ``observed_scatter``. All rows of the data are
        shown, whatever other columns are held at. The backend bokeh cannot colour points one by
        one: give ``visuals={"observed_scatter": {"facecolor": "grey"}}``.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by expert. Of more than 2000 rows a random 2000 are shown, and
        the legend says so.

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
    stems = [stem for block in fit.spec.blocks for stem in block.formulas]
    grid = _walk(fit, feature, stems, at)
    probabilities = band_probabilities(ci_prob)
    seen = _predict(fit, grid.rows)
    mean, band = over_draws(seen.expert_locations(draws=True), probabilities)
    used = seen.weights() >= LEAST_WEIGHT
    canvas = open_canvas(plot_collection, backend, visuals, mean, pc_kwargs)
    rows = shown_rows(fit)
    _draw_responsible(canvas, fit, grid, rows)
    curves(canvas, grid, mean, band, used)
    canvas.set("set_ylim", limits=span(fit.design.response[rows], mean.where(used)))
    label_axes(canvas, grid, plain_name(fit.spec.response))
    entries = expert_entries(canvas)
    if not fit.is_point:  # one mode has no band
        entries |= band_entries(probabilities, grid, "B2")
    if fit.spec.n_experts > 1:
        entries |= point_entries(canvas, counted("undecided data", fit, rows), GREY)
    add_legend(canvas, entries, grid.held)
    return canvas.collection


def plot_predictive(
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
    """Plot the posterior predictive distribution against a feature, over the data.

    The line is the predictive mean ``E[y | x]``, or the median where there is no mean (Student t
    with ``nu <= 1``). The bands are equal-tailed predictive intervals: they hold a new response
    with their probability.

    Parameters
    ----------
    fit : Fit
        A fit.
    feature : str, optional
        A column; by default the model's only numeric column, or its only column.
    ci_prob : float or sequence of float, optional
        Probability inside the band, or one a band; by default 0.5 and ArviZ's
        ``rcParams["stats.ci_prob"]``.
    at, plot_collection, backend, visuals, **pc_kwargs
        As in :func:`plot_experts`.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``. Of more than 2000 rows a random 2000 are shown, and the legend
        says so.

    Raises
    ------
    SpecError
        If ``feature`` is needed; the message names the candidates.
    DataError
        For columns that the model does not use, and categories that were not observed.

    Examples
    --------
    >>> pc = bm.plot_predictive(fit, "x", ci_prob=(0.5, 0.9))  # doctest: +SKIP
    """
    import xarray as xr

    stems = [s for s in fit.design.formulas if s not in fit.spec.known_formulas]
    grid = _walk(fit, feature, stems, at)
    probabilities = band_probabilities(ci_prob, 0.5)
    seen = _predict(fit, grid.rows)
    centre, centre_name = seen.mean(), "mean"
    if not np.isfinite(centre).all():
        centre, centre_name = seen.quantile(0.5), "median"
    band = xr.concat([seen.interval(p) for p in probabilities], dim=PROB)
    canvas = open_canvas(plot_collection, backend, visuals, centre, pc_kwargs)
    rows = shown_rows(fit)
    x = grid.positions(fit.design.columns.iloc[rows])
    if grid.levels:
        x = x + jitter(len(x))
    points(canvas, x, fit.design.response[rows], DARK_GREY)
    curves(canvas, grid, centre, band, color="C0")
    label_axes(canvas, grid, plain_name(fit.spec.response))
    entries = point_entries(canvas, centre_name, "C0") if grid.levels else {}
    entries = entries or {centre_name: {"color": "C0", "width": 2}}
    entries |= band_entries(probabilities, grid, "C0")
    entries |= point_entries(canvas, counted("data", fit, rows), DARK_GREY)
    add_legend(canvas, entries, grid.held)
    return canvas.collection


def _walk(
    fit: Fit, feature: str | None, stems: Sequence[str], at: Mapping[str, Any] | None
) -> Grid:
    """Rows along a feature, by default one of some predictors."""
    chosen = choose_feature(fit.design, feature, stems)
    return grid_along(fit.design, chosen, at, fit.spec.known_formulas)


def band_probabilities(given: float | Sequence[float] | None, *inner: float) -> list[float]:
    """Probabilities of the bands, the widest first."""
    from arviz_base import rcParams

    if given is None:
        given = (*inner, float(rcParams["stats.ci_prob"]))
    found = sorted({float(p) for p in np.atleast_1d(given)}, reverse=True)
    if not found or not all(0 < p < 1 for p in found):
        raise SpecError(f"`ci_prob` must lie strictly between 0 and 1; it is {given!r}.")
    return found


def _predict(fit: Fit, rows: pd.DataFrame) -> Predictive:
    return predict(_thinned(fit, len(rows)), rows)


def _thinned(fit: Fit, n_rows: int) -> Fit:
    """Keep evenly spaced draws: at most ``MOST_VALUES`` of (draw, point, expert)."""
    return thinned(fit, MOST_VALUES / (n_rows * fit.spec.n_experts))


def over_draws(
    values: xr.DataArray, probabilities: Sequence[float]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Posterior mean (...), and equal-tailed intervals (prob, ..., ci_bound)."""
    import xarray as xr

    sample = (names.CHAIN, names.DRAW)
    tails = [((1 - p) / 2, (1 + p) / 2) for p in probabilities]
    bands = [values.quantile(tail, sample).rename(quantile=BOUND) for tail in tails]
    named = [band.assign_coords({BOUND: ["lower", "upper"]}) for band in bands]
    return values.mean(sample), xr.concat(named, dim=PROB)


def span(*arrays: Any) -> tuple[float, float]:
    """Limits of an axis that shows all finite values, with a margin."""
    values = np.concatenate([np.ravel(a) for a in arrays])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def shown_rows(fit: Fit) -> np.ndarray:
    """Positions of the rows to draw: all, or a random ``MOST_ROWS`` (the same every time)."""
    n = fit.design.rows.size
    if n <= MOST_ROWS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, MOST_ROWS, replace=False))


def counted(label: str, fit: Fit, rows: np.ndarray) -> str:
    """Say in a label how many rows are shown, if not all."""
    n = fit.design.rows.size
    return label if len(rows) == n else f"{label}\n({len(rows)} of {n} rows shown)"


def _draw_responsible(canvas: Canvas, fit: Fit, grid: Grid, rows: np.ndarray) -> None:
    """Draw rows of the data in their experts' colours; on categories, beside their expert."""
    table = fit.design.columns.iloc[rows]
    draws = responsibilities(_thinned(fit, len(rows)), table)
    share = draws.mean((names.CHAIN, names.DRAW)).values  # (obs, expert)
    x, experts = grid.positions(table), fit.spec.n_experts
    if grid.levels:
        x = x + dodge(experts)[share.argmax(axis=1)] + jitter(len(x), experts)
    points(canvas, x, fit.design.response[rows], blend(list(canvas.colours.values()), share))


def blend(colours: Sequence[str], share: np.ndarray) -> list[str]:
    """Colour of each row: its first expert's, greyer the nearer the second one comes."""
    from matplotlib.colors import to_hex, to_rgb

    palette, grey = np.array([to_rgb(c) for c in colours]), np.array(to_rgb(GREY))
    ranked = np.sort(np.pad(share, ((0, 0), (1, 0))), axis=1)
    lead = (ranked[:, -1] - ranked[:, -2])[:, None]
    return [to_hex(c) for c in grey + lead * (palette[share.argmax(axis=1)] - grey)]

"""Plot of a forecast: history, predictive bands, and which expert is in charge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.reference_grid import plain_name
from bayes_moe.plots.canvas import BAND_ALPHA, Canvas, Look, axis_limits
from bayes_moe.plots.curves import DARK_GREY
from bayes_moe.plots.legends import add_legend
from bayes_moe.plots.reference import band_probabilities
from bayes_moe.plots.time_panels import (
    MOST_PANELS,
    PANEL,
    Trace,
    axis_names,
    band,
    expert_shares,
    fitted_times,
    has_dates,
    line,
    panels,
    plain_times,
    set_limits,
    strip,
    titles,
)
from bayes_moe.prediction.class_quantities import has_classes
from bayes_moe.prediction.forecast import forecast
from bayes_moe.prediction.forecast_result import Forecast
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    from arviz_plots import PlotCollection

HISTORY = 3
"""Default length of the history, in lengths of the forecast."""
LEAST_HISTORY = 50
INK = "#1a1a1a"
"""Colour of the forecast, which is no expert's."""


def plot_forecast(
    ahead: Forecast | Fit,
    *,
    history: int | None = None,
    ci_prob: float | Sequence[float] | None = None,
    series: Any = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot a forecast after the end of each series.

    The line is the predictive mean (the median where a Student t has no mean), the bands contain
    the response of a step with their probability. A strip below shows the weights of the experts at
    each step, stacked in their colours: which expert is in charge. The dotted line is at the last
    fitted row.

    Parameters
    ----------
    ahead : Forecast or Fit
        A forecast; of a fit, :func:`forecast` of 48 steps.
    history : int, optional
        Number of fitted rows shown before; by default three times the steps, at least 50.
    ci_prob : float or sequence of float, optional
        Probability inside the band, or one a band; by default 0.5 and ArviZ's
        ``rcParams["stats.ci_prob"]``.
    series : label or list of labels, optional
        Which series of the forecast; by default the first 6.
    plot_collection : PlotCollection, optional
        Draw into this one, with panels by the dimension ``panel`` and colours by ``expert``.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``history``, ``pe_line``, ``ci_band``, ``weights``, ``last``,
        ``title``, ``xlabel``, ``ylabel`` and ``legend``; False leaves a part out.
    **pc_kwargs
        As in :func:`plot_gate`.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by panel.

    Raises
    ------
    SpecError
        For a response of classes, which has no axis of numbers: see
        :meth:`Forecast.probabilities`.
    DataError
        For series that the forecast does not have.

    Examples
    --------
    >>> pc = bm.plot_forecast(bm.forecast(fit, 48), ci_prob=(0.5, 0.9))  # doctest: +SKIP
    """
    found = ahead if isinstance(ahead, Forecast) else forecast(ahead)
    if has_classes(found.fit):
        raise SpecError(
            "bm.plot_forecast is of numbers; the response is a class: read its probabilities by "
            "step, bm.forecast(fit).probabilities()."
        )
    if history is not None:
        check_whole("history", history, 0)
    shown = _shown_series(found, series)
    probabilities = band_probabilities(ci_prob, 0.5)
    past = _history(found, shown, history)
    mean, bounds = _centre(found), [found.interval(p).values for p in probabilities]
    ahead_x = _times(found)
    experts = {names.EXPERT: found.fit.spec.expert_labels} if found.fit.spec.n_experts > 1 else {}
    labels = [str(found.ahead.series[j]) for j in shown]
    canvas = panels({PANEL: labels, **experts}, (plot_collection, backend, visuals), pc_kwargs)
    by_series = [b.reshape(*ahead_x.shape, 2) for b in bounds]
    lines, bands, limits = {}, {}, {}
    for label, j in zip(labels, shown, strict=True):
        own = np.stack([b[j] for b in by_series], axis=1)
        lines[label] = Trace(ahead_x[j], mean.reshape(ahead_x.shape)[j])
        bands[label] = Trace(ahead_x[j], own)
        limits[label] = axis_limits(past[label].y, own, lines[label].y)
    line(canvas, "history", past, color=DARK_GREY, width=1)
    band(canvas, bands, color=INK, alpha=BAND_ALPHA)
    line(canvas, "pe_line", lines, color=INK, width=1.6)
    _mark_the_end(canvas, past, limits)
    if experts:
        weights = found.weights().values.reshape(*ahead_x.shape, -1)
        pairs = zip(labels, shown, strict=True)
        strip(canvas, {label: Trace(ahead_x[j], weights[j]) for label, j in pairs}, limits)
    _finish(canvas, found, labels, limits, probabilities)
    return canvas.collection


def _shown_series(found: Forecast, series: Any) -> list[int]:
    """Positions of the series of a forecast that are shown."""
    from bayes_moe.core.errors import DataError, unknown

    every = found.ahead.series
    if series is None:
        return list(range(min(len(every), MOST_PANELS)))
    wanted = list(series) if isinstance(series, list | tuple | np.ndarray) else [series]
    for label in wanted:
        if label not in every:
            raise DataError(unknown("series of the forecast", label, every))
    return [every.index(label) for label in wanted]


def _history(found: Forecast, shown: Sequence[int], history: int | None) -> dict[str, Trace]:
    """Last fitted rows of each series that is shown."""
    future, design = found.future, found.fit.design
    assert future is not None
    series, timeline = design.rows.observation.series, design.past.timeline
    assert series is not None
    assert timeline is not None
    count = max(HISTORY * future.steps, LEAST_HISTORY) if history is None else history
    response = found.fit.one_response("bm.plot_forecast")[1]
    traces = {}
    for j in shown:
        rows = np.flatnonzero(series == future.codes[j])
        rows = rows[max(0, len(rows) - count) :]
        traces[str(future.series[j])] = Trace(fitted_times(found.fit, rows), response[rows])
    return traces


def _times(found: Forecast) -> np.ndarray:
    """Times (series, step) of the forecast as plots take them."""
    future, timeline = found.future, found.fit.design.past.timeline
    assert future is not None
    assert timeline is not None
    return plain_times(future.table[timeline.columns.time]).reshape(future.times.shape)


def _centre(found: Forecast) -> np.ndarray:
    """Means (row,), or medians if there are no means."""
    mean = found.mean().values.ravel()
    return mean if np.isfinite(mean).all() else found.quantile(0.5).values.ravel()


def _mark_the_end(
    canvas: Canvas, past: Mapping[str, Trace], limits: Mapping[str, tuple[float, float]]
) -> None:
    """Draw a dotted line at the last fitted row of each panel."""
    ends = {
        label: Trace(trace.x[[-1, -1]], np.array(limits[label]))
        for label, trace in past.items()
        if len(trace.x)
    }
    if len(ends) == len(past):
        line(canvas, "last", ends, color=DARK_GREY, width=1, linestyle="C2")


def _finish(
    canvas: Canvas,
    found: Forecast,
    labels: Sequence[str],
    limits: Mapping[str, tuple[float, float]],
    probabilities: Sequence[float],
) -> None:
    """Set axes, titles and legend."""
    timeline = found.fit.design.past.timeline
    assert timeline is not None
    response = plain_name(found.fit.responses[0])
    strips = found.fit.spec.n_experts > 1
    set_limits(canvas, limits, strips, has_dates(timeline))
    if timeline.columns.series is not None:
        titles(canvas, {label: f"{timeline.columns.series} {label}" for label in labels})
    axis_names(canvas, str(timeline.columns.time), dict.fromkeys(labels, response))
    entries: dict[str, Look] = {"fitted rows": {"color": DARK_GREY, "width": 1}}
    entries["forecast"] = {"color": INK, "width": 1.6}
    for j, p in enumerate(probabilities):
        shade = 1 - (1 - BAND_ALPHA) ** (j + 1)
        entries[f"{100 * p:g} % interval"] = {"color": INK, "width": 8, "alpha": shade}
    if strips:
        entries |= expert_shares(canvas)
    add_legend(canvas, entries, {})

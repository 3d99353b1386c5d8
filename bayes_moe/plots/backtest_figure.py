"""Plot of a backtest: scores by step, origin or series, beside those of naive forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import SpecError
from bayes_moe.diagnostics.backtest_table import BY, FORECAST, ORIGIN, SERIES, STEP, Backtest
from bayes_moe.plots.canvas import Canvas, Look, axis_limits
from bayes_moe.plots.curves import DARK_GREY
from bayes_moe.plots.legends import add_legend
from bayes_moe.plots.time_panels import PANEL, Trace, axis_names, line, panels, set_limits, stacked

if TYPE_CHECKING:
    from arviz_plots import PlotCollection

COVERAGE = {"coverage_80": 0.8, "coverage_95": 0.95}
"""Scores that are shares of values inside intervals, and the probabilities of these."""
NAMES = {"log_score": "log score", "coverage_80": "inside 80 %", "coverage_95": "inside 95 %"}
SCORES = ("MASE", "RMSSE", "CRPS", "log_score", *COVERAGE)
SHOWN = ("MASE", "CRPS", *COVERAGE)

BACKTEST_PARTS = ("pe_line", "pe_scatter", "nominal", "xlabel", "ylabel", "legend")
X_NAMES = {STEP: "steps ahead", ORIGIN: "origin", SERIES: "series"}


def plot_backtest(
    found: Backtest,
    *,
    by: str = STEP,
    scores: str | Sequence[str] = SHOWN,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot the scores of a backtest, one panel for each score.

    Points are the means of :meth:`Backtest.scores`, those of the model and of the seasonal naive
    forecasts in two colours. In panels of coverage the dotted line is at the probability of the
    intervals, where calibrated forecasts are.

    Parameters
    ----------
    found : Backtest
        The result of :func:`backtest`.
    by : {"step", "origin", "series"}
        What is along the horizontal axis: steps ahead, the time of the last row that forecasts may
        know, or the series.
    scores : str or sequence of str
        Which scores of ``"MASE"``, ``"RMSSE"``, ``"CRPS"``, ``"log_score"``, ``"coverage_80"`` and
        ``"coverage_95"``.
    plot_collection : PlotCollection, optional
        Draw into this one, with panels by the dimension ``panel`` and colours by ``forecast``.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``pe_line``, ``pe_scatter``, ``nominal``, ``xlabel``,
        ``ylabel`` and ``legend``; False leaves a part out.
    **pc_kwargs
        As in :func:`plot_gate`.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by panel and forecast.

    Raises
    ------
    SpecError
        For anything but a backtest, unknown scores or axes, and a collection without colours of
        forecasts.

    Examples
    --------
    >>> found = bm.backtest(spec, table, horizon=11, season=11)  # doctest: +SKIP
    >>> pc = bm.plot_backtest(found, by="origin", scores="CRPS")  # doctest: +SKIP
    """
    if not isinstance(found, Backtest):
        raise SpecError(
            f"bm.plot_backtest shows the result of bm.backtest, got {type(found).__name__}."
        )
    check_one_of("`by`", by, BY)
    wanted = [scores] if isinstance(scores, str) else list(scores)
    if not wanted:
        raise SpecError(f"`scores` must name at least one of {', '.join(SCORES)}.")
    for name in wanted:
        check_one_of("score", name, SCORES)
    forecasts = [str(v) for v in found.results[FORECAST].values]
    table = found.scores(by)
    x = _places(found, by)
    traces = {n: Trace(x, table[n].to_numpy().reshape(len(x), -1)) for n in dict.fromkeys(wanted)}
    data = {PANEL: list(traces), FORECAST: forecasts}
    canvas = panels(data, (plot_collection, backend, visuals), pc_kwargs, BACKTEST_PARTS)
    _draw(canvas, traces, forecasts, lines=by != SERIES)
    _finish(canvas, found, by, traces)
    return canvas.collection


def _places(found: Backtest, by: str) -> np.ndarray:
    """Places (point,) on the horizontal axis: steps, times of origins, or positions of series."""
    values = found.results[by].values
    return np.arange(len(values)) if by == SERIES else np.asarray(values)


def _draw(
    canvas: Canvas, traces: Mapping[str, Trace], forecasts: Sequence[str], *, lines: bool
) -> None:
    """Draw points of all forecasts, lines between them, and where coverage should be."""
    from arviz_plots.visuals import line_xy, scatter_xy

    nominal = {
        n: Trace(t.x, np.full(len(t.x), COVERAGE[n])) for n, t in traces.items() if n in COVERAGE
    }
    others = {n: Trace(t.x, np.full(len(t.x), np.nan)) for n, t in traces.items()}
    if nominal:
        line(canvas, "nominal", others | nominal, color=DARK_GREY, width=1, linestyle="C2")
    x, values = stacked(traces, canvas)
    values = values.rename(part_0=FORECAST).assign_coords({FORECAST: list(forecasts)})
    if lines:
        canvas.draw("pe_line", line_xy, values, {"x": x, "width": 1.6})
    canvas.draw("pe_scatter", scatter_xy, values, {"x": x, "size": 18 if lines else 40})


def _finish(canvas: Canvas, found: Backtest, by: str, traces: Mapping[str, Trace]) -> None:
    """Set axes and legend."""
    limits = {
        n: axis_limits(t.y, [COVERAGE[n]] if n in COVERAGE else []) for n, t in traces.items()
    }
    dates = by == ORIGIN and np.asarray(found.results[ORIGIN].values).dtype.kind == "M"
    set_limits(canvas, limits, False, dates)
    if by == SERIES:
        labels = [canvas.text(str(label)) for label in found.results[SERIES].values]
        canvas.set("set_xticks", values=list(range(len(labels))), labels=labels)
    axis_names(canvas, X_NAMES[by], {n: NAMES.get(n, n) for n in traces})
    entries: dict[str, Look] = {n: {"color": c, "width": 2} for n, c in canvas.colours.items()}
    if any(n in COVERAGE for n in traces):
        entries["probability of the interval"] = {
            "color": DARK_GREY,
            "width": 1,
            "linestyle": "C2",
        }
    add_legend(canvas, entries, {})

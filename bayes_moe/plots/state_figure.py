"""Plot of the experts over time: the response, and the probabilities of the experts below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.reference_grid import plain_name
from bayes_moe.plots.canvas import Look, axis_limits
from bayes_moe.plots.curves import DARK_GREY
from bayes_moe.plots.legends import add_legend
from bayes_moe.plots.reference import few_draws
from bayes_moe.plots.time_panels import (
    PANEL,
    Trace,
    axis_names,
    chosen_series,
    expert_shares,
    fitted_times,
    has_dates,
    line,
    panels,
    set_limits,
    strip,
    titles,
)
from bayes_moe.prediction.future_rows import timeline_of
from bayes_moe.prediction.predict import row_responsibilities
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    from arviz_plots import PlotCollection

STATE_PARTS = ("history", "weights", "title", "xlabel", "ylabel", "legend")


def plot_states(
    fit: Fit,
    *,
    series: Any = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot the response over time, and which expert made it.

    The strip below the response shows the experts' posterior mean probabilities at each row,
    stacked in their colours: smoothed probabilities given the whole series under a Markov gate,
    else responsibilities given the row. Of more than 600 rows of a series, the strip has averages
    of neighbouring ones.

    Parameters
    ----------
    fit : Fit
        A fit with several experts of a model with ``time=``.
    series : label or list of labels, optional
        Which series; by default the first 6.
    plot_collection : PlotCollection, optional
        Draw into this one, with panels by the dimension ``panel`` and colours by ``expert``.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``history``, ``weights``, ``title``, ``xlabel``, ``ylabel``
        and ``legend``; False leaves a part out.
    **pc_kwargs
        As in :func:`plot_gate`.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by panel.

    Raises
    ------
    SpecError
        For a model with one expert, without ``time=`` or with several responses (take a
        :func:`margin`).
    DataError
        For series that were not fitted.

    Examples
    --------
    >>> pc = bm.plot_states(fit, series="a")  # doctest: +SKIP
    """
    name, response = fit.one_response("bm.plot_states")
    timeline = timeline_of(fit)
    if fit.spec.n_experts == 1:
        raise SpecError("The fit has one expert, which made every row: there are no states.")
    codes = chosen_series(timeline, series, "plot_states")
    labels = [str(timeline.labels[code]) for code in codes]
    few = few_draws(fit, fit.design.rows.size)
    shares = row_responsibilities(few).mean((names.CHAIN, names.DRAW)).values
    number = fit.design.rows.observation.series
    lines, strips, limits = {}, {}, {}
    for label, code in zip(labels, codes, strict=True):
        rows = np.flatnonzero(number == code)
        times = fitted_times(fit, rows)
        lines[label], strips[label] = Trace(times, response[rows]), Trace(times, shares[rows])
        limits[label] = axis_limits(response[rows])
    experts = {names.EXPERT: fit.spec.expert_labels}
    settings = (plot_collection, backend, visuals)
    canvas = panels({PANEL: labels, **experts}, settings, pc_kwargs, STATE_PARTS)
    line(canvas, "history", lines, color=DARK_GREY, width=1)
    strip(canvas, strips, limits)
    set_limits(canvas, limits, True, has_dates(timeline))
    if timeline.columns.series is not None:
        titles(canvas, {label: f"{timeline.columns.series} {label}" for label in labels})
    axis_names(canvas, str(timeline.columns.time), dict.fromkeys(labels, plain_name(name)))
    entries: dict[str, Look] = {"fitted rows": {"color": DARK_GREY, "width": 1}}
    add_legend(canvas, entries | expert_shares(canvas), {})
    return canvas.collection

"""Plot of the parts of the experts' locations over time: trend, seasons, lags and other terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.model.blocks import Component
from bayes_moe.plots.canvas import BAND_ALPHA, Canvas, Look, axis_limits
from bayes_moe.plots.legends import add_legend
from bayes_moe.plots.reference import band_probabilities, few_draws
from bayes_moe.plots.time_panels import (
    PANEL,
    PARTS,
    Trace,
    axis_names,
    chosen_series,
    fitted_times,
    has_dates,
    of_experts,
    panels,
    set_limits,
    titles,
)
from bayes_moe.prediction.future_rows import timeline_of
from bayes_moe.predictors.linear import Linear
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    from arviz_plots import PlotCollection

LAGS, OTHER = "rows before", "other terms"
LOOK_BACK = ("lag(", "diff(", "rolling(")
OWN = ("trend(", "season(")
"""Calls that have a panel of their own."""


def plot_components(
    fit: Fit,
    *,
    series: Any = None,
    ci_prob: float | Sequence[float] | None = None,
    plot_collection: PlotCollection | None = None,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    r"""Plot what each term adds to the experts' locations over time.

    A panel shows :math:`\sum_{j \in C} \beta_{kj} (x_{tj} - \bar x_j)` of the columns :math:`C` of
    a ``trend(...)``, of a ``season(...)``, of all terms that look at rows before (``lag``, ``diff``
    and ``rolling``), and of all other terms, on the scale of the linear predictor, about the mean
    over all fitted rows. Lines are posterior means, bands equal-tailed credible intervals over
    draws, in the colours of the experts.

    Parameters
    ----------
    fit : Fit
        A fit whose experts have linear predictors, of a model with ``time=``.
    series : label, optional
        Which series; by default the first.
    ci_prob : float or sequence of float, optional
        Probability inside the band, or one a band; by default ArviZ's
        ``rcParams["stats.ci_prob"]``.
    plot_collection : PlotCollection, optional
        Draw into this one, with panels by the dimension ``panel`` and colours by ``expert``.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``pe_line``, ``ci_band``, ``title``, ``xlabel``, ``ylabel``
        and ``legend``; False leaves a part out.
    **pc_kwargs
        As in :func:`plot_gate`.

    Returns
    -------
    PlotCollection
        Its parts are in ``.viz``, by panel and expert.

    Raises
    ------
    SpecError
        For predictors that are no sums of terms, models without ``time=`` or without terms, with
        several responses (take a :func:`margin`), and more than one series.
    DataError
        For series that were not fitted.

    Examples
    --------
    >>> pc = bm.plot_components(fit, ci_prob=0.9)  # doctest: +SKIP
    """
    fit.one_response("bm.plot_components")
    timeline = timeline_of(fit)
    codes = chosen_series(timeline, series, "plot_components")[: None if series else 1]
    if len(codes) != 1:
        raise SpecError("bm.plot_components shows one series at a time: give `series`.")
    rows = np.flatnonzero(fit.design.rows.observation.series == codes[0])
    probabilities = band_probabilities(ci_prob)
    parts = _parts(few_draws(fit, len(rows)), rows)
    if not parts:
        raise SpecError("The experts' locations have no terms over time: there is nothing to plot.")
    labels = list(parts)
    experts = {names.EXPERT: fit.spec.expert_labels}
    settings = (plot_collection, backend, visuals)
    shown = tuple(p for p in PARTS if p not in ("history", "weights", "last"))
    canvas = panels({PANEL: labels, **experts}, settings, pc_kwargs, shown)
    times = fitted_times(fit, rows)
    lines, bands, limits = {}, {}, {}
    for label, values in parts.items():  # (draw, expert, row), NaN where an expert has no such term
        centre = values.mean(axis=0)
        tails = [((1 - p) / 2, (1 + p) / 2) for p in probabilities]
        edges = np.stack([np.quantile(values, t, axis=0) for t in tails])  # (band, 2, expert, row)
        lines[label] = Trace(times, centre.T)
        bands[label] = Trace(times, np.moveaxis(edges, -1, 0))
        limits[label] = axis_limits(centre, edges)
    of_experts(canvas, lines, bands if not fit.is_point else None)
    _finish(canvas, fit, (labels, limits), codes[0], [] if fit.is_point else probabilities)
    return canvas.collection


def _finish(
    canvas: Canvas,
    fit: Fit,
    shown: tuple[Sequence[str], Mapping[str, tuple[float, float]]],
    code: int,
    probabilities: Sequence[float],
) -> None:
    """Set axes, titles and legend."""
    timeline, (labels, limits) = timeline_of(fit), shown
    set_limits(canvas, limits, False, has_dates(timeline))
    name = timeline.columns.series
    of = "" if name is None else f" ({name} {timeline.labels[code]})"
    titles(canvas, {label: f"{label}{of}" for label in labels})
    texts = dict.fromkeys(labels, "added to the location")
    axis_names(canvas, str(timeline.columns.time), texts)
    entries: dict[str, Look] = {
        f"expert {k}": {"color": c, "width": 2} for k, c in canvas.colours.items()
    }
    for j, p in enumerate(probabilities):
        shade = 1 - (1 - BAND_ALPHA) ** (j + 1)
        entries[f"{100 * p:g} % interval"] = {"color": "B2", "width": 8, "alpha": shade}
    add_legend(canvas, entries, {})


@dataclass(frozen=True)
class _Location:
    """The location of a block of experts: its component, and the positions of the experts."""

    component: Component
    positions: tuple[int, ...]


def _locations(fit: Fit) -> list[_Location]:
    """Locations of all blocks that have a formula.

    Raises
    ------
    SpecError
        For predictors that are no sums of terms.
    """
    found = []
    for block in fit.spec.structure.blocks:
        wanted = block.family.locations[fit.response or 0]
        component = next(c for c in block.components if c.parameter.name == wanted)
        if component.formula is None:
            continue
        if not isinstance(component.predictor, Linear):
            raise SpecError(
                f"bm.plot_components needs linear predictors, whose terms have coefficients; "
                f"{component.stem!r} has {component.predictor!r}. See bm.plot_experts."
            )
        if component.parameter.labels:
            raise SpecError("bm.plot_components needs a response of numbers, not of classes.")
        found.append(_Location(component, block.positions))
    return found


def _parts(fit: Fit, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values (draw, expert, row) by title of a panel, NaN for experts without such a term."""
    draws = stacked_draws(fit.spec, posterior_of(fit.idata))
    every: dict[str, np.ndarray] = {}
    for location in _locations(fit):
        site = location.component.site
        matrix = fit.design.rows.matrices[location.component.stem]
        coef = draws[site.coef]
        for title, columns in _groups(matrix.terms).items():
            values = matrix.values[:, columns]
            centred = values[rows] - values.mean(axis=0)
            empty = np.full((len(coef), fit.spec.n_experts, len(rows)), np.nan)
            found = every.setdefault(title, empty)
            found[:, list(location.positions)] = np.einsum(
                "sek,rk->ser", coef[..., columns], centred
            )
    order = {LAGS: 1, OTHER: 2}
    return dict(sorted(every.items(), key=lambda item: order.get(item[0], 0)))


def _groups(terms: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the columns of each panel."""
    found: dict[str, list[int]] = {}
    for j, term in enumerate(terms):
        if term == INTERCEPT:
            continue
        title = OTHER
        if ":" not in term.split(")")[-1] and term.startswith(OWN):
            title = term[: term.rindex(")") + 1]
        elif any(call in term for call in LOOK_BACK):
            title = LAGS
        found.setdefault(title, []).append(j)
    return found

"""The plot of a prior predictive: responses, experts in use, and gate entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.reference_grid import plain_name
from bayes_moe.diagnostics.prior_predictive import EFFECTIVE, ENTROPY, PriorPredictive
from bayes_moe.plots.canvas import Canvas, Look, check_options, check_visuals
from bayes_moe.plots.legends import add_legend

if TYPE_CHECKING:
    import xarray as xr
    from arviz_plots import PlotCollection

PARTS = (
    "prior_line",
    "observed_line",
    "hist",
    "mean_line",
    "xlabel",
    "ylabel",
    "title",
    "legend",
)
PRIOR_LOOK: Look = {"color": "C0", "alpha": 0.35, "width": 0.8}
OBSERVED_LOOK: Look = {"color": "black", "width": 2.5}
INTERVAL_LOOK: Look = {"color": "C0", "alpha": 0.5, "width": 7}
PROBABILITIES = np.linspace(0.0, 1.0, 401)
BINS = 20
HALF = 0.28  # of the distance between two values: half a bar
LETTERS = 28  # most of labels side by side
PANEL = (4.0, 3.4)  # inches
RESPONSE = "response"
MARGIN = 1.5  # most of the observed range that is shown on either side of it


def plot_prior_predictive(
    prior: PriorPredictive,
    *,
    draws: int = 50,
    backend: str | None = None,
    visuals: Mapping[str, Mapping[str, Any] | bool] | None = None,
    **pc_kwargs: Any,
) -> PlotCollection:
    """Plot responses drawn from the prior against the observed ones, and what the gate does.

    The first panel has distribution functions: a thin line for the responses of all rows under one
    draw from the prior, a thick one for the observed responses. It shows the observed range and at
    most one and a half times its length on either side; a line that enters below 0 or leaves below
    1 has the rest of its responses outside. Of classes, and of counts with few values, it has the
    share of each value instead: an interval with 90 % of the draws, and the observed one as a bar.
    The others have histograms over draws of the effective
    number of experts and of the gate's mean entropy, from one expert for each row (0) to equal
    weights, with the mean as a line. A model of one expert has the first panel only.

    Parameters
    ----------
    prior : PriorPredictive
        Result of :func:`prior_predictive`.
    draws : int
        Number of draws whose distribution functions are shown.
    backend : str, optional
        Plotting backend; by default ArviZ's ``rcParams["plot.backend"]``.
    visuals : mapping of str to mapping or False, optional
        Keyword arguments of the parts ``prior_line``, ``observed_line``, ``hist``, ``mean_line``,
        ``xlabel``, ``ylabel``, ``title`` and ``legend``; False leaves a part out.
    **pc_kwargs
        Passed to :meth:`arviz_plots.PlotCollection.wrap`, for example
        ``figure_kwargs={"figsize": (9, 3)}``.

    Returns
    -------
    PlotCollection
        Its panels are ``response``, ``effective_experts`` and ``gate_entropy``.

    Raises
    ------
    SpecError
        For what is no result of :func:`prior_predictive`, unknown parts in ``visuals``, and a
        number of draws that is not positive.

    Examples
    --------
    >>> pc = bm.plot_prior_predictive(bm.prior_predictive(spec, table))  # doctest: +SKIP
    """
    check_whole("draws", draws, 1)
    if not isinstance(prior, PriorPredictive):
        raise SpecError(
            "bm.plot_prior_predictive takes the result of bm.prior_predictive(spec, data); it got "
            f"{type(prior).__name__}."
        )
    if len(prior.responses) > 1:
        raise SpecError(
            f"The prior predictive is of {len(prior.responses)} responses: plot that of one, such "
            f"as bm.plot_prior_predictive(prior.margin({prior.responses[0]!r}))."
        )
    check_visuals(visuals, PARTS)
    check_options(pc_kwargs)
    panels = _panels(prior)
    canvas = Canvas(_collection(panels, backend, dict(pc_kwargs)), visuals or {})
    if "prior" in prior.response.columns:
        entries = _draw_shares(canvas, prior)
    else:
        entries = _draw_distributions(canvas, prior, draws)
    for name, bounds in _gate_panels(prior).items():
        _draw_histogram(canvas, name, panels[name].values.ravel(), bounds)
    _label(canvas, prior)
    add_legend(canvas, entries, {})
    return canvas.collection


def _draw_distributions(canvas: Canvas, prior: PriorPredictive, draws: int) -> dict[str, Look]:
    """Draw distribution functions of some draws' responses and of the observed ones."""
    shown = np.unique(np.linspace(0, len(prior.drawn) - 1, draws).astype(int))
    limits = _limits(prior)
    lines = _quantiles(prior.drawn[shown], limits)
    _draw(canvas, "prior_line", RESPONSE, _lines, PRIOR_LOOK, values=lines)
    observed = _quantiles(prior.observed[None], limits)
    _draw(canvas, "observed_line", RESPONSE, _lines, OBSERVED_LOOK, values=observed)
    _draw(canvas, "", RESPONSE, _set, {}, xlim=limits, ylim=(-0.02, 1.02))
    return {"a draw from the prior": PRIOR_LOOK, "observed": OBSERVED_LOOK}


def _draw_shares(canvas: Canvas, prior: PriorPredictive) -> dict[str, Look]:
    """Draw the share of each value: an interval over draws, and a bar where it is observed."""
    table = prior.response
    x, wide = np.arange(len(table), dtype=float), OBSERVED_LOOK
    ends = table["5%"].to_numpy(), table["95%"].to_numpy()
    _draw(canvas, "prior_line", RESPONSE, _intervals, INTERVAL_LOOK, x=x, ends=ends)
    seen = table["observed"].to_numpy()
    _draw(canvas, "observed_line", RESPONSE, _levels, wide, x=x, y=seen)
    labels = [canvas.text(str(label)) for label in table.index]
    top = max(ends[1].max(), seen.max())
    look: Look = {"xlim": (-0.6, len(x) - 0.4), "ylim": (0.0, min(1.02, 1.06 * top))}
    _draw(canvas, "", RESPONSE, _set, look)
    _draw(canvas, "", RESPONSE, _ticks, {"x": x.tolist(), "labels": labels})
    return {"90 % of prior draws": INTERVAL_LOOK, "observed": OBSERVED_LOOK}


def _panels(prior: PriorPredictive) -> xr.Dataset:
    """What each panel shows, one variable a panel."""
    stats = prior.idata[names.SAMPLE_STATS_PRIOR].to_dataset()
    drawn = prior.idata[names.PRIOR_PREDICTIVE].to_dataset()
    panels = drawn.rename({names.RESPONSE: RESPONSE})
    for name in _gate_panels(prior):
        panels[name] = stats[name]
    return panels


def _gate_panels(prior: PriorPredictive) -> dict[str, tuple[float, float]]:
    """Panels of the gate and their bounds; none for a single expert."""
    n = prior.spec.n_experts
    return {} if n == 1 else {EFFECTIVE: (1.0, float(n)), ENTROPY: (0.0, float(np.log(n)))}


def _collection(panels: xr.Dataset, backend: str | None, options: dict[str, Any]) -> PlotCollection:
    """Return a collection with one plot a panel, in a row."""
    from arviz_base import rcParams
    from arviz_plots import PlotCollection

    backend = backend or str(rcParams["plot.backend"])
    size = (PANEL[0] * len(panels), PANEL[1])
    figure = dict(options.pop("figure_kwargs", {}))
    if backend == "matplotlib":
        figure = {"figsize": size, "layout": "constrained"} | figure
    elif "figsize" not in figure:
        figure |= {"figsize": tuple(100 * s for s in size), "figsize_units": "dots"}
    options = {"cols": ["__variable__"], "col_wrap": len(panels)} | options
    return PlotCollection.wrap(panels, backend=backend, figure_kwargs=figure, **options)


def _limits(prior: PriorPredictive) -> tuple[float, float]:
    """Limits of the responses: the observed range and what of the prior's is near it."""
    low, high = float(prior.observed.min()), float(prior.observed.max())
    drawn = prior.drawn[np.isfinite(prior.drawn)]
    length = (high - low) or 1.0
    near = np.quantile(drawn, [0.02, 0.98]) if drawn.size else (low, high)
    left = max(low - MARGIN * length, min(low, float(near[0])))
    right = min(high + MARGIN * length, max(high, float(near[1])))
    margin = 0.04 * (right - left)
    return left - margin, right + margin


def _quantiles(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Quantiles (line, probability) of responses (line, obs), clipped to just outside limits."""
    low, high = limits
    far = high - low
    # Before the sorting, so that infinite responses are at the ends; missing ones are large.
    values = np.clip(np.nan_to_num(values, nan=np.inf), low - far, high + far)
    return np.quantile(values, PROBABILITIES, axis=-1, method="inverted_cdf").T


def _draw(
    canvas: Canvas, part: str, panel: str, draw: Callable[..., Any], look: Look, **what: Any
) -> None:
    """Draw a part in one panel, unless the user leaves it out."""
    wanted = canvas.wanted(part, look)
    if wanted is not None:
        data = canvas.collection.data[[panel]]
        canvas.collection.map(
            draw, part or "limits", data=data, store_artist=False, **what, **wanted
        )


def _backend(target: Any) -> Any:
    from arviz_plots.plot_collection import backend_from_object

    return backend_from_object(target)


def _lines(da: xr.DataArray, target: Any, values: np.ndarray, **look: Any) -> None:
    for line in values:
        _backend(target).line(line, PROBABILITIES, target, **look)


def _intervals(da: xr.DataArray, target: Any, x: Any, ends: Any, **look: Any) -> None:
    for where, low, high in zip(x, *ends, strict=True):
        _backend(target).ciliney(where, low, high, target, **look)


def _levels(da: xr.DataArray, target: Any, x: Any, y: Any, **look: Any) -> None:
    for where, level in zip(x, y, strict=True):
        ends = np.array([where - HALF, where + HALF])
        _backend(target).line(ends, np.array([level, level]), target, **look)


def _ticks(da: xr.DataArray, target: Any, x: Any, labels: Any) -> None:
    turned = {"rotation": 60} if (1 + max(map(len, labels))) * len(labels) > LETTERS else {}
    _backend(target).xticks(x, labels, target, **turned)


def _draw_histogram(
    canvas: Canvas, panel: str, values: np.ndarray, bounds: tuple[float, float]
) -> None:
    """Draw a histogram of one value a draw between bounds, and the mean."""
    count, edges = np.histogram(np.clip(values, *bounds), BINS, bounds)
    heights, mean = count / count.sum(), float(values.mean())
    look: Look = {"color": "C0", "alpha": 0.6}
    _draw(canvas, "hist", panel, _bars, look, heights=heights, edges=edges)
    _draw(canvas, "mean_line", panel, _vertical, {"color": "black", "width": 1.5}, at=mean)
    room = 0.03 * (bounds[1] - bounds[0])
    xlim = bounds[0] - room, bounds[1] + room
    _draw(canvas, "", panel, _set, {}, xlim=xlim, ylim=(0.0, 1.06 * heights.max()))


def _bars(
    da: xr.DataArray, target: Any, heights: np.ndarray, edges: np.ndarray, **look: Any
) -> None:
    _backend(target).hist(heights, edges[:-1], edges[1:], target, **look)


def _vertical(da: xr.DataArray, target: Any, at: float, **look: Any) -> None:
    _backend(target).vline(at, target, **look)


def _set(da: xr.DataArray, target: Any, xlim: Any, ylim: Any) -> None:
    backend = _backend(target)
    backend.xlim(xlim, target)
    backend.ylim(ylim, target)


def _text(da: xr.DataArray, target: Any, kind: str, text: str, **look: Any) -> None:
    getattr(_backend(target), kind)(text, target, **look)


def _label(canvas: Canvas, prior: PriorPredictive) -> None:
    """Write titles and axis labels."""
    n = prior.spec.n_experts
    response = canvas.text(plain_name(prior.responses[0]))
    outside = 100 * sum(prior.outside[where] for where in ("below", "above"))
    of_rows = ("share of rows up to it", f"{outside:.0f} % outside what is observed")
    if "prior" in prior.response.columns:
        of_rows = ("share of rows", "shares of the responses")
    texts = {
        RESPONSE: (response, *of_rows),
        EFFECTIVE: (f"effective number (of {n})", "share of draws", "experts in use"),
        ENTROPY: ("entropy in nats", "share of draws", "gate: 0 if a row has one expert"),
    }
    for panel in canvas.collection.data.data_vars:
        for kind, text in zip(("xlabel", "ylabel", "title"), texts[str(panel)], strict=True):
            _draw(canvas, kind, str(panel), _text, {"text": text}, kind=kind)

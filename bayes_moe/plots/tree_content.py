"""What the experts' panels of a tree figure show: locations, or the probabilities of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.class_labels import ANY
from bayes_moe.data.reference_grid import Grid, plain_name
from bayes_moe.plots.canvas import Look, axis_limits, class_colours, dodge
from bayes_moe.plots.class_curves import strips
from bayes_moe.plots.data_points import marks_of_rows
from bayes_moe.plots.reference import MAX_VALUES, few_draws, over_draws, thinned
from bayes_moe.prediction.class_quantities import class_labels
from bayes_moe.prediction.predict import predict_one
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Line:
    """A line of an expert's panel: which of the values, its colour, and its place at categories.

    ``colour`` is None for the expert's; ``ending`` makes the name of its parts.
    """

    which: dict[str, Any]
    colour: str | None = None
    shift: float = 0.0
    ending: str = ""


@dataclass(frozen=True)
class Content:
    """Content of the experts' panels.

    ``mean`` (obs_id, expert, ...) and ``band`` (prob, obs_id, expert, ..., ci_bound) are on the
    grid; ``heights`` (row,), ``marks`` (row,), positions in
    :data:`bayes_moe.plots.data_points.MARKS`, and ``colours`` (row,) those of rows of the data,
    None for the expert's colour; ``limits`` and ``label`` those of the vertical axis, None for
    limits that follow from the values.
    """

    mean: xr.DataArray
    band: xr.DataArray
    lines: Sequence[Line]
    heights: np.ndarray
    marks: np.ndarray
    colours: Sequence[str] | None
    limits: tuple[float, float] | None
    label: str

    def limits_of(self, used: xr.DataArray) -> tuple[float, float]:
        """Limits of the vertical axis, where some points of the grid are in use."""
        return self.limits or axis_limits(self.heights, self.mean.where(used))


def shows_classes(fit: Fit) -> bool:
    """Whether experts are shown by the probabilities of their classes."""
    return fit.spec.response_rule.takes == ANY


def expert_content(
    fit: Fit, grid: Grid, rows: np.ndarray, probabilities: Sequence[float]
) -> Content:
    """Content of the experts' panels on a grid, with rows of the data at some positions."""
    label, values = fit.one_response()
    response, marks = values[rows], marks_of_rows(fit)[rows]
    if not shows_classes(fit):
        predictive = predict_one(few_draws(fit, len(grid.rows)), grid.rows)
        locations = predictive.expert_locations(draws=True)
        figures = over_draws(locations, probabilities)
        return Content(*figures, [Line({})], response, marks, None, None, plain_name(label))
    labels, colours = class_labels(fit), tree_class_colours(fit)
    few = thinned(fit, MAX_VALUES / (len(grid.rows) * fit.spec.n_experts * len(labels)))
    drawn = predict_one(few, grid.rows).expert_probabilities(draws=True)
    shifts = dodge(len(labels)) if grid.levels else np.zeros(len(labels))
    lines = [
        Line({names.CLASS: label}, colours[code], shifts[code], f"class{code}" if code else "")
        for code, label in enumerate(labels)
    ]
    heights, limits = strips(response.astype(int), len(labels))
    by_row = [colours[int(code)] for code in response]
    figures = over_draws(drawn, probabilities)
    return Content(*figures, lines, heights, marks, by_row, limits, "probability")


def tree_class_colours(fit: Fit) -> list[str]:
    """Colours of the classes in a tree, others than the experts' if the palette has enough."""
    experts, count = fit.spec.n_experts, len(class_labels(fit))
    own = class_colours(experts + count).get("color")
    return own[experts:] if own else [f"C{experts + code}" for code in range(count)]


def class_entries(fit: Fit) -> dict[str, Look]:
    """Legend entries of the classes, as keyword arguments of matplotlib's lines."""
    if not shows_classes(fit):
        return {}
    pairs = zip(class_labels(fit), tree_class_colours(fit), strict=True)
    return {str(label): {"color": colour, "linewidth": 2} for label, colour in pairs}


def expert_figures(fit: Fit, grid: Grid) -> np.ndarray:
    """What the panels show on a grid, as curves (point, curve)."""
    predictive = predict_one(fit, grid.rows)
    if not shows_classes(fit):
        return np.asarray(predictive.expert_locations().values)
    values = predictive.expert_probabilities().values
    return np.asarray(values.reshape(len(values), -1))

"""Quantities that plots compute from a fit: grids, thinned draws, intervals, rows to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_share
from bayes_moe.core.errors import SpecError
from bayes_moe.data.reference_grid import (
    Grid,
    columns_of,
    grid_along,
    is_categorical,
    state,
    texts_of,
)
from bayes_moe.plots.level_bands import bands_of, by_interval
from bayes_moe.prediction.predict import row_responsibilities
from bayes_moe.prediction.predictive import Predictive
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MAX_VALUES = 2**21
"""Largest (draw, point, expert) array that a plot evaluates."""

COUNT_MARGIN = 0.25
"""What a band of counts is drawn beyond them, so that a single one can be seen."""

LEAST_HEIGHT = 0.012
"""Height of the band of a single number, such as zero, in ranges of the responses and sets."""

MAX_ROWS = 2000
"""Largest number of rows of the data that a plot shows."""


def feature_grid(fit: Fit, feature: str, at: Mapping[str, Any] | None = None) -> Grid:
    """Return the grid over a column, all other columns fixed.

    Raises
    ------
    SpecError
        If ``at`` names the column itself, and for a model whose predictions depend on the rows
        before.
    """
    if fit.spec.structure.has_memory:
        raise SpecError(
            f"Curves over {feature!r} are of rows by themselves, but predictions of this model "
            "depend on the rows before. Show them over time: bm.predict(fit) are predictions of "
            "the fitted rows, bm.states(fit) the experts' probabilities."
        )
    return grid_along(fit.design, feature, at, fit.spec.structure.row_count_formulas)


def panel_grid(fit: Fit, feature: str, at: Mapping[str, Any] | None = None) -> Grid:
    """Return the grid over a column of a figure whose panels have different columns.

    The value of the column itself in ``at`` concerns the other panels and is ignored.
    """
    return feature_grid(fit, feature, {c: v for c, v in (at or {}).items() if c != feature})


def fixed_columns(fit: Fit, grid: Grid, stems: Sequence[str]) -> dict[str, Any]:
    """Return the fixed values of the columns that some predictors use."""
    columns = [*columns_of(fit.design, stems), *texts_of(fit.design, stems)]
    return {column: value for column, value in grid.fixed.items() if column in columns}


def expert_stems(fit: Fit) -> list[str]:
    """Return the stems of the experts' predictors."""
    return [stem for block in fit.spec.structure.blocks for stem in block.formulas]


def at_observed(fit: Fit, grid: Grid, values: np.ndarray) -> list[np.ndarray]:
    """Return curves (point, curve) on a grid, interpolated at the fitted rows: (obs,) each."""
    positions = grid.positions(fit.design.columns)
    return [np.interp(positions, grid.x, curve) for curve in values.T]


def thinned(fit: Fit, most: float) -> Fit:
    """Return a fit with evenly spaced draws, about ``most`` in total, at least one per chain."""
    import xarray as xr

    posterior = posterior_of(fit.idata)
    draws = posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW]
    # Every chain keeps the same draws, so that the result is rectangular.
    step = max(1, int(np.ceil(draws / most)))
    kept = posterior.isel({names.DRAW: slice(None, None, step)})
    return replace(fit, idata=xr.DataTree.from_dict({names.POSTERIOR: kept}))


def few_draws(fit: Fit, n_rows: int) -> Fit:
    """Return a fit with as many draws as ``MAX_VALUES`` of (draw, point, expert) allow."""
    return thinned(fit, MAX_VALUES / (n_rows * fit.spec.n_experts))


def mean_responsibilities(fit: Fit, table: pd.DataFrame) -> np.ndarray:
    """Return posterior mean responsibilities (obs, expert) for rows with a response."""
    draws = row_responsibilities(few_draws(fit, len(table)), table)
    return np.asarray(draws.mean((names.CHAIN, names.DRAW)).values)


@dataclass(frozen=True)
class ShownRows:
    """Rows of the data to draw.

    Attributes
    ----------
    rows : array
        Their positions among the fitted rows.
    total : int
        Number of rows from which they are chosen.
    categories : mapping of str to category
        What all of them have in common.
    numeric : tuple of str
        Columns that are fixed for the curves, and differ between the rows.
    """

    rows: np.ndarray
    total: int
    categories: Mapping[str, Any]
    numeric: tuple[str, ...]

    def label(self, what: str) -> str:
        """Return a legend label: which rows are shown, and how many if these are not all."""
        clauses = [f"with {', '.join(state(self.categories))}"] if self.categories else []
        clauses += [f"any {column}" for column in self.numeric]
        lines = [what if self.total else f"no {what}"]
        lines += [", ".join(clauses)] if clauses else []
        if len(self.rows) < self.total:
            lines.append(f"({len(self.rows)} of {self.total} rows shown)")
        return "\n".join(lines)


def shown_rows(fit: Fit, grid: Grid, stems: Sequence[str]) -> ShownRows:
    """Return the rows to draw with curves of the predictors ``stems``.

    They have the categories that the curves' columns are fixed at. Of more than ``MAX_ROWS`` there
    is a fixed random choice.
    """
    fixed = fixed_columns(fit, grid, stems)
    categories = {c: v for c, v in fixed.items() if is_categorical(fit.design, c)}
    alike = np.ones(fit.design.rows.size, dtype=bool)
    for column, value in categories.items():
        alike &= (fit.design.columns[column] == value).to_numpy(dtype=bool)
    rows = np.flatnonzero(alike)
    numeric = tuple(c for c in fixed if c not in categories)
    total = len(rows)
    if total > MAX_ROWS:
        # A fixed seed: the same fit gives the same plot.
        rows = np.sort(np.random.default_rng(0).choice(rows, MAX_ROWS, replace=False))
    return ShownRows(rows, total, categories, numeric)


def band_probabilities(ci_prob: float | Sequence[float] | None, *inner: float) -> list[float]:
    """Return the probabilities of the bands, the widest first.

    By default they are ``inner`` and ArviZ's ``rcParams["stats.ci_prob"]``.
    """
    from arviz_base import rcParams

    if ci_prob is None:
        ci_prob = (*inner, float(rcParams["stats.ci_prob"]))
    probabilities = np.atleast_1d(np.asarray(ci_prob, dtype=float)).tolist()
    if not probabilities:
        raise SpecError("`ci_prob` must have at least one probability.")
    for probability in probabilities:
        check_share("ci_prob", probability)
    return sorted(set(probabilities), reverse=True)


def density_bands(
    predictive: Predictive, probabilities: Sequence[float], grid: Grid
) -> tuple[xr.DataArray, list[int]]:
    """Return bands (prob, obs_id, ci_bound) of highest-density sets, and each one's rank.

    The rank is the position of its probability. A set of several intervals has several bands.
    Single numbers have the height of :data:`LEAST_HEIGHT`, so that they can be seen.
    """
    import xarray as xr

    margin = COUNT_MARGIN * np.array([-1, 1]) * predictive.fit.spec.structure.discrete
    sets = [predictive.hdr(probability)[names.BOUNDS].values for probability in probabilities]
    shown = np.concatenate([predictive.fit.one_response()[1], *map(np.ravel, sets)])
    least = LEAST_HEIGHT * float(np.nanmax(shown) - np.nanmin(shown))
    least = max(0.0, least - float(np.ptp(margin)))  # which every band gets
    bands, ranks = [], []
    for rank, bounds in enumerate(sets):
        found = (by_interval if grid.levels else bands_of)(_with_height(bounds, least)) + margin
        bands += [*found]
        ranks += [rank] * len(found)
    dims = (names.INTERVAL_PROBABILITY, names.OBS, names.CI_BOUND)
    coords = {names.CI_BOUND: list(names.CI_BOUNDS)}
    return xr.DataArray(np.array(bands), coords, dims), ranks


def _with_height(bounds: np.ndarray, least: float) -> np.ndarray:
    """Return intervals (..., 2), those of a single number ``least`` high about it."""
    half = np.where(np.diff(bounds, axis=-1) == 0, least / 2, 0.0)
    return bounds + half * np.array([-1, 1])


def over_draws(
    values: xr.DataArray, probabilities: Sequence[float]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return posterior means (...), and equal-tailed intervals (prob, ..., ci_bound)."""
    import xarray as xr

    sample = (names.CHAIN, names.DRAW)
    tails = [((1 - p) / 2, (1 + p) / 2) for p in probabilities]
    bounds = [values.quantile(tail, sample) for tail in tails]
    bands = [
        b.rename({names.QUANTILE: names.CI_BOUND}).assign_coords(
            {names.CI_BOUND: list(names.CI_BOUNDS)}
        )
        for b in bounds
    ]
    return values.mean(sample), xr.concat(bands, dim=names.INTERVAL_PROBABILITY)

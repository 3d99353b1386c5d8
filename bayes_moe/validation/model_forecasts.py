"""Forecasts of a model from an origin, as the figures that are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.formulas import used_columns
from bayes_moe.prediction.forecast import forecast
from bayes_moe.prediction.forecast_mixture import SERIES, STEP
from bayes_moe.results.fit import Fit
from bayes_moe.validation.origins import Origin, SeriesTable
from bayes_moe.validation.step_forecasts import PROBABILITIES, StepForecast, from_draws

if TYPE_CHECKING:
    import xarray as xr


def model_forecasts(
    fit: Fit, rows: SeriesTable, cut: Origin, y: np.ndarray, seed: int
) -> list[StepForecast]:
    """Forecasts of each series from the end of the fitted rows, scored at ``y`` (series, step)."""
    response = used_columns([fit.design.response_formula], list(fit.design.columns.columns))
    table = rows.table.iloc[cut.ahead.ravel()].drop(columns=response)
    ahead = forecast(fit, data=table, random_seed=seed)
    mean, median_and_ends = _by_series(ahead.mean()), _by_series(ahead.quantile(PROBABILITIES))
    log_score = _by_series(ahead.logpdf(y[0] if len(y) == 1 else y))
    draws = _by_series(ahead.paths(random_seed=seed))
    return [
        from_draws(y[j], mean[j], median_and_ends[j], log_score[j], draws[j]) for j in range(len(y))
    ]


def _by_series(values: xr.DataArray) -> np.ndarray:
    """Values (series, step), with a dimension over draws or probabilities (series, ..., step)."""
    several = values if SERIES in values.dims else values.expand_dims(SERIES)
    inner = [dim for dim in (names.SAMPLE, names.QUANTILE) if dim in several.dims]
    found: np.ndarray = several.transpose(SERIES, *inner, STEP).values
    return found

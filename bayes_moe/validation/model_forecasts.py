"""Forecasts of a model from an origin, as the figures that are scored"""

from __future__ import annotations

import numpy as np

from bayes_moe.prediction.forecast import forecast
from bayes_moe.results.fit import Fit
from bayes_moe.validation.origins import Origin, SeriesTable
from bayes_moe.validation.step_forecasts import PROBABILITIES, StepForecast, from_draws

SAMPLES = 2000
"""Draws of which the CRPS is taken: its error by chance is about 2 % of a single value's, and much
smaller of a mean's."""


def model_forecasts(
    fit: Fit, rows: SeriesTable, cut: Origin, y: np.ndarray, seed: int
) -> list[StepForecast]:
    """Forecasts of each series from the end of the fitted rows, scored at ``y`` (series, step)."""
    raise NotImplementedError

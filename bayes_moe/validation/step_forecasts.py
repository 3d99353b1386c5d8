"""Forecasts step by step as the figures that are scored, and the seasonal naive ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from bayes_moe.diagnostics.backtest_table import LEVELS, interval_names
from bayes_moe.prediction.forecast_scores import (
    absolute_scale,
    crps,
    crps_normal_mixture,
    seasonal_differences,
    squared_scale,
)

PROBABILITIES = (0.5, *(p for level in LEVELS for p in ((1 - level) / 2, (1 + level) / 2)))
"""Probabilities of the quantiles that are scored: the median, and the ends of each interval."""


@dataclass(frozen=True)
class StepForecast:
    """Distributions of the steps of one series, and what came.

    Arrays are (step,); ``quantiles`` (probability, step) of :data:`PROBABILITIES`.
    """

    y: np.ndarray
    mean: np.ndarray
    quantiles: np.ndarray
    crps: np.ndarray
    log_score: np.ndarray

    @property
    def figures(self) -> dict[str, np.ndarray]:
        """Arrays (step,) by the names that they have in the results of a backtest."""
        ends = [name for level in LEVELS for name in interval_names(level)]
        quantiles = dict(zip(["median", *ends], self.quantiles, strict=True))
        return {
            "mean": self.mean,
            **quantiles,
            "crps": self.crps,
            "log_score": self.log_score,
        }


def from_draws(
    y: np.ndarray, mean: np.ndarray, quantiles: np.ndarray, log_score: np.ndarray, draws: np.ndarray
) -> StepForecast:
    """Forecast of which CRPS is taken from draws (sample, step)."""
    return StepForecast(y, mean, quantiles, crps(y, draws), log_score)


def normal(y: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> StepForecast:
    """Forecast by normal distributions with means and standard deviations (step,)."""
    z = special.ndtri(np.array(PROBABILITIES))
    one = np.ones((1, len(y)))
    return StepForecast(
        y,
        mean,
        mean + z[:, None] * sd,
        crps_normal_mixture(y, one, mean[None], sd[None]),
        -0.5 * ((y - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi),
    )


def seasonal_naive(history: np.ndarray, season: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Means and standard deviations (step,) of seasonal naive forecasts.

    The mean is the value of the same place in the last season. The errors of a random walk of
    seasons have the variance ``s^2 (k + 1)`` ``k`` whole seasons on, with ``s^2`` the mean squared
    seasonal difference in the history.

    References
    ----------
    Hyndman, R. J., & Athanasopoulos, G. (2021). Forecasting: principles and practice (3rd ed.),
    section 5.5. OTexts.
    """
    ahead = np.arange(steps)
    sd = np.sqrt((seasonal_differences(history, season) ** 2).mean() * (ahead // season + 1))
    return history[-season:][ahead % season], sd


def scales(history: np.ndarray, season: int) -> tuple[float, float]:
    """Denominators of MASE and, squared, of RMSSE."""
    return absolute_scale(history, season), squared_scale(history, season)

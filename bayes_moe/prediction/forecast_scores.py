"""Scores of forecasts: MASE, RMSSE, CRPS, and how often intervals contain what came."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.checks import as_numbers, check_whole
from bayes_moe.core.errors import SpecError

MOST_PAIRS = 20_000_000
"""Pairs of components that are compared at once."""


def mase(y: Any, forecast: Any, history: Any, season: int = 1) -> float:
    r"""Return the mean absolute scaled error of a forecast.

    .. math:: \frac{\frac1H \sum_h |y_h - f_h|}{\frac1{n-m} \sum_{t=m+1}^n |y_t - y_{t-m}|}

    Below 1, the forecast has smaller errors than the seasonal naive method has one season ahead
    in the history. It has no unit.

    Parameters
    ----------
    y : array (step,)
        What came.
    forecast : array (step,)
        Its forecast: a median is best by this score.
    history : array (time,)
        The series before the forecast, in the order of time.
    season : int
        ``m``, the rows of a season; 1 for none.

    Raises
    ------
    SpecError
        For arrays of other shapes, and a history that is not longer than a season or repeats
        itself exactly, so that there is no scale.

    References
    ----------
    Hyndman, R. J., & Koehler, A. B. (2006). Another look at measures of forecast accuracy.
    International Journal of Forecasting, 22(4), 679-688.
    """
    came, expected = _pair(y, forecast)
    return float(np.abs(came - expected).mean() / absolute_scale(history, season))


def rmsse(y: Any, forecast: Any, history: Any, season: int = 1) -> float:
    r"""Return the root mean squared scaled error of a forecast.

    .. math::
        \sqrt{\frac{\frac1H \sum_h (y_h - f_h)^2}{\frac1{n-m} \sum_{t=m+1}^n (y_t - y_{t-m})^2}}

    Parameters
    ----------
    y, forecast, history, season
        As for :func:`mase`; a mean is the best forecast by this score.

    Raises
    ------
    SpecError
        As :func:`mase` does.

    References
    ----------
    Hyndman, R. J., & Koehler, A. B. (2006). Another look at measures of forecast accuracy.
    International Journal of Forecasting, 22(4), 679-688.
    """
    came, expected = _pair(y, forecast)
    return float(np.sqrt(((came - expected) ** 2).mean() / squared_scale(history, season)))


def crps(y: Any, samples: Any) -> np.ndarray:
    r"""Return the continuous ranked probability score of predictive draws, in units of ``y``.

    For a predictive distribution ``F`` it is

    .. math:: \int (F(x) - 1[x \ge y])^2 \, dx = E|X - y| - \tfrac12 E|X - X'|,

    with ``X`` and ``X'`` independent draws of ``F``; smaller is better, and of a single value it
    is the absolute error. The second expectation is the mean over pairs of different draws, so
    that the estimate is unbiased, whatever the number of draws.

    Parameters
    ----------
    y : float or array (...)
        What came.
    samples : array (sample, ...)
        Predictive draws, two at least.

    Returns
    -------
    array (...)
        The score of each value.

    Raises
    ------
    SpecError
        For a single draw, and shapes that do not match.

    References
    ----------
    Gneiting, T., & Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and
    estimation. Journal of the American Statistical Association, 102(477), 359-378.

    Ferro, C. A. T. (2014). Fair scores for ensemble forecasts. Quarterly Journal of the Royal
    Meteorological Society, 140(683), 1917-1923.
    """
    came, draws = as_numbers("y", y), as_numbers("samples", samples)
    if draws.ndim != came.ndim + 1 or draws.shape[1:] != came.shape or len(draws) < 2:
        raise SpecError(
            f"`samples` must be (sample, ...) with two draws or more of each of `y`; they have the "
            f"shapes {draws.shape} and {came.shape}."
        )
    n = len(draws)
    # Of the sorted draws, the i-th is the larger one in i pairs and the smaller in n - 1 - i.
    rank = (2.0 * np.arange(n) - (n - 1)).reshape(-1, *(1,) * came.ndim)
    spread = (rank * np.sort(draws, axis=0)).sum(axis=0) / (n * (n - 1) / 2)
    score: np.ndarray = np.abs(draws - came).mean(axis=0) - spread / 2
    return score


def crps_normal_mixture(y: Any, weights: Any, means: Any, sds: Any) -> np.ndarray:
    r"""Return the continuous ranked probability score of normal mixtures, exactly.

    .. math::
        \sum_i w_i A(y - \mu_i, \sigma_i)
        - \tfrac12 \sum_{ij} w_i w_j A(\mu_i - \mu_j, \sqrt{\sigma_i^2 + \sigma_j^2})

    with ``A(m, s) = E|N(m, s^2)|``.

    Parameters
    ----------
    y : float or array (...)
        What came.
    weights, means, sds : array (component, ...)
        The components' weights, which sum to one, means and standard deviations.

    Returns
    -------
    array (...)
        The score of each value, in units of ``y``.

    Raises
    ------
    SpecError
        For shapes that do not match, weights that are negative or do not sum to one, and standard
        deviations that are not positive.

    References
    ----------
    Grimit, E. P., Gneiting, T., Berrocal, V. J., & Johnson, N. A. (2006). The continuous ranked
    probability score for circular variables and its application to mesoscale forecast ensemble
    verification. Quarterly Journal of the Royal Meteorological Society, 132(621C), 2925-2942.
    """
    came = as_numbers("y", y)
    parts = {"weights": weights, "means": means, "sds": sds}
    w, mu, sd = (as_numbers(name, value) for name, value in parts.items())
    if len({w.shape, mu.shape, sd.shape}) > 1 or w.shape[1:] != came.shape or w.ndim < 1:
        raise SpecError(
            f"`weights`, `means` and `sds` must be (component, ...) over `y`; they have the shapes "
            f"{w.shape}, {mu.shape} and {sd.shape}, and `y` has {came.shape}."
        )
    if (w < 0).any() or not np.allclose(w.sum(axis=0), 1.0, atol=1e-6):
        raise SpecError("`weights` must be at least 0 and sum to one over the components.")
    if not (sd > 0).all():
        raise SpecError("`sds` must be positive.")
    shape = came.shape
    came, w, mu, sd = (values.reshape(*values.shape[: values.ndim - came.ndim], -1)
                       for values in (came, w, mu, sd))  # fmt: skip
    score = (w * _mean_absolute(came - mu, sd)).sum(axis=0)
    some = max(1, MOST_PAIRS // len(w) ** 2)
    for start in range(0, came.size, some):
        part = slice(start, start + some)
        a, m, s = w[:, part], mu[:, part], sd[:, part]
        pairs = _mean_absolute(m[:, None] - m[None], np.hypot(s[:, None], s[None]))
        score[part] -= np.einsum("io,jo,ijo->o", a, a, pairs) / 2
    return np.asarray(score.reshape(shape))


def covered(y: Any, lower: Any, upper: Any) -> np.ndarray:
    """Whether values lie in their intervals, both ends included (...)."""
    came = as_numbers("y", y)
    inside: np.ndarray = (as_numbers("lower", lower) <= came) & (came <= as_numbers("upper", upper))
    return inside


def absolute_scale(history: Any, season: int = 1) -> float:
    """Mean absolute difference of values a season apart; see :func:`mase`."""
    return float(np.abs(seasonal_differences(history, season)).mean())


def squared_scale(history: Any, season: int = 1) -> float:
    """Mean squared difference of values a season apart; see :func:`rmsse`."""
    return float((seasonal_differences(history, season) ** 2).mean())


def seasonal_differences(history: Any, season: int) -> np.ndarray:
    """Differences (time - season,) of values a season apart, not all of them zero.

    Raises
    ------
    SpecError
        If there are none, or nothing but zeros.
    """
    check_whole("season", season, 1)
    values = as_numbers("history", history)
    if values.ndim != 1 or len(values) <= season:
        raise SpecError(
            f"`history` must be one series of more than {season} values, a season; it has the "
            f"shape {values.shape}."
        )
    differences: np.ndarray = values[season:] - values[:-season]
    if not differences.any():
        raise SpecError(
            f"All values of `history` are equal to those {season} before: their differences give "
            "no scale for errors."
        )
    return differences


def _pair(y: Any, forecast: Any) -> tuple[np.ndarray, np.ndarray]:
    came, expected = as_numbers("y", y), as_numbers("forecast", forecast)
    if came.shape != expected.shape or came.ndim != 1 or not came.size:
        raise SpecError(
            f"`y` and `forecast` must have one value for each step; they have the shapes "
            f"{came.shape} and {expected.shape}."
        )
    return came, expected


def _mean_absolute(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """``E|N(mean, sd^2)|``, element by element."""
    z = mean / sd
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    value: np.ndarray = mean * (2 * special.ndtr(z) - 1) + 2 * sd * density
    return value

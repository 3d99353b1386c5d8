"""Importance weights of draws from an approximation: how many, Pareto k, smoothing."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

MOST_WEIGHED = 2 * 10**7
"""Draws x rows x experts up to which every draw gets an importance weight."""
LEAST_WEIGHED = 200
LEAST_FOR_TAIL = 25
"""Draws below which the tail of their weights is not estimated."""
LOG_ZERO = -1e10
"""Log weight of draws of density zero; PSIS needs finite ones."""


def weighed(size: int, elements: int) -> int:
    """Number of draws that get a weight, of ``size`` draws with ``elements`` numbers each."""
    return min(size, max(LEAST_WEIGHED, MOST_WEIGHED // elements))


def pareto_k(log_weight: np.ndarray) -> float:
    """Shape of the generalised Pareto distribution of the largest weights; NaN for few draws."""
    from arviz_stats.base import array_stats

    if len(log_weight) < LEAST_FOR_TAIL:
        return float("nan")
    # psislw takes the logarithm of the inverse weights.
    return float(array_stats.psislw(-_finite(log_weight))[1])


def smoothed(log_weight: np.ndarray) -> np.ndarray:
    """Weights (sample,) that sum to 1, the largest Pareto smoothed."""
    from arviz_stats.base import array_stats

    log_smooth = np.asarray(array_stats.psislw(-_finite(log_weight))[0])
    weight = np.exp(log_smooth - logsumexp(log_smooth))
    return weight / weight.sum()


def _finite(log_weight: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(log_weight), log_weight, LOG_ZERO)

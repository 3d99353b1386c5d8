"""Importance weights of draws from an approximation, and their Pareto k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

if TYPE_CHECKING:
    pass

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


MOST_WEIGHED = 2 * 10**7
"""Draws x rows x experts up to which every draw gets an importance weight."""


LEAST_WEIGHED = 200


LEAST_FOR_TAIL = 25
"""Draws below which their weights have no tail to look at."""


def weighed(size: int, elements: int) -> int:
    """Number of draws that are weighed, of ``size`` draws with ``elements`` numbers each."""
    return min(size, max(LEAST_WEIGHED, MOST_WEIGHED // elements))


def pareto_k(log_weight: np.ndarray) -> float:
    """Shape of the generalised Pareto distribution of the largest weights; NaN for few draws."""
    from arviz_stats.base import array_stats

    if len(log_weight) < LEAST_FOR_TAIL:
        return float("nan")
    finite = np.where(np.isfinite(log_weight), log_weight, -1e10)
    return float(array_stats.psislw(-finite)[1])  # it takes the log of what weights divide by


def smoothed(log_weight: np.ndarray) -> np.ndarray:
    """Return weights that sum to 1, the largest Pareto smoothed."""
    from arviz_stats.base import array_stats

    finite = np.where(np.isfinite(log_weight), log_weight, -1e10)
    log_smooth = np.asarray(array_stats.psislw(-finite)[0])
    weight = np.exp(log_smooth - logsumexp(log_smooth))
    return weight / weight.sum()

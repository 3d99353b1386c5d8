"""Interface of discrete families.

Their formulas take the location as its predictor ``eta``, a log rate or log odds. Their densities
are probabilities, and zero between the whole numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.families.base import (
    Family,
    Parameters,
    RowData,
)

HALF_UNIT = 0.5
"""Half the distance of neighbouring counts: the least width of a discrete distribution."""


def is_count(y: Any, xp: Arrays) -> Any:
    """Whether each ``y`` is 0, 1, 2, ...; False for infinity and NaN."""
    return (y >= 0) & (y < np.inf) & (xp.floor(y) >= y)


class Discrete(Family):
    """Distribution of counts.

    ``row`` states the summand with parameters, ``log_coefficient`` that without, for counts in the
    support.
    """

    discrete = True
    lower = 0.0

    @abstractmethod
    def in_support(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Whether each ``y`` (obs,) has a positive probability."""

    @abstractmethod
    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand (obs,) of the log probability without parameters, for ``y`` in the support."""

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        supported = self.in_support(y, known, xp)
        # Both branches of `where` are evaluated: the least count is valid in every family.
        inside = xp.where(supported, y, self.lower)
        base = xp.where(supported, self.log_coefficient(inside, known, xp), -np.inf)
        return RowData(inside, self.trials(known), base)

    def trials(self, known: Parameters) -> Any:
        """Largest count: (obs,), (1,) or a number; 0 where there is none."""
        return 0.0

    @abstractmethod
    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (..., expert, obs)."""

    def mean(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[0]

    def variance(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[1]

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def scale(self, params: Parameters) -> np.ndarray:
        variance = np.minimum(self.variance(params), np.finfo(float).max)
        return np.hypot(np.sqrt(variance), HALF_UNIT)

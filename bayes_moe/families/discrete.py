"""Families of whole numbers: Poisson, Bernoulli, Binomial.

Their formulas take the location as its linear predictor ``eta``, a log rate or log odds. Their
densities are probabilities, and zero between the whole numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.errors import DataError
from bayes_moe.families.base import (
    NOTHING,
    Derivatives,
    Family,
    Parameters,
    check_varied,
)

HALF_UNIT = 0.5
"""Least width: that of the step between two whole numbers."""


def is_whole_number(y: Any, xp: Arrays) -> Any:
    """Where ``y`` is 0, 1, 2, ..."""
    return (y >= 0) & (y < np.inf) & (xp.floor(y) >= y)


class Discrete(Family):
    """A distribution of whole numbers from 0, with one predictor ``eta``."""

    discrete = True
    support: ClassVar[str]
    """Which responses there may be, in words."""

    @abstractmethod
    def in_support(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Where ``y`` has a probability."""

    @abstractmethod
    def log_kernel(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand of the log probability in which the predictor stands."""

    @abstractmethod
    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand of the log probability of a possible ``y`` in which no predictor stands."""

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        possible = self.in_support(y, params, xp)
        inside = xp.where(possible, y, 0.0)
        mass = self.log_kernel(inside, params, xp) + self.log_coefficient(inside, params, xp)
        return xp.where(possible, mass, -np.inf)

    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        possible = self.in_support(y, params, xp)
        inside = xp.where(possible, y, 0.0)
        return xp.where(possible, self.log_coefficient(inside, params, xp), -np.inf)

    @abstractmethod
    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance."""

    def mean(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[0]

    def variance(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[1]

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def scale(self, params: Parameters) -> np.ndarray:
        return np.hypot(np.sqrt(self.variance(params)), HALF_UNIT)

    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        # The link is canonical: the information is the variance, whatever the response.
        mean, variance = self.moments(params)
        return Derivatives((y - mean,), ((-variance,),), (variance,))

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        impossible = np.flatnonzero(~self.in_support(y, known, NUMERIC))
        if impossible.size:
            at = impossible[0]
            row = at if obs_id is None else obs_id[at]
            raise DataError(
                f"The response {name!r} is {y[at]:g} at row {row}{self._beside(at, known)}; this "
                f"family needs {self.support} ({impossible.size} row(s) are not)."
            )
        self.check_varied(y, name, known)

    def check_varied(self, y: np.ndarray, name: str, known: Parameters) -> None:
        """Raise :class:`DataError` if the rows are all the same."""
        check_varied(y, f"response {name!r}")

    def _beside(self, at: int, known: Parameters) -> str:
        """Say what else is known of a row."""
        return ""

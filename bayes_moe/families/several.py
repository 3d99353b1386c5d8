"""Interface of families of several responses: names, margins, and what follows from these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.families.base import Family, Parameters

UNKNOWN = ("y1", "y2")
"""Responses in the place of those of a formula that is not known yet."""


@dataclass(frozen=True)
class Several(Family):
    """A distribution of several responses, whose names a description takes from its formula.

    Moments and probabilities of each response are those of its margin.
    """

    takes_responses: ClassVar[bool] = True
    responses: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.responses or UNKNOWN

    @property
    def count(self) -> int:
        """Number of responses."""
        return len(self.names)

    @property
    def more_data(self) -> int:
        return self.count - 2

    @abstractmethod
    def margin(self, j: int, params: Parameters) -> tuple[Family, dict[str, Any]]:
        """Distribution of response ``j`` alone, and its parameters."""

    @abstractmethod
    def covariance(self, params: Parameters) -> np.ndarray:
        """Covariance matrices (..., expert, obs, response, response) of the responses."""

    def mean(self, params: Parameters) -> np.ndarray:
        """Means (..., response, expert, obs)."""
        return self._each(lambda family, own, _: family.mean(own), params)

    def variance(self, params: Parameters) -> np.ndarray:
        """Variances (..., response, expert, obs)."""
        return self._each(lambda family, own, _: family.variance(own), params)

    def location(self, params: Parameters) -> np.ndarray:
        """Centres (..., response, expert, obs)."""
        return self._each(lambda family, own, _: family.location(own), params)

    def scale(self, params: Parameters) -> np.ndarray:
        """Widths (..., response, expert, obs)."""
        return self._each(lambda family, own, _: family.scale(own), params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        """Cumulative probability (..., response, expert, obs) of each response by itself."""
        values = np.asarray(y)
        return self._each(lambda family, own, j: family.cdf(values[..., j, :], own), params)

    def _each(
        self, figure: Callable[[Family, dict[str, Any], int], np.ndarray], params: Parameters
    ) -> np.ndarray:
        """A figure of every margin (..., response, expert, obs)."""
        margins = (self.margin(j, params) for j in range(self.count))
        parts = [figure(family, own, j) for j, (family, own) in enumerate(margins)]
        return np.stack(np.broadcast_arrays(*parts), axis=-3)

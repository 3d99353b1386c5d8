"""Sample: observed numbers whose rows may have weights, and its mean and standard deviation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers (obs,), or (response, obs) of several responses, with weights (obs,) or None.

    A row of weight ``w`` counts as ``w`` rows.
    """

    values: np.ndarray
    weights: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        """Number of axes of the values."""
        return self.values.ndim

    def __getitem__(self, j: int) -> Sample:
        """One response of several."""
        return replace(self, values=self.values[j])

    @property
    def count(self) -> float:
        """How many rows there are, by their weights."""
        return float(self.values.shape[-1] if self.weights is None else self.weights.sum())

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return float(np.average(self.values, weights=self.weights))

    @property
    def variance(self) -> float:
        """Mean squared difference from the mean."""
        if self.weights is None:
            return float(np.var(self.values))
        return float(np.average((self.values - self.mean) ** 2, weights=self.weights))

    @property
    def sd(self) -> float:
        """Root of the variance."""
        return float(np.sqrt(self.variance))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Sample:
        """The sample of a function of the values."""
        return replace(self, values=function(self.values))


def sample_of(values: Sample | np.ndarray) -> Sample:
    """A sample, of plain numbers without weights."""
    return values if isinstance(values, Sample) else Sample(values)

"""Equal density over an interval: the distribution of responses that no other expert explains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_number
from bayes_moe.core.errors import SpecError
from bayes_moe.families.base import Parameters, RowData, Size
from bayes_moe.families.without_parameters import WithoutParameters


@dataclass(frozen=True)
class Uniform(WithoutParameters):
    """Uniform distribution on the interval from `lower` to `upper`. It has no parameters.

    Beside other experts it is that of outliers: a row far from all others has its density, however
    far it is. Rows outside the interval are not of this expert.

    Parameters
    ----------
    lower, upper : float
        Ends of the interval, which are in it, by default 0 and 1.
    """

    kind = "uniform"
    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            value = getattr(self, name)
            check_number(name, value)
            object.__setattr__(self, name, float(value) + 0.0)  # -0.0 is 0.0
        if not 0 < self.upper - self.lower < math.inf:
            raise SpecError(
                f"`upper` is {self.upper:g} and `lower` {self.lower:g}: give an interval of "
                "positive, finite length."
            )

    @property
    def fixed(self) -> Mapping[str, float]:
        return {"lower": self.lower, "upper": self.upper}

    def log_interval(self, lower: Any, upper: Any, xp: Arrays) -> Any:
        low = xp.where(lower > self.lower, lower, self.lower)
        high = xp.where(upper < self.upper, upper, self.upper)
        there = high > low
        length = xp.where(there, high - low, 1.0)
        return xp.where(there, xp.log(length / (self.upper - self.lower)), -np.inf)

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        level = -math.log(self.upper - self.lower)
        inside = (y >= self.lower) & (y <= self.upper)
        return RowData(0.0, 0.0, xp.where(inside, level, -np.inf))

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Uniform.dist(params["lower"], params["upper"])

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        lower, upper = params["lower"], params["upper"]
        return np.clip((y - lower) / (upper - lower), 0.0, 1.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        lower, upper = params["lower"], params["upper"]
        return np.clip((upper - y) / (upper - lower), 0.0, 1.0)

    def mean(self, params: Parameters) -> np.ndarray:
        return 0.5 * params["lower"] + 0.5 * params["upper"]

    def variance(self, params: Parameters) -> np.ndarray:
        return (params["upper"] - params["lower"]) ** 2 / 12

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.uniform(params["lower"], params["upper"], size)

    def scale(self, params: Parameters) -> np.ndarray:
        return (params["upper"] - params["lower"]) / math.sqrt(12)

"""All probability at one number: the distribution of an exact zero, or of a code for "none"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_number
from bayes_moe.families.base import Parameters, RowData, Size
from bayes_moe.families.discrete import HALF_UNIT
from bayes_moe.families.without_parameters import WithoutParameters


@dataclass(frozen=True)
class PointMass(WithoutParameters):
    """The response is ``at``, with probability 1. It has no parameters.

    Beside experts of counts, it is a probability like theirs. Beside experts with a density, the
    response has a positive probability of being ``at`` and a density elsewhere, and no other
    expert can be the one of a response of exactly ``at``.

    Parameters
    ----------
    at : float
        The number, by default 0.
    """

    kind = "pointmass"
    at: float = 0.0

    def __post_init__(self) -> None:
        check_number("at", self.at)
        object.__setattr__(self, "at", float(self.at) + 0.0)  # -0.0 is 0.0

    @property
    def lower(self) -> float:
        return self.at

    @property
    def upper(self) -> float:
        return self.at

    @property
    def atoms(self) -> tuple[float, ...]:
        return (self.at,)

    @property
    def fixed(self) -> Mapping[str, float]:
        return {"at": self.at}

    def log_interval(self, lower: Any, upper: Any, xp: Arrays) -> Any:
        return xp.where((lower <= self.at) & (upper >= self.at), 0.0, -np.inf)

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return RowData(0.0, 0.0, xp.where((y >= self.at) & (y <= self.at), 0.0, -np.inf))

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.DiracDelta.dist(params["at"])

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return np.where(y >= params["at"], 1.0, 0.0)

    def mean(self, params: Parameters) -> np.ndarray:
        return params["at"]

    location = mean

    def variance(self, params: Parameters) -> np.ndarray:
        return np.zeros_like(params["at"])

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return np.broadcast_to(params["at"], size)

    def scale(self, params: Parameters) -> np.ndarray:
        return np.full_like(params["at"], HALF_UNIT)

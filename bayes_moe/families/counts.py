"""Unbounded counts: the Poisson distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.families.base import (
    Parameter,
    Parameters,
)
from bayes_moe.families.discrete import HALF_UNIT, Discrete, is_count
from bayes_moe.families.links import LOG_RATE

LARGEST_RATE = 9.2e18
"""Largest rate of NumPy's Poisson generator, whose draws are 64-bit integers."""


class Poisson(Discrete):
    """Poisson distribution with rate ``mu``, and ``eta = log mu``.

    ``log f(y) = y eta - exp(eta) - log y!``; the parameter ``mu`` is ``eta`` wherever it is an
    argument here.
    """

    kind = "poisson"
    parameters = (Parameter("mu", LOG_RATE, "rate"),)
    support = "whole numbers from 0"

    def in_support(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return is_count(y, xp)

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any) -> Any:
            return base + t * eta - m.exp(eta)

        return row

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return -xp.gammaln(y + 1)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        return pm.Poisson.dist(mu=pt.minimum(pt.exp(params["mu"]), LARGEST_RATE))

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y + HALF_UNIT)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        step = np.floor(y)
        level = special.gammaincc(np.maximum(step, 0) + 1, self.mean(params))
        return np.where(step >= 0, np.where(step < np.inf, level, 1.0), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        step = np.floor(y)
        level = special.gammainc(np.maximum(step, 0) + 1, self.mean(params))
        return np.where(step >= 0, np.where(step < np.inf, level, 0.0), 1.0)

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        rate = NUMERIC.exp(params["mu"])
        return rate, rate

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        return rng.poisson(np.minimum(self.mean(params), LARGEST_RATE), size)

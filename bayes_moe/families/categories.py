"""Classes: the categorical distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.data.class_labels import ANY
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.links import LOG_ODDS

NEAR = 2.0
"""Initial predictor of the class of a row."""

UNKNOWN = (0, 1)
"""Levels in the place of those of a table that is not known yet."""


@dataclass(frozen=True)
class Levels(Family):
    """A distribution over classes, which the response has as codes 0, 1, ...

    A description may leave the levels out: they are then those of the table that it is fitted to.
    """

    levels: tuple[Any, ...] | None = None
    discrete = True
    lower = 0.0
    has_moments: ClassVar[bool] = False
    takes_levels: ClassVar[str | None] = ANY

    @property
    def shown_levels(self) -> tuple[Any, ...]:
        """The levels, or others in their place where they are not known yet."""
        return self.levels or UNKNOWN

    @property
    def count(self) -> int:
        """Number of levels."""
        return len(self.shown_levels)

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        supported = (y >= 0) & (y < self.count) & (xp.floor(y) >= y)
        inside = xp.where(supported, y, 0.0)
        return RowData(inside, 0.0, xp.where(supported, 0.0 * inside, -np.inf))

    def log_probabilities(self, params: Parameters) -> np.ndarray:
        """Log probability (..., level, expert, obs) of each level."""
        etas = self.etas(params, NUMERIC)
        codes = np.arange(float(self.count))
        log_p = [self.log_density_at(RowData(y, 0.0, 0.0), etas, NUMERIC) for y in codes]
        return np.stack(np.broadcast_arrays(*log_p), axis=-3)

    def probabilities(self, params: Parameters) -> np.ndarray:
        """Probability (..., level, expert, obs) of each level."""
        return np.exp(self.log_probabilities(params))

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        p = self.probabilities(params)
        codes = np.arange(self.count)[:, None, None]
        total: np.ndarray = np.where(codes <= np.asarray(y), p, 0.0).sum(axis=-3)
        return total

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        p = self.probabilities(params)
        codes = np.arange(self.count)[:, None, None]
        total: np.ndarray = np.where(codes > np.asarray(y), p, 0.0).sum(axis=-3)
        return total

    def mean(self, params: Parameters) -> np.ndarray:
        """Mean code (..., expert, obs)."""
        codes = np.arange(self.count)[:, None, None]
        mean: np.ndarray = (codes * self.probabilities(params)).sum(axis=-3)
        return mean

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def variance(self, params: Parameters) -> np.ndarray:
        codes = np.arange(self.count)[:, None, None]
        p = self.probabilities(params)
        variance: np.ndarray = (codes**2 * p).sum(axis=-3) - (codes * p).sum(axis=-3) ** 2
        return np.maximum(variance, 0.0)

    def scale(self, params: Parameters) -> np.ndarray:
        return np.hypot(np.sqrt(self.variance(params)), 0.5)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        cumulative = np.cumsum(self.probabilities(params), axis=-3)
        u = rng.random(size)
        above = np.moveaxis(cumulative, -3, 0) < u * np.moveaxis(cumulative, -3, 0)[-1]
        drawn: np.ndarray = above.sum(axis=0).astype(np.int64)
        return drawn


@dataclass(frozen=True)
class Categorical(Levels):
    """Categorical distribution: class ``c`` has the probability ``softmax(eta)_c``.

    ``log f(c) = eta_c - log(sum_d exp(eta_d))``. Only differences of the predictors count: by
    default their coefficients sum to zero over the classes.
    """

    kind = "categorical"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("p", LOG_ODDS, "class", self.shown_levels, "class"),)

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, *etas: Any) -> Any:
            chosen = etas[-1]
            for code in reversed(range(len(etas) - 1)):
                chosen = m.where(t < code + 0.5, etas[code], chosen)
            return base + chosen - m.logsumexp(*etas)

        return row

    def log_probabilities(self, params: Parameters) -> np.ndarray:
        etas = np.asarray(params["p"])
        log_p: np.ndarray = etas - NUMERIC.logsumexp(etas, axis=-3, keepdims=True)
        return log_p

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.asarray(y, dtype=float)

    def initial_location(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        own = np.arange(self.count)[:, None, None] == y
        return np.where(own, NEAR, -NEAR / (self.count - 1))

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        # The parameter is (obs, expert, label): PyMC has the classes last.
        return pm.Categorical.dist(logit_p=params["p"])

"""Classes: the categorical distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.data.class_labels import ANY
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.formula import Pairs
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
        if _is_table(p, y):
            below = np.cumsum(p, axis=-3)
            below = np.concatenate([np.zeros_like(below[..., :1, :, :]), below], axis=-3)
            return _of_code(np.moveaxis(below, -3, 0), _first_above(y, self.count, 0))
        codes = np.arange(self.count)[:, None, None]
        total: np.ndarray = np.where(codes <= np.asarray(y), p, 0.0).sum(axis=-3)
        return total

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        p = self.probabilities(params)
        if _is_table(p, y):
            above = np.cumsum(p[..., ::-1, :, :], axis=-3)[..., ::-1, :, :]
            above = np.concatenate([above, np.zeros_like(above[..., :1, :, :])], axis=-3)
            return _of_code(np.moveaxis(above, -3, 0), _first_above(y, self.count, self.count))
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
        if cumulative.shape[-1] == 1:
            by_code = np.moveaxis(cumulative[..., 0], -2, -1)
            table = np.broadcast_to(by_code, (*size[:-1], self.count)).reshape(-1, self.count)
            values = u.reshape(len(table), -1)
            found = [np.searchsorted(c, v * c[-1]) for c, v in zip(table, values, strict=True)]
            return np.stack(found).reshape(size)
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

    def log_density_at(self, data: RowData, etas: Sequence[Any], xp: Arrays) -> Any:
        """Log density (..., expert, obs): the log probability of each row's class, looked up."""
        if xp is not NUMERIC:
            return super().log_density_at(data, etas, xp)
        return data.base + _of_code(_log_softmax(etas), data.t)

    @cached_property
    def _derivatives(self) -> Callable[[Pairs], Callable[..., tuple[Any, ...]]]:
        """As of any formula, in closed form: expressions for each pair take long to find."""
        return lambda pairs: partial(_softmax_derivatives, pairs)

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


def _log_softmax(etas: Sequence[Any]) -> np.ndarray:
    """Log probabilities (class, ..., expert, obs), or (class, ..., expert, 1) of constants."""
    stacked = np.stack(np.broadcast_arrays(*etas))
    log_p: np.ndarray = stacked - NUMERIC.logsumexp(stacked, axis=0, keepdims=True)
    return log_p


def _softmax_derivatives(
    pairs: Pairs, t: Any, u: Any, base: Any, *etas: Any
) -> tuple[np.ndarray, ...]:
    """Scores ``1(y = a) - p_a``, then second derivatives ``p_a p_b - 1(a = b) p_a``.

    They are (..., expert, obs); of constants the second do not depend on the row: (..., expert, 1).
    """
    p = np.exp(_log_softmax(etas))
    scores = [np.equal(t, code) - of_class for code, of_class in enumerate(p)]
    return *scores, *(p[a] * (p[b] - 1.0 if a == b else p[b]) for a, b in pairs)


def _is_table(values: np.ndarray, y: Any) -> bool:
    """Whether values (..., class, expert, 1) are the same for all responses (obs,)."""
    return values.shape[-1] == 1 and np.ndim(y) <= 1


def _first_above(y: Any, count: int, unknown: int) -> np.ndarray:
    """The least code above each number, from 0 to ``count``; ``unknown`` of what is no number."""
    y = np.asarray(y, dtype=float)
    code = np.clip(np.floor(y) + 1, 0, count)
    return np.where(np.isnan(y), unknown, code)


def _of_code(values: np.ndarray, codes: Any) -> np.ndarray:
    """Values (class, ..., expert, obs) at each row's code (obs,): (..., expert, obs).

    Values (class, ..., expert, 1) are a table of all rows: no array over classes and rows is made.
    """
    codes = np.asarray(codes).astype(np.int64)
    if values.ndim > 1 and values.shape[-1] == 1 and codes.ndim <= 1:
        by_code = np.ascontiguousarray(np.moveaxis(values[..., 0], 0, -1))
        return np.take(by_code, np.atleast_1d(codes), axis=-1)
    count, shape = len(values), np.broadcast_shapes(values.shape[1:], codes.shape)
    lead = (1,) * (len(shape) + 1 - values.ndim)
    full = np.broadcast_to(values.reshape(count, *lead, *values.shape[1:]), (count, *shape))
    found: np.ndarray = np.take_along_axis(full, np.broadcast_to(codes, shape)[None], axis=0)[0]
    return found

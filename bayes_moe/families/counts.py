"""Unbounded counts: Poisson, negative binomial and geometric distributions."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.checks import check_one_of
from bayes_moe.families import functions
from bayes_moe.families.base import Parameter, Parameters, RowData, Size
from bayes_moe.families.discrete import HALF_UNIT, Discrete, is_count
from bayes_moe.families.links import LOG, LOG_RATE, MEANS, Link

LARGEST = np.finfo(float).max
LARGEST_RATE = 9.2e18
"""Largest rate of NumPy's Poisson generator, whose draws are 64-bit integers."""


LEAST_MEAN = 1e-3
"""Mean below which working weights under the identity link do not grow."""
NEVER = -1e300
"""Log of a probability of zero, of which differences are numbers."""
LEAST_GAP = -1e-300
"""Largest log of which the rest of a probability is taken."""
LEAST_LOG = -60.0
"""Log of an argument below which its gamma normaliser is that log."""


class Counts(Discrete):
    """Counts 0, 1, 2, ... without an upper end."""

    support = "whole numbers from 0"

    def in_support(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return is_count(y, xp)

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y + HALF_UNIT)

    @abstractmethod
    def up_to(self, count: np.ndarray, params: Parameters) -> np.ndarray:
        """Probability (..., expert, obs) of at most so many."""

    @abstractmethod
    def beyond(self, count: np.ndarray, params: Parameters) -> np.ndarray:
        """Probability (..., expert, obs) of more."""

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        level = self.up_to(np.clip(np.floor(y), 0, LARGEST), params)
        return np.where(y >= 0, np.where(y < np.inf, level, 1.0), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        level = self.beyond(np.clip(np.floor(y), 0, LARGEST), params)
        return np.where(y >= 0, np.where(y < np.inf, level, 0.0), 1.0)


@dataclass(frozen=True)
class Poisson(Counts):
    """Poisson distribution with mean ``mu``.

    ``log f(y) = y log mu - mu - log y!``; the parameter ``mu`` is its predictor wherever it is an
    argument here.

    Parameters
    ----------
    link : {"log", "identity", "sqrt"}
        Link of ``mu``. Under the identity, no count is possible where the predictor is negative.
    """

    kind = "poisson"
    link: str = "log"

    def __post_init__(self) -> None:
        check_one_of("link", self.link, MEANS)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("mu", Link(self.link, natural=False), MEANS[self.link].role),)

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any) -> Any:
            log_mean, mean = MEANS[self.link].log_and_mean(m, eta)
            value = base + t * log_mean - mean
            return m.where(eta > 0.0, value, -math.inf) if self.link == "identity" else value

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, eta: Any) -> Any:
            log_mean, _ = MEANS[self.link].log_and_mean(m, eta)
            at = m.log(t + 1.0), log_mean
            both = m.log_gamma_above(*at), m.log_gamma_below(*at)
            if self.link != "identity":
                return both
            return [m.where(eta > 0.0, x, NEVER) for x in both]

        return tails

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any] | None:
        if self.link == "log":
            return None
        eta = np.asarray(etas[0])
        return [np.full_like(eta, 4.0) if self.link == "sqrt" else 1 / np.maximum(eta, LEAST_MEAN)]

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return -xp.gammaln(y + 1)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        mean = MEANS[self.link].mean(functions.symbolic(), pt.as_tensor(params["mu"]))
        return pm.Poisson.dist(mu=pt.minimum(mean, LARGEST_RATE))

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        found: np.ndarray = MEANS[self.link].of_mean(y + HALF_UNIT)
        return found

    def up_to(self, count: np.ndarray, params: Parameters) -> np.ndarray:
        return special.gammaincc(count + 1, self.mean(params))

    def beyond(self, count: np.ndarray, params: Parameters) -> np.ndarray:
        return special.gammainc(count + 1, self.mean(params))

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        rate = MEANS[self.link].mean(functions.numeric(), np.asarray(params["mu"]))
        return rate, rate

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.poisson(np.minimum(self.mean(params), LARGEST_RATE), size)


class NegativeBinomial(Counts):
    """Negative binomial distribution with mean ``mu`` and variance ``mu + mu^2 / alpha``.

    PyMC's parameters, with a log link of ``mu``; ``alpha`` is the shape of the gamma distribution
    of the Poisson rate, one over the ``alpha`` of statsmodels. The parameter ``mu`` is ``log mu``
    wherever it is an argument here.
    """

    kind = "negativebinomial"
    parameters: Any = (
        Parameter("mu", LOG_RATE, "rate"),
        Parameter("alpha", LOG, "concentration"),
    )

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, log_mean: Any, log_alpha: Any) -> Any:
            mean, alpha = m.exp(log_mean), m.exp(log_alpha)
            shape = gamma_ratio(m, t, log_alpha)
            return base + t * log_mean - t + shape + grown(m, alpha + t, alpha + mean, t - mean)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, log_mean: Any, *shape: Any) -> Any:
            log_alpha, log_next = (shape[0] if shape else 0.0 * log_mean), m.log(t + 1.0)
            odds = log_mean - log_alpha
            below = m.log_beta_below(log_alpha, log_next, -odds)
            return below, m.log_beta_below(log_next, log_alpha, odds)

        return tails

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return -xp.gammaln(y + 1)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        mean = pt.minimum(pt.exp(pt.as_tensor(params["mu"])), LARGEST_RATE)
        return pm.NegativeBinomial.dist(mu=mean, alpha=self.shape(params))

    def shape(self, params: Parameters) -> Any:
        """The parameter ``alpha``."""
        return params["alpha"]

    def log_odds(self, params: Parameters) -> np.ndarray:
        """Log of ``mu / alpha``."""
        return np.asarray(params["mu"] - np.log(self.shape(params)))

    def up_to(self, count: np.ndarray, params: Parameters) -> np.ndarray:
        return special.betainc(self.shape(params), count + 1, special.expit(-self.log_odds(params)))

    def beyond(self, count: np.ndarray, params: Parameters) -> np.ndarray:
        return special.betainc(count + 1, self.shape(params), special.expit(self.log_odds(params)))

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        mean = NUMERIC.exp(params["mu"])
        with np.errstate(over="ignore"):
            return mean, mean * (1 + mean / self.shape(params))

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        shape = self.shape(params)
        rate = self.mean(params) * rng.gamma(shape, size=size) / shape
        return rng.poisson(np.minimum(rate, LARGEST_RATE))


class Geometric(NegativeBinomial):
    """Geometric distribution: number of failures before a success, with mean ``mu``.

    ``mu = (1 - p) / p`` with the probability ``p`` of success, under a log link. PyMC's
    ``Geometric`` counts the success too: it is one more. It is a negative binomial distribution
    with ``alpha = 1``.
    """

    kind = "geometric"
    parameters = (Parameter("mu", LOG_RATE, "rate"),)

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, log_mean: Any) -> Any:
            return base - t * m.softplus(-log_mean) - m.softplus(log_mean)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, log_mean: Any) -> Any:
            above = -(t + 1.0) * m.softplus(-log_mean)
            return m.log1mexp(m.where(above < LEAST_GAP, above, LEAST_GAP)), above

        return tails

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return 0.0 * y

    def shape(self, params: Parameters) -> Any:
        return 1.0


def gamma_ratio(m: Any, t: Any, log_alpha: Any) -> Any:
    """Normaliser of ``alpha`` less that of ``alpha + t``, over a namespace ``m``.

    Of ``log Gamma(alpha + t) - log Gamma(alpha)`` it is what is left without
    ``(alpha + t) log(alpha + t) - alpha log alpha - t``, which grows with them.
    """
    least = m.where(log_alpha < LEAST_LOG, LEAST_LOG, log_alpha)
    here = m.gamma_normaliser(least) + (log_alpha - least)
    later = m.gamma_normaliser(m.log(m.where(t > 0.0, m.exp(log_alpha) + t, 1.0)))
    return m.where(t > 0.0, here - later, 0.0)


def grown(m: Any, x: Any, z: Any, change: Any) -> Any:
    """``x log(x / z)`` of positive numbers, exact where ``change = x - z`` is small."""
    ratio = change / z
    near = ratio > -0.5
    return x * m.where(near, m.log1p(m.where(near, ratio, 0.0)), m.log(x / z))

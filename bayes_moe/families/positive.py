"""Positive responses: gamma, log-normal, exponential, Weibull, inverse Gaussian and Lomax."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.checks import check_one_of
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.functions import bounded_exp, log_exceeded
from bayes_moe.families.gamma_normaliser import information
from bayes_moe.families.links import IDENTITY, LOG, MEANS, Link
from bayes_moe.families.location_scale import (
    HALF_LOG_2PI,
    normal_information,
    normal_row,
    normal_tails,
)

INFO = np.finfo(float)
NEVER = -1e300
"""Log of a probability of zero, of which differences are numbers."""


class Positive(Family):
    """Distribution of positive numbers, whose formulas take ``log y``.

    The log base is ``-log y``, so that rows state the log density of ``log y``.
    """

    lower = 0.0
    support = "positive numbers"
    log_constant: ClassVar[float] = 0.0

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        positive = (y > 0) & (y < np.inf)
        log_y = xp.log(xp.where(positive, y, 1.0))
        return RowData(log_y, 0.0, xp.where(positive, self.log_constant - log_y, -np.inf))

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y)

    @abstractmethod
    def below(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        """Cumulative probability (..., expert, obs) of positive responses."""

    @abstractmethod
    def above(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        """Probability (..., expert, obs) beyond positive responses."""

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return np.where(y > 0, self.below(np.log(np.where(y > 0, y, 1.0)), params), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return np.where(y > 0, self.above(np.log(np.where(y > 0, y, 1.0)), params), 1.0)

    @abstractmethod
    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        """Draws of shape ``size``, of which some may be zero by rounding."""

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        # Draws may be below the least double, and zero is no response.
        return np.maximum(self.drawn(params, rng, size), INFO.tiny)


class Hazard(Positive):
    """Distribution of positive numbers by its cumulative hazard ``-log P(Y > y)``."""

    @abstractmethod
    def hazard(self, log_y: np.ndarray, params: Parameters) -> Any:
        """Cumulative hazard (..., expert, obs) of positive responses."""

    def below(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        return -np.expm1(-self.hazard(log_y, params))

    def above(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        return np.exp(-self.hazard(log_y, params))


@dataclass(frozen=True)
class PositiveMean(Positive):
    """Distribution of positive numbers with mean ``mu``, by ``link`` of its predictor ``eta``.

    With the link ``"log"``, the parameter ``mu`` is ``eta`` wherever it is an argument. With
    ``"identity"``, the density is zero where ``eta`` is not positive; elsewhere than in densities
    the least positive number stands for such a mean.
    """

    link: str = "log"
    others: ClassVar[tuple[Parameter, ...]] = ()
    """Parameters after the mean."""

    def __post_init__(self) -> None:
        check_one_of("link", self.link, ("log", "identity"))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        mean = Parameter("mu", Link(self.link, natural=False), MEANS[self.link].role)
        return (mean, *self.others)

    @abstractmethod
    def of_ratio(self, m: Any, r: Any, u: Any, *etas: Any) -> Any:
        """Log density of ``log y`` less its constant, by ``r = log(y / mean)`` and ``u``."""

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any, *etas: Any) -> Any:
            log_mean, _ = MEANS[self.link].log_and_mean(m, eta)
            value = base + self.of_ratio(m, t - log_mean, u, *etas)
            return value if self.link == "log" else m.where(eta > 0.0, value, -math.inf)

        return row

    @abstractmethod
    def tails_of_ratio(self, m: Any, r: Any, u: Any, *etas: Any) -> tuple[Any, Any]:
        """Logs of the probabilities up to a response and above, by ``r`` and ``u``."""

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, eta: Any, *etas: Any) -> Any:
            log_mean, _ = MEANS[self.link].log_and_mean(m, eta)
            both = self.tails_of_ratio(m, t - log_mean, u, *etas)
            return both if self.link == "log" else [m.where(eta > 0.0, x, NEVER) for x in both]

        return tails

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.asarray(MEANS[self.link].of_mean(y))

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def log_mean(self, params: Parameters) -> Any:
        """Log of the mean (..., expert, obs)."""
        mu = params["mu"]
        return mu if self.link == "log" else np.log(np.maximum(mu, INFO.tiny))

    def mean(self, params: Parameters) -> np.ndarray:
        mu = params["mu"]
        return np.asarray(NUMERIC.exp(mu) if self.link == "log" else np.maximum(mu, INFO.tiny))

    def inverse_mean(self, params: Parameters) -> Any:
        """One over the mean (..., expert, obs), as a tensor."""
        import pytensor.tensor as pt

        mu = pt.as_tensor(params["mu"])
        return pt.exp(-mu) if self.link == "log" else 1.0 / pt.maximum(mu, INFO.tiny)

    def variance(self, params: Parameters) -> np.ndarray:
        with np.errstate(over="ignore"):
            return self.mean(params) ** 2 * self.relative_variance(params)

    def squared_slope(self, eta: np.ndarray) -> Any:
        """Squared derivative of the log of the mean by its predictor."""
        return np.ones(()) if self.link == "log" else np.maximum(eta, 1e-100) ** -2.0

    @abstractmethod
    def relative_variance(self, params: Parameters) -> Any:
        """Squared coefficient of variation (..., expert, obs)."""

    def scale(self, params: Parameters) -> np.ndarray:
        with np.errstate(over="ignore"):
            width = self.mean(params) * np.sqrt(self.relative_variance(params))
        return np.clip(width, INFO.tiny, INFO.max)


class Gamma(PositiveMean):
    """Gamma distribution with mean ``mu`` and shape ``alpha``.

    ``log f(y) = alpha (log alpha + r - exp(r)) - log Gamma(alpha) - log y`` with
    ``r = log(y / mu)``. The coefficient of variation is ``1 / sqrt(alpha)``.
    """

    kind = "gamma"
    others = (Parameter("alpha", LOG, "precision"),)

    def of_ratio(self, m: Any, r: Any, u: Any, log_alpha: Any) -> Any:
        return m.gamma_normaliser(log_alpha) - m.exp(log_alpha) * m.deviance(r)

    def tails_of_ratio(self, m: Any, r: Any, u: Any, *etas: Any) -> tuple[Any, Any]:
        at = etas[0], r + etas[0]
        return m.log_gamma_below(*at), m.log_gamma_above(*at)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return np.exp(etas[1]) * self.squared_slope(etas[0]), information(etas[1])

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        alpha = params["alpha"]
        return pm.Gamma.dist(alpha=alpha, beta=alpha * self.inverse_mean(params))

    def below(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        alpha = params["alpha"]
        return special.gammainc(alpha, alpha * NUMERIC.exp(log_y - self.log_mean(params)))

    def above(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        alpha = params["alpha"]
        return special.gammaincc(alpha, alpha * NUMERIC.exp(log_y - self.log_mean(params)))

    def relative_variance(self, params: Parameters) -> Any:
        return 1 / params["alpha"]

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return self.mean(params) * rng.gamma(params["alpha"], size=size) / params["alpha"]


class Exponential(Hazard, PositiveMean):
    """Exponential distribution with mean ``mu``; PyMC's ``lam`` is ``1 / mu``.

    ``log f(y) = -y / mu - log mu``.
    """

    kind = "exponential"

    def of_ratio(self, m: Any, r: Any, u: Any) -> Any:
        return r - m.exp(r)

    def tails_of_ratio(self, m: Any, r: Any, u: Any, *etas: Any) -> tuple[Any, Any]:
        return log_exceeded(m, r), -bounded_exp(m, r)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return (self.squared_slope(etas[0]),)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Exponential.dist(lam=self.inverse_mean(params))

    def hazard(self, log_y: np.ndarray, params: Parameters) -> Any:
        return NUMERIC.exp(log_y - self.log_mean(params))

    def relative_variance(self, params: Parameters) -> Any:
        return np.ones(())

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return self.mean(params) * rng.standard_exponential(size)


class LogNormal(Positive):
    """Log-normal distribution: ``log y`` has the mean ``mu`` and the standard deviation ``sigma``.

    ``log f(y) = -z^2 / 2 - log sigma - log(2 pi) / 2 - log y`` with ``z = (log y - mu) / sigma``.
    The median is ``exp(mu)``, the mean ``exp(mu + sigma^2 / 2)``.
    """

    kind = "lognormal"
    parameters = (Parameter("mu", IDENTITY, "rate"), Parameter("sigma", LOG, "log_scale"))
    normal_mixture = True
    log_constant = -HALF_LOG_2PI

    def row(self, m: Any) -> Callable[..., Any]:
        return normal_row(m)

    def tails(self, m: Any) -> Callable[..., Any]:
        return normal_tails(m)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return normal_information(etas)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.LogNormal.dist(**params)

    def below(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        return special.ndtr((log_y - params["mu"]) / params["sigma"])

    def above(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        return special.ndtr((params["mu"] - log_y) / params["sigma"])

    def location(self, params: Parameters) -> np.ndarray:
        return np.asarray(NUMERIC.exp(params["mu"]))

    def mean(self, params: Parameters) -> np.ndarray:
        return np.asarray(NUMERIC.exp(params["mu"] + 0.5 * params["sigma"] ** 2))

    def variance(self, params: Parameters) -> np.ndarray:
        with np.errstate(over="ignore"):
            square = np.asarray(params["sigma"]) ** 2
            return np.expm1(square) * np.exp(2 * params["mu"] + square)

    def scale(self, params: Parameters) -> np.ndarray:
        # Half the distance of the quantiles at one sigma: the standard deviation soon overflows.
        with np.errstate(over="ignore"):
            width = np.exp(params["mu"]) * np.sinh(params["sigma"])
        return np.clip(width, INFO.tiny, INFO.max)

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return np.asarray(NUMERIC.exp(rng.normal(params["mu"], params["sigma"], size)))

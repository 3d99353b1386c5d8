"""Real responses ``mu + s z`` with ``z`` of a fixed distribution: Laplace, logistic, Gumbel."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.families.base import Derivatives, Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.formula import ALL, SCORES, WORKING
from bayes_moe.families.functions import bounded_exp, log_exceeded
from bayes_moe.families.links import IDENTITY, LOG

LEAST_DISTANCE = 1e-12
"""Least distance, in units of the scale, by which weights of a Laplace distribution are divided."""

SQRT_2 = math.sqrt(2.0)


class Standardised(Family):
    """Distribution of ``mu + s z``: the first parameter is ``mu``, the second the scale ``s``.

    ``log f(y) = standard(z) + log_constant - log s`` with ``z = (y - mu) / s``.
    """

    log_constant: ClassVar[float] = 0.0
    moments: ClassVar[tuple[float, float]]
    """Mean and variance of ``z``."""

    @abstractmethod
    def standard(self, m: Any, z: Any, *shape: Any) -> Any:
        """Log density of ``z`` less its constant, over the functions of ``m``.

        ``shape`` are the predictors of parameters after the scale.
        """

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, mu: Any, log_scale: Any, *shape: Any) -> Any:
            z = (t - mu) * m.exp(-log_scale)
            return base - log_scale + self.standard(m, z, *shape)

        return row

    @abstractmethod
    def standard_tails(self, m: Any, z: Any, *shape: Any) -> tuple[Any, Any]:
        """Logs of the probabilities up to ``z`` and above it, over the functions of ``m``."""

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, mu: Any, log_scale: Any, *shape: Any) -> Any:
            return self.standard_tails(m, (t - mu) * m.exp(-log_scale), *shape)

        return tails

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return RowData(y, 0.0, self.log_constant)

    def residual(self, y: Any, params: Parameters) -> np.ndarray:
        """``z`` (..., expert, obs) of responses."""
        return np.asarray((y - params["mu"]) / self.scale(params))

    def mean(self, params: Parameters) -> np.ndarray:
        return params["mu"] + self.moments[0] * self.scale(params)

    def variance(self, params: Parameters) -> np.ndarray:
        return self.moments[1] * self.scale(params) ** 2

    def scale(self, params: Parameters) -> np.ndarray:
        return params[self.parameters[1].name]


class Laplace(Standardised):
    """Laplace distribution with location ``mu``, its median, and scale ``b``.

    ``log f(y) = -|z| - log(2 b)`` with ``z = (y - mu) / b``. The second derivative by ``mu`` is a
    point mass at the kink; its mean over the response, ``-1 / b^2``, stands for it.
    """

    kind = "laplace"
    parameters = (Parameter("mu", IDENTITY, "location"), Parameter("b", LOG, "scale"))
    normal_mixture = True
    kink = True
    log_constant = -math.log(2.0)
    moments = 0.0, 2.0

    def standard(self, m: Any, z: Any, *shape: Any) -> Any:
        return -m.absolute(z)

    def standard_tails(self, m: Any, z: Any, *shape: Any) -> tuple[Any, Any]:
        return _laplace_below(m, z), _laplace_below(m, -z)

    def derivatives_at(
        self, data: RowData, etas: Sequence[np.ndarray], asked: str = ALL
    ) -> Derivatives:
        found = super().derivatives_at(data, etas, asked)
        if asked in (WORKING, SCORES):
            return found
        first = found.second[0][0] - np.exp(-2.0 * etas[1])
        rest = found.second[1:]
        return replace(found, second=((first, *found.second[0][1:]), *rest))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        # The response is normal given its variance, whose inverse has the mean 1 / (b |y - mu|).
        b = np.exp(etas[1])
        return 1.0 / (b * np.maximum(np.abs(data.t - etas[0]), LEAST_DISTANCE * b)), 1.0

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Laplace.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        z = self.residual(y, params)
        tail = 0.5 * np.exp(-np.abs(z))
        return np.where(z < 0, tail, 1.0 - tail)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        z = self.residual(y, params)
        tail = 0.5 * np.exp(-np.abs(z))
        return np.where(z > 0, tail, 1.0 - tail)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.laplace(params["mu"], params["b"], size)


class Logistic(Standardised):
    """Logistic distribution with mean ``mu`` and scale ``s``.

    ``log f(y) = -z - 2 log(1 + exp(-z)) - log s`` with ``z = (y - mu) / s``.
    """

    kind = "logistic"
    parameters = (Parameter("mu", IDENTITY, "location"), Parameter("s", LOG, "scale"))
    normal_mixture = True
    moments = 0.0, math.pi**2 / 3

    def standard(self, m: Any, z: Any, *shape: Any) -> Any:
        return -z - 2.0 * m.softplus(-z)

    def standard_tails(self, m: Any, z: Any, *shape: Any) -> tuple[Any, Any]:
        return -m.softplus(-z), -m.softplus(z)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        # A normal mixture (Andrews and Mallows, 1974): the inverse variance given the response has
        # the mean tanh(z / 2) / (z s^2).
        inverse = np.exp(-etas[1])
        z = np.abs(data.t - etas[0]) * inverse
        half = np.maximum(0.5 * z, 1e-9)
        return 0.5 * np.tanh(half) / half * (inverse * inverse), (math.pi**2 + 3) / 9

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Logistic.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.expit(self.residual(y, params))

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.expit(-self.residual(y, params))

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.logistic(params["mu"], params["s"], size)


class Gumbel(Standardised):
    """Gumbel distribution of maxima with mode ``mu`` and scale ``beta``.

    ``log f(y) = -z - exp(-z) - log beta`` with ``z = (y - mu) / beta``. The mean is
    ``mu + 0.5772 beta``.
    """

    kind = "gumbel"
    parameters = (Parameter("mu", IDENTITY, "location"), Parameter("beta", LOG, "scale"))
    moments = np.euler_gamma, math.pi**2 / 6

    def standard(self, m: Any, z: Any, *shape: Any) -> Any:
        return -z - bounded_exp(m, -z)

    def standard_tails(self, m: Any, z: Any, *shape: Any) -> tuple[Any, Any]:
        return -bounded_exp(m, -z), log_exceeded(m, -z)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return np.exp(-2.0 * etas[1]), math.pi**2 / 6 + (1.0 - np.euler_gamma) ** 2

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Gumbel.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return np.exp(-NUMERIC.exp(-self.residual(y, params)))

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return -np.expm1(-NUMERIC.exp(-self.residual(y, params)))

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.gumbel(params["mu"], params["beta"], size)


def _laplace_below(m: Any, z: Any) -> Any:
    """Log of the probability up to ``z`` under a standard Laplace distribution."""
    left = m.where(z < 0.0, z, 0.0)
    right = m.log1p(-0.5 * m.exp(-m.where(z < 0.0, 0.0, z)))
    return m.where(z < 0.0, left - math.log(2.0), right)

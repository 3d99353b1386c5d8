"""Real responses ``mu + s z`` with a shape of ``z``: generalised normal and skew normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.families.base import Parameter, Parameters, RowData, Size
from bayes_moe.families.functions import bounded_exp
from bayes_moe.families.links import IDENTITY, LOG
from bayes_moe.families.location_scale import HALF_LOG_2PI
from bayes_moe.families.standardised import Standardised

LEAST_DISTANCE = 1e-100
"""Least ``|z|`` of which a power is taken."""
NEAREST = 1e-12
"""Least ``|z|`` in working weights."""
CANCELS = 1e-2
"""Share of a normal tail that is left of a difference of two, below which it is integrated."""
NODES, WEIGHTS = special.roots_laguerre(80)


class GeneralisedNormal(Standardised):
    """Generalised normal (power exponential) distribution with mean `mu` and scale `sigma`.

    ``log f(y) = -|z|^beta - log(2 sigma Gamma(1 + 1 / beta))`` with ``z = (y - mu) / sigma`` and a
    power of ``beta = 1 + excess``. An excess of 1 is the normal distribution with variance
    ``sigma^2 / 2``; tails are longer below and shorter above. As the excess vanishes, the Laplace
    distribution is the limit: larger powers than 1 have no kink at ``mu``.
    """

    kind = "generalisednormal"
    parameters = (
        Parameter("mu", IDENTITY, "location"),
        Parameter("sigma", LOG, "scale"),
        Parameter("excess", LOG, "power"),
    )
    log_constant = -math.log(2.0)

    def standard(self, m: Any, z: Any, *shape: Any) -> Any:
        log_beta = m.softplus(shape[0])
        size = m.absolute(z)
        there = size > LEAST_DISTANCE
        log_power = m.exp(log_beta) * m.log(m.where(there, size, LEAST_DISTANCE))
        power = m.where(there, bounded_exp(m, log_power), 0.0)
        return (
            log_beta + (log_beta + 1.0) * m.exp(-log_beta) + m.gamma_normaliser(-log_beta) - power
        )

    def standard_tails(self, m: Any, z: Any, *shape: Any) -> tuple[Any, Any]:
        log_beta, size = m.softplus(shape[0]), m.absolute(z)
        there = m.where(size > LEAST_DISTANCE, size, LEAST_DISTANCE)
        tail = m.log_gamma_above(-log_beta, m.exp(log_beta) * m.log(there)) - math.log(2.0)
        rest = m.log1mexp(tail)
        return m.where(z < 0.0, tail, rest), m.where(z < 0.0, rest, tail)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        # Up to a power of 2, the response is normal given its variance, whose inverse has this
        # mean (West, 1987); beyond, Fisher's information is that of all rows.
        excess = np.exp(np.minimum(etas[2], 300.0))
        beta, inverse = 1.0 + excess, np.exp(-etas[1])
        a, share = 1.0 / beta, excess / beta
        z = np.maximum(np.abs(data.t - etas[0]) * inverse, NEAREST)
        with np.errstate(over="ignore"):
            few = beta * z ** (np.minimum(beta, 2.0) - 2.0)
            gammas = special.gammaln(2.0 - np.minimum(a, 0.5)) - special.gammaln(a)
            weight = np.where(beta < 2.0, few, beta**2 * np.exp(gammas))
        psi = special.digamma(1.0 + a) + 1.0
        of_power = a * (psi * psi - 1.0 + (1.0 + a) * special.zeta(2, 1.0 + a))
        return weight * inverse * inverse, beta, share * share * of_power

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        arguments = (params[p.name] for p in self.parameters)
        return pm.CustomDist.dist(*arguments, dist=_drawn, logp=_log_density)

    def tail(self, z: Any, params: Parameters) -> np.ndarray:
        """Probability of one side beyond ``|z|``."""
        beta = 1.0 + np.asarray(params["excess"])
        with np.errstate(over="ignore"):
            power = np.abs(z) ** beta
        return 0.5 * special.gammaincc(1.0 / beta, power)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        z = self.residual(y, params)
        tail = self.tail(z, params)
        return np.where(z < 0, tail, 1.0 - tail)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        z = self.residual(y, params)
        tail = self.tail(z, params)
        return np.where(z > 0, tail, 1.0 - tail)

    def mean(self, params: Parameters) -> np.ndarray:
        return params["mu"]

    def variance(self, params: Parameters) -> np.ndarray:
        a = 1.0 / (1.0 + np.asarray(params["excess"]))
        factor = np.exp(special.gammaln(3.0 * a) - special.gammaln(a))
        return np.asarray(factor * params["sigma"] ** 2)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        a = 1.0 / (1.0 + np.asarray(params["excess"]))
        # |z|^beta has a gamma distribution of shape a: that of shape 1 + a, times U^(1 / a).
        sizes = rng.gamma(1.0 + a, size=size) ** a * rng.uniform(-1.0, 1.0, size)
        return np.asarray(params["mu"] + params["sigma"] * sizes)


def _drawn(mu: Any, sigma: Any, excess: Any, size: Any) -> Any:
    """Symbolic draws of :class:`GeneralisedNormal`."""
    import pymc as pm

    a = 1.0 / (1.0 + excess)
    sizes = pm.Gamma.dist(1.0 + a, 1.0, size=size) ** a
    return mu + sigma * sizes * pm.Uniform.dist(-1.0, 1.0, size=size)


def _log_density(y: Any, mu: Any, sigma: Any, excess: Any) -> Any:
    """Log density of :class:`GeneralisedNormal` by its textbook formula, for PyMC."""
    import pytensor.tensor as pt

    beta = 1.0 + excess
    normaliser = pt.log(2.0 * sigma) + pt.gammaln(1.0 + 1.0 / beta)
    return -(pt.abs((y - mu) / sigma) ** beta) - normaliser


class SkewNormal(Standardised):
    """Skew normal distribution with location ``mu``, scale ``sigma`` and asymmetry ``alpha``.

    ``log f(y) = log 2 + log phi(z) + log Phi(alpha z) - log sigma`` with ``z = (y - mu) / sigma``.
    The mean is ``mu + sigma delta sqrt(2 / pi)`` with ``delta = alpha / sqrt(1 + alpha^2)``.
    """

    kind = "skewnormal"
    parameters = (
        Parameter("mu", IDENTITY, "location"),
        Parameter("sigma", LOG, "scale"),
        Parameter("alpha", IDENTITY, "asymmetry"),
    )
    log_constant = math.log(2.0) - HALF_LOG_2PI

    def standard(self, m: Any, z: Any, *shape: Any) -> Any:
        return m.log_ndtr(shape[0] * z) - 0.5 * (z * z)

    def standard_tails(self, m: Any, z: Any, *shape: Any) -> tuple[Any, Any]:
        return m.log_skew_below(z, shape[0]), m.log_skew_below(-z, -shape[0])

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.SkewNormal.dist(**params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return _skew_tail(self.residual(y, params), np.asarray(params["alpha"]))

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return _skew_tail(-self.residual(y, params), -np.asarray(params["alpha"]))

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def mean(self, params: Parameters) -> np.ndarray:
        return params["mu"] + params["sigma"] * _standard_mean(params)

    def variance(self, params: Parameters) -> np.ndarray:
        return params["sigma"] ** 2 * (1.0 - _standard_mean(params) ** 2)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        alpha = np.asarray(params["alpha"])
        first, second = rng.standard_normal((2, *size))
        z = (alpha * np.abs(first) + second) / np.hypot(1.0, alpha)
        return np.asarray(params["mu"] + params["sigma"] * z)


def _standard_mean(params: Parameters) -> Any:
    alpha = np.asarray(params["alpha"])
    return alpha / np.hypot(1.0, alpha) * math.sqrt(2.0 / math.pi)


def _skew_tail(z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Probability that a standard skew normal is below ``z``, with small relative error."""
    normal = special.ndtr(z)
    direct = normal - 2.0 * special.owens_t(z, alpha)
    cancels = (alpha > 0) & (z < 0) & (direct < CANCELS * normal)
    if not cancels.any():
        return np.asarray(np.clip(direct, 0.0, 1.0))
    # The integral of exp(-z^2 (1 + x^2) / 2) / (pi (1 + x^2)) over x > alpha.
    z, alpha = np.where(cancels, z, -10.0), np.where(cancels, alpha, 1.0)
    square = alpha * alpha
    with np.errstate(over="ignore", under="ignore"):
        total = np.zeros(np.broadcast_shapes(z.shape, alpha.shape))
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            at = square + 2.0 * node / (z * z)
            total += weight / ((1.0 + at) * np.sqrt(at))
        tail = np.exp(-0.5 * z * z * (1.0 + square)) * total / (math.pi * z * z)
    return np.where(cancels, tail, np.clip(direct, 0.0, 1.0))

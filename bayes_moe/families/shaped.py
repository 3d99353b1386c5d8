"""Real responses ``mu + s z`` with a shape of ``z``: the skew normal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.families.base import Parameter, Parameters, Size
from bayes_moe.families.links import IDENTITY, LOG
from bayes_moe.families.location_scale import HALF_LOG_2PI
from bayes_moe.families.standardised import Standardised

CANCELS = 1e-2
"""Share of a normal tail that is left of a difference of two, below which it is integrated."""
NODES, WEIGHTS = special.roots_laguerre(80)


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

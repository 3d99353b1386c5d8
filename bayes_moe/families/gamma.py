"""Positive responses: the gamma distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.errors import DataError
from bayes_moe.families.base import NOTHING, Derivatives, Family, Parameter, Parameters
from bayes_moe.families.links import LOG, LOG_RATE

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

LARGE_ALPHA = 30.0
"""Shape above which Stirling's series is exact to 1e-15."""

STIRLING = (1 / 12, -1 / 120, 1 / 252, -1 / 240)
"""Coefficients of ``alpha (log alpha - psi(alpha)) - 1/2 ~ sum_j STIRLING[j] alpha^-(2 j + 1)``."""

ODD = 2 * np.arange(len(STIRLING)) + 1

SMALL_RATIO = 0.1
"""Log ratio below which :func:`deviance` sums its series, to a relative error of 1e-16."""


class Gamma(Family):
    """Gamma distribution with mean ``mu`` and shape ``alpha``, and ``eta = log mu``.

    ``log f(y) = alpha (log alpha - r - exp(-r)) - log Gamma(alpha) - log y`` with the log ratio
    ``r = eta - log y``; the parameter ``mu`` is ``eta`` wherever it is an argument here. The
    coefficient of variation is ``1 / sqrt(alpha)``.
    """

    PARAMS = (Parameter("mu", LOG_RATE, "rate"), Parameter("alpha", LOG, "precision"))
    lower = 0.0

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        alpha, positive = params["alpha"], (y > 0) & (y < np.inf)
        # Both branches of `where` are evaluated: 1 is a valid response.
        inside = xp.where(positive, y, 1.0)
        ratio = xp.log(inside) - params["mu"]
        value = log_normaliser(alpha, xp) - alpha * deviance(ratio, xp) - xp.log(inside)
        return xp.where(positive, value, -np.inf)

    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        positive = (y > 0) & (y < np.inf)
        return xp.where(positive, -xp.log(xp.where(positive, y, 1.0)), -np.inf)

    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        alpha = np.asarray(params["alpha"])
        ratio = np.log(y) - params["mu"]
        score, turn, information = normaliser_derivatives(alpha)
        with np.errstate(over="ignore"):
            slope = alpha * np.expm1(ratio)
            pull = alpha * deviance(ratio, NUMERIC)
        return Derivatives(
            score=(slope, score - pull),
            second=((-alpha - slope, slope), (slope, turn - pull)),
            expected_information=(alpha, information),
        )

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        return pm.Gamma.dist(
            alpha=params["alpha"], beta=params["alpha"] * pt.exp(-pt.as_tensor(params["mu"]))
        )

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y)

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        alpha = params["alpha"]
        # Far in the tail exp(-eta) overflows while y is zero: their product is then no number.
        with np.errstate(over="ignore"):
            ratio = np.exp(np.log(np.where(y > 0, y, 1.0)) - params["mu"])
        return np.where(y > 0, special.gammainc(alpha, alpha * ratio), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        alpha = params["alpha"]
        with np.errstate(over="ignore"):
            ratio = np.exp(np.log(np.where(y > 0, y, 1.0)) - params["mu"])
        return np.where(y > 0, special.gammaincc(alpha, alpha * ratio), 1.0)

    def mean(self, params: Parameters) -> np.ndarray:
        mean: np.ndarray = NUMERIC.exp(params["mu"])
        return mean

    def variance(self, params: Parameters) -> np.ndarray:
        with np.errstate(over="ignore"):
            return self.mean(params) ** 2 / params["alpha"]

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        drawn = self.mean(params) * rng.gamma(params["alpha"], size=size) / params["alpha"]
        # A small shape has draws below the least double, and zero is no response.
        return np.maximum(drawn, np.finfo(float).tiny)

    def scale(self, params: Parameters) -> np.ndarray:
        info = np.finfo(float)
        with np.errstate(over="ignore"):
            return np.clip(self.mean(params) / np.sqrt(params["alpha"]), info.tiny, info.max)

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        super().check_response(y, name, known, obs_id)
        invalid = np.flatnonzero(~(y > 0))
        if invalid.size:
            at = invalid[0]
            row = at if obs_id is None else obs_id[at]
            raise DataError(
                f"The response {name!r} is {y[at]:g} at row {row}; this family needs positive "
                f"numbers ({invalid.size} row(s) are not)."
            )


def deviance(ratio: Any, xp: Arrays) -> Any:
    """``exp(r) - 1 - r`` of log ratios ``r``: half the gamma deviance of a response."""
    small = (ratio < SMALL_RATIO) & (ratio > -SMALL_RATIO)
    # The difference would cancel, and a large shape multiplies what is lost.
    r = xp.where(small, ratio, 0.0)
    series = 0.0
    for j in range(11, 1, -1):
        series = series * r + 1 / math.factorial(j)
    return xp.where(small, series * r * r, xp.exp(ratio) - 1 - ratio)


def log_normaliser(alpha: Any, xp: Arrays) -> Any:
    """``alpha log alpha - alpha - log Gamma(alpha)``, by Stirling's series for large ``alpha``."""
    large = alpha > LARGE_ALPHA
    inverse = 1 / xp.where(large, alpha, LARGE_ALPHA)
    series = 0.0
    for odd, coefficient in zip(ODD[::-1], STIRLING[::-1], strict=True):
        series = series * inverse * inverse + coefficient / float(odd)
    stirling = 0.5 * xp.log(alpha) - HALF_LOG_2PI - series * inverse
    small = xp.where(large, LARGE_ALPHA, alpha)
    return xp.where(large, stirling, small * (xp.log(small) - 1) - xp.gammaln(small))


def normaliser_derivatives(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two derivatives of :func:`log_normaliser` by ``log alpha``, the first one less the second.

    The last is the Fisher information of ``log alpha``: 1 for small ``alpha``, 1/2 for large.
    """
    large = alpha > LARGE_ALPHA
    inverse = 1 / np.maximum(alpha, LARGE_ALPHA)
    square = inverse * inverse
    score = 0.5 + inverse * np.polynomial.polynomial.polyval(square, STIRLING)
    turn = -inverse * np.polynomial.polynomial.polyval(square, ODD * STIRLING)
    # The pole of psi at zero is taken out: psi(a) = psi(a + 1) - 1 / a.
    a = np.minimum(alpha, LARGE_ALPHA)
    first = a * (np.log(a) - special.digamma(a + 1))
    other = a - a * a * special.zeta(2, a + 1)
    exact = 1 + first, first + other, 1 - other
    return (
        np.where(large, score, exact[0]),
        np.where(large, turn, exact[1]),
        np.where(large, score - turn, exact[2]),
    )

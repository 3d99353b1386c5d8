"""Moments of a family over the responses up to a point, where they have a formula.

They are what integrals of tails would give, at the cost of a few probabilities:
:mod:`bayes_moe.families.recorded` takes them where their differences have enough digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families.base import Family, Parameters

Partial = tuple[Any, Any, Any]
"""A centre ``c``, and the means of ``(Y - c)`` and ``(Y - c)^2`` over responses up to a point."""


def _normal(family: Any, y: np.ndarray, params: Parameters) -> Partial:
    mu, sigma = params["mu"], params["sigma"]
    z = (y - mu) / sigma
    at = np.where(np.isfinite(z), z, 0.0)
    density = np.where(np.isfinite(z), np.exp(-0.5 * at * at) / np.sqrt(2 * np.pi), 0.0)
    return mu, -sigma * density, sigma**2 * (special.ndtr(z) - at * density)


def _lognormal(family: Any, y: np.ndarray, params: Parameters) -> Partial:
    mu, sigma = params["mu"], params["sigma"]
    z = (np.log(np.maximum(y, 0.0)) - mu) / sigma
    one, two = (
        NUMERIC.exp(k * mu + 0.5 * (k * sigma) ** 2) * special.ndtr(z - k * sigma) for k in (1, 2)
    )
    return 0.0, one, two


def _gamma(family: Any, y: np.ndarray, params: Parameters) -> Partial:
    mean, alpha = family.mean(params), np.asarray(params.get("alpha", 1.0))
    x = alpha * np.maximum(y, 0.0) / mean
    one = mean * special.gammainc(alpha + 1.0, x)
    return 0.0, one, mean**2 * (1.0 + 1.0 / alpha) * special.gammainc(alpha + 2.0, x)


def _weibull(family: Any, y: np.ndarray, params: Parameters) -> Partial:
    inverse = 1.0 / np.asarray(params["alpha"])
    hazard = family.hazard(np.log(np.maximum(y, 0.0)), params)
    log_scale = family.log_mean(params) - special.gammaln(1.0 + inverse)
    one, two = (
        NUMERIC.exp(k * log_scale + special.gammaln(1.0 + k * inverse))
        * special.gammainc(1.0 + k * inverse, hazard)
        for k in (1, 2)
    )
    return 0.0, one, two


def _poisson(family: Any, y: np.ndarray, params: Parameters) -> Partial:
    mean = family.mean(params)
    # The probability of at most n counts.
    one, two = (
        np.where(y >= k, special.gammaincc(np.maximum(y - k, 0.0) + 1.0, mean), 0.0)
        for k in (1.0, 2.0)
    )
    one, two = (np.where(np.isposinf(y), 1.0, value) for value in (one, two))
    return 0.0, mean * one, mean**2 * two + mean * one


PARTIAL: dict[str, Callable[[Any, np.ndarray, Parameters], Partial]] = {
    "normal": _normal,
    "lognormal": _lognormal,
    "gamma": _gamma,
    "exponential": _gamma,
    "weibull": _weibull,
    "poisson": _poisson,
}
"""Function of family, points (number,) and parameters (1, number), by name of the family."""


def cut_moments(
    family: Family, params: Parameters, points: np.ndarray, cut: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and variance (number,) of responses between limits, cut at others, and their digits.

    Parameters
    ----------
    family : Family
        One of :data:`PARTIAL`.
    params : mapping
        Its parameters (1, number).
    points : array (4, number)
        Responses of recorded rows are larger than the first and up to the last; those up to the
        second and beyond the third are replaced.
    cut : array (2, number)
        What replaces them; not finite where nothing is replaced.

    Returns
    -------
    tuple of array
        Mean, variance, and the variance as a part of the terms that it is a difference of.
    """
    with np.errstate(all="ignore"):
        below = np.stack([_cdf(family, y, params) for y in points])
        total = below[3] - below[0]
        centre, *low = PARTIAL[family.kind](family, points[1], params)
        _, *high = PARTIAL[family.kind](family, points[2], params)
        centre = np.broadcast_to(centre, (1, total.size))[0]
        left, right = np.where(np.isfinite(cut), cut - centre, 0.0)
        shares = below[1] - below[0], below[3] - below[2]
        one, two = (
            (left**k * shares[0] + (up - down)[0] + right**k * shares[1]) / total
            for k, down, up in zip((1, 2), low, high, strict=True)
        )
        size = np.abs(high[1][0] / total) + left**2 * shares[0] + right**2 * shares[1]
        variance = two - one**2
        return centre + one, variance, np.minimum(variance / size, total)


def _cdf(family: Family, y: np.ndarray, params: Parameters) -> np.ndarray:
    """Probability (number,) up to points, also infinite ones."""
    finite = np.isfinite(y)
    own = np.broadcast_to(family.cdf(np.where(finite, y, 1.0), params), (1, y.size))[0]
    return np.where(finite, own, np.where(y > 0, 1.0, 0.0))

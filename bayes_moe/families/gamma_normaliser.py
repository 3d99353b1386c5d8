"""The log normaliser of the gamma distribution by the log of its shape, and half its deviance.

``G(log a) = a log a - a - log Gamma(a)``. It grows as ``log(a) / 2``, so that differences of
``log Gamma`` can be written by differences of ``G`` without loss of digits for large arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import Arrays

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

LARGE_ALPHA = 30.0
"""Shape above which Stirling's series is exact to 1e-15."""

STIRLING = (1 / 12, -1 / 120, 1 / 252, -1 / 240)
"""Coefficients of ``alpha (log alpha - psi(alpha)) - 1/2 ~ sum_j STIRLING[j] alpha^-(2 j + 1)``."""

ODD = 2 * np.arange(len(STIRLING)) + 1

SMALL_RATIO = 0.1
"""Log ratio below which :func:`deviance` sums its series, to a relative error of 1e-16."""


def deviance(xp: Arrays) -> Callable[[Any], Any]:
    """``exp(r) - 1 - r`` of log ratios ``r``: half the gamma deviance of a response."""

    def of(ratio: Any) -> Any:
        small = (ratio < SMALL_RATIO) & (ratio > -SMALL_RATIO)
        # The difference would cancel, and a large shape multiplies what is lost.
        r = xp.where(small, ratio, 0.0)
        series = 0.0
        for j in range(11, 1, -1):
            series = series * r + 1 / math.factorial(j)
        return xp.where(small, series * r * r, xp.exp(ratio) - 1 - ratio)

    return of


def log_normaliser(xp: Arrays) -> Callable[[Any], Any]:
    """``alpha log alpha - alpha - log Gamma(alpha)`` of ``log alpha``."""

    def of(log_alpha: Any) -> Any:
        alpha = xp.exp(log_alpha)
        large = alpha > LARGE_ALPHA
        inverse = 1 / xp.where(large, alpha, LARGE_ALPHA)
        series = 0.0
        for odd, coefficient in zip(ODD[::-1], STIRLING[::-1], strict=True):
            series = series * inverse * inverse + coefficient / float(odd)
        stirling = 0.5 * log_alpha - HALF_LOG_2PI - series * inverse
        small = xp.where(large, LARGE_ALPHA, alpha)
        exact = small * (xp.log(small) - 1) - xp.gammaln(small)
        return xp.where(large, stirling, exact)

    return of


def slope(log_alpha: np.ndarray) -> np.ndarray:
    """Derivative of :func:`log_normaliser` by ``log alpha``: ``alpha (log alpha - psi(alpha))``."""
    large, inverse, small = _pieces(log_alpha)
    if large.all():
        return 0.5 + inverse * np.polynomial.polynomial.polyval(inverse * inverse, STIRLING)
    # The pole of psi at zero is taken out: psi(a) = psi(a + 1) - 1 / a.
    exact = 1 + small * (np.log(small) - special.digamma(small + 1))
    if not large.any():
        return np.asarray(exact)
    series = 0.5 + inverse * np.polynomial.polynomial.polyval(inverse * inverse, STIRLING)
    return np.where(large, series, exact)


def bend(log_alpha: np.ndarray) -> np.ndarray:
    """Second derivative of :func:`log_normaliser` by ``log alpha``."""
    large, inverse, small = _pieces(log_alpha)
    exact = small * (np.log(small) - special.digamma(small + 1) + 1)
    exact = exact - small * small * special.zeta(2, small + 1)
    series = -inverse * np.polynomial.polynomial.polyval(inverse * inverse, ODD * STIRLING)
    return np.where(large, series, exact)


def information(log_alpha: np.ndarray) -> np.ndarray:
    """Fisher information of ``log alpha``: 1 for small ``alpha``, 1/2 for large."""
    large, inverse, small = _pieces(log_alpha)
    exact = 1 - small + small * small * special.zeta(2, small + 1)
    square = inverse * inverse
    series = 0.5 + inverse * np.polynomial.polynomial.polyval(square, STIRLING)
    series = series + inverse * np.polynomial.polynomial.polyval(square, ODD * STIRLING)
    return np.where(large, series, exact)


def _pieces(log_alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether ``alpha`` is large, its inverse where it is, and itself where it is not."""
    with np.errstate(over="ignore"):
        alpha = np.exp(np.asarray(log_alpha, dtype=float))
    large = alpha > LARGE_ALPHA
    return large, 1 / np.maximum(alpha, LARGE_ALPHA), np.minimum(alpha, LARGE_ALPHA)

"""The log normaliser of Student's t by ``log nu``, without cancellation for any ``nu``.

With ``gap(nu) = psi((nu + 1) / 2) - psi(nu / 2)``, the derivatives contain ``nu gap - 1``, which
tends to ``1 / (2 nu)`` for large ``nu`` and would be lost in the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import Arrays

LARGE_NU = 30.0
"""Degrees of freedom above which the asymptotic series is exact to 1e-14."""

SERIES = (1 / 2, -1 / 4, 1 / 2, -17 / 8, 31 / 2, -691 / 4, 5461 / 2)
"""Coefficients of ``nu gap - 1 ~ sum_j SERIES[j] nu^-(2 j + 1)``."""


SMALL_TAIL = 1e-2
"""Tail below which :func:`log_excess` sums its series, to a relative error of 1e-16."""

TAIL_SERIES = tuple(1 / j for j in range(2, 10))


@dataclass(frozen=True)
class Normaliser:
    """Terms of the derivatives by ``log nu`` without the response, each of the shape of ``nu``.

    Attributes
    ----------
    score : array
        ``nu gap - 1``.
    second : array
        Its derivative by ``log nu``.
    information : array
        Fisher information of ``log nu``: ``7 / (2 nu^2)`` for large ``nu``, 1 for small.
    """

    score: np.ndarray
    second: np.ndarray
    information: np.ndarray

    @classmethod
    def at(cls, nu: np.ndarray) -> Normaliser:
        """Terms at degrees of freedom ``nu`` of any shape."""
        # One step asks for several terms at the same values, one after another.
        at, terms = _latest[0]
        if not np.array_equal(at, nu):
            terms = cls._at(nu)
            _latest[0] = nu, terms
        return terms

    @classmethod
    def _at(cls, nu: np.ndarray) -> Normaliser:
        large = nu > LARGE_NU
        if large.all():
            return cls._series(nu)
        if not large.any():
            return cls._exact(nu)
        exact = cls._exact(np.minimum(nu, LARGE_NU))
        series = cls._series(np.maximum(nu, LARGE_NU))
        return cls(
            np.where(large, series.score, exact.score),
            np.where(large, series.second, exact.second),
            np.where(large, series.information, exact.information),
        )

    @classmethod
    def _exact(cls, nu: np.ndarray) -> Normaliser:
        # The pole of psi(nu / 2) at zero is taken out: gap = 2 / nu + rest.
        high, low = 0.5 * (nu + 1), 0.5 * nu + 1
        first = nu * (special.digamma(high) - special.digamma(low))
        other = 0.5 * nu * nu * (special.zeta(2, high) - special.zeta(2, low))
        score, second = 1 + first, first + other
        return cls(score, second, 0.5 * (score - second + (3 - nu) / ((nu + 1) * (nu + 3))))

    @classmethod
    def _series(cls, nu: np.ndarray) -> Normaliser:
        inverse = 1 / nu
        square = inverse * inverse
        powers = 2 * np.arange(len(SERIES)) + 1
        score = inverse * np.polynomial.polynomial.polyval(square, SERIES)
        second = -inverse * np.polynomial.polynomial.polyval(square, powers * SERIES)
        # The leading 1 / nu of score - second cancels against the rational part.
        rest = (powers + 1) * SERIES
        rest = inverse * square * np.polynomial.polynomial.polyval(square, rest[1:])
        return cls(score, second, 0.5 * ((7 + 3 * inverse) / ((nu + 1) * (nu + 3)) + rest))


_latest = [(np.zeros(0), Normaliser(np.zeros(0), np.zeros(0), np.zeros(0)))]
"""Degrees of freedom and terms of the latest call; a pair is replaced as a whole, by any thread."""


def log_normaliser(xp: Arrays) -> Callable[[Any], Any]:
    """``log G((nu + 1)/2) - log G(nu/2) - log(nu/2)/2`` of ``log nu``; ``G`` is the gamma function.

    For large ``nu`` the difference cancels; two terms of its series are then exact.
    """

    def of(log_nu: Any) -> Any:
        nu = xp.exp(log_nu)
        gap = xp.gammaln(0.5 * (nu + 1)) - xp.gammaln(0.5 * nu) - 0.5 * xp.log(0.5 * nu)
        return xp.where(nu > 1e3, (1 / (6 * nu * nu) - 1) / (4 * nu), gap)

    return of


def slope(log_nu: np.ndarray) -> np.ndarray:
    """Derivative of :func:`log_normaliser` by ``log nu``."""
    return 0.5 * Normaliser.at(np.exp(np.asarray(log_nu, dtype=float))).score


def bend(log_nu: np.ndarray) -> np.ndarray:
    """Second derivative of :func:`log_normaliser` by ``log nu``."""
    return 0.5 * Normaliser.at(np.exp(np.asarray(log_nu, dtype=float))).second


def log_excess(ratio: np.ndarray) -> np.ndarray:
    """``log(1 + u) - u / (1 + u)`` of ``ratio`` ``u``.

    It is ``sum_{j >= 2} t^j / j`` of ``t = u / (1 + u)``, and used in that form where the
    difference would cancel.
    """
    tail = ratio / (1 + ratio)
    excess = np.asarray(np.log1p(ratio) - tail)
    small = tail < SMALL_TAIL
    q = tail[small]
    excess[small] = q * q * np.polynomial.polynomial.polyval(q, TAIL_SERIES)
    return excess


def log_tail(xp: Arrays) -> Callable[[Any, Any], Any]:
    """``(nu + 1) / 2 log(1 + z^2 / nu)`` of ``z^2`` and ``log nu``."""

    def of(square: Any, log_nu: Any) -> Any:
        nu = xp.exp(log_nu)
        return 0.5 * (nu + 1.0) * xp.log1p(square / nu)

    return of

"""The log normaliser of the von Mises distribution by ``log kappa``, without cancellation.

``N(log kappa) = kappa - log I_0(kappa)``, with ``I_0`` the modified Bessel function, is zero for
small ``kappa`` and ``log(2 pi kappa) / 2`` for large. Its derivative is
``kappa (1 - I_1(kappa) / I_0(kappa))``, which tends to a half.

Below :data:`SPLIT` the Bessel functions are sums of their power series, whose terms are positive.
Beyond, ``N`` less its limit and the derivative are polynomials of ``2 SPLIT / kappa - 1``, fitted
to values in 60 digits at Chebyshev nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Arrays

SPLIT = 9.0
TERMS = 21
LOG_2PI = math.log(2 * math.pi)

I0 = tuple(0.25**j / math.factorial(j) ** 2 for j in range(TERMS))
"""Coefficients of ``I_0(kappa)`` in powers of ``kappa^2``, to 1e-15 below ``SPLIT``."""
I1 = tuple(0.5 * 0.25**j / (math.factorial(j) * math.factorial(j + 1)) for j in range(TERMS))
"""Coefficients of ``I_1(kappa) / kappa``."""

REST = (
    -0.007149606472843054, -0.007368280275707032, -0.0002336189098813332, -1.6596848871082623e-05,
    -1.915698723895119e-06, -3.223545292605721e-07, -7.62495961545572e-08, -2.5548682849618162e-08,
    -1.2155254390707424e-08, -7.0227853301427135e-09, -2.602092509129583e-09,
    2.3802875939772412e-09, 4.417997444759056e-09, 1.2941758330370524e-09, -2.0777661944429394e-09,
    -1.2537217201142747e-09, 6.234910255903288e-10, 4.754793791222046e-10, -1.1530710853872081e-10,
    -7.641346944861929e-11, 9.208231498181529e-12,
)  # fmt: skip
"""Coefficients of ``N(log kappa) - log(2 pi kappa) / 2``, to 7e-16."""
SLOPE = (
    0.5073682802757055, 0.007835518095478876, 0.0005170283666374369, 5.745334084213906e-05,
    9.274559366665545e-06, 2.0692846534268563e-06, 6.364433644040265e-07, 2.759435196247825e-07,
    1.5974142633355997e-07, 8.993559954242249e-08, 2.6055016491460463e-09, -8.127533565443028e-08,
    -7.650369381492588e-08, 1.5870865252982884e-08, 5.786118155672377e-08, 5.159318676089821e-09,
    -2.7077853641934334e-08, -3.987474041864067e-09, 8.043817208267327e-09, 8.038637578049601e-10,
    -1.144122763649055e-09,
)  # fmt: skip
"""Coefficients of the derivative of ``N`` by ``log kappa``, to 2e-15."""


def log_normaliser(xp: Arrays) -> Callable[[Any], Any]:
    """``kappa - log I_0(kappa)`` of ``log kappa``."""
    if xp is not NUMERIC:
        import pytensor.tensor as pt

        return lambda log_kappa: -pt.log(pt.ive(0, pt.exp(log_kappa)))

    def of(log_kappa: Any) -> Any:
        kappa = xp.exp(log_kappa)
        large = kappa > SPLIT
        small = xp.where(large, SPLIT, kappa)
        t = 2.0 * SPLIT / xp.where(large, kappa, SPLIT) - 1.0
        beyond = 0.5 * (LOG_2PI + log_kappa) + _sum(t, REST)
        return xp.where(large, beyond, small - xp.log(_sum(small * small, I0)))

    return of


def slope(log_kappa: np.ndarray) -> np.ndarray:
    """Derivative of :func:`log_normaliser` by ``log kappa``."""
    large, small, t = _pieces(log_kappa)
    return np.where(large, _sum(t, SLOPE), _small_slope(small))


def bend(log_kappa: np.ndarray) -> np.ndarray:
    """Second derivative of :func:`log_normaliser` by ``log kappa``."""
    large, small, t = _pieces(log_kappa)
    first = _small_slope(small)
    below = small * (1.0 - 2.0 * first) + first * first
    beyond = -(t + 1.0) * _sum(t, [j * c for j, c in enumerate(SLOPE)][1:])
    return np.where(large, beyond, below)


def information(log_kappa: np.ndarray) -> np.ndarray:
    """Fisher information of ``log kappa``: ``kappa^2 / 2`` for small ``kappa``, 1/2 for large."""
    return np.maximum(slope(log_kappa) - bend(log_kappa), 0.0)


def _pieces(log_kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether ``kappa`` is large, and the argument of either formula."""
    kappa = NUMERIC.exp(np.asarray(log_kappa, dtype=float))
    return kappa > SPLIT, np.minimum(kappa, SPLIT), 2.0 * SPLIT / np.maximum(kappa, SPLIT) - 1.0


def _small_slope(kappa: np.ndarray) -> np.ndarray:
    square = kappa * kappa
    return np.asarray(kappa * (1.0 - kappa * (_sum(square, I1) / _sum(square, I0))))


def _sum(x: Any, coefficients: Sequence[float]) -> Any:
    """Polynomial with some coefficients, that of the lowest power first."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total

"""Tables of the tails of Student's t and the gamma distribution, for given shapes.

A tail's probability is an exponential ``E`` times a function that varies slowly. That function is
interpolated at Chebyshev points between SciPy's values, in ``1 / (s + c)`` with ``s`` the distance
from the centre and ``c`` in proportion to the width of the distribution there.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy import special

from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families import gamma_normaliser

TERMS = 21
"""Number of coefficients, which gives 13 digits."""

LARGEST_EXPONENT = 690.0
"""The polynomials cover arguments whose tail is a normal double."""

WIDTH = 3.0
"""Ratio of ``c`` to the width of the distribution."""

SHAPES = 1.0, 1e5
"""Least and largest shape of a gamma whose tails are interpolated: SciPy's values are inexact in
the lower tail of larger ones, and the function varies too fast for smaller ones."""

NEWTON_STEPS = 10

STUDENT, GAMMA = 8, 7
"""Numbers in a row of a table before the coefficients."""


def student_table(nu: np.ndarray) -> np.ndarray:
    """What a Student's tail is computed from (..., number), for degrees of freedom ``nu`` (...)."""
    return _table(_student_table, nu)


def gamma_table(alpha: np.ndarray) -> np.ndarray:
    """What a gamma's tails are computed from (..., number), for shapes ``alpha >= 1`` (...)."""
    return _table(_gamma_table, alpha)


def _table(make: Any, shape: np.ndarray) -> np.ndarray:
    shape = np.ascontiguousarray(shape, dtype=float)
    table: np.ndarray = make(shape.tobytes()).reshape(*shape.shape, -1)
    return table


@lru_cache(maxsize=16)
def _student_table(numbers: bytes) -> np.ndarray:
    """Table of degrees of freedom, kept for the next chunk of rows.

    ``E = (1 - s^2)^(nu / 2)`` with ``s = z / sqrt(nu + z^2)``. The function has its singularities
    at -1 and infinity.
    """
    nu = np.frombuffer(numbers)[:, None]
    half = 0.5 * nu
    centre = np.minimum(1.0, WIDTH / np.sqrt(half))
    largest = np.sqrt(-np.expm1(-LARGEST_EXPONENT / half))
    s, place = _points(centre, largest)
    z = np.sqrt(nu) * s / np.sqrt((1.0 - s) * (1.0 + s))
    level = np.exp(half * np.log1p(z * z / nu)) * special.stdtr(nu, -z) * (s + centre)
    at_zero = {"mu": 0.0, "sigma": 1.0, "nu": nu}
    height = np.exp(families.by_name("studentt").log_density(0.0, at_zero, NUMERIC))
    shape = [1.0 / nu, half, 1.0 / np.sqrt(nu), 1.0 + 1.0 / nu, height]
    return np.hstack([*shape, centre, place, polynomials(level)])


@lru_cache(maxsize=16)
def _gamma_table(numbers: bytes) -> np.ndarray:
    """Table of shapes: numbers, and coefficients above and below the mean.

    ``E = exp(-alpha (r - 1 - log r))`` with ``r`` the response over its mean, and ``s = |r - 1|``.
    """
    alpha = np.frombuffer(numbers)[:, None]
    centre = np.minimum(1.0, WIDTH / np.sqrt(alpha))
    places, coefficients = [], []
    for sign, tail in ((1.0, special.gammaincc), (-1.0, special.gammainc)):
        s, place = _points(centre, _reach(LARGEST_EXPONENT / alpha, sign))
        exponent = alpha * gamma_normaliser.deviance(NUMERIC)(np.log1p(sign * s))
        level = tail(alpha, alpha * (1.0 + sign * s)) * np.exp(exponent) * (s + centre)
        places.append(place)
        coefficients.append(polynomials(level))
    height = np.exp(gamma_normaliser.log_normaliser(NUMERIC)(np.log(alpha)))
    return np.hstack([alpha, height, centre, *places, *coefficients])


def _reach(height: np.ndarray, sign: float) -> np.ndarray:
    """Return ``s > 0`` with ``sign s - log(1 + sign s) = height``, by Newton's method.

    Below the mean it is at most ``1 - 1e-9``: the function does not change between there and 1.
    """
    x = height + np.sqrt(2.0 * height)  # s above the mean, -log(1 - s) below
    for _ in range(NEWTON_STEPS):
        if sign > 0:
            x = x - (x - np.log1p(x) - height) * (1.0 + x) / x
        else:
            x = x - (x + np.expm1(-x) - height) / -np.expm1(-x)
    return x if sign > 0 else np.minimum(-np.expm1(-x), 1.0 - 1e-9)


def _points(centre: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Chebyshev points (..., point) in ``s``, and the line to the polynomial's variable.

    The variable is ``a + b / (s + centre)``; the line is ``a, b`` (..., 2).
    """
    end = 1.0 - 2.0 * centre / (largest + centre)
    slope = 2.0 / (end + 1.0)
    angles = (np.arange(TERMS) + 0.5) * math.pi / TERMS
    q = 0.5 * (end - 1.0) + np.cos(angles) / slope
    s = np.minimum(centre * (1.0 + q) / (1.0 - q), largest)
    line = np.concatenate([slope * (0.5 * (1.0 - end) + 1.0), -2.0 * centre * slope], axis=-1)
    return s, line


def polynomials(values: np.ndarray) -> np.ndarray:
    """Coefficients (..., power) of polynomials with values (..., point) at Chebyshev points."""
    series, powers = _interpolation()
    # The product of the two matrices would lose nine digits.
    coefficients: np.ndarray = (values @ series) @ powers
    return coefficients


@cache
def _interpolation() -> tuple[np.ndarray, np.ndarray]:
    """Matrices (point, term) and (term, power): values to Chebyshev series, to a polynomial."""
    order = np.arange(TERMS)
    series = 2.0 / TERMS * np.cos(np.outer((order + 0.5) * math.pi / TERMS, order))
    series[:, 0] /= 2.0
    powers = np.zeros((TERMS, TERMS))
    for n in order:
        chosen = np.polynomial.chebyshev.cheb2poly(np.eye(TERMS)[n])
        powers[n, : chosen.size] = chosen
    return series, powers

"""Logs of tail probabilities by incomplete gamma and beta functions, and derivatives by shapes.

Values are those of :mod:`scipy.special`, or of a series or a continued fraction where these would
underflow. Derivatives by the point are densities, which formulas state. Derivatives by shapes have
no elementary form: they are central differences of eighth order, with a relative error of about
1e-11 (first ones) and 1e-10 (second ones) in the units in which the functions vary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families import gamma_normaliser

LEAST = 1e-290
"""Probability below which its log is from a series or a continued fraction."""
MOST_TERMS = 20_000
LEAST_LOGIT = -12.0
"""Log odds below which SciPy's incomplete beta function has a relative error beyond 1e-11."""
STEP = 0.04
"""Step of differences, in units in which the functions vary."""
FIRST = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
SECOND = (8 / 5, -1 / 5, 8 / 315, -1 / 560)
SECOND_CENTRE = -205 / 72
NARROW = 1e-30
LOG_HALF = float(np.log(0.5))
NORMAL_NU = 1e9
"""Degrees of freedom beyond which Student's t is normal to rounding."""

CANCELS = 1e-2
"""Share of a normal tail that is left of a difference of two, below which it is integrated."""
NEAR = 1.5
"""Asymmetry times distance from zero, below which the integrand is no polynomial nearly."""
NODES, WEIGHTS = special.roots_laguerre(80)

Function = Callable[..., Any]

_gamma_normaliser = gamma_normaliser.log_normaliser(NUMERIC)
_deviance = gamma_normaliser.deviance(NUMERIC)


# --- the incomplete gamma function ---------------------------------------------------------------


def log_gamma_below(log_shape: Any, log_x: Any) -> np.ndarray:
    """Log of the probability up to ``x`` under a gamma distribution with scale 1."""
    return _log_gamma(log_shape, log_x, special.gammainc, special.gammaincc, _gamma_series)


def log_gamma_above(log_shape: Any, log_x: Any) -> np.ndarray:
    """Log of the probability above ``x`` under a gamma distribution with scale 1."""
    return _log_gamma(log_shape, log_x, special.gammaincc, special.gammainc, _gamma_fraction)


def _log_gamma(
    log_shape: Any, log_x: Any, own: Function, other: Function, tail: Function
) -> np.ndarray:
    log_shape, log_x = np.broadcast_arrays(np.asarray(log_shape, float), np.asarray(log_x, float))
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        shape, x = np.exp(log_shape), np.minimum(np.exp(log_x), np.finfo(float).max)
        value = own(shape, x)
        found = np.where(value > 0.5, np.log1p(-other(shape, x)), np.log(value))
    few = (value < LEAST) & np.isfinite(log_shape + log_x)
    if few.any():
        found = np.array(found)
        found[few] = tail(log_shape[few], log_x[few])
    return np.asarray(found)


def _log_gamma_density(log_shape: np.ndarray, log_x: np.ndarray) -> np.ndarray:
    """Log density of the log of a gamma variable."""
    density: np.ndarray = _gamma_normaliser(log_shape)
    with np.errstate(over="ignore"):
        return density - np.exp(log_shape) * _deviance(log_x - log_shape)


def _gamma_series(log_shape: np.ndarray, log_x: np.ndarray) -> np.ndarray:
    """Log of the probability up to ``x`` by the series in ``x``, for ``x`` below the shape."""
    shape, x = np.exp(log_shape), np.exp(log_x)
    total, term = np.ones(shape.shape), np.ones(shape.shape)
    for n in range(1, MOST_TERMS):
        term = term * (x / (shape + n))
        total = total + term
        if (term <= 1e-17 * total).all():
            break
    return _log_gamma_density(log_shape, log_x) - log_shape + np.log(total)


def _gamma_fraction(log_shape: np.ndarray, log_x: np.ndarray) -> np.ndarray:
    """Log of the probability above ``x`` by the continued fraction, for ``x`` above the shape."""
    shape, x = np.exp(log_shape), np.minimum(np.exp(np.minimum(log_x, 700.0)), 1e300)

    def coefficients(n: int) -> tuple[np.ndarray, np.ndarray]:
        return -n * (n - shape), x + 2.0 * n + 1.0 - shape

    fraction = _lentz(coefficients, x + 1.0 - shape)
    # x^a exp(-x) / Gamma(a) is the density of log x; the fraction has the unit of 1 / x.
    return _log_gamma_density(log_shape, np.minimum(log_x, 700.0)) - np.log(fraction)


def _lentz(
    coefficients: Callable[[int], tuple[np.ndarray, np.ndarray]], first: np.ndarray
) -> np.ndarray:
    """``b_0 + a_1 / (b_1 + a_2 / (b_2 + ...))``, by Lentz's method; ``coefficients`` are a, b."""
    value = np.where(np.abs(first) < NARROW, NARROW, first)
    c, d = value, np.zeros(value.shape)
    for n in range(1, MOST_TERMS):
        a, b = coefficients(n)
        d = b + a * d
        c = b + a / c
        d = 1.0 / np.where(np.abs(d) < NARROW, NARROW, d)
        c = np.where(np.abs(c) < NARROW, NARROW, c)
        change = c * d
        value = value * change
        if (np.abs(change - 1.0) < 1e-15).all():
            break
    return value


# --- the incomplete beta function ----------------------------------------------------------------


def log_beta_below(log_a: Any, log_b: Any, logit: Any) -> np.ndarray:
    """Log of the probability up to ``x`` under a beta distribution, by the log odds of ``x``."""
    arrays = np.broadcast_arrays(*(np.asarray(v, float) for v in (log_a, log_b, logit)))
    log_a, log_b, logit = arrays
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        a, b = np.exp(log_a), np.exp(log_b)
        x, rest = special.expit(logit), special.expit(-logit)
        value = special.betainc(a, b, x)
        found = np.where(value > 0.5, np.log1p(-special.betainc(b, a, rest)), np.log(value))
    sound = np.isfinite(log_a + log_b + logit)
    low = sound & ((value < LEAST) | _beyond_digits(a, b, x, logit))
    high = sound & _beyond_digits(b, a, rest, -logit)
    if low.any() or high.any():
        found = np.array(found)
        found[low] = _beta_fraction(log_a[low], log_b[low], logit[low])
        tail = _beta_fraction(log_b[high], log_a[high], -logit[high])
        found[high] = np.log1p(-np.exp(tail))
    return np.asarray(found)


def _beyond_digits(a: np.ndarray, b: np.ndarray, x: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """Whether SciPy's function of ``x``, below the mean, has an error of ``x`` and ``1 - x``."""
    return (logit < LEAST_LOGIT) & (x * (a + b + 2.0) < a + 1.0)


def _beta_fraction(log_a: np.ndarray, log_b: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """Log of the probability up to ``x``, below the mean, by the continued fraction."""
    a, b, x = np.exp(log_a), np.exp(log_b), special.expit(logit)

    def coefficients(n: int) -> tuple[np.ndarray, np.ndarray]:
        m = n // 2
        if n % 2:
            factor = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            factor = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        return factor, np.ones(a.shape)

    fraction = _lentz(coefficients, np.ones(a.shape))
    log_nu = np.logaddexp(log_a, log_b)
    log_x, log_rest = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    shapes = sum(_gamma_normaliser(v) for v in (log_a, log_b)) - _gamma_normaliser(log_nu)
    density = shapes + a * (log_x - log_a + log_nu) + b * (log_rest - log_b + log_nu)
    return np.asarray(density - log_a - np.log(fraction))


def log_student_below(z: Any, log_nu: Any) -> np.ndarray:
    """Log of the probability up to ``z`` under Student's t."""
    z, log_nu = np.broadcast_arrays(np.asarray(z, float), np.asarray(log_nu, float))
    with np.errstate(divide="ignore"):
        logit = np.minimum(log_nu - 2.0 * np.log(np.abs(z)), 1e4)
    tail = LOG_HALF + log_beta_below(log_nu - np.log(2.0), LOG_HALF, logit)
    with np.errstate(divide="ignore"):
        found = np.where(z > 0.0, np.log1p(-np.exp(tail)), tail)
    return np.where(log_nu > np.log(NORMAL_NU), special.log_ndtr(z), found)


# --- other families ------------------------------------------------------------------------------


def log_mills(x: Any) -> np.ndarray:
    """Log of the normal probability above ``x`` times ``2 exp(x^2 / 2)``."""
    x = np.asarray(x, float)
    with np.errstate(over="ignore", divide="ignore"):
        above = np.log(special.erfcx(np.maximum(x, -5.0) / np.sqrt(2.0)))
        below = special.log_ndtr(-x) + 0.5 * x * x - LOG_HALF
    return np.where(x > -5.0, above, below)


def log_skew_below(z: Any, alpha: Any) -> np.ndarray:
    """Log of the probability up to ``z`` under the skew normal with asymmetry ``alpha``."""
    z, alpha = np.broadcast_arrays(np.asarray(z, float), np.asarray(alpha, float))
    normal = special.ndtr(z)
    direct = normal - 2.0 * special.owens_t(z, alpha)
    far = np.abs(alpha * z) > NEAR
    cancels = (z < 0) & ((far & (direct < CANCELS * normal)) | (normal < LEAST))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(direct < 0.5, np.log(direct), np.log1p(-_skew_above(z, alpha)))
    if cancels.any():
        found = np.array(found)
        left, asymmetry = z[cancels], alpha[cancels]
        tail = _log_skew_tail(left, np.abs(asymmetry))
        both = np.log(2.0) + special.log_ndtr(left)
        with np.errstate(under="ignore"):
            mirrored = both + np.log1p(-np.exp(np.minimum(tail - both, LOG_HALF)))
        found[cancels] = np.where(asymmetry > 0, tail, mirrored)
    return found


def _skew_above(z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Probability above ``z`` under the skew normal, to the rounding of one."""
    above: np.ndarray = special.ndtr(-z) + 2.0 * special.owens_t(z, alpha)
    return above


def _log_skew_tail(z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Log of the probability below ``z < 0``, for positive asymmetry.

    It is the integral of ``exp(-z^2 (1 + x^2) / 2) / (pi (1 + x^2))`` over ``x > alpha``.
    """
    square, total = alpha * alpha, np.zeros(z.shape)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        at = square + 2.0 * node / (z * z)
        total += weight / ((1.0 + at) * np.sqrt(at))
    return np.asarray(-0.5 * z * z * (1.0 + square) + np.log(total / (np.pi * z * z)))


def log_betabinomial_below(count: Any, trials: Any, log_a: Any, log_b: Any) -> np.ndarray:
    """Log of the probability of at most ``count`` successes of ``trials``, by logs of shapes."""
    arrays = (np.asarray(v, float) for v in (count, trials, log_a, log_b))
    count, trials, log_a, log_b = np.broadcast_arrays(*arrays)
    a, b = np.exp(log_a), np.exp(log_b)
    log_p = np.zeros(count.shape)  # of no success: the product of b / (a + b), of one more each
    for i in range(int(trials.max(initial=0.0))):
        log_p -= np.where(i < trials, np.log1p(a / (b + i)), 0.0)
    total = log_p.copy()
    for j in range(int(count.max(initial=0.0))):
        left = np.maximum(trials - j, 1.0)
        log_p = log_p + np.log(left * (a + j)) - np.log((j + 1.0) * (b + left - 1.0))
        there = (j < count) & (j < trials)
        total = np.where(there, np.logaddexp(total, log_p), total)
    return np.asarray(np.minimum(total, 0.0))


# --- derivatives by differences ------------------------------------------------------------------


def unit_of(log_shape: Any) -> np.ndarray:
    """What a function of the log of a shape varies by: 1, and less for large shapes."""
    return 1.0 / np.sqrt(1.0 + np.exp(np.clip(np.asarray(log_shape, float), -50.0, 300.0)))


def slope_of(function: Function, j: int, unit: Function = unit_of) -> Function:
    """Derivative of a function by its argument ``j``."""

    def slope(*values: Any) -> np.ndarray:
        step = STEP * unit(values[j])
        total: Any = 0.0
        for k, weight in enumerate(FIRST, start=1):
            up, down = (_moved(values, {j: s * k * step}) for s in (1, -1))
            total = total + weight * (function(*up) - function(*down))
        return np.asarray(total / step)

    return slope


def bend_of(function: Function, i: int, j: int, unit: Function = unit_of) -> Function:
    """Second derivative of a function by its arguments ``i`` and ``j``."""

    def along(values: tuple[Any, ...], steps: dict[int, Any]) -> Any:
        total = SECOND_CENTRE * function(*values)
        for k, weight in enumerate(SECOND, start=1):
            for sign in (1, -1):
                moved = _moved(values, {at: sign * k * step for at, step in steps.items()})
                total = total + weight * function(*moved)
        return total

    def bend(*values: Any) -> np.ndarray:
        steps = {at: STEP * unit(values[at]) for at in (i, j)}
        both = along(values, steps)
        if i == j:
            return np.asarray(both / steps[i] ** 2)
        alone = along(values, {i: steps[i]}) + along(values, {j: steps[j]})
        return np.asarray(0.5 * (both - alone) / (steps[i] * steps[j]))

    return bend


def _moved(values: tuple[Any, ...], by: dict[int, Any]) -> list[Any]:
    """Arguments of a function, some of them moved."""
    return [v + by[at] if at in by else v for at, v in enumerate(values)]

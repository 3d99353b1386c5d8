"""Logs of tail probabilities by incomplete gamma and beta functions, with derivatives by shapes.

They are those of :mod:`bayes_moe.families.log_tails`, for one row: the series of the incomplete
gamma function and the continued fractions beyond the mean, whose derivatives are carried along.
Loops end where the row's terms do, so that loops over rows with these do not vectorise.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.elementary import FUSED, exp, log, log1p, logistic, softplus
from bayes_moe.kernels.large_shapes import (
    GAMMA_REACH,
    GAMMA_SHAPE,
    STUDENT_NU,
    STUDENT_REACH,
    large_gamma_tail,
    large_student_tail,
)
from bayes_moe.kernels.special import (
    LOG_HALF,
    deviance,
    gamma_normaliser_parts,
    log1mexp,
    log1mexp_slope,
    log_ndtr,
)

MOST_TERMS = 20_000
ROUNDING = 1e-16
NARROW = 1e-30
LARGEST_LOG = 700.0
LEAST_GAP = -1e-300
LEAST_SIZE = 1e-300
NORMAL_NU = 1e16
"""Degrees of freedom beyond which Student's t is normal to rounding, with its derivative."""


@register_jitable(fastmath=FUSED, forceinline=True)
def _rest(log_p: float) -> tuple[float, float]:
    """Log of one less a probability, and its derivative by the log of that."""
    least = log_p if log_p < LEAST_GAP else LEAST_GAP
    return log1mexp(least), log1mexp_slope(least)


# --- the incomplete gamma function ---------------------------------------------------------------


@register_jitable(fastmath=FUSED)
def gamma_tails(log_shape: float, log_x: float) -> tuple[float, float, float, float]:
    """Logs of the probabilities up to ``x`` and above, and their derivatives by the log shape.

    They are of a gamma distribution with scale 1, whose lower tail is a series for ``x`` below the
    shape plus 1, and whose upper tail is a continued fraction beyond.
    """
    near = log_x if log_x < LARGEST_LOG else LARGEST_LOG
    shape, x, r = exp(log_shape), exp(near), near - log_shape
    if shape > GAMMA_SHAPE and 2.0 * deviance(r) < GAMMA_REACH:
        tail, by_tail = large_gamma_tail(log_shape, r)
        other, share = _rest(tail)
        if r < 0.0:
            return tail, other, by_tail, share * by_tail
        return other, tail, share * by_tail, by_tail
    value, slope, less = gamma_normaliser_parts(log_shape)
    density = value - shape * deviance(r)  # of the log of a variable
    if x < shape + 1.0:
        log_sum, of_sum = _gamma_series(shape, x)
        below, by_below = density - log_shape + log_sum, less + shape * (r + of_sum)
        above, share = _rest(below)
        return below, above, by_below, share * by_below
    log_fraction, of_fraction = _gamma_fraction(shape, x)
    above, by_above = density - log_fraction, slope + shape * (r - of_fraction)
    below, share = _rest(above)
    return below, above, share * by_above, by_above


@register_jitable(fastmath=FUSED)
def _gamma_series(shape: float, x: float) -> tuple[float, float]:
    """Log of ``1 + x / (a + 1) + x^2 / (a + 1) / (a + 2) + ...``, and its derivative by ``a``."""
    total, term, slope, of_term = 1.0, 1.0, 0.0, 0.0
    for n in range(1, MOST_TERMS):
        inverse = 1.0 / (shape + n)
        ratio = x * inverse
        term *= ratio
        of_term = of_term * ratio - term * inverse
        total += term
        slope += of_term
        if term <= 0.01 * ROUNDING * total:
            break
    return log(total), slope / total


@register_jitable(fastmath=FUSED)
def _gamma_fraction(shape: float, x: float) -> tuple[float, float]:
    """Log of the continued fraction, by Lentz's method, and its derivative by the shape."""
    c = x + 1.0 - shape
    value, d, of_c, of_d, slope = c, 0.0, -1.0, 0.0, -1.0 / c
    for n in range(1, MOST_TERMS):
        a, b = -n * (n - shape), x + 2.0 * n + 1.0 - shape
        inverse = 1.0 / c
        of_c = n * inverse - 1.0 - a * inverse * inverse * of_c
        c = _away(b + a * inverse)
        of_under = n * d - 1.0 + a * of_d
        d = 1.0 / _away(b + a * d)
        of_d = -of_under * d * d
        change, step = c * d, of_c / c - of_under * d
        value *= change
        slope += step
        if abs(change - 1.0) <= 2.0 * ROUNDING and shape * abs(step) <= ROUNDING * (
            1.0 + shape * abs(slope)
        ):
            break
    return log(value), slope


@register_jitable(fastmath=FUSED, forceinline=True)
def _away(x: float) -> float:
    """A number that can be divided by."""
    return NARROW if abs(x) < NARROW else x


# --- the incomplete beta function ----------------------------------------------------------------


@register_jitable(fastmath=FUSED)
def beta_tail(log_a: float, log_b: float, logit: float) -> tuple[float, float, float, float]:
    """Log of the probability up to ``x`` by its log odds, and derivatives by logs of shapes.

    Last, the derivative by the log odds.
    """
    a, b = exp(log_a), exp(log_b)
    # Differences of logs that may both be near zero, of the point and of the mean.
    over_a, over_b = softplus(log_b - log_a), softplus(log_a - log_b)
    below, above = over_a - softplus(-logit), over_b - softplus(logit)
    of_a, slope_a, less_a = gamma_normaliser_parts(log_a)
    of_b, slope_b, less_b = gamma_normaliser_parts(log_b)
    of_nu, slope_nu, _ = gamma_normaliser_parts(log_a + over_a)
    density = of_a + of_b - of_nu + a * below + b * above  # of the log odds
    by_a = a * below - slope_nu * exp(-over_a)
    by_b = b * above - slope_nu * exp(-over_b)
    x = logistic(logit)
    if x * (a + b + 2.0) < a + 1.0:
        log_fraction, of_fraction, other = _beta_fraction(a, b, x)
        value = density - log_a - log_fraction
        by_logit = exp(density - value)
        return value, less_a + (by_a - of_fraction), slope_b + (by_b - other), by_logit
    log_fraction, of_fraction, other = _beta_fraction(b, a, logistic(-logit))
    value, share = _rest(density - log_b - log_fraction)
    by_logit = exp(density - value)
    by_a, by_b = slope_a + (by_a - other), less_b + (by_b - of_fraction)
    return value, share * by_a, share * by_b, by_logit


@register_jitable(fastmath=FUSED)
def _beta_fraction(a: float, b: float, x: float) -> tuple[float, float, float]:
    """Log of the continued fraction, and its derivatives by the logs of ``a`` and ``b``."""
    value, slope_a, slope_b = 1.0, 0.0, 0.0
    state = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for m in range(MOST_TERMS):
        first, second, third = 1.0 / (a + 2 * m), 1.0 / (a + 2 * m + 1), 1.0 / (a + 2 * m + 2)
        both = 1.0 / (a + b + m)
        term = -(a + m) * (a + b + m) * x * (first * second)
        of_a = term * (1.0 / (a + m) + both - first - second)
        state, change, step_a, step_b = _lentz_step(state, term, of_a, term * both)
        factor = (m + 1) * x * (second * third)
        term = factor * (b - m - 1)
        state, other, next_a, next_b = _lentz_step(state, term, -term * (second + third), factor)
        value *= change * other
        slope_a += step_a + next_a
        slope_b += step_b + next_b
        # The next step of a derivative may be large where one is small: both steps are looked at.
        size = abs(change - 1.0) + abs(other - 1.0)
        steps = a * (abs(step_a) + abs(next_a)) + b * (abs(step_b) + abs(next_b))
        if size <= 4.0 * ROUNDING and steps <= ROUNDING * (1.0 + a * abs(slope_a)):
            break
    return log(value), a * slope_a, b * slope_b


@register_jitable(fastmath=FUSED, forceinline=True)
def _lentz_step(
    state: Any, term: float, by_a: float, by_b: float
) -> tuple[Any, float, float, float]:
    """A step ``1 + term / ...`` of Lentz's method, by a term with its derivatives.

    ``state`` are ``c``, ``d`` and their derivatives by both. With the next one are returned the
    factor of the fraction, and the derivatives of its log.
    """
    c, d, c_a, d_a, c_b, d_b = state
    inverse = 1.0 / c
    bend = term * inverse * inverse
    c_a, c_b = by_a * inverse - bend * c_a, by_b * inverse - bend * c_b
    c = _away(1.0 + term * inverse)
    under_a, under_b = by_a * d + term * d_a, by_b * d + term * d_b
    d = 1.0 / _away(1.0 + term * d)
    inverse = 1.0 / c
    new = (c, d, c_a, -under_a * d * d, c_b, -under_b * d * d)
    return new, c * d, c_a * inverse - under_a * d, c_b * inverse - under_b * d


@register_jitable(fastmath=FUSED)
def log_student_tail(z: float, log_nu: float) -> tuple[float, float]:
    """Log of the probability up to ``z`` under Student's t, and its derivative by ``log nu``."""
    size, nu = abs(z), exp(log_nu)
    if nu > NORMAL_NU:
        return log_ndtr(z), 0.0
    if size < LEAST_SIZE:
        return LOG_HALF, 0.0
    if nu > STUDENT_NU and size * size < STUDENT_REACH * nu:
        tail, by_nu = large_student_tail(size, log_nu)
    else:
        logit = log_nu - 2.0 * log(size)
        tail, by_shape, _, by_logit = beta_tail(log_nu + LOG_HALF, LOG_HALF, logit)
        tail, by_nu = tail + LOG_HALF, by_shape + by_logit
    if z < 0.0:
        return tail, by_nu
    value, share = _rest(tail)
    return value, share * by_nu


@register_jitable(fastmath=FUSED)
def log_betabinomial_tail(
    count: float, trials: float, log_a: float, log_b: float
) -> tuple[float, float, float]:
    """Log of the probability of at most ``count`` successes, and derivatives by logs of shapes."""
    a, b = exp(log_a), exp(log_b)
    log_p, by_a, by_b = 0.0, 0.0, 0.0  # of no success: the product of b / (a + b), of one more each
    for i in range(int(trials)):
        log_p -= log1p(a / (b + i))
        by_a -= a / (a + b + i)
        by_b += a * b / ((b + i) * (a + b + i))
    total, sum_a, sum_b = log_p, by_a, by_b
    for j in range(int(count)):
        left = trials - j
        if left <= 0.0:
            break
        under = b + left - 1.0
        log_p += log(left * (a + j)) - log((j + 1.0) * under)
        by_a += a / (a + j)
        by_b -= b / under
        share = logistic(log_p - total)  # of the new term in the sum
        total += softplus(log_p - total)
        sum_a += share * (by_a - sum_a)
        sum_b += share * (by_b - sum_b)
    return (total if total < 0.0 else 0.0), sum_a, sum_b

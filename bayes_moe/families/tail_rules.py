"""Functions of tail probabilities in families' formulas, with their derivatives.

Derivatives by a point are densities, stated as expressions; those by shapes are functions of their
own, of :mod:`bayes_moe.families.log_tails`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bayes_moe.families import log_tails
from bayes_moe.families.expressions import Slope
from bayes_moe.families.log_tails import (
    bend_of,
    log_beta_below,
    log_gamma_above,
    log_gamma_below,
    log_mills,
    log_student_below,
    slope_of,
)

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)


def _unit(value: Any) -> np.ndarray:
    return np.ones(np.shape(value))


def _gamma_density(m: Any, x: Sequence[Any]) -> Any:
    """Log density of the log of a gamma variable."""
    return m.gamma_normaliser(x[0]) - m.exp(x[0]) * m.deviance(x[1] - x[0])


def _gamma_rules(name: str, value: Callable[..., Any], sign: float) -> dict[str, Any]:
    """The log of a tail of the gamma distribution, by the logs of shape and point."""
    slope, bend = f"{name}_slope", f"{name}_bend"

    def slopes(m: Any, x: Any, f: Any) -> Any:
        hazard = m.exp(_gamma_density(m, x) - f)
        return getattr(m, slope)(*x), sign * hazard

    def bends(m: Any, x: Any, f: Any) -> Any:
        log_value = getattr(m, name)(*x)
        hazard = m.exp(_gamma_density(m, x) - log_value)
        by_shape = m.gamma_normaliser_slope(x[0]) + m.exp(x[0]) * (x[1] - x[0])
        return getattr(m, bend)(*x), sign * hazard * (by_shape - f)

    return {
        name: (value, slopes),
        slope: (slope_of(value, 0), bends),
        bend: (bend_of(value, 0, 0), None),
    }


def _beta_density(m: Any, x: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Log density of the logit of a beta variable; the log of nu, and of point and rest by mean."""
    log_a, log_b, logit = x
    log_nu = m.logsumexp(log_a, log_b)
    below = log_nu - log_a - m.softplus(-logit)
    above = log_nu - log_b - m.softplus(logit)
    shapes = m.gamma_normaliser(log_a) + m.gamma_normaliser(log_b) - m.gamma_normaliser(log_nu)
    return shapes + m.exp(log_a) * below + m.exp(log_b) * above, log_nu, below, above


def _beta_rules(name: str, value: Callable[..., Any]) -> dict[str, Any]:
    """The log of the lower tail of the beta distribution, by logs of shapes and the log odds."""
    first, second = f"{name}_first", f"{name}_second"

    def slopes(m: Any, x: Any, f: Any) -> Any:
        return getattr(m, first)(*x), getattr(m, second)(*x), m.exp(_beta_density(m, x)[0] - f)

    def bends(j: int) -> Slope:
        own = first if j == 0 else second

        def of(m: Any, x: Any, f: Any) -> Any:
            density, log_nu, *logs = _beta_density(m, x)
            hazard = m.exp(density - getattr(m, name)(*x))
            share = m.exp(x[j] - log_nu)
            by_shape = m.gamma_normaliser_slope(x[j]) + m.exp(x[j]) * logs[j]
            by_shape = by_shape - m.gamma_normaliser_slope(log_nu) * share
            across = getattr(m, f"{name}_both")(*x)
            alone = getattr(m, f"{own}_bend")(*x)
            pair = (alone, across) if j == 0 else (across, alone)
            return (*pair, hazard * (by_shape - f))

        return of

    return {
        name: (value, slopes),
        first: (slope_of(value, 0), bends(0)),
        second: (slope_of(value, 1), bends(1)),
        f"{first}_bend": (bend_of(value, 0, 0), None),
        f"{second}_bend": (bend_of(value, 1, 1), None),
        f"{name}_both": (bend_of(value, 0, 1), None),
    }


def _student_density(m: Any, x: Sequence[Any]) -> Any:
    square = x[0] * x[0]
    return m.student_normaliser(x[1]) - m.student_tail(square, x[1]) - HALF_LOG_2PI


def _student_slopes(m: Any, x: Any, f: Any) -> Any:
    return m.exp(_student_density(m, x) - f), m.log_student_below_slope(*x)


def _student_bends(m: Any, x: Any, f: Any) -> Any:
    """Derivatives of the derivative by ``log nu``."""
    hazard = m.exp(_student_density(m, x) - m.log_student_below(*x))
    nu, square = m.exp(x[1]), x[0] * x[0]
    of_tail = 0.5 * (nu * m.log_excess(square / nu) - square / (nu + square))
    by_nu = m.student_normaliser_slope(x[1]) - of_tail
    return hazard * (by_nu - f), m.log_student_below_bend(*x)


def _sum_rules(name: str, value: Callable[..., Any]) -> dict[str, Any]:
    """The log of a sum of probabilities, by the logs of two shapes; counts are no parameters."""
    first, second = f"{name}_first", f"{name}_second"

    def bends(*which: str) -> Slope:
        return lambda m, x, f: (0.0, 0.0, *(getattr(m, f"{name}_{own}")(*x) for own in which))

    return {
        name: (value, lambda m, x, f: (0.0, 0.0, getattr(m, first)(*x), getattr(m, second)(*x))),
        first: (slope_of(value, 2), bends("first_bend", "both")),
        second: (slope_of(value, 3), bends("both", "second_bend")),
        f"{first}_bend": (bend_of(value, 2, 2), None),
        f"{second}_bend": (bend_of(value, 3, 3), None),
        f"{name}_both": (bend_of(value, 2, 3), None),
    }


def _skew_slopes(m: Any, x: Any, f: Any) -> Any:
    """Derivatives of the lower tail of the skew normal by point and asymmetry: both elementary."""
    z, alpha = x
    square, both = z * z, 1.0 + alpha * alpha
    density = math.log(2.0) - HALF_LOG_2PI - 0.5 * square + m.log_ndtr(alpha * z)
    by_alpha = -m.exp(-0.5 * (square * both) - m.log(both) - math.log(math.pi) - f)
    return m.exp(density - f), by_alpha


TOGETHER: dict[str, tuple[str, int]] = {
    "log_gamma_below": ("gamma_tails", 0),
    "log_gamma_above": ("gamma_tails", 1),
    "log_gamma_below_slope": ("gamma_tails", 2),
    "log_gamma_above_slope": ("gamma_tails", 3),
    "log_beta_below": ("beta_tail", 0),
    "log_beta_below_first": ("beta_tail", 1),
    "log_beta_below_second": ("beta_tail", 2),
    "log_student_below": ("log_student_tail", 0),
    "log_student_below_slope": ("log_student_tail", 1),
    "log_betabinomial_below": ("log_betabinomial_tail", 0),
    "log_betabinomial_below_first": ("log_betabinomial_tail", 1),
    "log_betabinomial_below_second": ("log_betabinomial_tail", 2),
    "log_skew_below": ("skew_tail", 0),
}
"""By name of a function: that which a kernel evaluates for several, and the place in its values.

These have loops, of as many steps as a row needs: see :mod:`bayes_moe.kernels.shape_tails` and
:mod:`bayes_moe.kernels.skew_tail`.
"""

RULES: dict[str, tuple[Callable[..., Any], Slope | None]] = {
    **_gamma_rules("log_gamma_below", log_gamma_below, 1.0),
    **_gamma_rules("log_gamma_above", log_gamma_above, -1.0),
    **_beta_rules("log_beta_below", log_beta_below),
    "log_student_below": (log_student_below, _student_slopes),
    "log_student_below_slope": (slope_of(log_student_below, 1, _unit), _student_bends),
    "log_student_below_bend": (bend_of(log_student_below, 1, 1, _unit), None),
    **_sum_rules("log_betabinomial_below", log_tails.log_betabinomial_below),
    "log_mills": (log_mills, lambda m, x, f: (x[0] - ROOT_TWO_OVER_PI * m.exp(-f),)),
    "log_skew_below": (log_tails.log_skew_below, _skew_slopes),
}
"""By name: values in NumPy, and derivatives by the arguments."""

"""Functions that the formulas of families may use, for NumPy, PyTensor and recorded expressions.

Each has one row: its values in NumPy and in PyTensor, and its derivatives as expressions. Compiled
kernels take the function of the same name from :mod:`bayes_moe.kernels.elementary`; functions that
only occur in second derivatives need none there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.families import circular_normaliser, gamma_normaliser, student_t, tail_rules
from bayes_moe.families.expressions import Recorder, Slope

LOG_HALF = math.log(0.5)
ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Function:
    """A function of a namespace for formulas.

    Attributes
    ----------
    of : callable
        Arrays of NumPy or PyTensor -> its function on them.
    slope : callable or None
        Its derivatives by its arguments; see :data:`bayes_moe.families.expressions.Slope`. None
        for functions that occur in second derivatives only.
    """

    of: Callable[[Arrays], Callable[..., Any]]
    slope: Slope | None


def _log1mexp(xp: Arrays) -> Callable[..., Any]:
    """``log(1 - exp(x))`` for ``x < 0``."""
    if xp is not NUMERIC:
        import pytensor.tensor as pt

        return pt.log1mexp

    def of(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.where(x > LOG_HALF, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))

    return of


def _log_ndtr(xp: Arrays) -> Callable[..., Any]:
    """Log of the standard normal cdf."""
    if xp is NUMERIC:
        return special.log_ndtr
    import pytensor.tensor as pt

    def of(x: Any) -> Any:
        low = x < -1.0
        below = pt.where(low, x, -1.0)
        tail = pt.log(0.5 * pt.erfcx(-below / math.sqrt(2))) - 0.5 * below * below
        return pt.where(low, tail, pt.log1p(-0.5 * pt.erfc(pt.where(low, -1.0, x) / math.sqrt(2))))

    return of


def _normal_hazard(x: np.ndarray) -> np.ndarray:
    """Derivative of :func:`_log_ndtr`: density over probability, ``-x`` far below zero."""
    with np.errstate(over="ignore", divide="ignore"):
        below = ROOT_TWO_OVER_PI / special.erfcx(np.maximum(-x, -5.0) / math.sqrt(2.0))
        above = np.exp(-0.5 * x * x - HALF_LOG_2PI) / special.ndtr(np.maximum(x, -5.0))
    hazard: np.ndarray = np.where(x < 5.0, below, above)
    return hazard


def _normal_hazard_slope(x: np.ndarray) -> np.ndarray:
    """Derivative of :func:`_normal_hazard`, ``-h (x + h)``; its sum cancels far below zero."""
    hazard = _normal_hazard(x)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inverse = 1.0 / (x * x)
        far = -1.0 + inverse * (1.0 - inverse * (6.0 - 50.0 * inverse))
        slope: np.ndarray = np.where(x < -50.0, far, -hazard * (x + hazard))
    return slope


def _log1mexp_slope(x: np.ndarray) -> np.ndarray:
    """Derivative of :func:`_log1mexp`: ``-1 / (exp(-x) - 1)``."""
    with np.errstate(over="ignore", divide="ignore"):
        slope: np.ndarray = -1.0 / np.expm1(-x)
    return slope


def _expm1(x: Any) -> Any:
    """``exp(x) - 1``; infinite beyond the range of doubles, silently."""
    with np.errstate(over="ignore"):
        return np.expm1(x)


def _named(numeric: Any, name: str) -> Callable[[Arrays], Callable[..., Any]]:
    """A function of NumPy or SciPy, and that of PyTensor by name."""

    def of(xp: Arrays) -> Callable[..., Any]:
        if xp is NUMERIC:
            return numeric
        import pytensor.tensor as pt

        return getattr(pt, name)

    return of


def _logsumexp(xp: Arrays) -> Callable[..., Any]:
    """``log(exp(x_1) + ... + exp(x_n))`` of any number of arguments."""

    def of(*values: Any) -> Any:
        top = values[0]
        for x in values[1:]:
            top = xp.where(x > top, x, top)
        total = xp.exp(values[0] - top)
        for x in values[1:]:
            total = total + xp.exp(x - top)
        return top + xp.log(total)

    return of


def _only_numeric(function: Callable[..., Any]) -> Callable[[Arrays], Callable[..., Any]]:
    """A function of derivatives, which PyTensor finds by itself."""
    return lambda xp: function


def _numeric(name: str, function: Callable[..., Any]) -> Callable[[Arrays], Callable[..., Any]]:
    """A function of NumPy, which PyTensor calls: its gradient is the row's."""

    def of(xp: Arrays) -> Callable[..., Any]:
        if xp is NUMERIC:
            return function
        from bayes_moe.families.numeric_op import numeric_function

        slope = FUNCTIONS[name].slope
        slopes = None if slope is None else lambda x, f: slope(symbolic(), x, f)
        return numeric_function(name, function, slopes)

    return of


def _slopes_of_student_tail(m: Recorder, arguments: Any, value: Any) -> Any:
    """Derivatives by ``z^2`` and ``log nu``; those of ``log(1 + z^2 / nu)`` would cancel."""
    square, nu = arguments[0], m.exp(arguments[1])
    total = nu + square
    return 0.5 * (nu + 1.0) / total, 0.5 * (nu * m.log_excess(square / nu) - square / total)


FUNCTIONS: dict[str, Function] = {
    "exp": Function(lambda xp: xp.exp, lambda m, x, f: (f,)),
    "expm1": Function(_named(_expm1, "expm1"), lambda m, x, f: (f + 1.0,)),
    "log": Function(lambda xp: xp.log, lambda m, x, f: (1.0 / x[0],)),
    "log1p": Function(lambda xp: xp.log1p, lambda m, x, f: (1.0 / (1.0 + x[0]),)),
    "log1mexp": Function(_log1mexp, lambda m, x, f: (m.log1mexp_slope(x[0]),)),
    "log1mexp_slope": Function(
        _numeric("log1mexp_slope", _log1mexp_slope), lambda m, x, f: (f * (1.0 - f),)
    ),
    "log_ndtr": Function(_log_ndtr, lambda m, x, f: (m.normal_hazard(x[0]),)),
    "normal_hazard": Function(
        _numeric("normal_hazard", _normal_hazard), lambda m, x, f: (m.normal_hazard_slope(x[0]),)
    ),
    "normal_hazard_slope": Function(_numeric("normal_hazard_slope", _normal_hazard_slope), None),
    "sqrt": Function(_named(np.sqrt, "sqrt"), lambda m, x, f: (0.5 / f,)),
    "sin": Function(lambda xp: xp.sin, lambda m, x, f: (m.cos(x[0]),)),
    "cos": Function(lambda xp: xp.cos, lambda m, x, f: (-m.sin(x[0]),)),
    "absolute": Function(_named(np.abs, "abs"), lambda m, x, f: (m.sign(x[0]),)),
    "sign": Function(_named(np.sign, "sign"), lambda m, x, f: (0.0,)),
    "softplus": Function(lambda xp: xp.softplus, lambda m, x, f: (m.logistic(x[0]),)),
    "logistic": Function(lambda xp: xp.sigmoid, lambda m, x, f: (f * m.logistic(-x[0]),)),
    "tanh": Function(lambda xp: xp.tanh, lambda m, x, f: (1.0 - f * f,)),
    "logsumexp": Function(_logsumexp, lambda m, x, f: tuple(m.exp(a - f) for a in x)),
    "deviance": Function(gamma_normaliser.deviance, lambda m, x, f: (m.expm1(x[0]),)),
    "gamma_normaliser": Function(
        gamma_normaliser.log_normaliser, lambda m, x, f: (m.gamma_normaliser_slope(x[0]),)
    ),
    "gamma_normaliser_slope": Function(
        _numeric("gamma_normaliser_slope", gamma_normaliser.slope),
        lambda m, x, f: (m.gamma_normaliser_bend(x[0]),),
    ),
    "gamma_normaliser_bend": Function(
        _numeric("gamma_normaliser_bend", gamma_normaliser.bend), None
    ),
    "circular_normaliser": Function(
        circular_normaliser.log_normaliser, lambda m, x, f: (m.circular_normaliser_slope(x[0]),)
    ),
    "circular_normaliser_slope": Function(
        _only_numeric(circular_normaliser.slope),
        lambda m, x, f: (m.circular_normaliser_bend(x[0]),),
    ),
    "circular_normaliser_bend": Function(_only_numeric(circular_normaliser.bend), None),
    "student_tail": Function(student_t.log_tail, _slopes_of_student_tail),
    "log_excess": Function(
        _numeric("log_excess", student_t.log_excess),
        lambda m, x, f: (x[0] / (1.0 + x[0]) / (1.0 + x[0]),),
    ),
    "student_normaliser": Function(
        student_t.log_normaliser, lambda m, x, f: (m.student_normaliser_slope(x[0]),)
    ),
    "student_normaliser_slope": Function(
        _numeric("student_normaliser_slope", student_t.slope),
        lambda m, x, f: (m.student_normaliser_bend(x[0]),),
    ),
    "student_normaliser_bend": Function(_numeric("student_normaliser_bend", student_t.bend), None),
}
"""By name: function of a namespace for formulas."""

FUNCTIONS |= {
    name: Function(_numeric(name, of), slope) for name, (of, slope) in tail_rules.RULES.items()
}


LARGEST_EXPONENT = 300.0


def bounded_exp(m: Any, x: Any) -> Any:
    """Exponential over a namespace ``m``, constant from where densities with it are zero.

    An infinite score times an expert's share of zero would be no number.
    """
    return m.exp(m.where(x < LARGEST_EXPONENT, x, LARGEST_EXPONENT))


LARGEST_HAZARD, LEAST_HAZARD = 4.0, -36.0
"""Logs of cumulative hazards beyond which a probability is 1, and is the hazard."""


def log_exceeded(m: Any, log_hazard: Any) -> Any:
    """``log(1 - exp(-h))`` by ``log h`` over a namespace ``m``, for any ``h``."""
    near = m.where(log_hazard > LEAST_HAZARD, log_hazard, LEAST_HAZARD)
    near = m.where(near < LARGEST_HAZARD, near, LARGEST_HAZARD)
    there = m.where(log_hazard < LARGEST_HAZARD, m.log1mexp(-m.exp(near)), 0.0)
    return m.where(log_hazard > LEAST_HAZARD, there, log_hazard)


@cache
def numeric() -> Any:
    """Namespace of the functions on arrays of NumPy, with ``where``."""
    return _namespace(NUMERIC)


@cache
def symbolic() -> Any:
    """Namespace of the functions on tensors of PyTensor, with ``where``."""
    return _namespace(symbolic_arrays())


def _namespace(xp: Arrays) -> Any:
    functions = {name: function.of(xp) for name, function in FUNCTIONS.items()}
    return SimpleNamespace(**functions, where=xp.where)


def recorder() -> Recorder:
    """Namespace of the functions on expressions."""
    return Recorder({name: function.slope for name, function in FUNCTIONS.items()})

"""Prior densities as C functions, compiled from :mod:`bayes_moe.priors.densities`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from numba import float64, int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import VERSION, c_function, doubles

LARGEST = 4
"""Largest number of arguments of a formula."""


@cache
def address(formula: Callable[..., Any], arguments: int) -> int:
    """Address of the compiled ``(values, arguments, count, slopes) -> log density``.

    ``arguments`` (argument, count) are the addresses of the formula's arguments in one array. The
    derivatives (count,) are added to ``slopes``. The formula of a log Jacobian has no arguments.
    """
    if arguments > LARGEST:
        raise ValueError(
            f"A prior's formula has at most {LARGEST} arguments; this has {arguments}."
        )
    signature = float64(int64, int64, int64, int64)
    return int(c_function(signature, _over_values(formula, arguments)).address)


@cache
def _for_numbers(formula: Any) -> Any:
    """A formula for compiled code, with the functions of Python that it calls."""
    for name in formula.__code__.co_names:
        called = formula.__globals__.get(name)
        if isinstance(called, FunctionType):
            _for_numbers(called)
    return register_jitable(formula)


def _over_values(formula: Any, arguments: int) -> Callable[[int, int, int, int], float]:
    version = VERSION
    one = _for_numbers(formula)

    def over_values(values: int, of_prior: int, count: int, slopes: int) -> float:
        version  # noqa: B018
        x = doubles(values, count)
        a = doubles(of_prior, arguments * count)
        g = doubles(slopes, count)
        total = 0.0
        for j in range(count):
            if arguments == 0:
                value, slope, _ = one(x[j])
            elif arguments == 1:
                value, slope, _ = one(x[j], a[j])
            elif arguments == 2:
                value, slope, _ = one(x[j], a[j], a[count + j])
            elif arguments == 3:
                value, slope, _ = one(x[j], a[j], a[count + j], a[2 * count + j])
            else:
                c = a[count + j], a[2 * count + j], a[3 * count + j]
                value, slope, _ = one(x[j], a[j], *c)
            total += value
            g[j] += slope
        return total

    return over_values

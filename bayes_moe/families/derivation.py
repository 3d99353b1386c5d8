"""Derivatives of a row formula: recorded, written as source, and executed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from bayes_moe.families import functions, tail_rules
from bayes_moe.families.expressions import VARIADIC, Expression, Recorder, source
from bayes_moe.families.tail_rules import TOGETHER

RowOf = Callable[[Any], Callable[..., Any]]
"""Namespace -> row formula: :meth:`bayes_moe.families.formula.Formula.row`."""


def arguments(count: int, more: int = 0) -> list[str]:
    """Names of the arguments of a row formula with so many predictors, and further data."""
    of_rows = ["t", "u", "base", *(f"x_{j}" for j in range(more))]
    return [*of_rows, *(f"eta_{j}" for j in range(count))]


def kernel_source(row_of: RowOf, count: int, more: int = 0) -> str:
    """Source of ``row(t, u, base, eta_1, ...) -> (log f, d log f / d eta_1, ...)`` for numbers."""
    _, value, scores, _ = _recorded(row_of, count, more)
    names = arguments(count, more)
    return source("row", names, [value, *scores], "({1} if {0} else {2})", TOGETHER)


def has_loops(text: str) -> bool:
    """Whether a kernel's source calls functions with loops."""
    return any(f" {name}(" in text for name, _ in TOGETHER.values())


def only_numeric(text: str) -> bool:
    """Whether a kernel's source calls tails that PyTensor has by NumPy alone."""
    return has_loops(text) or any(re.search(rf"\b{name}\(", text) for name in tail_rules.RULES)


def by_case(symbol: str, cases: Sequence[tuple[float, str]]) -> str:
    """Source of a function with branches, from sources of functions of the same arguments.

    It is the first whose number is not below ``symbol``, or else the last.
    """
    *first, (_, last) = cases
    lines = [last.splitlines()[0]]
    for number, text in first:
        lines += [f"    if {symbol} <= {number!r}:", *(f"    {x}" for x in text.splitlines()[1:])]
    return "\n".join([*lines, *last.splitlines()[1:], ""])


def array_derivatives(
    row_of: RowOf, count: int, pairs: Sequence[tuple[int, int]], more: int = 0
) -> Callable[..., tuple[Any, ...]]:
    """The function of arrays of NumPy that returns scores, then second derivatives.

    The latter are those by each of the ``pairs`` of predictors.
    """
    m, _, scores, symbols = _recorded(row_of, count, more)
    second = [m.derivative(scores[k], symbols[j]) for k, j in pairs]
    text = source("derivatives", arguments(count, more), [*scores, *second], "where({}, {}, {})")
    known = vars(functions.numeric())
    found: dict[str, Any] = {"inf": math.inf} | known
    found |= {f"{name}_{n}": known[name] for name, n in variadic(text)}
    exec(text, found)
    return found["derivatives"]


def variadic(text: str) -> set[tuple[str, int]]:
    """Functions of any number of arguments that a source calls, each with the number."""
    return {(n, int(k)) for n in VARIADIC for k in re.findall(rf"\b{n}_(\d+)\(", text)}


def _recorded(
    row_of: RowOf, count: int, more: int
) -> tuple[Recorder, Expression, list[Expression], list[Expression]]:
    """Recorder, value, scores and symbols of the predictors."""
    m = functions.recorder()
    symbols = [m.symbol(name) for name in arguments(count, more)]
    value = m.of(row_of(m)(*symbols))
    etas = symbols[3 + more :]
    return m, value, [m.derivative(value, eta) for eta in etas], etas

"""Derivative of a response expression, such as ``log(y + 1)``, by the column that it is made of.

The expression's syntax tree is evaluated on values together with their derivatives by the column
(forward differentiation), so the derivatives are exact.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import expressions, used_columns

LN_10, LN_2 = np.log(10.0), np.log(2.0)
TOLERANCE = 1e-9
"""Largest difference between the response and its expression here, relative to the largest one."""


@dataclass(frozen=True)
class Dual:
    """Values (obs,) with their derivatives by the column; a constant has derivative zero."""

    value: Any
    slope: Any

    def __add__(self, other: Dual) -> Dual:
        return Dual(self.value + other.value, self.slope + other.slope)

    def __sub__(self, other: Dual) -> Dual:
        return Dual(self.value - other.value, self.slope - other.slope)

    def __mul__(self, other: Dual) -> Dual:
        slope = self.slope * other.value + self.value * other.slope
        return Dual(self.value * other.value, slope)

    def __truediv__(self, other: Dual) -> Dual:
        ratio = self.value / other.value
        return Dual(ratio, (self.slope - ratio * other.slope) / other.value)

    def __pow__(self, other: Dual) -> Dual:
        power = np.power(self.value, other.value)
        by_base = other.value * np.power(self.value, other.value - 1.0)
        slope = np.where(self.slope == 0, 0.0, by_base * self.slope)
        by_exponent = np.where(other.slope == 0, 0.0, power * np.log(self.value) * other.slope)
        return Dual(power, slope + by_exponent)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __pos__(self) -> Dual:
        return self


def _centred(x: np.ndarray) -> tuple[np.ndarray, Any]:
    return x - np.mean(x), 1.0


def _scaled(x: np.ndarray) -> tuple[np.ndarray, Any]:
    sd = np.std(x, ddof=1)
    return (x - np.mean(x)) / sd, 1.0 / sd


def _by_value(function: Callable[[Any], Any], slope: Callable[[Any, Any], Any]) -> Any:
    """Function from values to results and derivatives; ``slope`` takes values and results."""

    def both(x: np.ndarray) -> tuple[np.ndarray, Any]:
        result = function(x)
        return result, slope(x, result)

    return both


SAME = _by_value(lambda x: x, lambda x, f: 1.0)
FUNCTIONS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, Any]]] = {
    "I": SAME,
    "float": SAME,
    "log": _by_value(np.log, lambda x, f: 1.0 / x),
    "log2": _by_value(np.log2, lambda x, f: 1.0 / (x * LN_2)),
    "log10": _by_value(np.log10, lambda x, f: 1.0 / (x * LN_10)),
    "log1p": _by_value(np.log1p, lambda x, f: 1.0 / (1.0 + x)),
    "exp": _by_value(np.exp, lambda x, f: f),
    "exp2": _by_value(np.exp2, lambda x, f: f * LN_2),
    "exp10": _by_value(lambda x: np.power(10.0, x), lambda x, f: f * LN_10),
    "expm1": _by_value(np.expm1, lambda x, f: f + 1.0),
    "sqrt": _by_value(np.sqrt, lambda x, f: 0.5 / f),
    "cbrt": _by_value(np.cbrt, lambda x, f: 1.0 / (3.0 * f * f)),
    "square": _by_value(np.square, lambda x, f: 2.0 * x),
    "reciprocal": _by_value(np.reciprocal, lambda x, f: -f * f),
    "negative": _by_value(np.negative, lambda x, f: -1.0),
    "sinh": _by_value(np.sinh, lambda x, f: np.cosh(x)),
    "arcsinh": _by_value(np.arcsinh, lambda x, f: 1.0 / np.hypot(x, 1.0)),
    "tanh": _by_value(np.tanh, lambda x, f: 1.0 - f * f),
    "arctanh": _by_value(np.arctanh, lambda x, f: 1.0 / ((1.0 - x) * (1.0 + x))),
    "arctan": _by_value(np.arctan, lambda x, f: 1.0 / (1.0 + x * x)),
    "arcsin": _by_value(np.arcsin, lambda x, f: 1.0 / np.sqrt((1.0 - x) * (1.0 + x))),
    "abs": _by_value(np.abs, lambda x, f: np.sign(x)),
    "center": _centred,
    "scale": _scaled,
    "standardize": _scaled,
}
"""Functions of one argument, with their derivatives."""

OPERATORS: dict[type[ast.AST], Callable[..., Dual]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
PAIRS = {
    "pow": operator.pow,
    "power": operator.pow,
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "true_divide": operator.truediv,
}
"""Functions of two arguments."""


def response_columns(design: Design) -> list[str]:
    """Columns of the table that the response is made of."""
    return used_columns([design.response_formula], [*map(str, design.columns)])


def log_slope(design: Design) -> np.ndarray:
    """Log absolute derivative (obs,) of the response by its column, on the fitted rows.

    Zero for a response that is a column, or several of them. A density of the response times the
    derivative is the density of the column.

    Raises
    ------
    SpecError
        Unless the response is a strictly increasing or a strictly decreasing function of one
        column on the rows, with a derivative that is not zero there, made of ``FUNCTIONS``.
    """
    term, table = design.response_term, design.columns
    columns = response_columns(design)
    found = expressions(design.response_formula)
    if not found:
        return np.zeros(len(table))
    if len(columns) != 1:
        raise SpecError(
            f"The response {term!r} is a function of {len(columns)} columns "
            f"({', '.join(map(repr, columns))}): only of one column can it be differentiated."
        )
    try:
        column = table[columns[0]].to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"The response {term!r} is made of the column {columns[0]!r}, which is not numbers."
        ) from error
    with np.errstate(all="ignore"):
        own = Dual(column, np.ones(len(column)))
        dual = _evaluate(found[0].body, columns[0], found[0].quoted, own, term)
        logs = np.log(np.abs(dual.slope)) + np.zeros(len(column))
    values = np.broadcast_to(dual.value, column.shape)
    _check(design, columns[0], column, values, np.sign(dual.slope) + np.zeros(len(column)))
    if not np.all(np.isfinite(logs)):
        row = int(np.flatnonzero(~np.isfinite(logs))[0])
        raise SpecError(
            f"The response {term!r} has no finite derivative other than zero at row "
            f"{design.rows.obs_id[row]}, where {columns[0]!r} is {column[row]:g}."
        )
    return logs


def _check(
    design: Design, name: str, column: np.ndarray, values: np.ndarray, signs: np.ndarray
) -> None:
    """Raise :class:`SpecError` unless values are the design's response, and monotone."""
    term, response = design.response_term, design.response
    if not np.allclose(values, response, rtol=0, atol=TOLERANCE * np.abs(response).max()):
        raise SpecError(
            f"The response {term!r} cannot be differentiated: its values cannot be computed from "
            f"{name!r} alone."
        )
    order = np.argsort(column, kind="stable")
    rising = np.sign(np.diff(values[order]))[np.diff(column[order]) > 0]
    found = {*rising.tolist(), *signs[signs != 0].tolist()}
    if len(found) > 1 or 0.0 in found:
        raise SpecError(
            f"The response {term!r} is not a strictly increasing or decreasing function of "
            f"{name!r} on the rows: different values of {name!r} cannot be told apart by it."
        )


def _is_quote(node: ast.AST) -> bool:
    """Whether a node is ``Q("name")``."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Q"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
    )


def _evaluate(
    node: ast.expr, column: str, quoted: Mapping[str, str], values: Dual, term: str
) -> Dual:
    """Values and derivatives of a part of a response's syntax tree."""
    is_column = isinstance(node, ast.Name) and quoted.get(node.id, node.id) == column
    if is_column or _is_quote(node):
        return values
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Dual(float(node.value), 0.0)
    parts, rule = _rule(node, term)
    if rule is None:
        raise SpecError(f"The response {term!r} cannot be differentiated at {ast.unparse(node)!r}.")
    return rule(*(_evaluate(part, column, quoted, values, term) for part in parts))


def _rule(node: ast.expr, term: str) -> tuple[list[ast.expr], Callable[..., Dual] | None]:
    """Arguments of an operation or a call, and its rule; None if there is no rule."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right], OPERATORS.get(type(node.op))
    if isinstance(node, ast.UnaryOp):
        return [node.operand], OPERATORS.get(type(node.op))
    if not isinstance(node, ast.Call) or node.keywords:
        return [], None
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        name = node.func.attr if node.func.value.id == "np" else ""
    else:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in PAIRS and len(node.args) == 2:
        return node.args, PAIRS[name]
    if name not in FUNCTIONS:
        what = f"function with a known derivative in the response {term!r}:"
        raise SpecError(unknown(what, name or ast.unparse(node.func), FUNCTIONS))
    if len(node.args) != 1:
        return [], None

    def chain(inner: Dual) -> Dual:
        value, slope = FUNCTIONS[name](inner.value)
        return Dual(value, slope * inner.slope)

    return node.args, chain

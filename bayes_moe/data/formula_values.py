"""Values of formulas on a table: listed functions of float64 columns, and nothing else.

Expressions are evaluated node by node, not by Python's ``eval``; formulaic makes columns of terms.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulaic import transforms
from formulaic.materializers.pandas import PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.transforms.contrasts import ContrastsRegistry
from formulaic.transforms.patsy_compat import PATSY_COMPAT_TRANSFORMS
from interface_meta import override

from bayes_moe.core.errors import DataError, unknown
from bayes_moe.data.calendar import distinct_waves, of_times
from bayes_moe.data.formula_arguments import (
    ARITHMETIC,
    COMPARISONS,
    LOGIC,
    Call,
    bind,
    constant,
    contrasts,
    setting,
    shown,
)
from bayes_moe.data.formula_functions import ELEMENTS_BY_OTHER_NAME, Functions
from bayes_moe.data.formula_language import Expression, parse_expression
from bayes_moe.data.matrix_columns import matching, members
from bayes_moe.data.tables import as_numbers, kind

MOST_COLUMNS = 5_000
"""Largest number of columns of one term."""

_FITTED: Mapping[str, Callable[..., Any]] = {
    "center": transforms.center,
    "scale": transforms.scale,
    "standardize": PATSY_COMPAT_TRANSFORMS["standardize"],
    "poly": transforms.poly,
    "bs": transforms.basis_spline,
    "cr": transforms.natural_cubic_spline,
    "cs": transforms.natural_cubic_spline,
    "cc": transforms.cyclic_cubic_spline,
}
"""Functions that remember the fitted rows."""


class Materializer(PandasMaterializer):
    """formulaic's model matrices, with columns and expressions evaluated here.

    More columns than ``expected`` are refused before they are made; a constant term is not counted.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        functions: Functions,
        expected: int | None = None,
    ) -> None:
        super().__init__(table)
        self.functions = functions
        self.expected = expected
        self._of_factors = self._of_terms = 0
        self._waves: set[tuple[Any, ...]] = set()

    @override
    def _lookup(self, name: str) -> tuple[Any, set[Any]]:
        """Values of a column that is a term by itself."""
        parts = members(name, self.data.columns) if name not in self.data.columns else []
        if parts:
            return _numbers_of(self.data, parts, "{name}[{field}]"), set()
        column = _column(self.data, name)
        if kind(column) == "numbers":
            return pd.Series(as_numbers(name, column).astype(float), index=column.index), set()
        return column, set()

    @override
    def _evaluate(self, expr: str, metadata: Any, spec: Any) -> tuple[Any, set[Any]]:
        """Values of an expression."""
        expression = parse_expression(expr)
        if expression.texts:  # columns made before
            return self._lookup(expression.text)
        evaluation = _Evaluation(self.data, expression, self.functions, spec.transform_state)
        return evaluation.result(), set()

    @override
    def _evaluate_factor(self, factor: Any, spec: Any, drop_rows: set[int]) -> Any:
        """A factor's values, unless they would make too many columns."""
        evaluated = super()._evaluate_factor(factor, spec, drop_rows)
        values = evaluated.values
        if evaluated.metadata.kind.value == "categorical":
            columns = pd.Series(np.asarray(values)).nunique()
            _check_columns(factor.expr, columns)
            columns -= 1  # the baseline has none
        else:
            columns = len(values) if isinstance(values, dict) else (*np.shape(values)[1:], 1)[0]
        # A term has at least the product of its factors' columns, but seasons may share waves.
        self._of_factors += 0 if factor.expr.startswith("season(") else max(columns - 1, 0)
        self._check_expected(self._of_factors)
        return evaluated

    def _check_expected(self, count: int) -> None:
        """Raise :class:`DataError` for more columns than are expected."""
        if self.expected is not None and count > self.expected:
            raise DataError(f"There are more columns than the {self.expected} that are expected")

    @override
    def _get_columns_for_term(self, factors: Any, spec: Any, scale: float = 1) -> dict[str, Any]:
        """Columns of a term, unless there are too many."""
        count = _product(factors)
        _check_columns(":".join(str(next(iter(f), "")) for f in factors), count)
        columns: dict[str, Any] = {}
        if len(factors) == 1 and str(next(iter(factors[0]), "")).startswith("season("):
            made = super()._get_columns_for_term(factors, spec, scale)
            columns = distinct_waves(made, spec.transform_state, self._waves)
        self._of_terms += len(columns) or count
        self._check_expected(self._of_terms)
        return columns or super()._get_columns_for_term(factors, spec, scale)


def expression_values(table: pd.DataFrame, text: str, functions: Functions) -> np.ndarray:
    """Values (obs,) of an expression of columns of numbers, which remembers nothing."""
    evaluation = _Evaluation(table, parse_expression(text), functions, {})
    return np.asarray(evaluation.result(), dtype=float)


class _Evaluation:
    """One expression on one table; ``state`` is what functions remember, by texts of calls."""

    def __init__(
        self,
        table: pd.DataFrame,
        expression: Expression,
        functions: Functions,
        state: dict[str, Any],
    ) -> None:
        self.table = table
        self.expression = expression
        self.functions = functions
        self.state = state

    def result(self) -> Any:
        """Values for a design: floats (obs,), several columns, or categories."""
        value = self.value(self.expression.body)
        if isinstance(value, FactorValues | dict):  # a proxy that passes for what it holds
            return value
        if isinstance(value, pd.Series):
            of_time = kind(value) in ("dates", "durations")
            return self.plain(value, self.expression.body) if of_time else value
        if isinstance(value, np.ndarray) and value.ndim > 1:
            return value.astype(float)
        return np.array(np.broadcast_to(np.asarray(value, dtype=float), len(self.table)))

    def value(self, node: ast.expr) -> Any:
        """Value of a node: a number, conditions or floats (obs,), or a column of another type."""
        match node:
            case ast.Name():
                return self.column(self.expression.quoted.get(node.id, node.id))
            case ast.Constant():
                return np.float64(constant(node, self.expression.text))
            case ast.Attribute():
                return np.float64(np.pi if node.attr == "pi" else np.e)
            case ast.UnaryOp(op=ast.Invert()):
                return ~self.condition(node.operand)
            case ast.UnaryOp():
                number = self.number(node.operand)
                return -number if isinstance(node.op, ast.USub) else number
            case ast.BinOp() if type(node.op) in LOGIC:
                join = LOGIC[type(node.op)]
                return join(self.condition(node.left), self.condition(node.right))
            case ast.BinOp():
                return ARITHMETIC[type(node.op)](self.number(node.left), self.number(node.right))
            case ast.Compare():
                return self.comparison(node)
            case ast.Call():
                return self.call(bind(node, self.expression.text), node)
        raise AssertionError(f"unchecked node {shown(node)!r}")

    def column(self, name: str) -> Any:
        """A column as conditions or floats (obs,), or as it is if it holds no numbers."""
        column = _column(self.table, name)
        return as_numbers(name, column) if kind(column) == "numbers" else column

    def columns(self, pattern: str) -> FactorValues:
        """Columns of numbers whose names match a pattern, under their own names."""
        names = matching(pattern, map(str, self.table.columns))
        return _numbers_of(self.table, names, "{field}")

    def labels(self, node: ast.expr) -> Any:
        """Values whose categories are wanted: a column is taken as it is."""
        if isinstance(node, ast.Name):
            return _column(self.table, self.expression.quoted.get(node.id, node.id))
        if isinstance(node, ast.Call):
            call = bind(node, self.expression.text)
            if call.name == "Q":
                return _column(self.table, self.argument(call, "column", 0))
        value = self.value(node)
        if isinstance(value, pd.Series):
            return value
        return pd.Series(np.broadcast_to(self.plain(value, node), len(self.table)))

    def plain(self, value: Any, node: ast.expr) -> Any:
        """Number, conditions or floats (obs,); DataError for anything else."""
        if isinstance(value, pd.Series):
            raise DataError(
                f"{shown(node)!r} holds {kind(value)}, not numbers, in the formula term "
                f"{self.expression.text!r}: {_remedy(value, shown(node))}."
            )
        if isinstance(value, FactorValues | dict) or np.ndim(value) > 1:
            raise DataError(
                f"{shown(node)!r} makes several columns and cannot be a part of the formula term "
                f"{self.expression.text!r}."
            )
        return value

    def number(self, node: ast.expr) -> Any:
        """Value of a node as float64: a number, or (obs,)."""
        value = self.plain(self.value(node), node)
        return value.astype(float) if isinstance(value, np.ndarray) else np.float64(value)

    def condition(self, node: ast.expr) -> Any:
        """Value of a node as truth values; DataError for numbers."""
        value = self.plain(self.value(node), node)
        if np.asarray(value).dtype != bool:
            raise DataError(
                f"`&`, `|` and `~` join conditions, such as (x > 0) & (z > 0); {shown(node)!r} in "
                f"the formula term {self.expression.text!r} is a number."
            )
        return value

    def comparison(self, node: ast.Compare) -> Any:
        """Conditions (obs,): whether each neighbouring pair of a chain compares as stated."""
        sides = [node.left, *node.comparators]
        values = [
            s.value if isinstance(s, ast.Constant) and isinstance(s.value, str) else self.value(s)
            for s in sides
        ]
        result: Any = True
        for j, op in enumerate(node.ops):
            left, right = values[j], values[j + 1]
            if isinstance(op, ast.Eq | ast.NotEq) and any(
                isinstance(v, str | pd.Series) for v in (left, right)
            ):
                pair = COMPARISONS[type(op)](*map(_as_labels, (left, right)))
            else:
                pair = COMPARISONS[type(op)](
                    self.plain(left, sides[j]), self.plain(right, sides[j + 1])
                )
            result = np.logical_and(result, pair)
        return np.asarray(result)

    def call(self, call: Call, node: ast.Call) -> Any:
        """Value of a call."""
        if call.function is None:
            return self.own(call)
        if call.function.group == "past":  # a column made before
            return self.column(self.expression.shown(node))
        given = {a.name: self.argument(call, a.kind, j) for j, (a, _) in enumerate(call.arguments)}
        match call.function.group:
            case "element":
                name = ELEMENTS_BY_OTHER_NAME.get(call.name, call.name)
                if call.name == "exp10":
                    return np.float64(10.0) ** given["x"]
                return getattr(np, name)(*given.values())
            case "fitted":
                first, *_ = given
                values = np.array(np.broadcast_to(given.pop(first), len(self.table)))
                state = self.state.setdefault(ast.unparse(node), {})
                return _FITTED[call.name](values, _state=state, **given)
            case "dates":
                state = self.state.setdefault(ast.unparse(node), {})
                source = self.expression.shown(call.arguments[0][1])
                return of_times(call.name, given.pop("x"), source, state, given)
            case "columns":
                return self.columns(given["pattern"])
            case "offset":
                rows = [np.broadcast_to(v, len(self.table)) for v in given.values()]
                return rows[0] if len(rows) == 1 else np.column_stack(rows)
            case "categories":
                return transforms.C(given.pop("x"), **given)
        return self.column(given["name"]) if call.name == "Q" else given["x"]

    def argument(self, call: Call, wanted: str, position: int) -> Any:
        """Value of one argument of a listed function."""
        argument, node = call.arguments[position]
        match wanted:
            case "values":
                return self.value(node) if call.name == "I" else self.number(node)
            case "dates":
                return self.value(node)
            case "labels":
                return self.labels(node)
            case "contrasts":
                coding = contrasts(node, self.expression.text)
                return _coding(coding, self.expression.text) if isinstance(coding, Call) else coding
        return setting(call.name, argument, node, self.expression.text)

    def own(self, call: Call) -> np.ndarray:
        """Values (obs,) or (obs, column) of a user's function, checked."""
        text = self.expression.text
        rows = len(self.table)
        arguments, settings = [], {}
        for argument, node in call.arguments:
            if argument.kind == "values":
                value = self.value(node)
                value = value.copy() if isinstance(value, pd.Series) else self.number(node)
                arguments.append(np.array(value) if isinstance(value, np.ndarray) else value)
            else:
                settings[argument.name] = setting(call.name, argument, node, text)
        result = np.asarray(self.functions[call.name](*arguments, **settings))
        if result.dtype.kind not in "biuf":
            raise DataError(f"Your function {call.name!r} must return numbers (term {text!r}).")
        if result.ndim not in (1, 2) or len(result) != rows:
            raise DataError(
                f"Your function {call.name!r} must return one value a row, {rows} here; it "
                f"returned the shape {result.shape} (term {text!r})."
            )
        _check_columns(text, result.shape[1] if result.ndim == 2 else 1)
        return result.astype(float)


def _numbers_of(table: pd.DataFrame, names: list[str], title: str) -> Any:
    """Several columns of numbers as formulaic's one factor.

    The ``title`` of a column is made of ``name``, the factor's, and ``field``: the column's number
    if it has both, else its name.

    Raises
    ------
    DataError
        For a column of anything but numbers.
    """
    columns = {}
    for j, name in enumerate(names):
        found = kind(table[name])
        if found != "numbers":
            raise DataError(
                f"The column {name!r} holds {found}; cols() and columns of arrays take numbers "
                "only: give a pattern of columns of numbers, or rename it."
            )
        values = as_numbers(name, table[name]).astype(float)
        columns[str(j) if "{name}" in title else name] = pd.Series(values, index=table.index)
    return FactorValues(columns, kind="numerical", spans_intercept=False, format=title)


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table.columns:
        if members(name, table.columns):
            raise DataError(
                f"Column {name!r} is a matrix, and functions take one column each: write Q('"
                f"{name}[0]') for its first, or make a column of the table."
            )
        raise DataError(unknown("column", name, map(str, table.columns)))
    column: pd.Series = table[name]
    if kind(column) == "a sparse matrix":
        raise DataError(
            f"Column {name!r} is a sparse matrix, which is only a feature, and a term by itself"
        )
    return column


def _remedy(column: pd.Series, text: str) -> str:
    dates = f"write time({text}), the days since the first fitted date"
    return dates if kind(column) == "dates" else "make a column of numbers from it"


def _as_labels(value: Any) -> Any:
    """Categories (obs,) as objects, so that any two can be compared."""
    return value.to_numpy(dtype=object) if isinstance(value, pd.Series) else value


def _coding(call: Call, text: str) -> Any:
    """Formulaic's coding of categories for a call such as ``contr.treatment('a')``."""
    settings = {a.name: setting(call.name, a, node, text) for a, node in call.arguments}
    prefix, _, name = call.name.rpartition(".")
    coding = getattr(ContrastsRegistry, name) if prefix else PATSY_COMPAT_TRANSFORMS[name]
    return coding(**settings)


def _product(factors: Any) -> int:
    size = 1
    for factor in factors:
        size *= max(len(factor), 1)
    return size


def _check_columns(term: str, count: int) -> None:
    """Raise :class:`DataError` for a term of too many columns."""
    if count > MOST_COLUMNS:
        raise DataError(
            f"The term {term[:60]!r} makes {count} columns; at most {MOST_COLUMNS} are made. Merge "
            "categories, or leave it out."
        )

"""Formulas: parsing, columns in use, and formulas fitted to rows.

A formula may call the functions of :mod:`bayes_moe.data.formula_functions` and those that a user
hands in; other names are columns of the table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Self
from unicodedata import normalize

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.data.censored_response import limits_of
from bayes_moe.data.formula_factors import (
    category_column,
    check_texts,
    columns_of,
    is_lookup,
    is_text,
)
from bayes_moe.data.formula_functions import NAMED_AS_COLUMNS, Functions, check_known
from bayes_moe.data.formula_language import Expression, parse_expression
from bayes_moe.data.formula_matrix import finite_values, materialise, unstable
from bayes_moe.data.group_terms import parts, without_groups
from bayes_moe.data.offsets import check_offsets, cut_out, is_offset, width
from bayes_moe.data.tables import in_index
from bayes_moe.data.text_settings import TextTerm

if TYPE_CHECKING:
    import pandas as pd

INTERCEPT = "Intercept"
"""Name of the constant term's column."""

ROW_TOLERANCE = 1e-9
"""Largest change of a term, relative to its size, when other rows are removed."""


def parse_formula(formula: str) -> Any:
    """Formula parsed by formulaic; a function that is not listed must be the user's.

    Raises
    ------
    SpecError
        If it is no string, cannot be parsed, has what formulas do not know, or is too large.
    """
    if not isinstance(formula, str):
        raise SpecError(f"A formula must be a string such as 'y ~ x'; it is {formula!r}.")
    return _parse(formula)


def split_formula(formula: str) -> tuple[str, str]:
    """Left-hand side ``"y"`` and right-hand side ``"~ x"`` of ``"y ~ x"``.

    Raises
    ------
    SpecError
        Unless there is one response, a column or a function of columns, and one right-hand side.
    """
    from bayes_moe.data.formula_parser import is_one_factor, tilde

    at = tilde(formula) if isinstance(formula, str) else -1
    limits = limits_of(formula[:at]) if at >= 0 else None
    if limits is not None:
        right = split_formula(f"{limits.parts[0]} {formula[at:]}")[1]
        return formula[:at].strip(), right
    if not hasattr(parse_formula(without_groups(formula)), "lhs"):
        raise SpecError(f"An expert's formula needs one response, as in 'y ~ x'; got {formula!r}.")
    left, right = formula[:at].strip(), formula[at:]
    if not is_one_factor(left):
        raise SpecError(
            f"An expert's formula needs one response: a column or a function of columns, such as "
            f"'log(y)' or 'I(y - x)'; got {left!r} in {formula!r}."
        )
    check_right_hand_side("An expert's formula", right)
    return left, f"~ {right[1:].strip()}"


def check_right_hand_side(what: str, formula: str) -> None:
    """Raise :class:`SpecError` unless a formula is one non-empty right-hand side."""
    from formulaic.formula import SimpleFormula

    parsed = parse_formula(without_groups(formula))
    if hasattr(parsed, "lhs"):
        raise SpecError(f"{what} has no left-hand side; got {formula!r}.")
    if not isinstance(parsed, SimpleFormula):
        raise SpecError(f"{what} has one right-hand side; got {formula!r}.")
    if not formula.strip(" ~\n\t") or not len(parsed):
        raise SpecError(f"{what} has no terms: {formula!r}. Write '~ 1' for a constant.")
    if all(is_offset(term) for term in parsed):
        raise SpecError(
            f"{what} has an offset alone, so nothing is left to be estimated: {formula!r}. Leave "
            "the constant term in it, as in '~ 1 + offset(z)'."
        )


def used_columns(
    formulas: list[str],
    available: list[str],
    *,
    strict: bool = True,
    index: Iterable[Any] = (),
) -> list[str]:
    """Columns of the table that formulas use, in the table's order.

    ``index`` are the names of the table's index, for the error about a column that is there.

    Raises
    ------
    DataError
        For a name that is not a column, and for a column that hides a function in use.
    """
    used: set[str] = set()
    called: set[str] = set()
    for formula in formulas:
        for factor in _factors(formula):
            columns, functions = columns_of(factor, available)
            called |= functions
            used.update(c for c in columns if c in available)
            for name in columns if strict else ():
                if name not in available:
                    hint = _other_characters(name, available) + in_index(name, index)
                    raise DataError(
                        f"{unknown('column', name, available)}{hint} (formula {formula!r})"
                    )
    if called & used - NAMED_AS_COLUMNS:
        name = min(called & used - NAMED_AS_COLUMNS)
        raise DataError(
            f"The column {name!r} hides the function {name!r} that the formulas use; rename it."
        )
    return [c for c in available if c in used]


def own_functions(formulas: Iterable[str]) -> list[str]:
    """Functions that formulas call and that are not listed: the user has to give them."""
    return sorted({name for formula in formulas for e in expressions(formula) for name in e.own})


def expressions(formula: str) -> list[Expression]:
    """Expressions in a formula, which are not columns by their names."""
    return [parse_expression(f.expr) for f in _factors(formula) if not is_lookup(f)]


def text_terms(formulas: Iterable[str]) -> dict[str, TextTerm]:
    """Text terms of formulas by name."""
    return {t.name: t for formula in formulas for e in expressions(formula) for t in e.texts}


def text_columns(formulas: Iterable[str], available: list[str]) -> list[str]:
    """Columns that text terms of formulas read and nothing else in them uses."""
    formulas = [*formulas]
    other = (f for formula in formulas for f in _factors(formula) if not is_text(f))
    used = {c for factor in other for c in columns_of(factor, available)[0]}
    read = dict.fromkeys(t.column for t in text_terms(formulas).values())
    return [column for column in read if column not in used]


def offset_columns(formula: str) -> list[int]:
    """Number of columns of each offset in a formula: one, or one an output."""
    parsed = parse_formula(without_groups(formula))
    return [width(term) for term in getattr(parsed, "rhs", parsed) if is_offset(term)]


def without_offsets(formula: str) -> str:
    """The formula without its offsets; itself if it has none."""
    return cut_out(formula) if offset_columns(formula) else formula


def looked_up(formula: str) -> list[str]:
    """Columns that a formula uses as they are, outside functions and group terms."""
    return [f.expr for f in _factors(without_groups(formula)) if is_lookup(f)]


@dataclass(frozen=True)
class FittedFormula:
    """A formula with the state of its fit to rows: categories, knots, means and bases.

    ``functions`` are the user's, by name.
    """

    formula: str
    spec: Any
    functions: Functions = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        formula: str,
        columns: pd.DataFrame,
        labels: np.ndarray,
        functions: Functions | None = None,
        *,
        is_response: bool = False,
        expected: int | None = None,
    ) -> tuple[Self, np.ndarray]:
        """Formula, or response, fitted to rows, and its values (obs, term).

        ``labels`` (obs,) are the names of rows in errors; ``functions`` are the user's, by name. A
        formula that makes more columns than ``expected`` is refused before these are made.

        Raises
        ------
        DataError
            If it cannot be evaluated, gives values that are not finite, loses a term, or has a
            term that changes with the other rows.
        SpecError
            For a function that nobody gave.
        """
        functions = functions or {}
        check_known(own_functions([formula]), functions)
        recipe = parse_formula(f"{formula} - 1" if is_response else formula)
        matrix = materialise(recipe, columns, formula, functions, expected)
        fitted = cls(formula, matrix.model_spec, functions)
        fitted._check_terms()
        values = finite_values(matrix, labels)
        fitted._check_row_by_row(columns, values, labels)
        return fitted, values

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the values, those of offsets included."""
        return tuple(str(c) for c in self.spec.column_names)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the design's columns."""
        return tuple(np.array(self.columns, dtype=object)[~self._is_offset])

    def parted(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Values (obs, term) of the terms, and the sum (obs, output or 1) of the offsets or None.

        ``values`` (obs, column) are those of a fit or of :meth:`apply`.
        """
        if not self._is_offset.any():
            return values, None
        total, start = np.zeros((len(values), 1)), 0
        for part in self.spec.structure:
            stop = start + len(part.columns)
            if is_offset(part.term):
                total = total + values[:, start:stop]
            start = stop
        return np.ascontiguousarray(values[:, ~self._is_offset]), total

    @cached_property
    def _is_offset(self) -> np.ndarray:
        """Whether each column (column,) is of an offset."""
        parts = self.spec.structure
        return np.array([is_offset(p.term) for p in parts for _ in p.columns], dtype=bool)

    @property
    def categories(self) -> dict[str, list[Any]]:
        """Categories in the fitted rows, of the columns that the formula uses as categories."""
        categories = {}
        for factor in _factors(self.formula):
            column = category_column(factor)
            if column is not None and "categories" in self._state(factor):
                categories[column] = list(self._state(factor)["categories"])
        return categories

    def apply(self, columns: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
        """Values (obs, term) on other rows, with the fitted rows' categories and bases.

        Raises
        ------
        DataError
            If the rows cannot be evaluated; the message names the first that cannot.
        """
        if not len(columns):
            return np.empty((0, len(self.columns)))
        try:
            matrix = self._evaluate(columns)
        except DataError as error:
            where = f" First at row {labels[self._first_bad(columns)]}."
            raise DataError(f"{error}{where}") from error
        if tuple(map(str, matrix.columns)) != self.columns:
            raise DataError(
                f"The formula {self.formula!r} gave the columns {list(matrix.columns)} on these "
                f"rows but {list(self.columns)} on the fitted ones."
            )
        return finite_values(matrix, labels)

    def _state(self, factor: Any) -> dict[str, Any]:
        """State of a factor's encoding in the fit: its categories, if it has any."""
        state: dict[str, Any] = self.spec.encoder_state.get(factor.expr, (None, {}))[1]
        return state

    def _evaluate(self, columns: pd.DataFrame) -> Any:
        """Model matrix of other rows, as formulaic returns it."""
        # formulaic writes into a specification's state, even when it fails.
        written = ("transform_state", "encoder_state")
        state = {name: copy.deepcopy(getattr(self.spec, name)) for name in written}
        recipe = self.spec.update(**state)
        return materialise(recipe, columns, self.formula, self.functions, None)

    def _first_bad(self, columns: pd.DataFrame) -> int:
        """Position of the first row that cannot be evaluated, by bisection."""
        good, bad = 0, len(columns)
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self._evaluate(columns.iloc[:middle])
                good = middle
            except DataError:
                bad = middle
        return good

    def _check_terms(self) -> None:
        """Raise :class:`DataError` for terms of the same name and terms without a column."""
        for part in self.spec.structure:
            if INTERCEPT in part.columns and str(part.term) != "1":
                raise DataError(
                    f"A column named {INTERCEPT!r} cannot be a feature, since the constant term "
                    f"has that name. Rename it (formula {self.formula!r})."
                )
            # formulaic drops the column of a term whose only category is the baseline.
            for factor in () if part.columns else part.term.factors:
                levels = self._state(factor).get("categories", ())
                if len(levels) == 1:
                    raise DataError(
                        f"{factor.expr!r} is constant: every row has the category {levels[0]!r}. "
                        f"Remove it from the formula {self.formula!r}."
                    )
        doubled = [t for t in dict.fromkeys(self.terms) if self.terms.count(t) > 1]
        if doubled:
            raise DataError(
                f"The formula {self.formula!r} makes more than one column {doubled[0]!r}; rename "
                "the table's column of that name."
            )

    def _check_row_by_row(
        self, columns: pd.DataFrame, values: np.ndarray, labels: np.ndarray
    ) -> None:
        """DataError for terms that depend on other rows, such as ``x - x.mean()``."""
        if all(is_lookup(f) or is_text(f) for f in _factors(self.formula)):
            return
        size = np.abs(values).max(axis=0)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            try:
                alone = self.apply(columns.iloc[half].reset_index(drop=True), labels[half])
            except DataError as error:
                raise DataError(unstable(self.formula)) from error
            changed = (np.abs(alone - values[half]) > ROW_TOLERANCE * size).any(axis=0)
            if changed.any():
                raise DataError(unstable(self.columns[int(np.argmax(changed))]))


@lru_cache(maxsize=1024)
def _parse(formula: str) -> Any:
    from formulaic.errors import FormulaicError

    from bayes_moe.data.formula_parser import parse

    try:
        parsed = parse(formula)
        check_offsets(parsed, formula)
        check_texts(parsed, formula)
        return parsed
    except SpecError:
        raise
    except (FormulaicError, SyntaxError, ValueError, LookupError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        if "`.` operator" in reason:
            reason = "`.` for all other columns is not supported; write the columns out."
        raise SpecError(f"Cannot read the formula {formula!r:.500}: {reason}") from error


def _factors(formula: str) -> Iterator[Any]:
    """Columns and expressions in a formula, as formulaic's factors."""
    for term in (term for part in parts(formula) for term in parse_formula(part)):
        yield from (f for f in term.factors if f.eval_method.value != "literal")


def _other_characters(name: str, available: list[str]) -> str:
    """Hint at a column that differs from ``name`` in Unicode form only; else the empty string."""
    for column in available:
        if normalize("NFKC", column) == normalize("NFKC", name):
            return (
                f" The column {column!r} has other Unicode characters than this: copy its name "
                f"from the table; inside functions, write Q({column!r})."
            )
    return ""

"""Factors of a formula's terms, as formulaic parsed them: the columns that each uses."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from bayes_moe.core.errors import DataError, SpecError, listed
from bayes_moe.data.formula_language import parse_expression
from bayes_moe.data.matrix_columns import matching, members


def is_lookup(factor: Any) -> bool:
    """Whether a factor is a column by its name."""
    return bool(factor.eval_method.value == "lookup")


def columns_of(factor: Any, available: list[str]) -> tuple[list[str], frozenset[str]]:
    """Columns in a factor, those of a matrix or pattern one by one, and listed functions in it."""
    lookup = is_lookup(factor)
    expression = None if lookup else parse_expression(factor.expr)
    named = (str(factor.expr),) if expression is None else expression.columns
    columns = []
    for name in named:
        parts = [] if name in available else members(name, available)
        columns += parts or [name]
    for past in () if expression is None else expression.past:
        columns += [past.text] if past.text in available else past.columns
    for term in () if expression is None else expression.texts:
        made = [term.name] if term.name in available else members(term.name, available)
        columns += made or [term.column]
    for pattern in () if expression is None else expression.patterns:
        found = matching(pattern, available)
        if not found:
            raise DataError(f"No column matches {factor.expr}. Valid: {listed(available)}.")
        columns += found
    return columns, frozenset() if expression is None else expression.called


def is_text(factor: Any) -> bool:
    """Whether a factor is a text term."""
    return not is_lookup(factor) and bool(parse_expression(factor.expr).texts)


def check_texts(parsed: Any, formula: str) -> None:
    """Raise :class:`SpecError` for text terms in a response, or inside a product."""
    right = getattr(parsed, "rhs", parsed)
    for term in getattr(parsed, "lhs", ()):
        if any(map(is_text, getattr(term, "factors", ()))):
            raise SpecError(
                f"The response of {formula!r} is the text term {str(term)!r}, which makes several "
                "features: the response is a column, or an expression of numbers."
            )
    for term in right if isinstance(right, Iterable) else ():
        factors = getattr(term, "factors", ())
        if len(factors) > 1 and any(map(is_text, factors)):
            raise SpecError(
                f"The formula {formula!r} has a text term in the product {str(term)!r}: text(...) "
                "is a term by itself. Let the gate read the other column, or make columns of "
                "products from those of bm.text.features(...)."
            )


def category_column(factor: Any) -> str | None:
    """Column that a factor may use as categories: ``g`` of ``g`` and ``C(g, ...)``, or None."""
    if is_lookup(factor):
        return str(factor.expr)
    expression = parse_expression(factor.expr)
    body, quoted = expression.body, expression.quoted
    if isinstance(body, ast.Call) and isinstance(body.func, ast.Name) and body.func.id == "C":
        body = body.args[0] if body.args else body
    return quoted.get(body.id, body.id) if isinstance(body, ast.Name) else None

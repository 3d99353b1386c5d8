"""Offsets: terms of a formula that are added to its predictor without a coefficient."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.formula_functions import OFFSET
from bayes_moe.data.formula_language import parse_expression


def is_offset(term: Any) -> bool:
    """Whether a term, as formulaic parsed it, is an offset."""
    factors: Any = getattr(term, "factors", ())  # a formula of several parts has parts, not terms
    return len(factors) == 1 and _is_call(factors[0])


def width(term: Any) -> int:
    """Number of columns of an offset: one for all outputs of a predictor, or one an output."""
    call = parse_expression(term.factors[0].expr).body
    assert isinstance(call, ast.Call)
    return len(call.args)


def cut_out(formula: str) -> str:
    """The text of a formula without its offsets."""
    from formulaic.parser.algos.tokenize import tokenize

    text, end, removed = "", 0, ""
    for before, token in pairwise(tokenize(formula)):
        if token.kind.value == "python" and OFFSET in parse_expression(token.token).called:
            assert None not in (before.source_start, token.source_start, token.source_end)
            if before.token not in ("+", "~"):
                removed += f" - {token.token}"
                continue
            first = before if before.token == "+" else token
            text += formula[end : first.source_start].rstrip()
            text += "" if before.token == "+" else " 1"
            end = int(token.source_end or 0) + 1
    return (text + formula[end:]).strip() + removed


def check_offsets(parsed: Any, formula: str) -> None:
    """Raise :class:`SpecError` for offsets in a response, or inside a product."""
    left = getattr(parsed, "lhs", ())
    if any(is_offset(term) for term in left):
        raise SpecError(
            f"The response of {formula!r} is an offset; an offset is a term of the right-hand side."
        )
    right = getattr(parsed, "rhs", parsed)
    widths = set()
    for term in right if isinstance(right, Iterable) else ():
        factors = getattr(term, "factors", ())
        if len(factors) > 1 and any(map(_is_call, factors)):
            raise SpecError(
                f"The formula {formula!r} has an offset in the product {str(term)!r}: write it as "
                "a term by itself, such as offset(x * z)."
            )
        if len(factors) == 1 and is_offset(term):
            widths.add(width(term))
    if len(widths - {1}) > 1:
        raise SpecError(
            f"The offsets of {formula!r} have {listed(sorted(widths))} columns; an offset has one, "
            "or as many as the predictor has outputs."
        )


def _is_call(factor: Any) -> bool:
    return factor.eval_method.value == "python" and OFFSET in parse_expression(factor.expr).called

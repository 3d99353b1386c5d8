"""Formulas to terms: formulaic reads the operators, and never sees an expression of Python.

formulaic evaluates parts of a left-hand side while it parses, so expressions are checked first
and stand as names in the text that it gets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from formulaic import Formula
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import ASTNode, Token

from bayes_moe.core.errors import SpecError
from bayes_moe.data.formula_language import parse_expression

MOST_CHARACTERS = 50_000
"""Length of a formula."""

MOST_DEPTH = 50
"""Depth of brackets in a formula."""

MOST_TERMS = 2_000
"""Terms of a formula, with those that its operators make."""

MOST_FACTORS = 8
"""Factors of one term: the order of an interaction."""

MOST_DIGITS = 15
"""Digits of a number between terms."""

MARK = "\ue000"
"""Character that no formula may have; it encloses the names that stand for expressions."""


def is_one_factor(text: str) -> bool:
    """Whether a text is one column or one function of columns."""
    return [t.kind.value for t in tokenize(text)] in (["name"], ["python"])


def tilde(formula: str) -> int:
    """Position of the ``~`` outside quotes and brackets; -1 if there is none."""
    # Parsed formulas do not keep the text of their sides.
    bare = re.sub(r"`[^`]*`", lambda quoted: "_" * len(quoted.group()), formula)
    depth = 0
    for at, character in enumerate(bare):
        depth += (character in "([{") - (character in ")]}")
        if character == "~" and depth == 0:
            return at
    return -1


def parse(formula: str) -> Any:
    """Parsed formula, each of whose expressions is checked.

    Raises
    ------
    SpecError
        For expressions that are no part of the formula language, and formulas that are too large.
    formulaic.errors.FormulaicError
        For formulas that cannot be parsed.
    """
    _check_text(formula)
    tokens = list(tokenize(formula))
    _check_tokens(tokens, formula)
    expressions: dict[str, str] = {}
    parts = []
    for token in tokens:
        if token.kind is Token.Kind.PYTHON:
            text = parse_expression(token.token).text
            key = next((k for k, t in expressions.items() if t == text), None)
            key = key or f"{MARK}{len(expressions)}{MARK}"
            expressions[key] = text
            parts.append(f"`{key}`")
        else:
            parts.append(_written(token))
    try:
        return Formula(" ".join(parts), _parser=_Parser(expressions, formula))
    except Exception as error:
        error.args = tuple(_restored(a, expressions) for a in error.args)
        raise


class _Parser(DefaultFormulaParser):
    """formulaic's parser of a text in which names stand for expressions."""

    def __init__(self, expressions: Mapping[str, str], formula: str) -> None:
        super().__init__()
        self.expressions = expressions
        self.formula = formula

    def get_tokens_from_formula(self, formula: str, *, context: Any) -> Any:
        """Tokens with the expressions in place of the names."""
        tokens = list(super().get_tokens_from_formula(formula, context=context))
        for token in tokens:
            if token.kind is Token.Kind.NAME and token.token in self.expressions:
                token.token = self.expressions[token.token]
                token.kind = Token.Kind.PYTHON
        return tokens

    def get_terms_from_ast(self, ast: Any, *, context: Any) -> Any:
        """Terms, unless there are too many of them."""
        _check_terms(ast, self.formula)
        return super().get_terms_from_ast(ast, context=context)


def _check_text(formula: str) -> None:
    """Raise :class:`SpecError` for a text that is too long or too deeply nested."""
    if len(formula) > MOST_CHARACTERS:
        raise SpecError(
            f"The formula {formula[:40]!r}... has {len(formula)} characters; at most "
            f"{MOST_CHARACTERS} are read."
        )
    depth = deepest = 0
    for character in formula:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MOST_DEPTH:
        raise SpecError(
            f"The formula {formula[:40]!r}... has brackets in {deepest} levels; at most "
            f"{MOST_DEPTH} are read."
        )
    if MARK in formula or "\0" in formula:
        raise SpecError(f"The formula {formula!r} has a character that no formula may have.")


def _check_tokens(tokens: list[Token], formula: str) -> None:
    """Raise :class:`SpecError` for the syntax of other packages, and for numbers too long."""
    depth = 0
    tildes = [j for j, t in enumerate(tokens) if t.kind is Token.Kind.OPERATOR and "~" in t.token]
    last_of_left = tildes[-1] if tildes and tildes[-1] > 0 else -1
    for j, token in enumerate(tokens):
        if token.kind is Token.Kind.CONTEXT:
            depth += 1 if token.token in "([" else -1
        elif token.kind is Token.Kind.VALUE and len(token.token) > MOST_DIGITS:
            if token.token[0] not in "'\"":
                raise SpecError(f"The formula {formula!r:.80} has a number of too many digits.")
        elif token.kind is Token.Kind.NAME and token.token == "1":
            raise SpecError(
                f"A column named '1' cannot be told from the constant term in {formula!r}: rename "
                "it, or write Q('1')."
            )
        elif token.kind is Token.Kind.OPERATOR and "|" in token.token:
            if j < last_of_left:
                raise SpecError(
                    f"The response of {formula!r} has '|': write censored(y, status=s), "
                    "truncated(y, lower=a) or weights='w'. The number of trials of a binomial "
                    "family is given as trials='n'."
                )
            if depth:
                raise SpecError(
                    f"The formula {formula!r} has a group term with '|' where none can be: (1 | g) "
                    "is a summand of the formula of a gate, or of a parameter of an expert, as in "
                    "'y ~ x + (1 | g)'."
                )


def _written(token: Token) -> str:
    """A token as it is written in a formula."""
    if token.kind is Token.Kind.NAME:
        return f"`{token.token}`"
    if token.kind is Token.Kind.OPERATOR and re.search(r"\w", token.token):
        return f"%{token.token}%"
    return str(token.token)


def _restored(value: Any, expressions: Mapping[str, str]) -> Any:
    """An error's text with the expressions in place of the names."""
    if isinstance(value, str):
        for key, text in expressions.items():
            value = value.replace(f"`{key}`", text).replace(key, text)
    return value


def _check_terms(tree: Any, formula: str) -> None:
    """Raise :class:`SpecError` if operators make too many terms, before they do."""
    sizes: dict[int, tuple[int, int]] = {}
    stack = [(tree, False)]
    while stack:
        node, seen = stack.pop()
        if not isinstance(node, ASTNode):
            sizes[id(node)] = (1, 1)
        elif not seen:
            stack += [(node, True), *((arg, False) for arg in node.args)]
        else:
            size = _size(node, [sizes[id(arg)] for arg in node.args])
            sizes[id(node)] = size
            if size[0] > MOST_TERMS or size[1] > MOST_FACTORS:
                raise SpecError(
                    f"The formula {formula[:60]!r} makes up to {size[0]} terms of up to {size[1]} "
                    f"factors; at most {MOST_TERMS} terms of {MOST_FACTORS} factors are read. "
                    "Write out the terms that you need."
                )


def _size(node: ASTNode, sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Bounds of the number of terms that an operator makes, and of their factors."""
    symbol = node.operator.symbol
    counts, orders = [s[0] for s in sizes], [s[1] for s in sizes]
    if len(sizes) < 2 or symbol not in ("*", ":", "/", "in", "**", "^"):
        return max(sum(counts), 1), max(orders, default=1)
    left, right = counts
    if symbol in ("**", "^"):
        power = str(list(node.args)[1])
        times = min(int(power), 1000) if power.isdecimal() else 1
        return min(left, 1000) ** min(times, 20), orders[0] * times
    if symbol == "/":
        return left + right, left * orders[0] + orders[1]
    if symbol == "in":
        return left + right, right * orders[1] + orders[0]
    return left * right + (left + right) * (symbol == "*"), sum(orders)

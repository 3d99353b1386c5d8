"""Expressions inside formulas, such as ``log(x)`` or ``I(x**2)``: only what is listed is accepted.

An expression is parsed to Python's syntax tree, and every node of the tree is checked against a
literal list. Nothing is evaluated here.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from keyword import iskeyword

from bayes_moe.core.errors import SpecError
from bayes_moe.data import formula_functions as listed
from bayes_moe.data.formula_arguments import (
    ARITHMETIC,
    COMPARISONS,
    LOGIC,
    Call,
    bind,
    constant,
    contrasts,
    folded,
    numpy_function,
    refuse,
    refuse_attribute,
    setting,
)
from bayes_moe.data.formula_functions import Argument
from bayes_moe.data.text_settings import TextSettings, TextTerm

MOST_CHARACTERS = 2_000
"""Length of one expression."""

MOST_NODES = 500
"""Nodes of the syntax tree of one expression."""

MOST_DEPTH = 60
"""Depth of the syntax tree of one expression."""

LARGEST_EXPONENT = 100
"""Largest constant exponent."""

_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`]+)`""")


@dataclass(frozen=True)
class Past:
    """A value of rows before, such as ``lag(y, 1)``: its text, and what it is made of.

    ``call`` has the arguments, ``source`` is the text of the first and ``columns`` are its columns.
    """

    text: str
    call: Call
    source: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes
    ----------
    text : str
        The expression in a standard form.
    body : ast.expr
        Its syntax tree.
    quoted : dict of str to str
        Column by the name that stands for it in the tree, for columns in backticks.
    columns : tuple of str
        Columns that it uses.
    called : frozenset of str
        Listed functions and prefixes that it uses.
    own : frozenset of str
        Functions that it calls and that are not listed: the user has to give them.
    patterns : tuple of str
        Patterns whose columns it uses.
    past : tuple of Past
        Values of the rows before that it uses.
    texts : tuple of TextTerm
        The text term that it is, if it is one.
    """

    text: str
    body: ast.expr
    quoted: dict[str, str]
    columns: tuple[str, ...] = ()
    called: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    past: tuple[Past, ...] = ()
    texts: tuple[TextTerm, ...] = ()

    def shown(self, node: ast.expr) -> str:
        """Text of a part of the expression, in the standard form."""
        return _standard(node, self.quoted)


@dataclass
class _Found:
    """Names met on the way through a tree, and the text that errors show."""

    text: str
    quoted: dict[str, str]
    columns: list[str] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    patterns: list[str] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    whole: ast.expr | None = None
    texts: list[TextTerm] = field(default_factory=list)


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> Expression:
    """Checked syntax tree of an expression.

    Raises
    ------
    SpecError
        For anything that is no part of the formula language, and for expressions that are too
        large.
    """
    if len(text) > MOST_CHARACTERS:
        raise SpecError(
            f"A formula term has {len(text)} characters; at most {MOST_CHARACTERS} are read: "
            f"{text[:40]!r}..."
        )
    tree, quoted = _tree(text)
    found = _Found(text, quoted, whole=tree.body)
    _check_size(tree.body, found)
    _check_values(tree.body, found)
    if listed.OFFSET in found.called and not _is_call(tree.body, listed.OFFSET):
        raise SpecError(
            f"The formula term {text!r} has an offset inside: write offset(...) as a term by "
            "itself, with all that is added inside its brackets."
        )
    if listed.COLUMNS in found.called and not _is_call(tree.body, listed.COLUMNS):
        raise SpecError(
            f"The formula term {text!r} has cols() inside: it stands for several columns, and is a "
            "term by itself."
        )
    return Expression(
        _standard(tree, quoted),
        tree.body,
        quoted,
        tuple(dict.fromkeys(found.columns)),
        frozenset(found.called),
        frozenset(found.own),
        tuple(dict.fromkeys(found.patterns)),
        tuple(found.past),
        tuple(found.texts),
    )


# --- parsing -------------------------------------------------------------------------------------


def _tree(text: str) -> tuple[ast.Expression, dict[str, str]]:
    """Syntax tree with names in place of columns in backticks, and these columns by name."""
    prefix = "_quoted"
    while prefix in text:
        prefix += "_"
    quoted: dict[str, str] = {}

    def alias(match: re.Match[str]) -> str:
        column = match.group(2)
        if column is None:
            return match.group(1)
        key = f"{prefix}{len(quoted)}_"
        quoted[key] = column
        return f" {key} "

    bare = _QUOTED.sub(alias, text).strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(bare, mode="eval"), quoted
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is too large or nested"
        hint = " Write C(k)." if re.search(r"\bas\.(factor|character)\b", text) else ""
        raise SpecError(f"Cannot read the formula term {text!r}: {reason}.{hint}") from error


def _is_call(node: ast.expr, name: str) -> bool:
    """Whether an expression is the call of a function, whose arguments do not call it again."""
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    named = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == name]
    return named == [node]


def _standard(tree: ast.AST, quoted: dict[str, str]) -> str:
    """Standard form of an expression, with backticks only where a name needs them."""
    text = ast.unparse(tree).replace("\n", " ")
    for key, column in quoted.items():
        plain = column.isidentifier() and not iskeyword(column)
        text = text.replace(key, column if plain else f"`{column}`")
    return text


def _check_size(body: ast.expr, found: _Found) -> None:
    nodes: list[tuple[ast.AST, int]] = [(body, 1)]
    count = 0
    while nodes:
        node, depth = nodes.pop()
        count += 1
        if count > MOST_NODES or depth > MOST_DEPTH:
            raise SpecError(
                f"The formula term {found.text[:60]!r} is too large: at most {MOST_NODES} parts in "
                f"{MOST_DEPTH} levels are read. Make it a column of the table."
            )
        nodes += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


# --- values --------------------------------------------------------------------------------------


def _check_values(node: ast.expr, found: _Found) -> None:
    """Raise :class:`SpecError` unless a node is an expression of columns and numbers."""
    match node:
        case ast.Name():
            found.columns.append(found.quoted.get(node.id, node.id))
        case ast.Constant():
            if isinstance(node.value, str):
                raise SpecError(
                    f"The formula term {found.text!r} has the text {node.value!r:.60}, which is no "
                    "column and no number. A column whose name needs quotes is written in "
                    "backticks or as Q('...')."
                )
            constant(node, found.text)
        case ast.UnaryOp():
            if isinstance(node.op, ast.Not):
                refuse(node.op, found.text)
            _check_values(node.operand, found)
        case ast.BinOp():
            if type(node.op) not in ARITHMETIC and type(node.op) not in LOGIC:
                refuse(node.op, found.text)
            _check_values(node.left, found)
            _check_values(node.right, found)
            if isinstance(node.op, ast.Pow):
                _check_exponent(node.right, found.text)
        case ast.Compare():
            _check_comparison(node, found)
        case ast.Call():
            _check_call(node, found)
        case ast.Attribute():
            _check_constant_ofnumpy_function(node, found)
        case _:
            refuse(node, found.text)


def _check_comparison(node: ast.Compare, found: _Found) -> None:
    for op in node.ops:
        if type(op) not in COMPARISONS:
            refuse(op, found.text)
    equality = all(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
    for side in (node.left, *node.comparators):
        if not (equality and isinstance(side, ast.Constant) and isinstance(side.value, str)):
            _check_values(side, found)


def _check_call(node: ast.Call, found: _Found) -> None:
    call = bind(node, found.text)
    if call.function is None:
        found.own.add(call.name)
    else:
        found.called.add(call.name)
        if isinstance(node.func, ast.Attribute):
            found.called.add("np")
        if call.function.group == "contrasts":
            raise SpecError(
                f"The formula term {found.text!r} has {call.name!r} outside of C(): write "
                f"C(g, {call.name})."
            )
        if call.function.group == "past":
            _check_past(node, call, found)
            return
        if call.function.group == "text":
            _check_text(node, call, found)
            return
    for argument, value in call.arguments:
        _check_argument(call.name, argument, value, found)
    if call.name in ("power", "pow", "float_power"):
        _check_exponent(call.arguments[1][1], found.text)


def _check_past(node: ast.Call, call: Call, found: _Found) -> None:
    """Note a value of rows before; raise :class:`SpecError` for one that cannot be."""
    inner = _Found(found.text, found.quoted)
    for argument, value in call.arguments:
        if argument.kind == "count":
            _check_back(call.name, value, found)
        _check_argument(call.name, argument, value, inner)
    source = call.arguments[0][1]
    if inner.past:
        raise SpecError(
            f"The formula term {found.text!r} has {inner.past[0].text!r} inside {call.name}(): one "
            "of them looks back. Write lag(x, 2) for a lag of a lag, or make the inner one a "
            "column of the table."
        )
    remembers = {n for n in inner.called if listed.is_stateful(n)}
    if remembers:
        name = min(remembers)
        raise SpecError(
            f"The formula term {found.text!r} has {name}() inside {call.name}(), which takes a "
            f"column or an elementwise expression: write {name}({call.name}(...)) instead."
        )
    if not inner.columns:
        raise SpecError(f"The formula term {found.text!r} has {call.name}() of no column.")
    found.called |= inner.called
    found.own |= inner.own
    text, of = _standard(node, found.quoted), _standard(source, found.quoted)
    found.past.append(Past(text, call, of, tuple(dict.fromkeys(inner.columns))))


def _check_text(node: ast.Call, call: Call, found: _Found) -> None:
    """Note a text term; raise :class:`SpecError` for one that cannot be."""
    if node is not found.whole:
        raise SpecError(
            f"The formula term {found.text!r} has text() inside: it makes several columns, and is "
            "a term by itself, as in 'y ~ x + text(review)'."
        )
    (_, source), *others = call.arguments
    if not isinstance(source, ast.Name):
        raise SpecError(
            f"text() takes the name of a column of texts, in backticks if it is no plain name; it "
            f"has {_standard(source, found.quoted)!r} in the formula term {found.text!r}."
        )
    given = {a.name: setting(call.name, a, value, found.text) for a, value in others}
    name = _standard(node, found.quoted)
    settings = TextSettings.of(given, repr(name))
    found.texts.append(TextTerm(name, found.quoted.get(source.id, source.id), settings))


def _check_back(name: str, node: ast.expr, found: _Found) -> None:
    """Raise :class:`SpecError` for rows that are not before."""
    value = folded(node, found.text)
    if value is not None and value < 1:
        what = "the row itself" if value == 0 else "later rows"
        raise SpecError(
            f"The formula term {found.text!r} would look at {what}: {name}() looks at rows before, "
            "at least 1 back."
        )


def _check_constant_ofnumpy_function(node: ast.Attribute, found: _Found) -> None:
    if isinstance(node.value, ast.Name) and node.value.id == "np" and "np" not in found.quoted:
        if node.attr not in listed.CONSTANTS:
            numpy_function(node.attr)
            raise SpecError(
                f"The formula term {found.text!r} has the function np.{node.attr} without its "
                f"argument: write np.{node.attr}(x)."
            )
        found.called.add("np")
        return
    refuse_attribute(node, found.text)


def _check_exponent(node: ast.expr, text: str) -> None:
    value = folded(node, text)
    if value is not None and abs(value) > LARGEST_EXPONENT:
        raise SpecError(
            f"The formula term {text!r} has the exponent {value:g}; at most {LARGEST_EXPONENT} is "
            "read."
        )


def _check_argument(name: str, argument: Argument, node: ast.expr, found: _Found) -> None:
    """Raise :class:`SpecError` unless a node is a value of an argument."""
    if argument.kind in ("values", "labels", "dates"):
        _check_values(node, found)
    elif argument.kind == "pattern":
        found.patterns.append(str(setting(name, argument, node, found.text)))
    elif argument.kind == "column":
        found.columns.append(str(setting(name, argument, node, found.text)))
    elif argument.kind == "contrasts":
        _check_contrasts(name, node, found)
    else:
        setting(name, argument, node, found.text)


def _check_contrasts(name: str, node: ast.expr, found: _Found) -> None:
    coding = contrasts(node, found.text)
    if isinstance(coding, Call):
        found.called.add("contr" if coding.name.startswith("contr.") else coding.name)
        for argument, value in coding.arguments:
            setting(coding.name, argument, value, found.text)

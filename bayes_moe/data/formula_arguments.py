"""Arguments inside formulas: calls of listed functions, settings, and codings of categories."""

from __future__ import annotations

import ast
import math
import operator
import re
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from bayes_moe.core.errors import SpecError, nearest, unknown
from bayes_moe.data import formula_functions as listed
from bayes_moe.data.formula_functions import Argument, FormulaFunction

_UNITS = "".join(listed.SECONDS)
_PERIOD = re.compile(rf"(?=[^1-9]*[1-9])\d+(\.\d+)?[{_UNITS}]")

LARGEST_NUMBER = 1e300
"""Largest number in a formula."""

ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
"""Operators between numbers."""

LOGIC = {ast.BitAnd: operator.and_, ast.BitOr: operator.or_}
"""Operators between conditions."""

COMPARISONS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_CONDITIONS = "write (x > 0) & (z > 0), (x > 0) | (z > 0), or ~(x > 0)"
REMEDIES = {
    ast.BoolOp: ("`and` or `or`", _CONDITIONS),
    ast.Not: ("`not`", _CONDITIONS),
    ast.BitXor: ("`^`", "a power is written `**`, as in I(x**2)"),
    ast.IfExp: ("`if ... else`", "write where(x > 0, a, b)"),
    ast.Subscript: ("square brackets", "make it a column of the table"),
    ast.Lambda: ("a `lambda`", "give a function of your own by functions={'f': ...}"),
    ast.MatMult: ("`@`", "make it a column of the table"),
    ast.LShift: ("`<<`", "make it a column of the table"),
    ast.RShift: ("`>>`", "make it a column of the table"),
    ast.NamedExpr: ("`:=`", "make it a column of the table"),
    ast.JoinedStr: ("an f-string", "write the text out"),
    ast.Starred: ("a `*` before an argument", "write the arguments out"),
    ast.List: ("a list outside of an argument that takes one", "write numbers and columns"),
    ast.Tuple: ("several values", "write one expression"),
    ast.In: ("`in`", "write (g == 'a') | (g == 'b')"),
    ast.NotIn: ("`not in`", "write (g != 'a') & (g != 'b')"),
    ast.Is: ("`is`", "write =="),
    ast.IsNot: ("`is not`", "write !="),
}
"""Parts of Python that are no part of formulas, in words, and what to write instead."""


@dataclass(frozen=True)
class Call:
    """A call with its arguments in order: those of a listed function by their descriptions."""

    name: str
    function: FormulaFunction | None
    arguments: tuple[tuple[Argument, ast.expr], ...]


def bind(node: ast.Call, text: str) -> Call:
    """Call of a function, with its arguments by name.

    Raises
    ------
    SpecError
        For a function that is out of reach, and for arguments that it does not have.
    """
    name, function = _function(node.func, text)
    for value in node.args:
        if isinstance(value, ast.Starred):
            refuse(value, text)
    for keyword in node.keywords:
        if keyword.arg is None:
            raise SpecError(f"The formula term {text!r} has `**` before an argument.")
    if function is None:
        given = [(Argument("x", "values"), value) for value in node.args]
        given += [(Argument(str(k.arg), "number"), k.value) for k in node.keywords]
        return Call(name, None, tuple(given))
    return Call(name, function, _bound(name, function, node, text))


def constant(node: ast.expr, text: str) -> float:
    """Number that an expression of numbers is.

    Raises
    ------
    SpecError
        If it is no number, or a number too large.
    """
    value = folded(node, text)
    if value is None:
        raise SpecError(f"The formula term {text!r} needs a number where it has {shown(node)!r}.")
    return value


# --- calls ---------------------------------------------------------------------------------------


def _function(node: ast.expr, text: str) -> tuple[str, FormulaFunction | None]:
    """Name of a called function, and its description unless it is the user's."""
    if isinstance(node, ast.Name):
        name = node.id
        function = listed.FUNCTIONS.get(name) or listed.CONTRASTS.get(name)
        if function is None and listed.is_reserved(name):
            raise SpecError(f"{listed.unlisted(name)} (formula term {text!r})")
        return name, function
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "np":
            return node.attr, numpy_function(node.attr)
        if node.value.id == "contr":
            return _coding(f"contr.{node.attr}")
    if isinstance(node, ast.Attribute):
        refuse_attribute(node, text)
    raise SpecError(f"The formula term {text!r} calls {shown(node)!r}, which is no function.")


def numpy_function(name: str) -> FormulaFunction:
    """Listed function of NumPy."""
    function = listed.FUNCTIONS.get(name)
    if function is None or function.group != "element" or name in ("exp10", "pow"):
        valid = [f"np.{n}" for n, f in listed.FUNCTIONS.items() if f.group == "element"]
        raise SpecError(unknown("function in the formula", f"np.{name}", valid))
    return function


def _coding(name: str) -> tuple[str, FormulaFunction]:
    if name not in listed.CONTRASTS:
        raise SpecError(unknown("coding of categories", name, listed.CONTRASTS))
    return name, listed.CONTRASTS[name]


def refuse_attribute(node: ast.Attribute, text: str) -> NoReturn:
    """Raise :class:`SpecError` for a method or attribute, which formulas do not have."""
    root: ast.AST = node
    while isinstance(root, ast.Attribute):
        root = root.value
    if isinstance(root, ast.Name) and root.id == "np":
        elements = [n for n, f in listed.FUNCTIONS.items() if f.group == "element"]
        raise SpecError(
            f"Unknown function in the formula {shown(node)!r}: formulas have no methods and no "
            f"attributes but NumPy's elementwise functions.{nearest(node.attr, elements)} (formula "
            f"term {text!r})"
        )
    raise SpecError(
        f"The formula term {text!r} reaches for {shown(node)!r}: formulas have no methods and no "
        "attributes of columns. Make it a column of the table; use functions that remember the "
        "fitted rows, such as center(x) or scale(x); or put the name of a column in backticks."
    )


def _bound(
    name: str, function: FormulaFunction, node: ast.Call, text: str
) -> tuple[tuple[Argument, ast.expr], ...]:
    """Arguments of a listed function with their nodes."""
    by_position = [a for a in function.arguments if not a.keyword_only]
    extra = [replace(by_position[0], name=f"x{j + 2}") for j in range(function.more)]
    extra = extra[: max(len(node.args) - len(by_position), 0)]
    by_position += extra
    if len(node.args) > len(by_position):
        raise SpecError(
            f"{name!r} takes at most {len(by_position)} argument(s) by position; it has "
            f"{len(node.args)} in the formula term {text!r}."
        )
    given = {a.name: value for a, value in zip(by_position, node.args, strict=False)}
    valid = [a.name for a in function.arguments]
    for keyword in node.keywords:
        if keyword.arg not in valid:
            raise SpecError(f"{unknown(f'argument of {name!r}', keyword.arg, valid)} ({text!r})")
        if keyword.arg in given:
            raise SpecError(f"{name!r} has the argument {keyword.arg!r} twice ({text!r}).")
        given[str(keyword.arg)] = keyword.value
    for argument in function.arguments:
        if argument.required and argument.name not in given:
            raise SpecError(f"{name!r} needs the argument {argument.name!r} ({text!r}).")
    return tuple((a, given[a.name]) for a in (*function.arguments, *extra) if a.name in given)


def setting(name: str, argument: Argument, node: ast.expr, text: str) -> Any:
    """Value of an argument that does not depend on the table.

    Raises
    ------
    SpecError
        If it is not of the argument's kind.
    """
    literal = node.value if isinstance(node, ast.Constant) else ...
    if literal is None and not argument.required:
        return None
    match argument.kind:
        case "number":
            return literal if isinstance(literal, bool) else constant(node, text)
        case "count":
            value = constant(node, text)
            whole = not isinstance(literal, bool) and value == int(value)
            if whole and argument.least <= value <= argument.most:
                return int(value)
            wanted = f"a whole number from {argument.least} to {argument.most}"
        case "flag":
            if isinstance(literal, bool):
                return literal
            wanted = "True or False"
        case "choice":
            if literal in argument.choices:
                return literal
            wanted = " or ".join(map(repr, argument.choices))
        case "pattern":
            if isinstance(literal, str) and literal:
                return literal
            wanted = "a pattern in quotes, such as 'x_*'"
        case "column":
            if isinstance(literal, str) and literal:
                return literal
            wanted = "the name of a column in quotes"
        case "date" | "period":
            given = _of_time(argument.kind, literal, node, text)
            if given is not None:
                return given
            wanted = _OF_TIME[argument.kind]
        case "level" | "literal":
            return _READ[argument.kind](name, argument, node, text)
        case "numbers":
            return [constant(item, text) for item in _items(name, argument, node, text)]
        case _:
            items = _items(name, argument, node, text)
            return [_level(name, argument, item, text) for item in items]
    raise SpecError(
        f"The argument {argument.name!r} of {name!r} must be {wanted}; it is {shown(node)!r} in "
        f"the formula term {text!r}."
    )


_OF_TIME = {
    "date": "a date in quotes, such as '2020-01-31' or '2020-01-31T12:00'",
    "period": "a length of time such as "
    + ", ".join(f"'1{unit}'" for unit in listed.SECONDS)
    + ", or a number above 0 for numeric times",
}
"""What dates and periods must be."""


def _of_time(wanted: str, literal: Any, node: ast.expr, text: str) -> Any:
    """A date, or a period as text or number; None for anything else."""
    if isinstance(literal, str):
        is_one = _is_date(literal) if wanted == "date" else bool(_PERIOD.fullmatch(literal))
        return literal if is_one else None
    number = constant(node, text) if wanted == "period" else 0.0
    return number if number > 0 else None


def _is_date(literal: Any) -> bool:
    """Whether a constant is a date as ISO 8601 writes it."""
    try:
        return isinstance(literal, str) and not np.isnat(np.datetime64(literal, "us"))
    except ValueError:
        return False


def _literal(name: str, argument: Argument, node: ast.expr, text: str) -> Any:
    """Any constant of Python, or a list of them."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise SpecError(
            f"The argument {argument.name!r} of {name!r} must be written out, as a number, a text, "
            f"True, False or a list of them; it is {shown(node)!r} in the formula term {text!r}."
        ) from error


def _items(name: str, argument: Argument, node: ast.expr, text: str) -> list[ast.expr]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise SpecError(
            f"The argument {argument.name!r} of {name!r} must be a list, such as [1, 2]; it is "
            f"{shown(node)!r} in the formula term {text!r}."
        )
    return node.elts


def _level(name: str, argument: Argument, node: ast.expr, text: str) -> Any:
    """A category: text, a truth value, or a number, whole numbers as int."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bool | int):
        return node.value
    value = folded(node, text)
    if value is None:
        raise SpecError(
            f"The argument {argument.name!r} of {name!r} must hold categories, such as 'a' or 1; "
            f"it has {shown(node)!r} in the formula term {text!r}."
        )
    return int(value) if value == int(value) else value


_READ = {"level": _level, "literal": _literal}
"""What reads constants."""


def contrasts(node: ast.expr, text: str) -> Call | dict[Any, list[float]] | list[Any] | None:
    """Coding of categories: a listed one as a call, or weights of the categories.

    Raises
    ------
    SpecError
        For anything else.
    """
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Name | ast.Attribute):
        node = ast.Call(node, [], [])
    if isinstance(node, ast.Call):
        call = bind(node, text)
        if call.function is not None and call.function.group == "contrasts":
            return call
        raise SpecError(unknown("coding of categories", call.name, listed.CONTRASTS))
    rows = Argument("contrasts", "numbers", required=True)
    if isinstance(node, ast.Dict) and all(isinstance(k, ast.Constant) for k in node.keys):
        keys = [_level("C", rows, k, text) for k in node.keys if k is not None]
        return {key: setting("C", rows, v, text) for key, v in zip(keys, node.values, strict=True)}
    return [setting("C", rows, item, text) for item in _items("C", rows, node, text)]


# --- numbers and words ---------------------------------------------------------------------------


def folded(node: ast.expr, text: str) -> float | None:
    """Value of an expression of numbers; None for one of columns or functions."""
    value: float | None = None
    try:
        match node:
            case ast.Constant(value=bool() | int() | float() as number):
                value = float(number)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                inner = folded(node.operand, text)
                value = inner if inner is None or isinstance(node.op, ast.UAdd) else -inner
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                left, right = folded(node.left, text), folded(node.right, text)
                if left is not None and right is not None:
                    value = ARITHMETIC[type(node.op)](left, right)
            case ast.Attribute(value=ast.Name(id="np"), attr="pi" | "e" as attr):
                value = math.pi if attr == "pi" else math.e
            case ast.Constant():
                _refuse_constant(node, text)
    except (OverflowError, ZeroDivisionError) as error:
        raise SpecError(
            f"The formula term {text!r} has {shown(node)!r}, which is no finite number."
        ) from error
    if isinstance(value, complex) or (value is not None and not abs(value) <= LARGEST_NUMBER):
        raise SpecError(f"The formula term {text!r} has a number beyond {LARGEST_NUMBER:g}.")
    return value


def _refuse_constant(node: ast.Constant, text: str) -> NoReturn:
    raise SpecError(
        f"The formula term {text!r} has {node.value!r:.60}, which is no number that formulas know."
    )


def refuse(node: ast.AST, text: str) -> NoReturn:
    """Raise :class:`SpecError` for a part of Python that is no part of formulas."""
    what, remedy = REMEDIES.get(
        type(node),
        (f"a {type(node).__name__} of Python", "make it a column of the table"),
    )
    raise SpecError(
        f"The formula term {text!r} has {what}, which is no part of formulas: {remedy}."
    )


def shown(node: ast.AST) -> str:
    """Text of a part of an expression, for errors."""
    return ast.unparse(node)[:60]

"""Expressions of numbers: recorded from a formula, differentiated, and written as source text.

A formula is a Python function of numbers that uses operators and the functions of
:mod:`bayes_moe.families.functions`. Called with symbols it returns an :class:`Expression`, whose
derivatives are expressions too. Equal expressions of a :class:`Recorder` are one object, so that
values, first and second derivatives share what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

VARIADIC = ("logsumexp",)
"""Functions of any number of arguments; in a source text, the number is part of the name."""

NOTHING: Mapping[str, tuple[str, int]] = MappingProxyType({})

Slope = Callable[["Recorder", Sequence["Expression"], "Expression"], Sequence[Any]]
"""Derivatives of a function by its arguments, from the arguments and its value."""


class Expression:
    """A number, a symbol, or an operation on expressions; made by a :class:`Recorder` only."""

    __slots__ = ("arguments", "kind", "recorder", "value")

    def __init__(
        self, recorder: Recorder, kind: str, value: Any, arguments: tuple[Expression, ...]
    ) -> None:
        self.recorder, self.kind, self.value, self.arguments = recorder, kind, value, arguments

    def __add__(self, other: Any) -> Expression:
        return self.recorder.add(self, self.recorder.of(other))

    def __radd__(self, other: Any) -> Expression:
        return self.recorder.add(self.recorder.of(other), self)

    def __sub__(self, other: Any) -> Expression:
        return self.recorder.add(self, -self.recorder.of(other))

    def __rsub__(self, other: Any) -> Expression:
        return self.recorder.add(self.recorder.of(other), -self)

    def __mul__(self, other: Any) -> Expression:
        return self.recorder.multiply(self, self.recorder.of(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Expression:
        return self.recorder.divide(self, self.recorder.of(other))

    def __rtruediv__(self, other: Any) -> Expression:
        return self.recorder.divide(self.recorder.of(other), self)

    def __neg__(self) -> Expression:
        return self.recorder.scaled(-1.0, self)

    def __lt__(self, other: Any) -> Expression:
        return self.recorder.compare("<", self, other)

    def __gt__(self, other: Any) -> Expression:
        return self.recorder.compare(">", self, other)

    def __le__(self, other: Any) -> Expression:
        return self.recorder.compare("<=", self, other)

    def __ge__(self, other: Any) -> Expression:
        return self.recorder.compare(">=", self, other)

    def __bool__(self) -> bool:
        raise TypeError("A formula of a family has no branches: use m.where(condition, a, b).")


class Recorder:
    """Maker of expressions, which holds each only once.

    Parameters
    ----------
    slopes : mapping of str to callable
        By name of a function: its derivatives, None where none are known; the functions are
        methods of the recorder.
    """

    def __init__(self, slopes: Mapping[str, Slope | None]) -> None:
        self._slopes = slopes
        self._made: dict[tuple[Any, ...], Expression] = {}
        self._derivatives: dict[tuple[int, int], Expression] = {}

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        if name.startswith("_") or name not in self._slopes:
            raise AttributeError(f"Formulas of families have no function {name!r}.")
        return lambda *arguments: self.make("call", name, tuple(self.of(a) for a in arguments))

    def make(self, kind: str, value: Any, arguments: tuple[Expression, ...]) -> Expression:
        """The one expression of an operation."""
        key = (kind, value, *map(id, arguments))
        if key not in self._made:
            self._made[key] = Expression(self, kind, value, arguments)
        return self._made[key]

    def of(self, value: Any) -> Expression:
        """Expression of a number; an expression itself."""
        if isinstance(value, Expression):
            return value
        return self.make("number", float(value), ())

    def symbol(self, name: str) -> Expression:
        """The expression of a name."""
        return self.make("symbol", name, ())

    def scaled(self, factor: float, x: Expression) -> Expression:
        """A number times an expression."""
        if x.kind == "number":
            return self.of(factor * x.value)
        if x.kind == "scaled":
            return self.scaled(factor * x.value, x.arguments[0])
        if factor == 0.0:
            return self.of(0.0)
        return x if factor == 1.0 else self.make("scaled", factor, (x,))

    def add(self, x: Expression, y: Expression) -> Expression:
        """Sum, with equal summands of ``x`` and ``y`` collected."""
        if x.kind == y.kind == "number":
            return self.of(x.value + y.value)
        if x.kind == "number":
            x, y = y, x
        if y.kind == "number" and y.value == 0.0:
            return x
        terms = [*(x.arguments if x.kind == "sum" else (x,))]
        factor, core = _split(y)
        for j, term in enumerate(terms):
            own, own_core = _split(term)
            if own_core is core or (own_core.kind == core.kind == "number"):
                number = core.kind == "number"
                terms[j] = self.of(own + factor) if number else self.scaled(own + factor, core)
                kept = [t for t in terms if not (t.kind == "number" and t.value == 0.0)]
                return self._sum(kept)
        return self._sum([*terms, y])

    def _sum(self, terms: Sequence[Expression]) -> Expression:
        if not terms:
            return self.of(0.0)
        return terms[0] if len(terms) == 1 else self.make("sum", None, tuple(terms))

    def multiply(self, x: Expression, y: Expression) -> Expression:
        """Product, its number in front."""
        a, x = _split(x)
        b, y = _split(y)
        if x.kind == "number":
            return self.scaled(a * b, y) if y.kind != "number" else self.of(a * b)
        if y.kind == "number":
            return self.scaled(a * b, x)
        first, second = (x, y) if id(x) <= id(y) else (y, x)
        found = self._made.get(("product", None, id(first), id(second)))
        if found is None:
            found = self.make("product", None, (x, y))
            self._made["product", None, id(first), id(second)] = found
        return self.scaled(a * b, found)

    def divide(self, x: Expression, y: Expression) -> Expression:
        """Quotient, its number in front."""
        a, x = _split(x)
        b, y = _split(y)
        if y.kind == "number":
            return self.scaled(a / b, x) if x.kind != "number" else self.of(a / b)
        if x is y:
            return self.of(a / b)
        if x.kind == "number":
            x = self.of(1.0)
        return self.scaled(a / b, self.make("quotient", None, (x, y)))

    def compare(self, sign: str, x: Any, y: Any) -> Expression:
        """Condition for :meth:`where`."""
        return self.make("compare", sign, (self.of(x), self.of(y)))

    def where(self, condition: Expression, x: Any, y: Any) -> Expression:
        """``x`` where a condition holds, else ``y``; both are evaluated."""
        x, y = self.of(x), self.of(y)
        return x if x is y else self.make("where", None, (condition, x, y))

    def derivative(self, x: Expression, symbol: Expression) -> Expression:
        """Derivative of an expression by a symbol."""
        key = id(x), id(symbol)
        if key not in self._derivatives:
            self._derivatives[key] = self._derivative(x, symbol)
        return self._derivatives[key]

    def _derivative(self, x: Expression, symbol: Expression) -> Expression:
        if x.kind in ("number", "symbol"):
            return self.of(1.0 if x is symbol else 0.0)
        if x.kind == "where":
            condition, yes, no = x.arguments
            return self.where(condition, self.derivative(yes, symbol), self.derivative(no, symbol))
        inner = [self.derivative(a, symbol) for a in x.arguments]
        if x.kind == "scaled":
            return self.scaled(x.value, inner[0])
        if x.kind == "sum":
            total = inner[0]
            for term in inner[1:]:
                total = total + term
            return total
        if x.kind == "product":
            a, b = x.arguments
            return inner[0] * b + a * inner[1]
        if x.kind == "quotient":
            a, b = x.arguments
            over = inner[0] / b
            return over if _is_zero(inner[1]) else over - x * (inner[1] / b)
        if all(_is_zero(d) for d in inner):
            return self.of(0.0)
        total = self.of(0.0)
        slope = self._slopes[x.value]
        if slope is None:
            raise TypeError(f"The table of functions has no derivative of {x.value!r}.")
        for own, d in zip(slope(self, x.arguments, x), inner, strict=True):
            total = total + self.of(own) * d
        return total


def called(name: str, count: int) -> str:
    """Name in a source text of a function with so many arguments."""
    return f"{name}_{count}" if name in VARIADIC else name


def _split(x: Expression) -> tuple[float, Expression]:
    """Number in front of an expression, and the rest; a number is in front of itself."""
    if x.kind == "scaled":
        return x.value, x.arguments[0]
    return (x.value, x) if x.kind == "number" else (1.0, x)


def _is_zero(x: Expression) -> bool:
    return x.kind == "number" and x.value == 0.0


def source(
    name: str,
    arguments: Sequence[str],
    results: Sequence[Expression],
    where: str,
    together: Mapping[str, tuple[str, int]] = NOTHING,
) -> str:
    """Source of a function that returns the values of expressions as a tuple.

    ``where`` is the form of a choice, such as ``"where({}, {}, {})"``. Functions of ``together``
    are values, at a place, of one that returns several.
    """
    uses: dict[int, int] = {}
    ordered: list[Expression] = []

    def visit(x: Expression) -> None:
        uses[id(x)] = uses.get(id(x), 0) + 1
        if uses[id(x)] == 1:
            for a in x.arguments:
                visit(a)
            ordered.append(x)

    for x in results:
        visit(x)
    texts: dict[int, str] = {}
    lines: list[str] = []
    several: dict[str, str] = {}
    for x in ordered:
        text = _text(x, texts, where)
        if x.kind == "call" and x.value in together:
            common, place = together[x.value]
            call = f"{common}({', '.join(texts[id(a)] for a in x.arguments)})"
            if call not in several:
                several[call] = f"w{len(several)}"
                lines.append(f"    {several[call]} = {call}")
            text = f"{several[call]}[{place}]"
        if uses[id(x)] > 1 and x.kind not in ("number", "symbol"):
            lines.append(f"    v{len(lines)} = {text}")
            text = f"v{len(lines) - 1}"
        texts[id(x)] = text
    values = ", ".join(texts[id(x)] for x in results)
    return "\n".join([f"def {name}({', '.join(arguments)}):", *lines, f"    return ({values},)\n"])


def _text(x: Expression, texts: Mapping[int, str], where: str) -> str:
    """Source of an expression from those of its arguments."""
    inner = [texts[id(a)] for a in x.arguments]
    if x.kind == "number":
        return f"({x.value!r})" if x.value < 0 else repr(x.value)
    if x.kind == "symbol":
        return str(x.value)
    if x.kind == "scaled":
        return f"(-{inner[0]})" if x.value == -1.0 else f"({x.value!r} * {inner[0]})"
    if x.kind == "sum":
        total = inner[0]
        for a, text in zip(x.arguments[1:], inner[1:], strict=True):
            minus = a.kind == "scaled" and a.value == -1.0 and text.startswith("(-")
            total += f" - {text[2:-1]}" if minus else f" + {text}"
        return f"({total})"
    if x.kind == "call":
        return f"{called(x.value, len(inner))}({', '.join(inner)})"
    if x.kind == "compare":
        return f"({inner[0]} {x.value} {inner[1]})"
    if x.kind == "where":
        return where.format(*inner)
    return f"({inner[0]} {'*' if x.kind == 'product' else '/'} {inner[1]})"

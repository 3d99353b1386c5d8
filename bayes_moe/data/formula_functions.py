"""The functions of the formula language: a literal table of names, arguments and bounds.

A formula calls nothing that is not listed here, but for functions that a user hands in.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.text_settings import SETTINGS

Functions = Mapping[str, Callable[..., Any]]
"""Functions of the user by the names under which formulas call them."""

ONE_ARGUMENT = (
    "abs", "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "cbrt",
    "ceil", "cos", "cosh", "deg2rad", "degrees", "exp", "exp2", "expm1", "fabs", "floor", "log",
    "log10", "log1p", "log2", "negative", "rad2deg", "radians", "reciprocal", "rint", "sign",
    "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
)  # fmt: skip
"""Elementwise functions of NumPy with one argument."""

TWO_ARGUMENTS = (
    "add", "arctan2", "copysign", "divide", "equal", "float_power", "floor_divide", "fmax",
    "fmin", "fmod", "greater", "greater_equal", "heaviside", "hypot", "less", "less_equal",
    "logaddexp", "logaddexp2", "logical_and", "logical_or", "logical_xor", "maximum", "minimum",
    "mod", "multiply", "not_equal", "power", "remainder", "subtract",
)  # fmt: skip
"""Elementwise functions of NumPy with two arguments."""

ELEMENTS_BY_OTHER_NAME = {"pow": "power"}
"""NumPy's names of elementwise functions, where they differ."""

CONSTANTS = ("e", "pi")
"""Numbers of NumPy that formulas know, with the prefix ``np.``."""

MOST_COLUMNS = 1000
"""Largest number of columns that an argument of a function may ask for."""

MOST_DEGREE = 25
"""Largest degree of polynomials and splines."""

OFFSET = "offset"
"""The function whose values are added to a predictor, without a coefficient."""

MOST_BACK = 100_000
"""Largest number of rows that a term looks back."""

SUMMARIES = ("mean", "sd", "min", "max", "sum")
"""What ``rolling`` makes of the rows before."""

TEXT = "text"
"""The function that makes features of texts."""

COLUMNS = "cols"
"""The function that stands for all columns whose names match a pattern."""

SECONDS = {"Y": 31556952, "W": 604800, "D": 86400, "h": 3600, "m": 60, "s": 1}
"""Units of time in seconds: years of 365.2425 days, weeks, days, hours, minutes, seconds."""

CALENDAR = {
    "year": "year", "quarter": "quarter", "month": "month", "monthday": "day",
    "yearday": "day_of_year", "weekday": "day_of_week", "hour": "hour", "minute": "minute",
}  # fmt: skip
"""Functions of dates that give a whole number, with the names that pandas has for them."""

MODULES = ("np", "contr")
"""Prefixes of listed functions."""


class MissingFunctionError(SpecError):
    """Formulas call a function that is neither listed nor given by the user."""


@dataclass(frozen=True)
class Argument:
    """One argument of a listed function.

    ``kind`` is ``"values"`` (an expression of columns), ``"labels"`` (one whose whole numbers stay
    labels), ``"dates"`` (a column of dates), ``"date"`` (one in quotes), ``"period"`` (a length of
    time in quotes, or a number), ``"pattern"``, ``"number"``, ``"numbers"``, ``"count"``,
    ``"flag"``, ``"choice"``, ``"level"``, ``"levels"``, ``"contrasts"``, ``"column"`` or
    ``"literal"`` (any constant of Python); ``least`` and ``most`` bound a count, and ``choices``
    are the valid strings.
    """

    name: str
    kind: str = "number"
    required: bool = False
    most: int = MOST_COLUMNS
    choices: tuple[str, ...] = ()
    keyword_only: bool = False
    least: int = 0


@dataclass(frozen=True)
class FormulaFunction:
    """A listed function: its group in the documentation, and its arguments.

    ``group`` is ``"element"``, ``"fitted"`` (remembers the fitted rows), ``"categories"``,
    ``"contrasts"``, ``"names"``, ``"dates"``, ``"past"`` (of the rows before in a series),
    ``"text"``, ``"columns"`` or ``"offset"``. With ``more``, up to so many further arguments by
    position are like the first.
    """

    group: str
    arguments: tuple[Argument, ...]
    more: int = 0


def _x(kind: str = "values", name: str = "x") -> Argument:
    return Argument(name, kind, required=True)


_KNOTS = (Argument("df", "count"), Argument("knots", "numbers"))
_BOUNDS = (Argument("lower_bound"), Argument("upper_bound"))
_EXTRAPOLATION = ("raise", "clip", "na", "zero", "extend")
_BASE = Argument("base", "level")
_CUBIC = (
    _x(),
    *_KNOTS,
    *_BOUNDS,
    Argument("constraints", "choice", choices=("center",)),
    Argument("extrapolation", "choice", choices=_EXTRAPOLATION, keyword_only=True),
)
_BACK = Argument("k", "count", most=MOST_BACK, least=1)
_HELMERT = (Argument("reverse", "flag"), Argument("scale", "flag"))


def _elements() -> dict[str, FormulaFunction]:
    """Elementwise functions by name."""
    first, second = _x(name="x1"), _x(name="x2")
    arguments: dict[str, tuple[Argument, ...]] = {}
    arguments |= {name: (_x(),) for name in [*ONE_ARGUMENT, "exp10", "logical_not"]}
    arguments |= {name: (first, second) for name in [*TWO_ARGUMENTS, "pow"]}
    arguments |= {
        "clip": (_x(), _x(name="a_min"), _x(name="a_max")),
        "digitize": (_x(), Argument("bins", "numbers", required=True), Argument("right", "flag")),
        "interp": (
            _x(),
            Argument("xp", "numbers", required=True),
            Argument("fp", "numbers", required=True),
        ),
        "round": (_x(), Argument("decimals", "count", most=15)),
        "where": (_x(name="condition"), _x(), _x(name="y")),
    }
    return {name: FormulaFunction("element", a) for name, a in sorted(arguments.items())}


FUNCTIONS: Mapping[str, FormulaFunction] = MappingProxyType(
    _elements()
    | {
        "center": FormulaFunction("fitted", (_x(),)),
        "scale": FormulaFunction(
            "fitted", (_x(), Argument("center"), Argument("scale"), Argument("ddof"))
        ),
        "standardize": FormulaFunction(
            "fitted",
            (_x(), Argument("center"), Argument("rescale"), Argument("ddof")),
        ),
        "poly": FormulaFunction(
            "fitted", (_x(), Argument("degree", "count", most=MOST_DEGREE), Argument("raw", "flag"))
        ),
        "bs": FormulaFunction(
            "fitted",
            (
                _x(),
                *_KNOTS,
                Argument("degree", "count", most=MOST_DEGREE),
                Argument("include_intercept", "flag"),
                *_BOUNDS,
                Argument("extrapolation", "choice", choices=_EXTRAPOLATION),
            ),
        ),
        "cr": FormulaFunction("fitted", _CUBIC),
        "cs": FormulaFunction("fitted", _CUBIC),
        "cc": FormulaFunction("fitted", _CUBIC),
        "C": FormulaFunction(
            "categories",
            (
                _x("labels"),
                Argument("contrasts", "contrasts"),
                Argument("levels", "levels", keyword_only=True),
                Argument("spans_intercept", "flag", keyword_only=True),
            ),
        ),
        "time": FormulaFunction(
            "dates",
            (
                _x("dates"),
                Argument("unit", "choice", choices=tuple(SECONDS)),
                Argument("origin", "date"),
            ),
        ),
        "trend": FormulaFunction(
            "dates", (_x("dates"), Argument("unit", "choice", choices=tuple(SECONDS)))
        ),
        "season": FormulaFunction(
            "dates",
            (
                _x("dates"),
                Argument("period", "period", required=True),
                Argument("order", "count", most=MOST_COLUMNS // 2, least=1),
            ),
        ),
        **{name: FormulaFunction("dates", (_x("dates"),)) for name in CALENDAR},
        "lag": FormulaFunction("past", (_x(), _BACK)),
        "diff": FormulaFunction("past", (_x(), _BACK)),
        "rolling": FormulaFunction(
            "past",
            (
                _x(),
                Argument("n", "count", required=True, most=MOST_BACK, least=1),
                Argument("how", "choice", choices=SUMMARIES),
            ),
        ),
        TEXT: FormulaFunction(
            "text", (_x("labels"), *(Argument(name, "literal") for name in SETTINGS))
        ),
        COLUMNS: FormulaFunction("columns", (_x("pattern", "pattern"),)),
        OFFSET: FormulaFunction("offset", (_x(),), more=MOST_COLUMNS - 1),
        "I": FormulaFunction("names", (_x(),)),
        "Q": FormulaFunction("names", (_x("column", "name"),)),
    }
)
"""Functions of formulas by name."""

NAMED_AS_COLUMNS = frozenset(n for n, f in FUNCTIONS.items() if f.group in ("dates", "text"))
"""Functions whose names columns may have: a call differs from a column by its brackets."""

CONTRASTS: Mapping[str, FormulaFunction] = MappingProxyType(
    {
        name: FormulaFunction("contrasts", arguments)
        for name, arguments in {
            "contr.treatment": (_BASE,),
            "contr.SAS": (_BASE,),
            "contr.sum": (),
            "contr.helmert": _HELMERT,
            "contr.diff": (Argument("backward", "flag"),),
            "contr.poly": (Argument("scores", "numbers"),),
            "Treatment": (Argument("reference", "level"),),
            "Sum": (),
            "Helmert": _HELMERT,
            "Diff": (Argument("backward", "flag"),),
            "Poly": (Argument("scores", "numbers"),),
        }.items()
    }
)
"""Codings of categories, for the second argument of ``C``."""

_SMOOTH = "write cr(x, df=4) or bs(x, df=4), or give the parameter predictor='spline'"
_EFFECTS = "write random effects of groups as (1 | g) or (1 + x | g)"

ELSEWHERE = {
    "factor": "write C(k)",
    "as_factor": "write C(k)",
    "ns": "natural cubic splines are cr(x, df=3) or cs(x, df=3), B-splines bs(x, df=4)",
    "rcs": "natural cubic splines are cr(x, df=3) or cs(x, df=3)",
    "s": _SMOOTH,
    "te": _SMOOTH,
    "ti": _SMOOTH,
    "t2": _SMOOTH,
    "gp": "give the parameter predictor='hsgp'",
    "hsgp": "give the parameter predictor='hsgp'",
    "mo": "write C(k, contr.diff) for steps between ordered categories",
    "ordered": "make it an ordered categorical column",
    "shift": "write lag(x, 1)",
    "lead": "it would look at later rows; lag(x, 1) looks at earlier ones",
    "hashed": "make it a column of the table",
    "cbind": "the response is the successes, and the number of trials is given as trials='n'",
    "Surv": "write censored(time, status=s), with s = 1 where the time went on",
    "ifelse": "write where(x > 0, a, b)",
    "pmin": "write minimum(a, b)",
    "pmax": "write maximum(a, b)",
    "ln": "write log(x)",
    "logit": "write log(x / (1 - x))",
    "inv_logit": "write 1 / (1 + exp(-x)) inside I()",
    "expit": "write 1 / (1 + exp(-x)) inside I()",
    "cut": "make it a column of the table, or write C(digitize(x, [0, 1]))",
    "relevel": "write C(g, contr.treatment('b'))",
    "re": _EFFECTS,
}
"""What to write for functions of other packages."""


def is_stateful(name: str) -> bool:
    """Whether a listed function is more than elementwise."""
    return name in FUNCTIONS and FUNCTIONS[name].group not in ("element", "names")


def listed_names() -> list[str]:
    """Names of all listed functions, without the prefix ``np.``."""
    return [*FUNCTIONS, *CONTRASTS]


def is_reserved(name: str) -> bool:
    """Whether a name belongs to a listed function, a prefix, a builtin, or to Python itself."""
    return (
        name in FUNCTIONS
        or name in CONTRASTS
        or name in MODULES
        or name.startswith("_")
        or hasattr(builtins, name)
    )


def unlisted(name: str) -> str:
    """Message on a function that is not listed: the nearest one, or what to write instead."""
    hint = ELSEWHERE.get(name)
    if hint is not None:
        return f"Unknown function in the formula {name!r}: {hint}."
    return unknown("function in the formula", name, listed_names())


def check_functions(functions: Any) -> dict[str, Any]:
    """The user's functions by name, checked.

    Raises
    ------
    SpecError
        Unless names are identifiers that hide nothing, and values can be called.
    """
    if functions is None:
        return {}
    if not isinstance(functions, Mapping):
        raise SpecError(
            f"`functions` must map names to functions, as in {{'hinge': f}}; it is {functions!r}."
        )
    for name, function in functions.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise SpecError(f"A name in `functions` must be an identifier; it is {name!r}.")
        if is_reserved(name):
            raise SpecError(
                f"`functions` has {name!r}, which formulas or Python know already (or which begins "
                "with an underscore): give your function another name."
            )
        if not callable(function):
            raise SpecError(
                f"`functions` must map {name!r} to a function of arrays; it is {function!r}."
            )
    return dict(functions)


def check_known(names: Any, functions: Mapping[str, Any]) -> None:
    """Raise :class:`MissingFunctionError` for a function that formulas call and nobody gave."""
    for name in sorted(set(names) - set(functions)):
        raise MissingFunctionError(
            f"{unlisted(name)} A function of your own is given by functions={{{name!r}: ...}}; it "
            "is never stored."
        )

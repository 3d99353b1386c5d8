"""Responses that are censored or truncated: which calls a left-hand side may have, and their rows.

``censored(y, status)``, ``censored(y, lower=l, upper=u)`` and ``censored(lower=l, upper=u)`` are
responses of which some are known by a limit or between two; ``truncated(y, lower=a, upper=b)`` are
those of rows that were only recorded because the response is between limits. The values of such
rows are an array (number, obs): the ends of the interval that the response is known to be in, which
are equal where it was observed, and of a truncated one also the limits between which a row was
recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed

if TYPE_CHECKING:
    import pandas as pd

CENSORED, TRUNCATED = "censored", "truncated"
CALL = re.compile(rf"\s*({CENSORED}|{TRUNCATED})\s*\((.*)\)\s*", re.DOTALL)
KEYWORD = re.compile(r"\s*(\w+)\s*=(?!=)\s*(.*)", re.DOTALL)
CODES = {"none": 0.0, "observed": 0.0, "right": 1.0, "left": -1.0}
"""Codes of the words of a status."""
STATUSES = (
    "'none' (or 0, False) where the response was observed, 'right' (or 1, True) where it is at "
    "least the value, 'left' (or -1) where it is at most the value"
)
INTERVAL, BOUNDED = 2, 4
"""Numbers of a row of a censored response, and of a truncated one."""

Ends = Callable[[str | float | None, float], np.ndarray]


@dataclass(frozen=True)
class Limits:
    """What is known of the responses of rows, as the left-hand side of a formula states it.

    Attributes
    ----------
    value, status : str or None
        The response, and the column that says where it was observed.
    lower, upper : str or None
        The ends of an interval in place of a response; None for an open end.
    left, right : str, float or None
        Limits at which a response is censored: it is recorded as at most, or at least, these.
    bottom, top : str, float or None
        Limits between which rows were recorded.
    undecided : bool
        Whether ``value`` and ``status`` may be the ends of an interval; see :meth:`decided`.
    """

    response: str
    value: str | None = None
    status: str | None = None
    lower: str | None = None
    upper: str | None = None
    left: str | float | None = None
    right: str | float | None = None
    bottom: str | float | None = None
    top: str | float | None = None
    undecided: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Terms of the formula whose columns are read, each once."""
        every = (self.value, self.status, *self.bounds)
        return tuple(dict.fromkeys(part for part in every if isinstance(part, str)))

    @property
    def bounds(self) -> tuple[str, ...]:
        """Those terms that may be missing or infinite, for an open end."""
        every = (self.lower, self.upper, self.left, self.right, self.bottom, self.top)
        return tuple(dict.fromkeys(part for part in every if isinstance(part, str)))

    @property
    def shown(self) -> str:
        """The variable itself, as a text: its term, or the call for an interval."""
        return self.value if self.value and not self.undecided else self.response

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numbers of a row."""
        return ("lower", "upper", "from", "to") if self.truncated else ("lower", "upper")

    @property
    def truncated(self) -> bool:
        """Whether rows were only recorded between limits."""
        return self.bottom is not None or self.top is not None

    @property
    def intervals(self) -> bool:
        """Whether a response may be known to be between two finite numbers."""
        censored = self.status is not None or self.has_limits
        return self.undecided or self.value is None or (self.truncated and censored)

    @property
    def has_limits(self) -> bool:
        """Whether the limits at which responses are censored are stated."""
        return self.left is not None or self.right is not None

    def decided(self, columns: pd.DataFrame) -> Limits:
        """The same, with two arguments without names told apart by the values of the second.

        Words, booleans, and numbers of which all are -1, 0 or 1 are a status; any other numbers are
        upper ends, as are expressions.

        Raises
        ------
        DataError
            For numbers that could be both.
        """
        if not self.undecided:
            return self
        status = _column(self.status)
        as_interval = replace(
            self, undecided=False, value=None, status=None, lower=self.value, upper=self.status
        )
        if status not in columns:
            return as_interval
        series = columns[status]
        if _is_text(series) or series.dtype.kind == "b":
            return replace(self, undecided=False)
        numbers = series.to_numpy(dtype=float, na_value=np.nan)
        if not np.isin(numbers, (-1.0, 0.0, 1.0)).all():
            return as_interval
        value = _column(self.value)
        if value in columns and columns[value].dtype.kind in "iuf":
            ends = columns[value].to_numpy(dtype=float, na_value=np.nan)
            if not (ends > numbers).any():
                raise DataError(
                    f"{self.response!r}: {status!r} holds only -1, 0 and 1, none below "
                    f"{value!r}, so it could be a status or an upper end. Write "
                    f"{CENSORED}({self.value}, status={self.status}) or "
                    f"{CENSORED}(lower={self.value}, upper={self.status})."
                )
        return replace(self, undecided=False)

    def coded(self, columns: pd.DataFrame, obs_id: np.ndarray) -> pd.DataFrame:
        """Columns with the codes -1, 0 and 1 in place of a status; ``obs_id`` names the rows."""
        name = _column(self.status)
        if self.status is None or name not in columns:
            return columns
        series = columns[name]
        if _is_text(series):
            words = series.astype(str).str.strip().str.lower()
            found = words.map(CODES).to_numpy(dtype=float)
        else:
            found = series.to_numpy(dtype=float)
        wrong = np.flatnonzero(~np.isin(found, (-1.0, 0.0, 1.0)))
        if wrong.size:
            raise DataError(
                f"The status {name!r} of {self.response!r} is {series.iloc[wrong[0]]!r} at row "
                f"{obs_id[wrong[0]]} ({wrong.size} row(s)); it must be {STATUSES}."
            )
        return columns.assign(**{name: found})

    def rows(
        self, values: np.ndarray, open_ends: Mapping[str, np.ndarray], obs_id: np.ndarray
    ) -> np.ndarray:
        """What is known of rows (number, obs), from the values (obs, part) of the parts.

        ``open_ends`` are masks (obs,) of bounds that are not there, by term.

        Raises
        ------
        DataError
            For a lower end above the upper one, and rows that could not have been recorded.
        """
        end = self.ends(values, open_ends)
        lower, upper = self.interval(end)
        self.check(lower > upper, obs_id, "has a lower end above the upper one", lower, upper)
        if not self.truncated:
            return np.stack([lower, upper])
        bottom, top = end(self.bottom, -np.inf), end(self.top, np.inf)
        self.check(bottom >= top, obs_id, "has no room between the limits", bottom, top)
        exact = lower == upper
        outside = (np.minimum(upper, top) < np.maximum(lower, bottom)) | (
            ~exact & (np.minimum(upper, top) <= np.maximum(lower, bottom))
        )
        self.check(outside, obs_id, "is outside the limits of the truncation", lower, upper)
        return np.stack([lower, upper, bottom, top])

    def ends(self, values: np.ndarray, open_ends: Mapping[str, np.ndarray]) -> Ends:
        """Function of a part, or a number, and what stands for a limit that is not there."""
        by_part = dict(zip(self.parts, values.T, strict=True))

        def end(part: str | float | None, infinite: float) -> np.ndarray:
            if not isinstance(part, str):
                return np.full(len(values), infinite if part is None else part)
            return np.where(open_ends.get(part, False), infinite, by_part[part])

        return end

    def interval(self, end: Ends) -> tuple[np.ndarray, np.ndarray]:
        """Ends (obs,) of the intervals that responses are known to be in."""
        if self.value is None:
            return end(self.lower, -np.inf), end(self.upper, np.inf)
        value = end(self.value, np.nan)
        if not self.has_limits:
            code = np.zeros(len(value)) if self.status is None else end(self.status, 0.0)
            return np.where(code < 0, -np.inf, value), np.where(code > 0, np.inf, value)
        left, right = end(self.left, -np.inf), end(self.right, np.inf)
        lower = np.where(value <= left, -np.inf, np.minimum(value, right))
        upper = np.where(value >= right, np.inf, np.maximum(value, left))
        return lower, upper

    def check(
        self, wrong: np.ndarray, obs_id: np.ndarray, what: str, low: np.ndarray, high: np.ndarray
    ) -> None:
        """Raise :class:`DataError` for rows that are wrong, with their ends (obs,)."""
        at = np.flatnonzero(wrong)
        if at.size:
            i = at[0]
            ends = f"{low[i]:g}" if low[i] == high[i] else f"from {low[i]:g} to {high[i]:g}"
            raise DataError(
                f"The response {self.response!r} of row {obs_id[i]} {what}: {ends} "
                f"({at.size} row(s)). Mend or remove them."
            )


@lru_cache(maxsize=256)
def limits_of(response: str) -> Limits | None:
    """What a left-hand side says of censoring and truncation; None without either.

    Raises
    ------
    SpecError
        For arguments that a call does not have, or too few.
    """
    found = CALL.fullmatch(response)
    if found is None:
        return None
    if found.group(1) == CENSORED:
        return _checked(_censored(response, found.group(2)))
    names = ("y", "lower", "upper")
    given = _given(response, found.group(2), names, (None, "lower", "upper"))
    if "y" not in given or len(given) < 2:
        raise SpecError(
            f"{response!r} needs a response and a limit, such as truncated(y, lower=0)."
        )
    inner = CALL.fullmatch(given["y"])
    if inner is not None and inner.group(1) == TRUNCATED:
        raise SpecError(f"{response!r} truncates twice: give both limits to one truncated().")
    if inner is None:
        limits = Limits(response, value=given["y"])
    else:
        limits = replace(_censored(given["y"], inner.group(2)), response=response)
    ends = (_number_or_term(given.get(name)) for name in ("lower", "upper"))
    bottom, top = ends
    return _checked(replace(limits, bottom=bottom, top=top))


def plain_values(rows: np.ndarray) -> np.ndarray:
    """One number (obs,) for what is known of rows (number, obs).

    It is the response where that was observed, the finite end of an interval with one, and the
    middle of one with both; of an interval without, what the limits of the truncation give.
    """
    lower, upper = rows[:2]
    finite = np.isfinite(lower), np.isfinite(upper)
    with np.errstate(invalid="ignore"):
        middle = lower + 0.5 * (upper - lower)
    value = np.where(finite[0], np.where(finite[1], middle, lower), upper)
    neither = ~finite[0] & ~finite[1]
    if neither.any():
        value = np.where(neither, plain_values(rows[2:]) if len(rows) > INTERVAL else 0.0, value)
    return np.where(np.isfinite(value), value, 0.0)


def is_observed(rows: np.ndarray) -> np.ndarray:
    """Whether the response of each row (obs,) was observed, and is not only known to be between."""
    observed: np.ndarray = rows[0] == rows[1]
    return observed


def limits_in(response: str, columns: pd.DataFrame) -> Limits | None:
    """What a left-hand side says of a table: see :func:`limits_of` and :meth:`Limits.decided`."""
    limits = limits_of(response)
    return None if limits is None else limits.decided(columns)


def arguments(text: str) -> list[str]:
    """Arguments of a call: the text between commas outside of brackets and quotes."""
    bare = re.sub(r"`[^`]*`|\"[^\"]*\"|'[^']*'", lambda quoted: "_" * len(quoted.group()), text)
    depth, start, parts = 0, 0, []
    for at, character in enumerate(bare):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _censored(response: str, text: str) -> Limits:
    """What a call of ``censored`` says."""
    given = _given(response, text, ("y", "status", "lower", "upper"), (None, "status"))
    if {*given} <= {"lower", "upper"} and given:
        return Limits(response, lower=given.get("lower"), upper=given.get("upper"))
    if {*given} <= {"y", "lower", "upper"} and "y" in given and len(given) > 1:
        left, right = (_number_or_term(given.get(name)) for name in ("lower", "upper"))
        return Limits(response, value=given["y"], left=left, right=right)
    if {*given} != {"y", "status"}:
        raise SpecError(
            f"{response!r} must have a response and its status, {CENSORED}(y, status), or its "
            f"limits, {CENSORED}(y, lower=0), or the ends of intervals, "
            f"{CENSORED}(lower=l, upper=u)."
        )
    named = any(KEYWORD.fullmatch(part) for part in arguments(text))
    return Limits(response, value=given["y"], status=given["status"], undecided=not named)


def _checked(limits: Limits) -> Limits:
    """Limits whose terms are columns, or functions of columns."""
    from bayes_moe.data.formula_parser import is_one_factor

    for part in limits.parts:
        if not is_one_factor(part):
            raise SpecError(
                f"{part.strip()!r} in {limits.response.strip()!r} is no column or function of "
                "columns, such as log(y) or I(y - 1)."
            )
    if limits.status is not None and not limits.undecided and not _is_name(limits.status):
        raise SpecError(f"The status in {limits.response!r} must be a column.")
    return limits


def _given(
    response: str, text: str, names: tuple[str, ...], by_position: tuple[str | None, ...]
) -> dict[str, str]:
    """Arguments of a call by name; ``by_position`` are the names of those without."""
    given: dict[str, str] = {}
    for j, part in enumerate(arguments(text)):
        keyword = KEYWORD.fullmatch(part)
        name, value = (keyword.group(1), keyword.group(2)) if keyword else ("", part)
        if not keyword and j < len(by_position):
            name = by_position[j] or "y"
        if name not in names or name in given or not value.strip():
            raise SpecError(
                f"{response!r} has an argument {part.strip()!r} that it cannot have: the arguments "
                f"are {listed(names)}."
            )
        given[name] = value.strip()
    return given


def _number_or_term(text: str | None) -> str | float | None:
    """A limit: a number, a term of a formula, or None."""
    if text is None or text == "None":
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return None if np.isinf(number) or np.isnan(number) else number


def _is_name(term: str) -> bool:
    return term.isidentifier() or (term.startswith("`") and term.endswith("`"))


def _column(term: str | None) -> str:
    """Name of the column of a term that is one."""
    return (term or "").strip("`")


def _is_text(series: Any) -> bool:
    """Whether a column holds words or categories."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        return not pd.api.types.is_numeric_dtype(series.dtype.categories.dtype)
    return bool(pd.api.types.is_string_dtype(series.dtype)) and series.dtype.kind != "b"

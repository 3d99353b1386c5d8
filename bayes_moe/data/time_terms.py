"""Terms of the rows before in a series: ``lag(y, 1)``, ``diff(y)`` and ``rolling(y, 7)``.

They are columns of the table, named by their text, and are made before formulas are evaluated. All
of them look at rows before, never at the row itself, so that each may be of the response.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formula_arguments import setting
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.formula_language import Past
from bayes_moe.data.formulas import expressions
from bayes_moe.data.sequences import Sequences
from bayes_moe.data.tables import kind

if TYPE_CHECKING:
    import pandas as pd

MOST_CELLS = 4_000_000
"""Numbers of windows that are handled at once."""


@dataclass(frozen=True)
class TimeTerm:
    """A value of the rows before in a series.

    Attributes
    ----------
    name : str
        Its text in formulas, which is the name of its column.
    source : str
        The column or expression whose values it reads.
    columns : tuple of str
        Columns of the source.
    function : str
        ``"lag"``, ``"diff"`` or ``"rolling"``.
    back : int
        Rows back of a lag, rows between the two of a difference, rows of a rolling summary.
    how : str
        What a rolling summary is: ``"mean"``, ``"sd"``, ``"min"``, ``"max"`` or ``"sum"``.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    function: str
    back: int
    how: str = "mean"

    @property
    def reach(self) -> int:
        """Number of rows before that are needed."""
        return self.back + (self.function == "diff")

    @property
    def words(self) -> str:
        """What it is, in words: ``"mean of x in the 3 rows before, without the row itself"``."""
        before = f"{self.back} rows before" if self.back > 1 else "row before"
        match self.function:
            case "lag":
                where = f"{self.back} rows back" if self.back > 1 else "of the row before"
                return f"{self.source} {where}"
            case "diff":
                return (
                    f"change of {self.source} in the {self.back} step(s) up to the row before, "
                    "without the row itself"
                )
        return f"{self.how} of {self.source} in the {before}, without the row itself"

    def of(self, window: np.ndarray) -> np.ndarray:
        """Value (...) of a row, from source values (rows, ...) of it and of the rows before.

        ``window`` has at least ``reach + 1`` rows, the oldest first and the row itself last, which
        is not read.
        """
        before = window[:-1]
        if self.function == "lag":
            return np.asarray(before[-self.back])
        if self.function == "diff":
            return np.asarray(before[-1] - before[-1 - self.back])
        rows = before[-self.back :]
        match self.how:
            case "mean":
                return np.asarray(rows.mean(axis=0))
            case "sd":
                return np.asarray(rows.std(axis=0, ddof=1))
            case "min":
                return np.asarray(rows.min(axis=0))
            case "max":
                return np.asarray(rows.max(axis=0))
        return np.asarray(rows.sum(axis=0))

    def along(self, source: np.ndarray) -> np.ndarray:
        """Values (row,) of consecutive rows of one series, NaN in the first ``reach`` ones."""
        values = np.full(len(source), np.nan)
        step = max(MOST_CELLS // (self.reach + 1), 1)
        for start in range(self.reach, len(source), step):
            stop = min(start + step, len(source))
            windows = sliding_window_view(source[start - self.reach : stop], self.reach + 1)
            values[start:stop] = self.of(windows.T)
        return values


def time_terms(formulas: Iterable[str], available: Iterable[str] = ()) -> tuple[TimeTerm, ...]:
    """Terms of the rows before in formulas, without those whose columns are ``available``.

    Raises
    ------
    SpecError
        For a standard deviation of one row.
    """
    known = {*available}
    found = {p.text: p for f in formulas for e in expressions(f) for p in e.past}
    return tuple(_term(past) for text, past in found.items() if text not in known)


def check_time_terms(formulas: Sequence[str], rows: Iterable[str], time: str | None) -> None:
    """Raise :class:`SpecError` for terms of the rows before where there can be none.

    ``formulas`` are those of a model, that of the response first; ``rows`` are formulas of what
    else is known of rows, such as weights, and ``time`` the column of times.
    """
    for what, formula in [("response", formulas[0]), *(("weight", text) for text in rows)]:
        for term in time_terms([formula]):
            raise SpecError(
                f"The {what} cannot have {term.name!r} in it, which is of the rows before: make it "
                "a column of the table."
            )
    terms = time_terms(formulas)
    if terms and time is None:
        term = terms[0]
        raise SpecError(
            f"{term.name!r} is of the rows before: say which column orders the rows, as in "
            "time='date', and series='id' if the table has several series."
        )


def derived(
    table: pd.DataFrame,
    terms: Sequence[TimeTerm],
    sequences: Sequences,
    functions: Functions | None,
) -> pd.DataFrame:
    """Columns (row, term) of terms on a table whose rows are those of series in order of time.

    Raises
    ------
    DataError
        For a source that is no column of numbers.
    """
    import pandas as pd

    order = np.arange(len(table)) if sequences.order is None else sequences.order
    columns = {}
    for term in terms:
        source = source_values(table, term, functions)
        values = np.empty(len(table))
        for start, end in zip(sequences.starts, sequences.ends, strict=True):
            rows = order[start:end]
            values[rows] = term.along(source[rows])
        columns[term.name] = values
    return pd.DataFrame(columns, index=table.index)


def source_values(table: pd.DataFrame, term: TimeTerm, functions: Functions | None) -> np.ndarray:
    """Values (row,) of a term's source, NaN where a column of it is missing.

    Raises
    ------
    DataError
        For a source that is no column of numbers.
    """
    import pandas as pd

    from bayes_moe.data.formula_values import expression_values

    known = {name: numbers_of(table[name], (term,)) for name in term.columns}
    numbers = pd.DataFrame(known, index=table.index)
    with np.errstate(all="ignore"):
        return expression_values(numbers, term.source, functions or {})


def numbers_of(column: pd.Series, terms: Sequence[TimeTerm]) -> np.ndarray:
    """Numbers (row,) of a column that terms look back at, NaN where missing.

    Raises
    ------
    DataError
        For a column of anything else.
    """
    plain = column.infer_objects()
    if kind(plain) != "numbers" and not plain.isna().all():
        name = next(t.name for t in terms if column.name in t.columns)
        raise DataError(
            f"{name!r} needs a column of numbers; {column.name!r} holds {kind(plain)}, such as "
            f"{plain.dropna().iloc[0]!r}: make a column of numbers from it."
        )
    return np.asarray(plain.to_numpy(dtype=float, na_value=np.nan))


def _term(past: Past) -> TimeTerm:
    """Term of a call."""
    given = {a.name: node for a, node in past.call.arguments}
    name = past.call.name
    described = {a.name: a for a, _ in past.call.arguments}
    back, how = 1, "mean"
    for key in ("k", "n"):
        if key in given:
            back = int(setting(name, described[key], given[key], past.text))
    if "how" in given:
        how = str(setting(name, described["how"], given["how"], past.text))
    if how == "sd" and back < 2:
        raise SpecError(f"{past.text!r} would be a standard deviation of one row: give n >= 2.")
    return TimeTerm(past.text, past.source, past.columns, name, back, how)

"""Timeline: rows of series in the order of time, with what lags of later rows read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.sequences import Sequences, times_of
from bayes_moe.data.tables import plain
from bayes_moe.data.time_steps import Step, gap_in, series_steps
from bayes_moe.data.time_terms import TimeTerm, derived, numbers_of

if TYPE_CHECKING:
    import pandas as pd

    from bayes_moe.data.observation import RowColumns


@dataclass(frozen=True, eq=False)
class Timeline:
    """Rows of a table as series in time.

    Attributes
    ----------
    columns : RowColumns
        Names of the columns of times and of series.
    table : pandas.DataFrame
        Times, series and the sources of lags of all rows, those without lags included.
    times : array (row,)
        Times as numbers, of dates the seconds since 1970.
    codes : array (row,)
        Numbers of series.
    labels : tuple
        Labels of series by number; of one series without a label it is None.
    """

    columns: RowColumns
    table: pd.DataFrame
    times: np.ndarray
    codes: np.ndarray
    labels: tuple[Any, ...]

    @classmethod
    def of(
        cls, table: pd.DataFrame, columns: RowColumns, terms: Sequence[TimeTerm]
    ) -> Timeline | None:
        """Timeline of all rows of a table; None for a model without times.

        Raises
        ------
        DataError
            For missing times or series, and unless times increase within each series.
        """
        if columns.time is None:
            return None
        positions = np.arange(len(table))
        times, codes = times_of(table, columns.time, columns.series, positions)
        labels: tuple[Any, ...] = (None,)
        if columns.series is not None:
            labels = tuple(table[columns.series].drop_duplicates().tolist())
        sources = [c for t in terms for c in t.columns]
        named = [c for c in (columns.time, columns.series) if c is not None]
        others = {c: numbers_of(table[c], terms) for c in sources if c not in named}
        kept = plain(table[list(dict.fromkeys(named))].reset_index(drop=True)).assign(**others)
        return cls(columns, kept, times, codes, labels)

    @property
    def named(self) -> list[str]:
        """Columns of times and of series."""
        return [c for c in (self.columns.time, self.columns.series) if c is not None]

    @cached_property
    def sequences(self) -> Sequences:
        """Which rows follow one another."""
        return Sequences.of(self.codes, len(self.codes))

    @cached_property
    def steps(self) -> tuple[Step | None, ...]:
        """Regular step of the times of each series; None where they are irregular."""
        return series_steps(self.table[self.columns.time], self.sequences)

    @property
    def step(self) -> Step | None:
        """Regular step that all series have; None if there is no such step."""
        steps = {*self.steps}
        return steps.pop() if len(steps) == 1 else None

    @property
    def order(self) -> np.ndarray:
        """Positions (row,) of the rows one series after the other."""
        order = self.sequences.order
        return np.arange(len(self.codes)) if order is None else order

    def check_regular(self, what: str) -> None:
        """Raise :class:`DataError` where a series has no regular step, which ``what`` needs."""
        sequences, column = self.sequences, self.table[self.columns.time]
        for j, step in enumerate(self.steps):
            start, end = sequences.starts[j], sequences.ends[j]
            if step is None and end - start > 1:
                rows = self.order[start:end]
                at, usual = gap_in(column.iloc[rows])
                a, b = rows[at - 1], rows[at]
                where = f"{self.columns.time!r}{self.of_series(j)}"
                raise DataError(
                    f"{what} needs times in regular steps: in {where} the step is mostly {usual}, "
                    f"but {column.iloc[b]} at row {b} comes after {column.iloc[a]} at row {a}. Add "
                    "the rows that are left out, or give as `time` a column that counts the rows, "
                    "if these follow one another all the same."
                )

    def of_series(self, j: int) -> str:
        """Words that name a series in errors; none where there is only one."""
        return "" if self.columns.series is None else f" of series {self.labels[j]!r}"

    def derived(self, terms: Sequence[TimeTerm], functions: Functions | None) -> pd.DataFrame:
        """Columns (row, term) of terms; DataError for irregular times."""
        if terms:
            self.check_regular(f"{terms[0].name!r}")
        return derived(self.table, terms, self.sequences, functions)

    def without_past(self, terms: Sequence[TimeTerm]) -> np.ndarray:
        """Mask (row,) of the first rows of series, which have too few rows before.

        Raises
        ------
        DataError
            For a series that has no other rows.
        """
        lost = np.zeros(len(self.codes), dtype=bool)
        if not terms:
            return lost
        far = max(terms, key=lambda t: t.reach)
        starts, ends = self.sequences.starts, self.sequences.ends
        short = np.flatnonzero(ends - starts <= far.reach)
        if short.size:
            j = int(short[0])
            more = f" (so do {len(short) - 1} other series)" if len(short) > 1 else ""
            raise DataError(
                f"{far.name!r} needs {far.reach} row(s) before a row; the "
                f"{'table' if self.columns.series is None else f'series {self.labels[j]!r}'} has "
                f"only {ends[j] - starts[j]} row(s){more}. Leave it out, or look less far back."
            )
        for start in starts:
            lost[self.order[start : start + far.reach]] = True
        return lost

    def lost_by_series(self, lost: np.ndarray) -> Mapping[Any, int]:
        """Numbers of rows marked in a mask (row,), by the labels of their series."""
        counts = np.bincount(self.codes[lost], minlength=len(self.labels))
        return {label: int(n) for label, n in zip(self.labels, counts, strict=True) if n}

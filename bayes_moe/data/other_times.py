"""Other rows in time: the values of rows before that they read, in their table or a fitted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, listed
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.sequences import Sequences, time_values
from bayes_moe.data.tables import kind
from bayes_moe.data.time_steps import Step, gap_in, series_steps
from bayes_moe.data.time_terms import TimeTerm, derived, numbers_of
from bayes_moe.data.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class OtherTimes:
    """Rows of another table in time.

    ``times`` (row,) are numbers as those of the fitted rows, ``codes`` (row,) numbers of series:
    those of the fitted ones, and new ones for new series. ``labels`` are these by number.
    """

    table: pd.DataFrame
    fitted: Timeline
    times: np.ndarray
    codes: np.ndarray
    labels: tuple[Any, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, fitted: Timeline) -> OtherTimes:
        """Rows of a table that has the columns of times and series.

        Raises
        ------
        DataError
            For missing times or series, and times of another type than the fitted ones.
        """
        time, series = fitted.columns.time, fitted.columns.series
        assert time is not None
        old, new = fitted.table[time], table[time]
        if kind(old) != kind(new):
            raise DataError(
                f"The times {time!r} hold {kind(new)} here, but {kind(old)} in the fitted rows."
            )
        zones = [getattr(c.dtype, "tz", None) is None for c in (old, new)]
        if zones[0] != zones[1]:
            raise DataError(
                f"The dates of {time!r} have {'no' if zones[1] else 'a'} time zone here, unlike "
                "those of the fitted rows: give both one, or neither."
            )
        times, _ = time_values(table, time, series, np.arange(len(table)))
        number = {label: j for j, label in enumerate(fitted.labels)}
        codes = np.zeros(len(table), dtype=np.int64)
        if series is not None:
            found = [number.setdefault(label, len(number)) for label in table[series].tolist()]
            codes = np.array(found, dtype=np.int64)
        return cls(table, fitted, times, codes, tuple(number))

    def derived(self, terms: Sequence[TimeTerm], functions: Functions | None) -> pd.DataFrame:
        """Columns (row, term) of terms, whose rows before are in this table or in the fitted one.

        A value of this table counts before that of a fitted row of the same time.

        Raises
        ------
        DataError
            For rows without enough rows before, gaps before them, and values that are missing.
        """
        united = _United.of(self, terms)
        united.check(terms)
        found = derived(united.values, terms, united.sequences, functions)
        united.check_found(found, terms)
        return found.iloc[united.at].set_axis(self.table.index, axis=0)

    @property
    def increasing(self) -> bool:
        """Whether times increase within each series."""
        return Sequences.of(self.codes, len(self.codes)).increasing(self.times)

    def check_steps(self) -> None:
        """Raise :class:`DataError` where a row is not one step after the row before it.

        The row before is one of this table, and of the first of a series a fitted one, if any.
        """
        united = _United.of(self, ())
        order = np.argsort(united.at, kind="stable")
        at = united.at[order]
        broken = united.broken()[at]
        broken[1:] |= (np.diff(at) != 1) & (np.diff(self.codes[order]) == 0)
        if broken.any():
            k = int(np.argmax(broken))
            again = k > 0 and self.codes[order[k]] == self.codes[order[k - 1]]
            before = united.column.iloc[at[k - 1] if again else at[k] - 1]
            raise DataError(
                f"A model with memory reads all rows of a series: row {order[k]} "
                f"({united.moment(order[k])}) comes after {before}, which is not one step. Add the "
                "rows between them, or give the row as one of a new series."
            )

    def named(self, code: int) -> str:
        """Words that name a series in errors; none where there is only one."""
        return "" if self.fitted.columns.series is None else f" of series {self.labels[code]!r}"


@dataclass(frozen=True, eq=False)
class _United:
    """Rows of another table and the fitted rows of its series, one for each time of a series.

    ``at`` (row of the other table,) are positions among them, and ``values`` their sources.
    ``unclear`` marks those of which the other table has several with different values.
    """

    rows: OtherTimes
    at: np.ndarray
    codes: np.ndarray
    column: pd.Series
    values: pd.DataFrame
    unclear: np.ndarray

    @classmethod
    def of(cls, rows: OtherTimes, terms: Sequence[TimeTerm]) -> _United:
        import pandas as pd

        fitted, time = rows.fitted, rows.fitted.columns.time
        old = np.flatnonzero(np.isin(fitted.codes, rows.codes))
        codes = np.concatenate([fitted.codes[old], rows.codes])
        times = np.concatenate([fitted.times[old], rows.times])
        order = np.lexsort((times, codes))
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(codes[order]) != 0) | (np.diff(times[order]) != 0)
        unit = np.empty(len(order), dtype=np.int64)
        unit[order] = np.cumsum(first) - 1
        at, unclear = unit[len(old) :], np.zeros(first.sum(), dtype=bool)
        values = {}
        for name in dict.fromkeys(c for t in terms for c in t.columns):
            merged = np.full(len(unclear), np.nan)
            merged[unit[: len(old)]] = numbers_of(fitted.table[name], terms)[old]
            if name in rows.table:
                own = numbers_of(rows.table[name], terms)
                there = np.flatnonzero(~np.isnan(own))[::-1]
                merged[at[there]] = own[there]
                np.logical_or.at(unclear, at[there], merged[at[there]] != own[there])
            values[name] = merged
        one = order[first]
        moments = [fitted.table[time].iloc[old], rows.table[time]]
        if kind(moments[0]) == "dates":
            kept = moments[0].dtype
            moments = [m.astype(kept) for m in moments]
        column = pd.concat(moments, ignore_index=True).iloc[one].reset_index(drop=True)
        return cls(rows, at, codes[one], column, pd.DataFrame(values), unclear)

    @property
    def sequences(self) -> Sequences:
        return Sequences.of(self.codes, len(self.codes))

    def check(self, terms: Sequence[TimeTerm]) -> None:
        """Raise :class:`DataError` for rows with too few rows before, or a gap before them."""
        far = max(terms, key=lambda t: t.reach)
        starts = self.sequences.starts[np.searchsorted(np.unique(self.codes), self.codes)]
        have = (np.arange(len(self.codes)) - starts)[self.at]
        short = np.flatnonzero(have < far.reach)
        if short.size:
            row = int(short[0])
            raise DataError(
                f"{far.name!r} needs {far.reach} row(s) before a row; there are {have[row]} before "
                f"row {row} ({self.moment(row)}), in the table and the fitted rows together. "
                f"{short.size} row(s) have too few: {listed(short)}. Leave them out: the rows "
                "before are found in the fitted rows where these have them, and must be in the "
                "table of a new series."
            )
        broken = np.cumsum(self.broken())
        gaps = broken[self.at] - broken[self.at - far.reach]
        if gaps.any():
            row = int(np.argmax(gaps > 0))
            rows = np.flatnonzero(self.codes == self.codes[self.at[row]])
            bad = np.flatnonzero(np.diff(broken[: self.at[row] + 1]))[-1]
            raise DataError(
                f"{far.name!r} at row {row} needs the {far.reach} time(s) before "
                f"{self.moment(row)} in regular steps{self._step_text(rows)}: "
                f"{self.column.iloc[bad + 1]} comes after {self.column.iloc[bad]}. Add the rows "
                "that are left out."
            )

    def moment(self, row: int) -> str:
        """Words that name the time of a row of the other table, and its series."""
        return f"{self.column.iloc[self.at[row]]}{self.rows.named(self.codes[self.at[row]])}"

    def _step_text(self, rows: np.ndarray) -> str:
        step = self._steps()[int(np.searchsorted(np.unique(self.codes), self.codes[rows[0]]))]
        return f" of {gap_in(self.column.iloc[rows])[1] if step is None else step}"

    def _steps(self) -> list[Step | None]:
        """Step of each series: that of its fitted rows, or that of its own."""
        known = self.rows.fitted.steps
        own = series_steps(self.column, self.sequences)
        return [
            known[c] if c < len(known) and known[c] is not None else own[j]
            for j, c in enumerate(np.unique(self.codes))
        ]

    def broken(self) -> np.ndarray:
        """Whether a row (row,) is not one step after the one before."""
        steps = self._steps()
        number = np.searchsorted(np.unique(self.codes), self.codes)
        broken = np.zeros(len(self.codes), dtype=bool)
        for step in {*steps}:
            rows = np.flatnonzero(np.isin(number, [j for j, s in enumerate(steps) if s == step]))
            if step is None:
                broken[rows] = True
                continue
            broken[rows[1:]] = step.breaks(self.column.iloc[rows])
        broken[self.sequences.starts] = False
        return broken

    def check_found(self, found: pd.DataFrame, terms: Sequence[TimeTerm]) -> None:
        """Raise :class:`DataError` for rows whose rows before lack a value, or have several."""
        unclear = np.cumsum([0, *self.unclear])
        for term in terms:
            several = unclear[self.at] - unclear[self.at - term.reach] > 0
            if several.any():
                row = int(np.argmax(several))
                raise DataError(
                    f"{term.name!r} at row {row} ({self.column.iloc[self.at[row]]}) reads rows of "
                    "one time with different values of its columns. Give one of them at a time, or "
                    f"the column {term.name!r} itself."
                )
            absent = np.isnan(found[term.name].to_numpy()[self.at])
            if absent.any():
                row = int(np.argmax(absent))
                window = slice(self.at[row] - term.reach, self.at[row])
                gaps = self.values[list(term.columns)].iloc[window].isna().any(axis=1).to_numpy()
                when = self.column.iloc[window].iloc[int(np.argmax(gaps))]
                raise DataError(
                    f"{term.name!r} at row {row} needs {term.source!r} at {when}"
                    f"{self.rows.named(self.codes[self.at[row]])}, which neither the table nor "
                    f"the fitted rows have ({absent.sum()} row(s) lack such a value). Of times to "
                    "come, bm.forecast() draws the responses that are not known."
                )

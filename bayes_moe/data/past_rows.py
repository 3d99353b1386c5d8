"""Rows of a table in time, with the terms of formulas that look back along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, listed, unknown
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.observation import RowColumns
from bayes_moe.data.other_times import OtherTimes
from bayes_moe.data.sequences import with_moments
from bayes_moe.data.time_terms import TimeTerm, time_terms
from bayes_moe.data.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class PastRows:
    """What a model reads of the rows before.

    Attributes
    ----------
    timeline : Timeline or None
        All rows of the table in time; None for a model without times.
    terms : tuple of TimeTerm
        Terms of formulas that look back.
    lost : mapping
        Numbers of first rows that are left out, since they have too few rows before, by series.
    """

    timeline: Timeline | None = None
    terms: tuple[TimeTerm, ...] = ()
    lost: Mapping[Any, int] = field(default_factory=dict)

    def applied(
        self, table: pd.DataFrame, functions: Functions | None
    ) -> tuple[pd.DataFrame, np.ndarray, PastRows]:
        """Table with the columns of terms, a mask (row,) of the rows that have none, and these."""
        new = [t for t in self.terms if t.name not in table]
        if self.timeline is None or not new:
            return table, np.zeros(len(table), dtype=bool), self
        lost = self.timeline.without_past(new)
        counted = replace(self, lost=self.timeline.lost_by_series(lost))
        return table.assign(**self.timeline.derived(new, functions)), lost, counted

    def placed(
        self, table: pd.DataFrame, functions: Functions | None
    ) -> tuple[pd.DataFrame, OtherTimes | None]:
        """Another table with the columns of terms, and its rows in time if it has times.

        Raises
        ------
        DataError
            See :meth:`OtherTimes.derived`; also for a table without the columns of times.
        """
        line = self.timeline
        if line is None:
            return table, None
        table = with_moments(table, line.columns.time)
        new = [t for t in self.terms if t.name not in table]
        absent = [c for c in line.named if c not in table]
        if absent:
            if not new:
                return table, None
            raise DataError(
                f"{unknown('column', absent[0], table.columns)} {new[0].name!r} needs it, to find "
                f"the rows before; or give the column {new[0].name!r} itself."
            )
        rows = OtherTimes.of(table, line)
        if new and len(table):
            table = table.assign(**rows.derived(new, functions))
        elif new:  # no rows
            table = table.assign(**{t.name: np.empty(0) for t in new})
        if line.columns.memory and rows.increasing:
            rows.check_steps()
        return table, rows

    def check_kept(self, kept: np.ndarray) -> None:
        """Raise :class:`DataError` where a model with memory lacks rows between others.

        ``kept`` (row,) marks the rows that are fitted.
        """
        line = self.timeline
        if line is None or not line.columns.memory:
            return
        line.check_regular("A model with memory")
        for start, end in zip(line.sequences.starts, line.sequences.ends, strict=True):
            rows = line.order[start:end]
            there = np.flatnonzero(kept[rows])
            gaps = np.flatnonzero(np.diff(there) > 1)
            if gaps.size:
                gone = rows[there[gaps[0]] + 1 : there[gaps[0] + 1]]
                raise DataError(
                    f"A model with memory reads all rows of a series: row(s) {listed(gone)}"
                    f"{line.of_series(int(line.codes[gone[0]]))} are between others and are left "
                    "out, for missing values or weights of zero. Fill these, or give the rows "
                    "after them as another series."
                )

    def observed(self, kept: np.ndarray) -> dict[str, np.ndarray | None]:
        """Times and numbers of series (obs,) of the kept rows, as fields of an observation."""
        line = self.timeline
        if line is None:
            return {}
        return {"time": line.times[kept], "series": line.codes[kept]}


NO_PAST = PastRows()
"""A table without times."""


def past_rows(table: pd.DataFrame, columns: RowColumns, formulas: Sequence[str]) -> PastRows:
    """Rows of a table in time, and the terms of formulas that look back.

    Raises
    ------
    DataError
        See :meth:`Timeline.of`.
    """
    terms = time_terms(formulas)
    new = [t for t in terms if t.name not in table]
    return PastRows(Timeline.of(table, columns, new), terms)

"""Rows of a table in time, with the terms of formulas that look back along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.observation import RowColumns
from bayes_moe.data.other_times import OtherTimes
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
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Table with the columns of terms, and a mask (row,) of the rows that have none."""
        lost = np.zeros(len(table), dtype=bool)
        new = [t for t in self.terms if t.name not in table]
        if self.timeline is None or not new:
            return table, lost
        lost = self.timeline.without_past(new)
        self.lost.update(self.timeline.lost_by_series(lost))  # type: ignore[attr-defined]
        return table.assign(**self.timeline.derived(new, functions)), lost

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
        elif new:
            table = table.assign(**{t.name: np.empty(0) for t in new})
        return table, rows

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
    SpecError
        For terms that look back in a model without times.
    DataError
        See :meth:`Timeline.of`.
    """
    terms = time_terms(formulas)
    if terms and columns.time is None:
        raise SpecError(
            f"{terms[0].name!r} looks at rows before: say which column orders the rows, as in "
            "time='date', and series='id' if the table has several series."
        )
    new = [t for t in terms if t.name not in table]
    return PastRows(Timeline.of(table, columns, new), terms)

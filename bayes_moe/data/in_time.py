"""What a design knows of time: terms that look back, the step, and the rows lost to lags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.data.observation import RowColumns
from bayes_moe.data.other_times import OtherTimes
from bayes_moe.data.past_rows import PastRows
from bayes_moe.data.time_steps import Step
from bayes_moe.data.time_terms import TimeTerm
from bayes_moe.data.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd


class InTime:
    """Rows in time, of a design that has ``past``."""

    past: PastRows
    rows: Rows

    @property
    def time_terms(self) -> tuple[TimeTerm, ...]:
        """Terms that look at rows before, such as ``lag(y, 1)``."""
        return self.past.terms

    @property
    def step(self) -> Step | None:
        """Regular step of time that all series have; None if there is none."""
        line = self.past.timeline
        return None if line is None else line.step

    @property
    def n_lost(self) -> int:
        """First rows of series that are left out, since they have too few rows before."""
        return sum(self.past.lost.values())

    def with_past(self, table: pd.DataFrame, lost: Sequence[int], columns: RowColumns) -> Self:
        """The same rows among all rows of a table in time, of which some are lost, by series."""
        line = Timeline.of(table, columns, self.past.terms)
        assert line is not None
        seen = self.rows.observation
        if columns.series is not None:
            number = {label: j for j, label in enumerate(line.labels)}
            codes = [number[label] for label in self.rows.columns[columns.series].tolist()]
            seen = replace(seen, series=np.array(codes, dtype=np.int64))
        counts = {label: n for label, n in zip(line.labels, lost, strict=True) if n}
        past = replace(self.past, timeline=line, lost=counts)
        rows = replace(self.rows, observation=seen).in_time()
        return replace(self, past=past, rows=rows)  # type: ignore[type-var]

    def continued(self, rows: Rows, others: OtherTimes | None) -> Rows:
        """Other rows with their places in time, and with the fitted rows before them."""
        if others is None:
            return rows
        seen = replace(rows.observation, time=others.times, series=others.codes)
        line = self.past.timeline
        if line is None or not line.columns.memory:
            return replace(rows, observation=seen).in_time()
        fitted = self.rows.observation
        assert fitted.time is not None
        assert fitted.series is not None
        first = np.full(max(others.codes.max(initial=0), fitted.series.max()) + 1, -np.inf)
        reached = np.full(len(first), np.inf)
        np.minimum.at(reached, others.codes, others.times)
        first = np.where(np.isfinite(reached), reached, -np.inf)
        earlier = np.flatnonzero(fitted.time < first[fitted.series])
        before = self.rows.pick(earlier).in_time() if earlier.size else None
        return replace(rows, observation=seen).in_time(before)

"""Rows after the last ones of a fit's series: their times, features, and what is not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import DataError, SpecError, listed, unknown
from bayes_moe.data.formulas import used_columns
from bayes_moe.data.group_terms import group_columns
from bayes_moe.data.matrix import Rows
from bayes_moe.data.tables import to_pandas
from bayes_moe.data.time_terms import TimeTerm, source_values
from bayes_moe.data.timeline import Timeline
from bayes_moe.model.allocation import with_groups
from bayes_moe.model.allocation_checks import check_shared_rows
from bayes_moe.prediction.given_future import given_future
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd

STEPS = 48
"""Default number of steps."""


@dataclass(frozen=True, eq=False)
class FutureRows:
    """The next rows of some series, one series after the other, equally many of each.

    Attributes
    ----------
    rows : Rows
        The rows, without responses.
    table : pandas.DataFrame
        Their columns, with those of terms that look back.
    series : tuple
        Labels of the series; None for the one of a model without a column of series.
    codes : tuple of int
        Numbers of the series in the fitted table.
    times : array (series, step)
        Dates or numbers.
    feedback : tuple of TimeTerm
        Terms that read responses which are not known yet.
    """

    rows: Rows
    table: pd.DataFrame
    series: tuple[Any, ...]
    codes: tuple[int, ...]
    times: np.ndarray
    feedback: tuple[TimeTerm, ...]

    @property
    def steps(self) -> int:
        """Number of rows of each series."""
        return int(self.times.shape[1])

    @property
    def by_step(self) -> np.ndarray:
        """Positions (step, series) of the rows."""
        return np.arange(self.times.size).reshape(self.times.shape).T


def timeline_of(fit: Fit) -> Timeline:
    """All rows of a fit in time.

    Raises
    ------
    SpecError
        For a model without ``time=``.
    """
    timeline = fit.design.past.timeline
    if timeline is None:
        raise SpecError(
            "A forecast needs a model whose rows have times: describe it with time='date', and "
            "series='id' if the table has several series."
        )
    return timeline


def future_rows(fit: Fit, steps: int | None, data: Any, series: Any, unseen: str) -> FutureRows:
    """Rows after the last ones of the series of a fit; see :func:`bayes_moe.forecast`."""
    timeline = timeline_of(fit)
    if steps is not None:
        check_whole("steps", steps, 1)
    codes = _chosen(timeline, series)
    if data is None:
        table, codes = _made(timeline, codes, steps or STEPS), codes
    else:
        table, codes = given_future(fit, timeline, to_pandas(data), codes, steps)
    count = len(table) // len(codes)
    _check_columns(fit, timeline, table, codes)
    table = _with_groups_of_series(fit, timeline, table, codes, count)
    derived, feedback = _terms(fit, timeline, table, codes)
    table = table.assign(**derived)
    rows = with_groups(fit.design.transform(table, unseen=unseen), fit.spec.row_columns, table)
    check_shared_rows(fit.spec.structure, fit.spec.row_columns, rows)
    times = table[timeline.columns.time].to_numpy().reshape(len(codes), count)
    labels = tuple(timeline.labels[j] for j in codes)
    return FutureRows(rows, table, labels, tuple(codes), times, feedback)


def _chosen(timeline: Timeline, series: Any) -> list[int]:
    """Numbers of the series that a user chose: by default all."""
    if series is None:
        return list(range(len(timeline.labels)))
    name = timeline.columns.series
    if name is None:
        raise SpecError("`series` chooses among series; the model has no column of series.")
    several = isinstance(series, list | tuple | np.ndarray)
    wanted = list(series) if several else [series]
    if not wanted:
        raise SpecError("`series` must name at least one series.")
    for label in wanted:
        if label not in timeline.labels:
            raise DataError(unknown(f"series of {name!r}", label, timeline.labels))
    return list(dict.fromkeys(timeline.labels.index(label) for label in wanted))


def last_rows(timeline: Timeline, code: int, count: int) -> np.ndarray:
    """Positions (row,) of the last rows of a series in the table, at most so many."""
    start, end = timeline.sequences.starts[code], timeline.sequences.ends[code]
    return timeline.order[max(start, end - count) : end]


def _made(timeline: Timeline, codes: Sequence[int], steps: int) -> pd.DataFrame:
    """Times and series of the next rows.

    Raises
    ------
    DataError
        For series whose times have no regular step.
    """
    import pandas as pd

    timeline.check_regular("A forecast without `data`")
    parts = []
    for code in codes:
        step = timeline.steps[code]
        if step is None:
            raise DataError(
                f"The step of time{timeline.of_series(code)} is not known from one row: give "
                "`data` with the times of the next rows, or choose other series."
            )
        last = timeline.table[timeline.columns.time].iloc[last_rows(timeline, code, 1)[0]]
        part = pd.DataFrame({timeline.columns.time: step.after(last, steps)})
        if timeline.columns.series is not None:
            part[timeline.columns.series] = timeline.labels[code]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _check_columns(fit: Fit, timeline: Timeline, table: pd.DataFrame, codes: Sequence[int]) -> None:
    """Raise :class:`DataError` for columns that the model needs of the next rows."""
    design = fit.design
    needed = used_columns([*design.formulas.values()], list(design.columns.columns))
    made = {t.name for t in design.past.terms} | _groups(fit)
    missing = [c for c in needed if c not in table and c not in made]
    if missing:
        labels = [timeline.labels[j] for j in codes]
        of = "" if labels == [None] else f" of the series {listed(labels)}"
        raise DataError(
            f"The next {len(table) // len(codes)} rows{of} need the column(s) {listed(missing)}: "
            f"give them as `data`, a table with {timeline.columns.time!r}"
            + ("" if timeline.columns.series is None else f", {timeline.columns.series!r}")
            + " and these columns. Only times, and what follows from them, are known ahead."
        )


def _groups(fit: Fit) -> set[str]:
    """Columns of groups: of group terms, and that of rows that share an expert."""
    group = fit.spec.row_columns.group
    return {*group_columns(fit.design.formulas.values())} | ({group} if group else set())


def _with_groups_of_series(
    fit: Fit, timeline: Timeline, table: pd.DataFrame, codes: Sequence[int], count: int
) -> pd.DataFrame:
    """Table with the groups of the series, where it lacks them.

    Raises
    ------
    DataError
        For groups that are not the same in all fitted rows of a series.
    """
    import pandas as pd

    series = fit.design.rows.observation.series
    for name in sorted(_groups(fit) - {*map(str, table.columns)}):
        column, own = fit.design.columns[name], []
        for code in codes:
            labels = column[np.asarray(series) == code]
            if labels.nunique() != 1:
                raise DataError(
                    f"The groups {name!r} differ within a series{timeline.of_series(code)}: give "
                    "those of the next rows in `data`."
                )
            own += [labels.iloc[0]] * count
        table = table.assign(**{name: pd.Series(own, index=table.index).astype(column.dtype)})
    return table


def _terms(
    fit: Fit, timeline: Timeline, table: pd.DataFrame, codes: Sequence[int]
) -> tuple[dict[str, np.ndarray], tuple[TimeTerm, ...]]:
    """Values (row,) of terms that look back, and those that read responses not known yet.

    Where a response is not known, the last known one stands in its place.

    Raises
    ------
    DataError
        For terms of other columns that the table lacks.
    """
    responses = response_sources(fit)
    values: dict[str, np.ndarray] = {}
    feedback = []
    for term in fit.design.past.terms:
        ahead = _after_history(timeline, table, term, fit, codes)
        absent = ~np.isfinite(ahead)
        if absent.any() and not responses & {*term.columns}:
            row = int(np.argmax(absent))
            code = codes[row // (len(table) // len(codes))]
            raise DataError(
                f"{term.name!r} needs {listed(term.columns)} of the rows before "
                f"{timeline.columns.time} {table[timeline.columns.time].iloc[row]}"
                f"{timeline.of_series(code)}, which are neither fitted nor in `data` "
                f"({int(absent.sum())} of {len(table)} rows): give `data` with these columns."
            )
        if absent.any():
            feedback.append(term)
        values[term.name] = np.where(absent, 0.0, ahead)
    return values, tuple(feedback)


def response_sources(fit: Fit) -> set[str]:
    """Columns of the table that the responses are made of."""
    return {*used_columns([fit.design.response_formula], list(fit.design.columns.columns))}


def _after_history(
    timeline: Timeline, table: pd.DataFrame, term: TimeTerm, fit: Fit, codes: Sequence[int]
) -> np.ndarray:
    """Values (row,) of a term, NaN where it reads what is not known."""
    functions, count = fit.spec.functions, len(table) // len(codes)
    known = table.reindex(columns=list(term.columns))
    hidden = response_sources(fit) & {*term.columns}
    known = known.assign(**dict.fromkeys(hidden, np.nan))
    ahead = source_values(known, term, functions)
    found = np.empty(len(table))
    for j, past in enumerate(histories(fit, timeline, term, codes).T):
        rows = slice(j * count, (j + 1) * count)
        found[rows] = term.along(np.concatenate([past, ahead[rows]]))[-count:]
    return found


def histories(fit: Fit, timeline: Timeline, term: TimeTerm, codes: Sequence[int]) -> np.ndarray:
    """Source values (reach, series) of a term in the last rows of some series.

    Raises
    ------
    DataError
        For missing ones, and series with fewer rows.
    """
    every = source_values(timeline.table, term, fit.spec.functions)
    found = np.full((term.reach, len(codes)), np.nan)
    order, starts, ends = timeline.order, timeline.sequences.starts, timeline.sequences.ends
    for j, code in enumerate(codes):
        values = every[order[max(starts[code], ends[code] - term.reach) : ends[code]]]
        if len(values) < term.reach or not np.isfinite(values).all():
            raise DataError(
                f"{term.name!r} of the next row needs {listed(term.columns)} in the last "
                f"{term.reach} row(s){timeline.of_series(code)}: {len(values)} row(s) are there, "
                f"of which {int((~np.isfinite(values)).sum())} have a missing value."
            )
        found[:, j] = values
    return found


def check_fitted_to_the_end(fit: Fit, timeline: Timeline, codes: Sequence[int], what: str) -> None:
    """Raise :class:`DataError` for series whose last rows were left out of the fit."""
    fitted = fit.design.rows.observation
    assert fitted.time is not None
    assert fitted.series is not None
    for code in codes:
        last = timeline.times[last_rows(timeline, code, 1)[0]]
        own = fitted.time[fitted.series == code]
        if not own.size or own[-1] != last:
            raise DataError(
                f"{what} needs the last rows of a series, and those{timeline.of_series(code)} were "
                "left out of the fit, because of missing values or a weight of zero. Leave these "
                "rows out of the table, or fill them."
            )

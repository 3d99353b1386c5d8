"""Tables of rows that continue fitted series: checked, and put in the order of the series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed, unknown
from bayes_moe.data.formulas import used_columns
from bayes_moe.data.sequences import times_of
from bayes_moe.data.tables import in_index
from bayes_moe.data.timeline import Timeline
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd


def given_future(
    fit: Fit, timeline: Timeline, table: pd.DataFrame, codes: Sequence[int], steps: int | None
) -> tuple[pd.DataFrame, list[int]]:
    """Rows of a table one series after the other, and the numbers of their series.

    Raises
    ------
    DataError
        For columns that the table lacks, series that were not fitted, responses, times that do not
        continue those of the fit, and different numbers of rows.
    SpecError
        For another number of ``steps`` than the table has.
    """
    columns = timeline.columns
    for name in (columns.time, columns.series):
        if name is not None and name not in table.columns:
            hint = in_index(name, table.index.names)
            raise DataError(f"{unknown('column', name, table.columns)} `data` needs it.{hint}")
    if not len(table):
        raise DataError("`data` has no rows.")
    _check_no_responses(fit, table)
    table, names = table.reset_index(drop=True), [None] * len(table)
    if columns.series is not None:
        names = table[columns.series].tolist()
    for label in dict.fromkeys(names):
        if label not in timeline.labels:
            raise DataError(unknown(f"series of {columns.series!r}", label, timeline.labels))
    present = {timeline.labels.index(label) for label in dict.fromkeys(names)}
    chosen = [code for code in codes if code in present]
    if not chosen:
        raise DataError("`data` has no rows of the chosen `series`.")
    assert columns.time is not None
    times, _ = times_of(table, columns.time, columns.series, np.arange(len(table)))
    of_row = np.array([timeline.labels.index(label) for label in names])
    rows = [np.flatnonzero(of_row == code) for code in chosen]
    _check_counts(timeline, chosen, rows, steps)
    for code, own in zip(chosen, rows, strict=True):
        _check_times(timeline, code, times[own], table[columns.time].iloc[own], own)
    return table.iloc[np.concatenate(rows)].reset_index(drop=True), chosen


def _check_no_responses(fit: Fit, table: pd.DataFrame) -> None:
    """Raise :class:`DataError` for a table with responses, which a forecast does not read."""
    for name in used_columns([fit.design.response_formula], list(fit.design.columns.columns)):
        if name in table.columns and table[name].notna().any():
            raise DataError(
                f"`data` has values of the response {name!r}: a forecast is of rows whose response "
                f"is not known, and would not read them. Leave the column out, data.drop(columns="
                f"{name!r}), or refit the model to the rows that are known."
            )


def _check_counts(
    timeline: Timeline, codes: Sequence[int], rows: Sequence[np.ndarray], steps: int | None
) -> None:
    """Raise an error unless all series have the same number of rows, ``steps`` if that is given."""
    counts = [len(own) for own in rows]
    other = next((j for j, n in enumerate(counts) if n != counts[0]), None)
    if other is not None:
        raise DataError(
            f"`data` has {counts[0]} rows{timeline.of_series(codes[0])} and {counts[other]}"
            f"{timeline.of_series(codes[other])}: a forecast has the same number of steps for all "
            "its series. Choose one of them by `series`, or give equally many rows."
        )
    if steps is not None and counts[0] != steps:
        raise SpecError(
            f"`steps` is {steps}, but `data` has {counts[0]} rows"
            f"{'' if timeline.columns.series is None else ' of each series'}: leave `steps` out."
        )


def _check_times(
    timeline: Timeline, code: int, times: np.ndarray, shown: pd.Series, rows: np.ndarray
) -> None:
    """Raise :class:`DataError` unless times (row,) continue those of a series by its step."""
    import pandas as pd

    own = timeline.order[timeline.sequences.starts[code] : timeline.sequences.ends[code]]
    last, step = timeline.table[timeline.columns.time].iloc[own[-1]], timeline.steps[code]
    after = times > timeline.times[own[-1]]
    if not after.all():
        at = int(np.argmin(after))
        raise DataError(
            f"Row {rows[at]} of `data`{timeline.of_series(code)} has the time {shown.iloc[at]}, "
            f"but the fitted rows go on to {last}: give only rows after them."
        )
    if step is None:
        return
    due = pd.DataFrame({"time": step.after(last, len(times))})
    expected, _ = times_of(due, "time", None, np.arange(len(due)))
    slack = 0.01 * step.size if step.unit == "number" else 0.0
    wrong = np.flatnonzero(np.abs(times - expected) > slack)
    if wrong.size:
        at = int(wrong[0])
        raise DataError(
            f"Row {rows[at]} of `data`{timeline.of_series(code)} has the time {shown.iloc[at]}; "
            f"the next time after {listed([last])} in steps of {step} would be "
            f"{due['time'].iloc[at]}. The rows of a forecast follow the fitted ones without a gap."
        )

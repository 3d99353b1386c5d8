"""Rolling origins: which rows of a table a forecast may know, and which are forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import looked_up
from bayes_moe.data.responses import response_formula
from bayes_moe.data.sequences import Sequences, times_of
from bayes_moe.data.tables import to_pandas
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SeriesTable:
    """A table whose rows have times, and may have series.

    Attributes
    ----------
    table : pandas.DataFrame
        The table, with positions as its index.
    response : array (obs,)
        The response term of each row.
    times : array (obs,)
        Times of the rows, dates as seconds since 1970.
    labels : list
        Labels of the series; the response's name if there is only one.
    positions : list of arrays
        Positions of each series' rows, in the order of time.
    """

    table: pd.DataFrame
    response: np.ndarray
    times: np.ndarray
    labels: list[Any]
    positions: list[np.ndarray]
    time: str
    series: str | None

    @classmethod
    def read(cls, spec: MixtureOfExperts, data: Any) -> SeriesTable:
        """Table of a model with a column of times.

        Raises
        ------
        SpecError
            For a model without ``time``, and one whose response is no single number.
        DataError
            For tables without these columns, missing values there, and times that do not increase.
        """
        time, series = spec.row_columns.time, spec.row_columns.series
        if time is None:
            raise SpecError(
                "The model does not say when rows are: give it time='date', the column of their "
                "times, so that forecasts know only earlier rows."
            )
        table = to_pandas(data).reset_index(drop=True)
        _check_responses(spec.response_rule.response, table)
        # The response alone, without the formulas, of which lags lose the first rows.
        design = Design.from_data(spec.response_rule, {}, table, functions=spec.functions)
        if design.levels is not None or design.limits is not None or design.response.ndim > 1:
            raise SpecError(
                f"The response {spec.response!r} is not one observed number in each row, and the "
                "scores of forecasts (MASE, CRPS, coverage) are of such."
            )
        for name in filter(None, (time, series)):
            if name not in table:
                raise DataError(f"The table has no column {name!r}, which the model needs.")
        times, codes = times_of(table, time, series, np.arange(len(table)))
        rows = Sequences.of(codes, len(codes))
        order = np.arange(len(codes)) if rows.order is None else rows.order
        parts = [order[a:b] for a, b in zip(rows.starts, rows.ends, strict=True)]
        labels = [spec.response] if series is None else [table[series].iloc[p[0]] for p in parts]
        return cls(table, design.response, times, labels, parts, time, series)

    def name(self, number: int) -> str:
        """The series of a number, for messages."""
        return "The series" if self.series is None else f"Series {self.labels[number]!r}"


def _check_responses(response: str, table: pd.DataFrame) -> None:
    """Raise :class:`DataError` for rows without a response."""
    for name in looked_up(response_formula(response)):
        missing = np.flatnonzero(table[name].isna()) if name in table else np.empty(0, dtype=int)
        if missing.size:
            raise DataError(
                f"Forecasts are held to the response in every row; {name!r} is missing in row(s) "
                f"{listed(missing)}. Fill them, or take the rows of a series after the gap."
            )


@dataclass(frozen=True)
class Origin:
    """A moment up to which rows are known.

    Attributes
    ----------
    time : object
        Time of the last row that is known, of any series.
    known : array (row,)
        Positions of rows up to then, in the order of the table.
    histories : list of arrays
        Those of each series, in the order of time.
    ahead : array (series, step)
        Positions of the rows that are forecast.
    """

    time: Any
    known: np.ndarray
    histories: list[np.ndarray]
    ahead: np.ndarray


def rolling_origins(
    rows: SeriesTable, horizon: int, count: int, step: int, least: int
) -> list[Origin]:
    """The last ``count`` origins, ``step`` times apart, the earliest first.

    From the last one ``horizon`` times are ahead. All series are cut at the same moment, so that no
    forecast knows what another series did later.

    Raises
    ------
    DataError
        For a table that is too short for so many origins, and series that have fewer than ``least``
        rows before the first one, or fewer than ``horizon`` after one.
    """
    moments = np.unique(rows.times)
    last = len(moments) - horizon - 1
    first = last - (count - 1) * step
    if first < 0:
        raise DataError(
            f"The table has {len(moments)} times, and {count} origins {step} apart with {horizon} "
            f"steps after the last need {horizon + (count - 1) * step + least}: ask for fewer "
            "origins, or a shorter horizon or step."
        )
    return [_origin(rows, moments[i], horizon, least) for i in range(first, last + 1, step)]


def _origin(rows: SeriesTable, moment: float, horizon: int, least: int) -> Origin:
    histories, ahead = [], []
    at = rows.table[rows.time].iloc[int(np.flatnonzero(rows.times == moment)[0])]
    for number, positions in enumerate(rows.positions):
        cut = int(np.searchsorted(rows.times[positions], moment, side="right"))
        if cut < least:
            raise DataError(
                f"{rows.name(number)} has {cut} rows up to the origin {at} (rows "
                f"{listed(positions[:cut]) if cut else 'none'}), and needs {least}, more than a "
                "season: ask for fewer origins, or a shorter season, or leave the series out."
            )
        if len(positions) - cut < horizon:
            raise DataError(
                f"{rows.name(number)} ends at row {positions[-1]}, {len(positions) - cut} rows "
                f"after the origin {at}; the horizon is {horizon}. All series are cut at the same "
                "time: leave out those that end before, or their last times."
            )
        histories.append(positions[:cut])
        ahead.append(positions[cut : cut + horizon])
    return Origin(at, np.sort(np.concatenate(histories)), histories, np.array(ahead))

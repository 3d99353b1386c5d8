"""Rows of series in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.tables import kind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sequences:
    """Which rows follow one another: those of each series, in the order of the table.

    Attributes
    ----------
    code : array (obs,)
        Number of each row's series, from 0, in the order of their first rows.
    order : array (obs,) or None
        Positions of the rows one series after the other; None if they are so.
    starts : array (series,)
        Positions of the first rows of series in that order.
    """

    code: np.ndarray
    order: np.ndarray | None
    starts: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray | None, size: int) -> Sequences:
        """Sequences of rows with these series (obs,); of one series for None."""
        if series is None or not size:
            code = np.zeros(size, dtype=np.int64)
        else:
            _, first, unit = np.unique(series, return_index=True, return_inverse=True)
            code = np.argsort(np.argsort(first, kind="stable"), kind="stable")[unit]
        order = None if (np.diff(code) >= 0).all() else np.argsort(code, kind="stable")
        starts = np.cumsum([0, *np.bincount(code)])[:-1]
        return cls(code, order, starts)

    def increasing(self, times: np.ndarray) -> bool:
        """Whether times (obs,) increase within each series."""
        ordered = times if self.order is None else times[self.order]
        steps = np.diff(ordered)
        steps[self.ends[:-1] - 1] = 1.0
        return bool((steps > 0).all())

    @property
    def ends(self) -> np.ndarray:
        """Positions (series,) after the last rows of series, in that order."""
        return np.append(self.starts[1:], len(self.code))


def with_moments(table: pd.DataFrame, time: str | None) -> pd.DataFrame:
    """Table with the first moments of periods in place of these, such as of months."""
    import pandas as pd

    if time is None or time not in table or not isinstance(table[time].dtype, pd.PeriodDtype):
        return table
    return table.assign(**{time: table[time].dt.to_timestamp()})


def time_values(
    table: pd.DataFrame, time: str, series: str | None, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Times (obs,) of rows and numbers (obs,) of their series; dates as seconds since 1970.

    Raises
    ------
    DataError
        For missing times or series, and times that are no dates or numbers.
    """
    import pandas as pd

    column = table[time]
    if kind(column) not in ("numbers", "dates"):
        raise DataError(
            f"`time` needs dates or numbers; the column {time!r} holds {kind(column)}, such as "
            f"{column.iloc[0]!r}. Dates in text, and Python's own, become dates by "
            "pandas.to_datetime()."
        )
    codes = np.zeros(len(table), dtype=np.int64)
    if series is not None:
        codes = np.asarray(pd.factorize(table[series])[0], dtype=np.int64)
    for name, absent in ((time, column.isna().to_numpy()), (series, codes < 0)):
        if absent.any():
            raise DataError(
                f"Column {name!r} has {absent.sum()} missing value(s), first at row "
                f"{positions[np.argmax(absent)]}."
            )
    if kind(column) == "dates":
        zone = getattr(column.dtype, "tz", None)
        plain = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
        moments = plain.to_numpy().astype("datetime64[us]")
        values = (moments - np.datetime64(0, "us")) / np.timedelta64(1, "s")
    else:
        values = column.to_numpy(dtype=float)
    return np.asarray(values, dtype=float), codes


def times_of(
    table: pd.DataFrame, time: str, series: str | None, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Times and series as :func:`time_values`, in checked order.

    Raises
    ------
    DataError
        Also unless times increase within each series.
    """
    values, codes = time_values(table, time, series, positions)
    column = table[time]
    rows = Sequences.of(codes, len(codes))
    order = np.arange(len(codes)) if rows.order is None else rows.order
    back = np.flatnonzero((np.diff(values[order]) <= 0) & (np.diff(codes[order]) == 0))
    if back.size:
        before, at = order[back[0]], order[back[0] + 1]
        of = "" if series is None else f" of series {table[series].iloc[at]!r}"
        remedy = f"Sort the table by {time!r}"
        if values[before] == values[at]:
            remedy = "Leave out one of the rows"
            if series is None:
                remedy += ", or say by series='...' which column tells several series apart"
        raise DataError(
            f"Times must increase within a series: {time!r}{of} is {column.iloc[at]} at row "
            f"{positions[at]}, after {column.iloc[before]} at row {positions[before]}. {remedy}."
        )
    return values, codes

"""Steps of times: whether those of a series are regular, the next ones, and where a gap is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.data.sequences import Sequences
from bayes_moe.data.tables import kind

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 0.02
"""Largest difference between steps of numbers, relative to the step, that counts as none."""

DAY = 86400.0
"""Seconds of a day."""

MOST_INFERRED = 100
"""Most series whose steps pandas looks for, one after the other."""


@dataclass(frozen=True)
class Step:
    """Regular step of the times of a series.

    ``size`` counts units: of numbers ``"number"``, of dates ``"second"``, and of the calendar
    ``"day"``, ``"month"`` and ``"business day"``, which differ in seconds. ``anchor`` is the day of
    the month, 31 for the last. The unit ``"offset"`` is the frequency of pandas in ``frequency``.
    """

    unit: str
    size: float
    anchor: int = 0
    frequency: str = ""

    def __str__(self) -> str:
        if self.unit == "offset":
            return self.frequency
        if self.unit == "number":
            return f"{self.size:g}"
        if self.unit == "second":
            import pandas as pd

            text = str(pd.Timedelta(self.size, unit="s"))
            return text.removesuffix(" 00:00:00").removeprefix("0 days ")
        count = f"{self.size:g} {self.unit}"
        return count if self.size == 1 else f"{count}s"

    def positions(self, column: pd.Series) -> np.ndarray:
        """Positions (row,) of times in units of the step: consecutive ones differ by ``size``."""
        if self.unit == "offset":
            import pandas as pd

            plain = pd.DatetimeIndex(_local(column))
            whole = pd.date_range(plain.min(), plain.max(), freq=self.frequency)
            at = whole.get_indexer(plain).astype(float)
            return np.where(at < 0, np.nan, at)
        return _positions(column, self.anchor)[self.unit]

    def breaks(self, column: pd.Series) -> np.ndarray:
        """Whether times (row - 1,) are not one step after those before them."""
        at = self.positions(column)
        slack = TOLERANCE * abs(self.size) if self.unit == "number" else 0.0
        with np.errstate(invalid="ignore"):
            return np.asarray(~(np.abs(np.diff(at) - self.size) <= slack))

    def after(self, last: Any, count: int) -> Any:
        """The next times (count,) after a date or a number.

        Returns
        -------
        array or pandas.DatetimeIndex
            Numbers, or dates in the time zone of ``last``.
        """
        import pandas as pd

        ahead = np.arange(1, count + 1)
        if self.unit == "number":
            whole = isinstance(last, int | np.integer) and float(self.size).is_integer()
            return last + (int(self.size) if whole else self.size) * ahead
        moment = pd.Timestamp(last)
        if self.unit == "second" and (moment.tz is None or self.size % DAY):
            return pd.DatetimeIndex(moment + pd.to_timedelta(self.size * ahead, unit="s"))
        zone, start = moment.tz, moment.tz_localize(None)
        if self.unit in ("second", "day"):
            days = self.size / (DAY if self.unit == "second" else 1)
            found = start + pd.to_timedelta(days * ahead, unit="D")
        elif self.unit == "month":
            months = start.year * 12 + start.month - 1 + np.rint(self.size * ahead).astype(int)
            first = pd.DatetimeIndex(
                [pd.Timestamp(int(m) // 12, int(m) % 12 + 1, 1) for m in months]
            )
            day = np.minimum(self.anchor, first.days_in_month) - 1
            found = first + pd.to_timedelta(day, unit="D") + (start - start.normalize())
        elif self.unit == "business day":
            offsets = np.rint(self.size * ahead).astype(int)
            at = np.busday_offset(np.datetime64(start.normalize(), "D"), offsets)
            found = pd.DatetimeIndex(at) + (start - start.normalize())
        else:
            found = pd.date_range(start, periods=count + 1, freq=self.frequency)[1:]
        found = pd.DatetimeIndex(found)
        if zone is None:
            return found
        return found.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.zeros(count, bool))


def series_steps(column: pd.Series, sequences: Sequences) -> tuple[Step | None, ...]:
    """Step of each series, None where the times are irregular or where there is only one.

    A step that all series have in common is preferred, and is that of series of one row too.
    """
    order = np.arange(len(column)) if sequences.order is None else sequences.order
    starts, ends = sequences.starts, sequences.ends
    column = column.iloc[order].reset_index(drop=True)
    several = ends - starts > 1
    found: list[Step | None] = [None] * len(starts)
    for unit, positions in _positions(column).items():
        low, high = _ranges(np.diff(positions), starts, ends)
        slack = TOLERANCE * np.abs(high) if unit == "number" else 0.0
        with np.errstate(invalid="ignore"):
            regular = several & (high - low <= slack) & (low > 0)
        each = zip(starts, ends, regular, strict=True)
        sizes = [_size(positions, s, e) if ok else np.nan for s, e, ok in each]
        if several.any() and regular[several].all() and _equal(np.array(sizes)[several]):
            step = Step(unit, sizes[int(np.argmax(several))], _anchor(column, unit))
            return (step,) * len(starts)
        for j in np.flatnonzero(regular):
            if found[j] is None:
                part = column.iloc[starts[j] : ends[j]]
                found[j] = Step(unit, sizes[j], _anchor(part, unit))
    if kind(column) == "dates":
        _with_frequencies(found, column, starts, ends)
    common = {*found} - {None}
    if len(common) == 1 and all(found[j] for j in np.flatnonzero(several)):
        return (common.pop(),) * len(starts)
    return tuple(found)


def gap_in(column: pd.Series) -> tuple[int, str]:
    """Position of the first row of one series after a gap, and what the step mostly is.

    ``column`` are the times (row,) of an irregular series, in order.
    """
    best = (-1.0, 0, "")
    for unit, positions in _positions(column).items():
        steps = np.round(np.diff(positions), 6)
        if not np.isfinite(steps).all():
            continue
        values, counts = np.unique(steps, return_counts=True)
        usual = values[np.argmax(counts)]
        share = counts.max() / len(steps)
        if share > best[0]:
            best = (share, int(np.argmax(steps != usual)) + 1, str(Step(unit, float(usual))))
    return best[1], best[2]


def _positions(column: pd.Series, anchor: int = 0) -> dict[str, np.ndarray]:
    """Positions (row,) of times by unit; NaN where a unit does not fit.

    ``anchor`` is the day of the month of monthly dates, by default what the dates say.
    """
    import pandas as pd

    if kind(column) != "dates":
        return {"number": column.to_numpy(dtype=float)}
    zone = getattr(column.dtype, "tz", None)
    plain = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
    local = _local(column)
    index = pd.DatetimeIndex(local)
    clock = _seconds(local) % DAY
    steady = clock == clock[:1]
    found = {}
    if zone is not None:  # days by the clock come first: they may have 23 or 25 hours
        found["day"] = np.where(steady, np.floor(_seconds(local) / DAY), np.nan)
    found["second"] = _seconds(plain)
    months = np.asarray(index.year * 12 + index.month, dtype=float)
    anchor = anchor or _anchor(column, "month")
    fits = np.asarray(index.day) == np.minimum(anchor, index.days_in_month)
    found["month"] = np.where(fits & steady, months, np.nan)
    days = index.to_numpy().astype("datetime64[D]")
    count = np.busday_count(np.datetime64("1970-01-01"), days).astype(float)
    found["business day"] = np.where(np.is_busday(days) & steady, count, np.nan)
    return found


def _local(column: pd.Series) -> pd.Series:
    """Dates as clocks show them, without a time zone."""
    return column if getattr(column.dtype, "tz", None) is None else column.dt.tz_localize(None)


def _seconds(column: pd.Series) -> np.ndarray:
    """Seconds (row,) since 1970 of dates without a time zone."""
    moments = column.to_numpy().astype("datetime64[us]")
    return np.asarray((moments - np.datetime64(0, "us")) / np.timedelta64(1, "s"))


def _anchor(column: pd.Series, unit: str) -> int:
    """Day of the month that monthly dates have, 31 for the last."""
    if unit != "month":
        return 0
    local = _local(column)
    if bool(local.dt.is_month_end.all()):
        return 31
    return int(local.dt.day.max())


def _ranges(
    steps: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest step (series,) within each series; NaN for series of one row."""
    low, high = np.full(len(starts), np.nan), np.full(len(starts), np.nan)
    several = np.flatnonzero(ends - starts > 1)
    if len(several):
        within = np.ones(len(steps), dtype=bool)
        within[ends[:-1] - 1] = False
        kept = steps[within]
        first = np.cumsum([0, *(ends - starts - 1)[several]])[:-1]
        low[several] = np.minimum.reduceat(kept, first)
        high[several] = np.maximum.reduceat(kept, first)
    return low, high


def _size(positions: np.ndarray, start: int, end: int) -> float:
    """Mean step of a series."""
    return float((positions[end - 1] - positions[start]) / (end - 1 - start))


def _equal(sizes: np.ndarray) -> bool:
    return bool(np.ptp(sizes) <= TOLERANCE * sizes.max())


def _with_frequencies(
    found: list[Step | None], column: pd.Series, starts: np.ndarray, ends: np.ndarray
) -> None:
    """Fill in the steps of other frequencies that pandas knows, such as business month ends."""
    import pandas as pd

    irregular = [j for j in range(len(starts)) if found[j] is None and ends[j] - starts[j] > 2]
    for j in irregular[:MOST_INFERRED]:
        part = pd.DatetimeIndex(_local(column.iloc[starts[j] : ends[j]]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas 3 says what pandas 4 will return
            frequency = pd.infer_freq(part)
        if frequency is not None:
            found[j] = Step("offset", 1.0, 0, str(getattr(frequency, "freqstr", frequency)))

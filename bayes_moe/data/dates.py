"""Dates as numbers: ``time(t, unit="D")``, the units of time since an origin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayes_moe.core.errors import DataError
from bayes_moe.data.formula_functions import SECONDS
from bayes_moe.data.tables import kind


def elapsed(
    column: Any,
    source: str,
    state: dict[str, Any],
    unit: str | None = None,
    origin: str | None = None,
) -> np.ndarray:
    """Units of time (obs,) from an origin to the dates of a column.

    The origin is by default the first date, of the rows for which ``state`` is empty: it is kept
    there, for other rows. Dates of a column with a time zone are moments, and an origin is then
    read in that zone; those without are moments of one and the same unnamed zone. They are read
    in microseconds.

    Raises
    ------
    DataError
        For a column of anything else, and where only the fitted rows have a time zone, or only
        others.
    """
    if not isinstance(column, pd.Series) or kind(column) != "dates":
        found = kind(column) if isinstance(column, pd.Series) else "numbers"
        raise DataError(f"time() needs a column of dates; {source!r} holds {found}.")
    zone = getattr(column.dtype, "tz", None)
    plain = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
    moments = plain.to_numpy().astype("datetime64[us]")
    if not state:
        state["zoned"] = zone is not None
        state["origin"] = moments.min() if origin is None else _instant(origin, zone)
    if state["zoned"] != (zone is not None):
        raise DataError(
            f"The dates of {source!r} have {'no' if zone is None else 'a'} time zone here, unlike "
            "those of the fitted rows: give both one, or neither."
        )
    seconds = (moments - state["origin"]) / np.timedelta64(1, "s")
    return np.asarray(seconds / SECONDS[unit or "D"])


def _instant(date: str, zone: Any) -> np.datetime64:
    """A date in quotes, read in a time zone, if there is one."""
    moment = pd.Timestamp(date)
    moment = moment if zone is None else moment.tz_localize(zone).tz_convert("UTC")
    return np.datetime64(moment.tz_localize(None), "us")

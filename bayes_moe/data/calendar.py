"""Trends, seasons and features of the calendar, of columns of times."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulaic.materializers.types import FactorValues

from bayes_moe.core.errors import DataError
from bayes_moe.data.dates import elapsed
from bayes_moe.data.formula_functions import CALENDAR, SECONDS
from bayes_moe.data.tables import kind


def of_times(
    name: str, values: Any, source: str, state: dict[str, Any], settings: dict[str, Any]
) -> Any:
    """Value of a function of times: numbers (obs,), or several columns.

    ``state`` is what it remembers of the fitted rows; it is empty for these.

    Raises
    ------
    DataError
        For a column of another type than the function takes.
    """
    if name == "time":
        return elapsed(values, source, state, **settings)
    if name == "trend":
        return _trend(values, source, state, settings.get("unit"))
    if name == "season":
        return _season(values, source, state, settings["period"], settings.get("order") or 1)
    return _feature(name, values, source)


def _feature(name: str, values: Any, source: str) -> np.ndarray:
    """Whole numbers (obs,) of the calendar, as the accessor ``.dt`` of pandas has them."""
    if not isinstance(values, pd.Series) or kind(values) != "dates":
        raise DataError(f"{name}() needs a column of dates; {source!r} holds {_held(values)}.")
    return np.asarray(getattr(values.dt, CALENDAR[name])).astype(np.int64)


def _trend(values: Any, source: str, state: dict[str, Any], unit: str | None) -> np.ndarray:
    """Time (obs,) since the first fitted one: in a unit, or as a share of the fitted time."""
    if unit is not None:
        if not isinstance(values, pd.Series):
            raise DataError(
                f"trend(unit={unit!r}) needs a column of dates; {source!r} holds {_held(values)}: "
                "leave the unit out, or write the column itself as a term."
            )
        return elapsed(values, source, state, unit)
    times = _numbers(values, "trend", source, state)
    if "origin" not in state:
        state["origin"], state["length"] = float(times.min()), float(np.ptp(times))
    return np.asarray((times - state["origin"]) / (state["length"] or 1.0))


def _season(
    values: Any, source: str, state: dict[str, Any], period: float | str, order: int
) -> FactorValues:
    """Sines and cosines (obs,) of a period and of its parts."""
    dates = isinstance(values, pd.Series)
    if dates != isinstance(period, str):
        wanted = "dates take a period such as '1D'" if dates else "numbers take a number"
        raise DataError(
            f"The period of season({source}) is {period!r}, and {source!r} holds {_held(values)}: "
            f"{wanted}."
        )
    length = seconds_of(period) if isinstance(period, str) else float(period)
    times = _numbers(values, "season", source, state)
    state["wave"] = (source, length)
    waves = {
        f"{name}{j}": function(2 * np.pi * j * np.mod(times / length, 1.0))
        for j in range(1, order + 1)
        for name, function in (("sin", np.sin), ("cos", np.cos))
    }
    if "without" not in state:
        state["without"] = _without(times, waves, length, (source, period, order))
    index = values.index if isinstance(values, pd.Series) else None
    columns = {
        name: pd.Series(wave, index=index)
        for name, wave in waves.items()
        if name != state["without"]
    }
    return FactorValues(columns, kind="numerical", spans_intercept=False, format="{name}[{field}]")


def distinct_waves(
    columns: dict[str, Any], state: Mapping[str, Any], seen: set[tuple[Any, ...]]
) -> dict[str, Any]:
    """Columns of a term by itself, without waves that an earlier term has.

    The seventh wave of a week is the first of a day. ``state`` is what functions remember, by the
    text of their calls, and ``seen`` are the waves of earlier terms, to which these are added.
    """
    kept: dict[str, Any] = {}
    own: set[tuple[Any, ...]] = set()
    for name, values in columns.items():
        wave = _wave(name, state)
        if wave is None or wave not in seen:
            kept[name] = values
            own |= set() if wave is None else {wave}
    if not kept:  # refused as duplicates
        return columns
    seen |= own
    return kept


def _wave(column: str, state: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Times, sine or cosine, and frequency of a column of a season; None for another column."""
    found = re.fullmatch(r"(season\(.*\))\[(sin|cos)(\d+)\]", column)
    if found is None:
        return None
    try:
        call = ast.unparse(ast.parse(found[1], mode="eval"))
    except SyntaxError:  # a name in backticks
        return None
    known = state.get(call, {}).get("wave")
    if known is None:
        return None
    return known[0], found[2], float(f"{int(found[3]) / known[1]:.11g}")


def _without(
    times: np.ndarray, waves: dict[str, np.ndarray], length: float, shown: tuple[str, Any, int]
) -> str:
    """Wave that equally spaced times cannot tell from its partner, or the empty string.

    Raises
    ------
    DataError
        For more waves than the times can tell apart.
    """
    source, period, order = shown
    steps = np.diff(np.unique(times))
    if not steps.size:
        raise DataError(f"season({source}) of one time only: leave it out.")
    most = length / (2 * steps.min())
    if order > most * (1 + 1e-6):
        raise DataError(
            f"season({source}, period={period!r}, order={order}) has more waves than its times, "
            f"which are {2 * most:.6g} to a period, can tell apart: give an order of at most "
            f"{int(most * (1 + 1e-6))}."
        )
    if order < most * (1 - 1e-6):
        return ""
    pair = (f"sin{order}", f"cos{order}")
    return min(pair, key=lambda name: float(np.abs(waves[name]).max()))


def seconds_of(period: str) -> float:
    """Seconds of a period such as ``"1D"``; a year has 365.2425 days."""
    number = period.rstrip("".join(SECONDS))
    return float(number or 1) * SECONDS[period[len(number) :]]


def _numbers(values: Any, name: str, source: str, state: dict[str, Any]) -> np.ndarray:
    """Times (obs,) as numbers: of dates the seconds since 1970 that clocks show.

    ``state`` remembers whether the dates have a time zone, whose clocks these are.
    """
    if not isinstance(values, pd.Series):
        return np.atleast_1d(np.asarray(values, dtype=float))
    if kind(values) != "dates":
        raise DataError(f"{name}() needs dates or numbers; {source!r} holds {_held(values)}.")
    zone = getattr(values.dtype, "tz", None)
    if state.setdefault("zone", str(zone)) != str(zone):
        raise DataError(
            f"The dates of {source!r} have the time zone {zone} here, but {state['zone']} in the "
            "fitted rows: convert them."
        )
    plain = values if zone is None else values.dt.tz_localize(None)
    moments = plain.to_numpy().astype("datetime64[us]")
    return np.asarray((moments - np.datetime64(0, "us")) / np.timedelta64(1, "s"))


def _held(values: Any) -> str:
    return kind(values) if isinstance(values, pd.Series) else "numbers"

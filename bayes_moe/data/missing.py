"""Rows with missing values: refused, dropped, or kept as NaN."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import DataError, MissingRowsWarning
from bayes_moe.data.tables import (
    complete_rows,
    gaps,
    listed,
    plain,
)

if TYPE_CHECKING:
    import pandas as pd


MISSING = ("raise", "drop", "model")
"""What can be done with rows that have missing values."""


_DROP = ", or pass missing='drop' to fit"


def refuse_or_drop(
    columns: pd.DataFrame,
    missing: str,
    advice: str,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the complete rows in plain types, and the mask that picks them."""
    keep, missed = complete_rows(columns, missing, advice)
    n_dropped = int(len(keep) - keep.sum())
    if n_dropped:
        if keep.sum() < 2:
            raise DataError(
                f"missing='drop' would leave {int(keep.sum())} of {len(keep)} rows; values are "
                f"missing in {listed(missed)}."
            )
        warnings.warn(
            f"missing='drop' left out {n_dropped} of {len(keep)} rows with missing values in "
            f"{listed(missed)}.",
            MissingRowsWarning,
            skip_file_prefixes=(str(Path(__file__).parents[1]),),
        )
    return plain(columns[keep]).reset_index(drop=True), keep


def missing_advice(columns: pd.DataFrame, missing: str, may_miss: Mapping[str, str | None]) -> str:
    """Say what can be done about missing values."""
    if missing == "model":
        return "The gate does not model it: fill them, or pass missing='drop' to fit."
    first = next((str(c) for c in columns if columns[c].isna().any()), "")
    if may_miss.get(first, "no column of the gate") is None:
        return "Fill them, or pass missing='drop' to fit, or missing='model' with method='em'."
    return "Fill them, or pass missing='drop' to fit."


def filled_holes(
    columns: pd.DataFrame,
    may_miss: Mapping[str, str | None],
    fitted: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Fill gaps that can be integrated out by an average, and return where they are.

    The average is of the fitted columns, or of the columns themselves.
    """
    holes: dict[str, np.ndarray] = {}
    for name in (c for c in columns if may_miss.get(str(c), "") != ""):
        values, gone = gaps(str(name), columns[name])
        if not gone.any():
            continue
        reason = may_miss[str(name)]
        if reason is not None:
            raise DataError(
                f"Column {str(name)!r} has {int(gone.sum())} missing value(s), first at row(s) "
                f"{listed(np.flatnonzero(gone))}, which cannot be integrated out, since {reason}. "
                f"Fill or remove them{'' if fitted is not None else _DROP}."
            )
        known = values[~gone] if fitted is None else fitted[str(name)].to_numpy(dtype=float)
        known = known[np.isfinite(known)]
        if not known.size:
            raise DataError(
                f"Column {str(name)!r} has no value at all: leave it out of the formulas."
            )
        columns = columns.assign(**{str(name): np.where(gone, known.mean(), values)})
        holes[str(name)] = gone
    return columns, holes


def with_holes(
    values: np.ndarray, terms: tuple[str, ...], holes: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Put NaN where features (obs, term) are missing."""
    for j, term in enumerate(terms):
        if term in holes:
            values = np.array(values)
            values[holes[term], j] = np.nan
    return values


def with_rows_of_holes(columns: pd.DataFrame, holes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Put NaN where columns are missing."""
    back = {name: columns[name].astype(float).mask(gone) for name, gone in holes.items()}
    return columns.assign(**back) if back else columns

"""Rows with missing values: an error, dropped, or kept as NaN."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import PACKAGE_FILES, DataError, MissingRowsWarning
from bayes_moe.data.tables import (
    complete_rows,
    listed,
    numbers_with_gaps,
    plain,
)

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("raise", "drop", "model")
"""Valid treatments of rows with missing values."""

_DROP = ", or pass missing='drop' to fit"


def refuse_or_drop(
    columns: pd.DataFrame,
    missing: str,
    advice: str,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Complete rows in plain types, and a mask (row,) of them; DataError unless dropping."""
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
            skip_file_prefixes=PACKAGE_FILES,
        )
    return plain(columns[keep]).reset_index(drop=True), keep


def missing_advice(columns: pd.DataFrame, missing: str, may_miss: Mapping[str, str | None]) -> str:
    """Last sentence of an error about missing values: the remedies that the model allows."""
    if missing == "model":
        return "The gate does not model it: fill them, or pass missing='drop' to fit."
    first = next((str(c) for c in columns if columns[c].isna().any()), "")
    if may_miss.get(first, "no column of the gate") is None:
        return "Fill them, or pass missing='drop' to fit, or missing='model' with method='em'."
    return "Fill them, or pass missing='drop' to fit."


def fill_gaps(
    columns: pd.DataFrame,
    may_miss: Mapping[str, str | None],
    fitted: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Columns with missing values replaced by means, and masks (row,) of these cells by column.

    Only values that can be integrated out are filled. The means are those of the fitted columns,
    or of the columns themselves.
    """
    # A mean is in the domain of most functions of a formula, and with_gaps removes what it gives.
    gaps: dict[str, np.ndarray] = {}
    for name in (c for c in columns if may_miss.get(str(c), "") != ""):
        values, absent = numbers_with_gaps(str(name), columns[name])
        if not absent.any():
            continue
        reason = may_miss[str(name)]
        if reason is not None:
            raise DataError(
                f"Column {str(name)!r} has {int(absent.sum())} missing value(s), first at row(s) "
                f"{listed(np.flatnonzero(absent))}, which cannot be integrated out, since {reason}"
                f". Fill or remove them{'' if fitted is not None else _DROP}."
            )
        observed = values[~absent] if fitted is None else fitted[str(name)].to_numpy(dtype=float)
        observed = observed[np.isfinite(observed)]
        if not observed.size:
            raise DataError(
                f"Column {str(name)!r} has no value at all: leave it out of the formulas."
            )
        columns = columns.assign(**{str(name): np.where(absent, observed.mean(), values)})
        gaps[str(name)] = absent
    return columns, gaps


def with_gaps(
    values: np.ndarray, terms: tuple[str, ...], gaps: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Features (obs, term) with NaN in the filled cells."""
    for j, term in enumerate(terms):
        if term in gaps:
            values = np.array(values)
            values[gaps[term], j] = np.nan
    return values


def with_gap_cells(columns: pd.DataFrame, gaps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Columns with NaN in the filled cells."""
    masked = {name: columns[name].astype(float).mask(absent) for name, absent in gaps.items()}
    return columns.assign(**masked) if masked else columns

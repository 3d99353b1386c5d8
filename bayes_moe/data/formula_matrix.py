"""Columns of a formula on a table, by formulaic, with errors in words."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, listed
from bayes_moe.data.formula_functions import Functions

if TYPE_CHECKING:
    import pandas as pd


def materialise(
    recipe: Any, columns: pd.DataFrame, shown: str, functions: Functions, expected: int | None
) -> Any:
    """Columns of a formula on a table, as formulaic returns them.

    ``recipe`` is what formulaic parsed or fitted, ``shown`` the formula's text for errors; more
    columns than ``expected`` are refused.

    Raises
    ------
    DataError
        If the formula cannot be evaluated.
    """
    from formulaic.errors import DataMismatchWarning

    from bayes_moe.data.formula_values import Materializer

    # A formula without columns (`~ 1`) takes its number of rows from the table's index.
    table = columns if columns.shape[1] else columns.assign(**{names.OBS: 0})
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DataMismatchWarning)
            made = Materializer(table, functions, expected)
            return made.get_model_matrix(recipe, na_action="ignore")
    except DataMismatchWarning as error:
        reason = str(error).split(". They are")[0]
        raise DataError(f"Unseen category in {shown!r}: {reason}.") from error
    except Exception as error:  # functions in a formula can raise any exception
        named = error if isinstance(error, DataError) else error.__cause__
        if isinstance(named, DataError):
            raise DataError(f"{named} (formula {shown!r})") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise DataError(f"Cannot evaluate the formula {shown!r} on the table: {reason}") from error


def finite_values(matrix: Any, labels: np.ndarray) -> np.ndarray:
    """Values (obs, column) of columns; DataError where they are not finite."""
    values = np.asarray(matrix, dtype=float)
    bad = ~np.isfinite(values)
    if bad.any():
        column = int(np.argmax(bad.any(axis=0)))
        rows = labels[bad[:, column]]
        term = str(matrix.columns[column])
        domain = "check the function and its domain"
        if term.startswith("offset(log("):
            domain = "what is inside the log, such as an exposure, must be positive"
        raise DataError(
            f"The term {term!r} is not finite in {len(rows)} row(s), first "
            f"at row(s) {listed(rows)}: {domain}."
        )
    return values


def unstable(term: str) -> str:
    """Message on a term that changes with the other rows of the table."""
    return (
        f"The term {term!r} depends on which other rows the table has, so it would change its "
        "meaning on new rows. Use functions that remember the fitted rows, such as center(x), "
        "scale(x), poly(x, 2) or bs(x, df=5), or make it a column of the table."
    )

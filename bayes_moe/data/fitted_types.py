"""Columns of other rows in the types of the fitted ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bayes_moe.core.errors import DataError, listed
from bayes_moe.data.formulas import FittedFormula, text_columns, used_columns
from bayes_moe.data.group_terms import group_columns, without_groups
from bayes_moe.data.tables import check_known, kind

if TYPE_CHECKING:
    import pandas as pd


def as_fitted(
    columns: pd.DataFrame,
    fitted: pd.DataFrame,
    formulas: Mapping[str, str],
    fits: Iterable[FittedFormula],
    labelled: Iterable[str],
) -> pd.DataFrame:
    """New columns in the types of the fitted ones; DataError for values these cannot hold.

    ``labelled`` are columns of any type that has the labels of the response.
    """
    import pandas as pd

    if not len(columns):
        return fitted[list(columns)].iloc[:0]
    converted = {}
    available = [*map(str, fitted)]
    # Columns of groups alone may have others than the fitted ones.
    free = {*labelled} | (
        group_columns(formulas.values())
        - {*used_columns([without_groups(f) for f in formulas.values()], available)}
    )
    free |= {*text_columns(formulas.values(), available)}  # any texts
    for name in map(str, columns):
        if name in free:
            converted[name] = columns[name]
            continue
        old, new = fitted[name], columns[name]
        if isinstance(old.dtype, pd.CategoricalDtype):
            check_known(name, new, old.cat.categories)
            new = new.astype(old.dtype)
        elif kind(new) != kind(old):
            raise DataError(
                f"Column {name!r} holds {kind(new)} here, such as {listed(new[:1].tolist())} "
                f"at row 0, but {kind(old)} in the fitted rows."
            )
        converted[name] = new
    for fit in fits:
        for name, categories in fit.categories.items():
            if name in converted:
                check_known(name, converted[name], categories)
    return pd.DataFrame(converted, index=columns.index)

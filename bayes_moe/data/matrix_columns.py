"""Groups of columns: those of a matrix, ``emb[0]``, ``emb[1]``, ..., and those of a pattern.

A column of arrays is kept as one column of numbers for each of their elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, unknown

if TYPE_CHECKING:
    import pandas as pd

ELEMENT = re.compile(r"([^()\[\]]+)\[(0|[1-9]\d*)\]")
"""Name of a column of a matrix."""


SPARSE_ROWS = "sparse rows"
"""Name of the type of a column that is a sparse matrix."""


def element(name: str, j: int | str) -> str:
    """Name of column ``j`` of a matrix."""
    return f"{name}[{j}]"


def members(name: str, available: Iterable[str]) -> list[str]:
    """Columns of a matrix among those of a table, by number; none if there is no such matrix."""
    known = {*available}
    found: list[str] = []
    while element(name, len(found)) in known:
        found.append(element(name, len(found)))
    return found


MADE = re.compile(r"(lag|diff|rolling|text)\(.+\)(\[\d+\])?", re.DOTALL)
"""Names of columns that terms make, of the rows before and of texts."""


def matching(pattern: str, available: Iterable[str]) -> list[str]:
    """Columns whose names match a pattern with ``*``, ``?`` and ``[...]``, in the table's order.

    Columns of terms such as ``lag(x, 1)`` and ``text(z)`` are no columns of the user's table.
    """
    return [n for n in available if fnmatchcase(n, pattern) and not MADE.fullmatch(n)]


def check_width(name: str, fitted: Iterable[str], available: Iterable[str]) -> None:
    """Raise :class:`DataError` if a matrix has another width in a table than in the fitted one."""
    expected, given = len(members(name, fitted)), len(members(name, available))
    if name in (columns := [*available]):
        raise DataError(
            f"Column {name!r} has {expected} numbers a row in the fitted rows; here it has not the "
            "same number of them in each row."
        )
    if not given:
        raise DataError(f"{unknown('column', name, columns)} The model needs it.")
    if given != expected:
        raise DataError(
            f"Column {name!r} has {given} numbers a row here, but {expected} in the fitted rows."
        )


def matrix_of(name: str, values: Any) -> np.ndarray | None:
    """Numbers (row, element) of a column of arrays; None for one of single values.

    Raises
    ------
    DataError
        For arrays of more dimensions, and matrices without a column.
    """
    values = values if hasattr(values, "ndim") and hasattr(values, "shape") else None
    if values is None or values.ndim < 2:
        return None
    if values.ndim > 2 or not values.shape[1]:
        raise DataError(
            f"A column of a dict has one number a row, or an array (row, column) of them; {name!r} "
            f"has the shape {tuple(values.shape)}."
        )
    return np.asarray(values)


def expanded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each column of equally long arrays or lists as one column an element."""
    import pandas as pd

    objects = (name for name in table.columns if table[name].dtype == object)
    stacked = {name: _stacked(table[name]) for name in objects}
    wide = {name: elements(name, m, table.index) for name, m in stacked.items() if m is not None}
    if not wide:
        return table
    columns: dict[str, pd.Series] = {}
    for name in table.columns:
        own = wide.get(name, {name: table[name]})
        if columns.keys() & own.keys():
            raise DataError(f"The table has columns of the names of {name!r}'s own; rename it.")
        columns |= own
    return pd.DataFrame(columns, index=table.index)


def elements(name: str, matrix: np.ndarray, index: Any = None) -> dict[str, pd.Series]:
    """Columns of a matrix (row, element) by name."""
    import pandas as pd

    table = pd.DataFrame(matrix, index=index)
    return {element(name, j): table[j] for j in range(matrix.shape[1])}


def _stacked(series: pd.Series) -> np.ndarray | None:
    """Numbers (row, element) of a column of equally long arrays or lists; None for any other."""
    if series.dtype != object or not len(series):
        return None
    first = series.iloc[0]
    if not isinstance(first, list | tuple | np.ndarray) or np.ndim(first) != 1 or not len(first):
        return None
    if any(not hasattr(value, "__len__") or len(value) != len(first) for value in series):
        return None
    stacked = np.array(series.tolist())
    return stacked if stacked.dtype.kind in "biuf" and stacked.ndim == 2 else None

"""Sparse matrices as columns of tables: what tables and formulas need to know of them.

A column ``x`` that is a sparse matrix has the terms ``x[0]``, ``x[1]``, ... A formula takes it as a
term by itself, and no array of all its numbers is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, listed
from bayes_moe.data.matrix_columns import SPARSE_ROWS, element, elements, members

if TYPE_CHECKING:
    import pandas as pd


def sparse_of(values: Any) -> Any:
    """The sparse matrix that a user gives as a column, None if it is none.

    That may be a data frame whose columns are all sparse, with 0 as what is not stored.
    """
    if hasattr(values, "tocsr") and hasattr(values, "toarray"):
        return values
    kinds = getattr(values, "dtypes", None) if hasattr(values, "sparse") else None
    if getattr(values, "ndim", 0) != 2 or kinds is None or not len(kinds):
        return None
    if not all(getattr(kind, "fill_value", None) == 0 for kind in kinds):
        return None
    return values.sparse.to_coo()


def matrix_in(series: pd.Series) -> Any:
    """The sparse matrix (row, column) that a column of a table is; None if it is another."""
    return series.array.matrix if series.dtype.name == SPARSE_ROWS else None


def sparse_names(columns: pd.DataFrame) -> list[str]:
    """Names of the columns of a table that are sparse matrices."""
    kinds = columns.dtypes.items()
    return [str(name) for name, dtype in kinds if dtype.name == SPARSE_ROWS]


def as_column(name: str, values: Any) -> pd.Series:
    """A sparse matrix that a user gives, as a column of a table.

    Raises
    ------
    DataError
        For one that has not two dimensions, no column, or is not of real numbers.
    """
    from bayes_moe.data.sparse_rows import column_of

    if values.ndim != 2 or not values.shape[1]:
        raise DataError(
            f"A sparse matrix as a column has rows and columns; {name!r} has the shape "
            f"{tuple(values.shape)}."
        )
    if values.dtype.kind not in "biuf":
        raise DataError(f"The sparse matrix {name!r} holds {values.dtype}; give it real numbers.")
    return column_of(values)


def infinite_rows(series: pd.Series) -> np.ndarray:
    """Whether each row (row,) of a sparse matrix has an infinite number."""
    matrix = matrix_in(series)
    infinite: np.ndarray = matrix._with_data(np.isinf(matrix.data)).sum(axis=1) > 0
    return infinite


def matrices_as_fitted(table: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """New rows in which matrices are sparse where those of the fitted rows are, and nowhere else.

    Raises
    ------
    DataError
        For a sparse matrix of another width than that of the fitted rows.
    """
    expected = {name: matrix_in(fitted[name]).shape[1] for name in sparse_names(fitted)}
    for name in expected:
        parts = [] if name in table else members(name, table.columns)
        if parts:
            from bayes_moe.data.sparse_rows import column_of

            column = column_of(table[parts].to_numpy(dtype=float), table.index)
            table = table.drop(columns=parts).assign(**{name: column})
    for name in sparse_names(table):
        matrix = matrix_in(table[name])
        width = expected.get(name, len(members(name, fitted.columns)))
        if width and matrix.shape[1] != width:
            raise DataError(
                f"Column {name!r} has {matrix.shape[1]} numbers a row here, but {width} in the "
                "fitted rows."
            )
        if width and name not in expected:
            own = elements(name, matrix.toarray(), table.index)
            table = table.drop(columns=name).assign(**own)
    return table


def term_names(columns: pd.DataFrame, names: Iterable[str]) -> tuple[str, ...]:
    """Names of the terms of sparse columns of a table."""
    found: list[str] = []
    for name in names:
        rows = columns[name].array
        found += [element(name, j) for j in rows.labels or range(rows.matrix.shape[1])]
    return tuple(found)


def stacked(columns: pd.DataFrame, names: Iterable[str]) -> Any:
    """Sparse matrix (obs, term) of sparse columns of a table, side by side."""
    from scipy.sparse import hstack

    every = [matrix_in(columns[name]) for name in names]
    return every[0] if len(every) == 1 else hstack(every, format="csr")


def needs_arrays(what: str, names: Iterable[str]) -> str:
    """Message on something that takes no sparse matrix."""
    names = [*names]
    instead = f"give an array, {names[0]}.toarray(), of few columns"
    if names[0].endswith(")"):
        instead = f"write {names[0][:-1]}, components=100), which makes few columns of it"
    return (
        f"{what} takes no sparse matrix, as the column(s) {listed(names)}: use method='em', "
        f"'map' or 'laplace' with linear predictors, or {instead}."
    )


def at_medians(series: pd.Series, rows: int) -> pd.Series:
    """Sparse column of so many rows, in all of which each number is its median in a column."""
    from scipy.sparse import csr_array, vstack

    from bayes_moe.data.sparse_rows import column_of

    matrix = matrix_in(series)
    often = np.flatnonzero(
        2 * np.bincount(matrix.indices, minlength=matrix.shape[1]) >= len(series)
    )
    row = np.zeros((1, matrix.shape[1]))
    for j in often:  # the median of others is 0
        row[0, j] = np.median(matrix[:, [j]].toarray())
    return column_of(vstack([csr_array(row)] * rows, format="csr"))


def stored_parts(series: pd.Series) -> Mapping[str, np.ndarray]:
    """Entries of a sparse column as plain arrays, by name."""
    matrix = matrix_in(series)
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}


def restored(parts: Mapping[str, np.ndarray], width: Any) -> pd.Series:
    """Sparse column of :func:`stored_parts`, which anyone may have written.

    Raises
    ------
    ValueError
        If the parts are those of no matrix.
    """
    from scipy.sparse import csr_array

    from bayes_moe.data.sparse_rows import column_of

    data, indices, indptr = (np.asarray(parts[n]) for n in ("data", "indices", "indptr"))
    whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in (indices, indptr))
    if not whole or data.ndim != 1 or isinstance(width, bool) or not isinstance(width, int):
        raise ValueError("the parts of a sparse matrix have other types")
    ends = indptr.astype(np.int64)
    right = len(ends) > 0 and ends[0] == 0 and (np.diff(ends) >= 0).all()
    if not right or not ends[-1] == len(data) == len(indices):
        raise ValueError("the rows of a sparse matrix do not fit its entries")
    if len(indices) and not (indices.min() >= 0 and int(indices.max()) < width):
        raise ValueError("a sparse matrix has entries beyond its columns")
    shape = (len(ends) - 1, width)
    return column_of(csr_array((data.astype(float), indices, indptr), shape=shape))

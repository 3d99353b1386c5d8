"""A sparse matrix as one column of a pandas table: each of its values is a row of the matrix.

Selecting rows of the table selects rows of the matrix. Only tables with such a column import this
module: others find these columns by :func:`bayes_moe.data.sparse_columns.matrix_in`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype
from pandas.api.indexers import check_array_indexer
from scipy.sparse import csr_array, vstack

from bayes_moe.data.matrix_columns import SPARSE_ROWS


class SparseRowsDtype(ExtensionDtype):
    """Type of a column whose values are rows of a sparse matrix."""

    name = SPARSE_ROWS
    type = np.ndarray
    kind = "O"

    @classmethod
    def construct_array_type(cls) -> Any:
        """Return the type of the arrays of this type of values."""
        return SparseRows


class SparseRows(ExtensionArray):
    """Rows of a sparse matrix.

    Parameters
    ----------
    matrix : sparse matrix (row, column)
        Of any format; it is kept in compressed rows of float64, without entries that are twice.
    labels : tuple of str, optional
        Names of the columns; by default their numbers.
    """

    def __init__(self, matrix: Any, labels: tuple[str, ...] | None = None) -> None:
        rows = csr_array(matrix, dtype=float)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        self.matrix, self.labels = rows, labels

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Self:
        return cls(csr_array(np.vstack([np.asarray(row) for row in scalars])))

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Self]) -> Self:
        rows = vstack([part.matrix for part in to_concat], format="csr")
        return cls(rows, to_concat[0].labels)

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return SparseRowsDtype()

    @property
    def nbytes(self) -> int:
        """Bytes of the stored entries."""
        m = self.matrix
        return int(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, int | np.integer):
            return self.matrix[[int(item)]].toarray()[0]
        if isinstance(item, tuple):
            item = item[0]
        if not isinstance(item, slice):
            item = check_array_indexer(self, item)
        return type(self)(self.matrix[item], self.labels)

    def __eq__(self, other: Any) -> Any:
        same = isinstance(other, SparseRows) and self.matrix.shape == other.matrix.shape
        if not same:
            return np.zeros(len(self), dtype=bool)
        return np.diff((self.matrix != other.matrix).tocsr().indptr) == 0

    def isna(self) -> np.ndarray:
        """Whether each row (row,) has a missing number."""
        absent: np.ndarray = self.matrix._with_data(np.isnan(self.matrix.data)).sum(axis=1) > 0
        return absent

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        """Rows at some positions; none can be missing."""
        where = np.asarray(indices, dtype=np.intp)
        if allow_fill and (where < 0).any():
            raise ValueError("a sparse matrix has no missing rows")
        return type(self)(self.matrix[where], self.labels)

    def copy(self) -> Self:
        """Return the same rows, with entries of their own."""
        return type(self)(self.matrix.copy(), self.labels)

    def _formatter(self, boxed: bool = False) -> Any:
        return lambda row: f"{np.count_nonzero(row)} of {len(row)} not 0"


def column_of(
    matrix: Any, index: pd.Index | None = None, labels: tuple[str, ...] | None = None
) -> pd.Series:
    """Return a sparse matrix (row, column), whose columns may have names, as a column of a table.

    ``index`` are the labels of the rows.
    """
    return pd.Series(SparseRows(matrix, labels), index=index)

"""Design matrices with sparse columns: the dense terms of a formula, then those of its matrices.

Centred features ``(S - c) / s`` of sparse ones are not sparse, so none are made: products with them
are products with ``S`` and a part of rank one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed
from bayes_moe.data.formula_functions import TEXT
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.sparse_columns import needs_arrays, sparse_names, stacked, term_names
from bayes_moe.data.sparse_terms import sparse_terms
from bayes_moe.data.tables import LARGEST, ROUNDING, SMALLEST

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SparseValues:
    """Features (obs, term) on the user's scale: dense ones, then sparse ones.

    ``columns`` are the names of the table's columns that are sparse. It is no array: what needs
    one raises :class:`SpecError`.
    """

    dense: np.ndarray
    sparse: Any
    columns: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of terms."""
        return len(self.dense), self.dense.shape[1] + self.sparse.shape[1]

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, rows: Any) -> SparseValues:
        if isinstance(rows, tuple):
            raise self.refused
        return replace(self, dense=self.dense[rows], sparse=self.sparse[rows])

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self.refused

    @property
    def refused(self) -> SpecError:
        """The error for something that needs an array."""
        return SpecError(needs_arrays("This", self.columns))

    def product(self, coef: np.ndarray) -> np.ndarray:
        """Sums (output, obs) of the features times coefficients (output, term)."""
        own = self.dense.shape[1]
        result: np.ndarray = (self.sparse @ coef[:, own:].T).T
        return result + coef[:, :own] @ self.dense.T if own else result

    def equals(self, other: Any) -> bool:
        """Whether the numbers are the same."""
        if not isinstance(other, SparseValues) or self.sparse.shape != other.sparse.shape:
            return False
        different = (self.sparse != other.sparse).nnz
        return not different and np.array_equal(self.dense, other.dense)


@dataclass(frozen=True)
class SparseMatrix(Matrix):
    """Features of one predictor, of which the last are those of sparse columns of the table.

    ``values`` are :class:`SparseValues`. A sparse column of zeros has the scale 1.
    """

    @property
    def parts(self) -> SparseValues:
        """Dense and sparse features."""
        return cast("SparseValues", self.values)

    @property
    def standardised(self) -> np.ndarray:
        """Centred features are not sparse: raises :class:`SpecError`."""
        raise self.parts.refused

    @property
    def to_user(self) -> np.ndarray:
        """The matrix would be too large: raises :class:`SpecError`."""
        raise self.parts.refused

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are sparse."""
        return self.parts.columns

    def product(self, coef: np.ndarray) -> np.ndarray:
        return self.parts.product(coef)

    def differing(self, others: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        dense, sparse = self.parts.dense, self.parts.sparse
        own = dense.shape[1]
        yield from zip(self.terms[:own], dense.T, strict=True)
        difference = sparse - sparse[others]
        for j in np.unique(difference.indices[difference.data != 0]):
            yield self.terms[own + j], sparse[:, [j]].toarray().ravel()

    def same_values(self, other: Matrix) -> bool:
        return self.parts.equals(other.values)

    def equals(self, other: Matrix) -> bool:
        a, b = self.offset, other.offset
        same_offset = a is b or (a is not None and b is not None and np.array_equal(a, b))
        return same_offset and self.same_values(other)


def sparse_in(rows: Rows) -> list[str]:
    """Names of sparse columns and text terms that are features of rows."""
    parts = [m.columns for m in rows.matrices.values() if isinstance(m, SparseMatrix)]
    return [*dict.fromkeys([*sparse_names(rows.columns), *(n for part in parts for n in part)])]


def check_no_sparse(rows: Rows, what: str) -> None:
    """Raise :class:`SpecError` for ``what`` needing arrays where features of rows are sparse."""
    names = sparse_in(rows)
    if names:
        raise SpecError(needs_arrays(what, names))


def with_columns(
    matrix: Matrix,
    columns: pd.DataFrame,
    part: tuple[str, str],
    weights: np.ndarray | None,
    center: bool,
) -> Matrix:
    """Matrix of a formula's dense terms, with those of sparse columns of the fitted rows.

    ``part`` are the stem and the formula.

    Raises
    ------
    DataError
        See :func:`check_sparse`.
    """
    stem, formula = part
    sparse = sparse_terms(formula, sparse_names(columns))
    if not sparse:
        return matrix
    values, terms = stacked(columns, sparse), term_names(columns, sparse)
    check_sparse(values, terms, stem, matrix.intercept is not None)
    return _with_sparse(matrix, values, (sparse, terms), weights, center)


def beside_sparse(matrix: Matrix, dense: np.ndarray, columns: pd.DataFrame) -> Any:
    """Values of other rows for :meth:`Matrix.at`, from those of the dense terms (obs, term)."""
    if not isinstance(matrix, SparseMatrix):
        return dense
    return SparseValues(dense, stacked(columns, matrix.columns), matrix.columns)


def _with_sparse(
    matrix: Matrix,
    sparse: Any,
    named: tuple[Iterable[str], tuple[str, ...]],
    weights: np.ndarray | None,
    center: bool,
) -> SparseMatrix:
    """Matrix of a formula's dense terms, with the sparse features (obs, term) of the fitted rows.

    ``named`` are the sparse columns and their terms. Rows count by their ``weights`` (obs,).
    """
    columns, terms = named
    has_intercept = matrix.intercept is not None
    share = np.full(sparse.shape[0], 1.0) if weights is None else np.asarray(weights, dtype=float)
    share = share / share.sum()
    mean, square = share @ sparse, share @ sparse.power(2)
    entries = share @ sparse._with_data(np.ones_like(sparse.data))
    # The sum of squares about the mean, without the difference of large numbers.
    rows = np.repeat(share, np.diff(sparse.indptr))
    about = sparse._with_data(rows * (sparse.data - mean[sparse.indices]) ** 2).sum(axis=0)
    sd = np.sqrt(about + np.maximum(1 - entries, 0.0) * mean**2)
    scale = sd if has_intercept else np.sqrt(square)
    centre = mean if has_intercept and center else np.zeros(len(terms))
    least, most = (np.asarray(f(axis=0).todense()).ravel() for f in (sparse.min, sparse.max))
    low, high = matrix.range
    return SparseMatrix(
        (*matrix.terms, *terms),
        SparseValues(matrix.values, sparse, tuple(columns)),  # type: ignore[arg-type]
        np.concatenate([matrix.center, centre]),
        np.concatenate([matrix.scale, np.where(scale > 0, scale, 1.0)]),
        (np.concatenate([low, least]), np.concatenate([high, most])),
        matrix.offset,
        matrix.level,
        matrix.groups,
    )


def check_sparse(sparse: Any, terms: tuple[str, ...], stem: str, has_intercept: bool) -> None:
    """Raise :class:`DataError` for sparse columns that are constant or that overflow.

    A column of zeros is allowed: a part of the rows of a table often has some. Columns that are
    the same are not looked for.
    """
    size = np.asarray(abs(sparse).max(axis=0).todense()).ravel()
    least, most = (np.asarray(f(axis=0).todense()).ravel() for f in (sparse.min, sparse.max))
    wild = (size > LARGEST) | ((size > 0) & (size < SMALLEST))
    if wild.any():
        j = int(np.argmax(wild))
        raise DataError(
            f"The design column {terms[j]!r} of {stem!r} has values up to {size[j]:g}: double "
            "precision cannot square them. Change the unit."
        )
    constant = (size > 0) & (most - least <= ROUNDING * size)
    if has_intercept and constant.any():
        named = [terms[j] for j in np.flatnonzero(constant)]
        remedy = "Remove them from the matrix."
        if all(name.startswith(f"{TEXT}(") for name in named):
            remedy = "Leave them out by max_df=0.99 or stop_words= in the text term."
        raise DataError(
            f"Sparse design column(s) of {stem!r} are constant up to rounding, beside the constant "
            f"term {INTERCEPT!r}: {listed(named)}. {remedy}"
        )

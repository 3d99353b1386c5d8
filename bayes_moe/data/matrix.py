"""Matrix and Rows: design matrices and response of a set of rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.group_terms import GroupColumns
from bayes_moe.data.observation import UNOBSERVED, Observation
from bayes_moe.data.sequences import Sequences

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Matrix:
    """Features of one predictor, for one set of rows.

    ``values`` (obs, term) are on the user's scale. ``center`` and ``scale`` (term,) belong to
    the rows that the model was fitted to: ``standardised`` is ``(values - center) / scale``.
    ``span`` holds their least and largest values (term,); by default those of ``values``.
    ``offset`` (obs, output), or (obs, 1) for all outputs alike, is what is added to the predictor;
    ``level`` is its mean over the fitted rows.
    ``groups`` are the columns of the formula's group terms. ``sequences`` say which rows follow one
    another, where they are whole series of a model that has ``time``. ``outputs`` (sample, output,
    obs) are those of a predictor with memory, without the offset, where they are known.
    """

    terms: tuple[str, ...]
    values: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    span: tuple[np.ndarray, np.ndarray] | None = None
    offset: np.ndarray | None = None
    level: float = 0.0
    groups: tuple[GroupColumns, ...] = ()
    sequences: Sequences | None = None
    outputs: np.ndarray | None = None

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values (term,) of the fitted rows."""
        if self.span is not None:
            return self.span
        return np.nanmin(self.values, axis=0), np.nanmax(self.values, axis=0)

    def at(self, values: np.ndarray, offset: np.ndarray | None = None) -> Matrix:
        """Matrix of other rows ``values`` (obs, term), with the fitted centre, scale and span.

        ``offset`` (obs, output or 1) is theirs.
        """
        return replace(self, values=values, span=self.range, offset=offset, sequences=None)

    def same_values(self, other: Matrix) -> bool:
        """Whether the values are those of another matrix, and none is missing."""
        return np.array_equal(self.values, other.values)

    def equals(self, other: Matrix) -> bool:
        """Whether values, offset and outputs are those of another matrix."""
        pairs = (
            (self.values, other.values),
            (self.offset, other.offset),
            (self.outputs, other.outputs),
        )
        return all(
            a is b or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))
            for a, b in pairs
        )

    def differing(self, others: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Terms and values (obs,), at least those that differ from rows at positions (obs,)."""
        yield from zip(self.terms, self.values.T, strict=True)

    def pick(self, which: slice | np.ndarray) -> Matrix:
        """Matrix of the rows at some positions, which as parts of series have no sequences."""
        found = self.at(self.values[which], None if self.offset is None else self.offset[which])
        groups = tuple(g.pick(which) for g in self.groups)
        return replace(found, groups=groups, sequences=None)

    @property
    def intercept(self) -> int | None:
        """Position of the intercept among the terms, or None."""
        return self.terms.index(INTERCEPT) if INTERCEPT in self.terms else None

    def product(self, coef: np.ndarray) -> np.ndarray:
        """Sums (output, obs) of the features times coefficients (output, term)."""
        sums: np.ndarray = np.matmul(coef, self.values.T)
        return sums

    def column(self, j: int) -> np.ndarray:
        """Values (obs,) of one term; of paths that differ by draw (sample, 1, path)."""
        values: np.ndarray = self.values[:, j]
        return values

    @property
    def offset_by_output(self) -> np.ndarray | None:
        """Offset (output or 1, obs) or None; of paths that differ by draw (sample, ..., path)."""
        return None if self.offset is None else self.offset.T

    @property
    def standardised(self) -> np.ndarray:
        """Centred and scaled features (obs, term)."""
        return (self.values - self.center) / self.scale

    @property
    def to_user(self) -> np.ndarray:
        """Matrix (term, term) that takes coefficients of ``standardised`` to those of ``values``.

        ``beta = raw @ to_user``: slopes are divided by their scale, and the intercept changes by
        the slopes times the centre.
        """
        linear = np.diag(1 / self.scale)
        if self.intercept is not None:
            linear[:, self.intercept] -= self.center / self.scale
        return linear


def one_row(matrix: Matrix) -> Matrix:
    """One row of features that are the same for all rows, the intercept alone; else the features.

    A parameter of many numbers is then not repeated for each row.
    """
    constant = type(matrix) is Matrix and matrix.terms == (INTERCEPT,)
    if not constant or matrix.groups or not (matrix.offset is None and matrix.outputs is None):
        return matrix
    return matrix.pick(slice(1))


@dataclass(frozen=True)
class Rows:
    """Rows of a table as a model uses them: design matrices by stem, labels, columns, response.

    ``obs_id`` (obs,) are positions in the table, and ``index`` (obs,) the user's own labels of the
    rows, if the table has any. ``observation`` is what is observed of the rows. ``before`` are the
    fitted rows that come before these in their series, with responses and the same numbers of
    series: what models with memory read first; None if there are none. ``part_of`` are the rows
    that these were picked from and their positions (obs,) there, if those were whole series.
    """

    matrices: Mapping[str, Matrix]
    obs_id: np.ndarray
    columns: Any
    observation: Observation = UNOBSERVED
    index: pd.Index | None = None
    before: Rows | None = None
    part_of: tuple[Rows, np.ndarray] | None = None

    @property
    def sequences(self) -> Sequences | None:
        """Which rows follow one another; None without times that increase in each series."""
        return next((m.sequences for m in self.matrices.values()), None)

    @property
    def response(self) -> np.ndarray | None:
        """Response (obs,), or (response, obs) of several; None if it is not known."""
        return self.observation.response

    @property
    def weights(self) -> np.ndarray | None:
        """Weights (obs,) of the rows; None if all are 1."""
        return self.observation.weights

    @property
    def weight(self) -> float:
        """Sum of the weights: how many rows the rows count as."""
        return float(self.size) if self.weights is None else float(self.weights.sum())

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.obs_id)

    @property
    def observed(self) -> np.ndarray:
        """Response (obs,), or (response, obs) of several; DataError for rows without one."""
        if self.response is None:
            raise DataError("These rows have no response.")
        return self.response

    def counted(self, values: np.ndarray) -> np.ndarray:
        """Values (..., obs) of the rows times their weights."""
        return values if self.weights is None else values * self.weights

    def with_response(self, response: np.ndarray) -> Rows:
        """The same rows with another response (obs,)."""
        return replace(self, observation=replace(self.observation, response=response))

    def with_limits(self, limits: np.ndarray | None) -> Rows:
        """The same rows with limits (4, obs) of what is recorded of them."""
        return replace(self, observation=replace(self.observation, limits=limits))

    def in_time(self, before: Rows | None = None) -> Rows:
        """Rows whose matrices know which follow one another, after the rows ``before``."""
        sequences = self.observation.sequences
        matrices = {stem: replace(m, sequences=sequences) for stem, m in self.matrices.items()}
        return replace(self, matrices=matrices, before=before, part_of=None)

    def pick(self, which: slice | np.ndarray) -> Rows:
        """Rows at some positions."""
        matrices = {stem: m.pick(which) for stem, m in self.matrices.items()}
        seen = self.observation.pick(which)
        index = None if self.index is None else self.index[which]
        whole = self.part_of
        if whole is None and self.sequences is not None:
            whole = (self, np.arange(self.size))
        part_of = None if whole is None else (whole[0], whole[1][which])
        columns = self.columns.iloc[which]
        return Rows(matrices, self.obs_id[which], columns, seen, index, part_of=part_of)


def design_matrix(
    values: np.ndarray,
    terms: tuple[str, ...],
    center: bool,
    weights: np.ndarray | None = None,
    more: tuple[np.ndarray | None, tuple[GroupColumns, ...]] = (None, ()),
) -> Matrix:
    """Matrix of a formula's values (obs, term), with the centre and scale of each term.

    Rows count by their ``weights`` (obs,), if there are any; ``offset`` (obs, output or 1) is that
    of the formula.
    """
    has_intercept = INTERCEPT in terms
    free = np.array([t != INTERCEPT for t in terms], dtype=bool)
    absent = np.isnan(values)
    # Masked arrays sum in another order, so they are used only where values are missing.
    if absent.any():
        observed = np.ma.masked_array(values, absent)
        mean, root_mean_square, sd = (x.data for x in _moments(observed, weights, np.ma.average))
    else:
        mean, root_mean_square, sd = _moments(values, weights, np.average)
    centre = np.where(free & has_intercept & center, mean, 0.0)
    scale = np.where(free, sd if has_intercept else root_mean_square, 1.0)
    span = (np.nanmin(values, axis=0), np.nanmax(values, axis=0))
    offset, groups = more
    level = 0.0 if offset is None else float(np.average(offset.mean(axis=1), weights=weights))
    return Matrix(terms, values, centre, scale, span, offset, level, groups)


def _moments(values: Any, weights: np.ndarray | None, average: Any) -> tuple[Any, Any, Any]:
    """Mean, root mean square and standard deviation (term,) of values (obs, term)."""
    if not values.shape[1]:  # all features are of sparse columns
        return (np.empty(0),) * 3
    mean = average(values, axis=0, weights=weights)
    square = average(values**2, axis=0, weights=weights)
    sd = np.sqrt(average((values - mean) ** 2, axis=0, weights=weights))
    return mean, np.sqrt(square), sd

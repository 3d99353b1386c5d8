"""Weighted sums over rows of features, and of products of features.

Predictors of one model mostly have the same features: equal tables are kept once, as (term, obs).
A sum of products ``sum_i w_i z_ij z_ik`` for many weights ``w`` is one matrix product of the
weights (pair, obs) with products of features (product, obs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.sparse_matrix import SparseMatrix
from bayes_moe.em.parameter_vector import ParameterBlock
from bayes_moe.em.sparse_features import SparseTable

LARGEST_CACHE = 2**23
"""Elements of products of features that are kept between passes (64 MiB)."""
WIDE = 64
"""Terms from which products are made of whole tables, if there are fewer weights than terms."""


@dataclass(frozen=True)
class Features:
    """Distinct tables of features (term, obs).

    Attributes
    ----------
    tables : list of array or SparseTable
        (term, obs) each; the single feature of a constant is (1, 1).
    of : list of int
        Table of each block of parameters.
    """

    tables: list[np.ndarray | SparseTable]
    of: list[int]
    _products: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    _moments: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_blocks(cls, slots: Sequence[ParameterBlock], rows: Rows) -> Features:
        """Internal features of blocks of parameters on rows."""
        tables: list[np.ndarray | SparseTable] = []
        index: list[int] = []
        matrices: list[Matrix | None] = []
        for block in slots:
            matrix = None if block.scaling is None else block.features(rows)
            same = [k for k, other in enumerate(matrices) if _same(matrix, other)]
            if not same:
                same = [len(tables)]
                matrices.append(matrix)
                tables.append(_table(matrix))
            index.append(same[0])
        return cls(tables, index)

    @property
    def is_sparse(self) -> bool:
        """Whether a table has sparse features."""
        return any(isinstance(table, SparseTable) for table in self.tables)

    @property
    def arrays(self) -> list[np.ndarray]:
        """The tables, none of which is sparse."""
        return [self.take(j, slice(None)) for j in range(len(self.tables))]

    def mean_squares(self, raw: np.ndarray, table: int) -> np.ndarray:
        """Mean squares (point, output) over rows of predictors of coefficients (..., term)."""
        found = self.tables[table]
        if isinstance(found, SparseTable):
            squares: np.ndarray = (found.products(raw) ** 2).mean(axis=-1)
            return squares
        moments = self._moments.get(table)
        if moments is None:
            moments = self._moments[table] = np.matmul(found, found.T) / found.shape[1]
        means: np.ndarray = np.einsum("bki,ij,bkj->bk", raw, moments, raw)
        return means

    def take(self, table: int, where: slice) -> np.ndarray:
        """Features (term, obs) of some rows, or (1, 1) of a constant; of a dense table."""
        found = self.tables[table]
        if isinstance(found, SparseTable):
            raise TypeError("the features are sparse")
        return found if self._constant(table) else found[:, where]

    def predictors(self, coef: np.ndarray, table: int, where: slice) -> np.ndarray:
        """Linear predictors (..., obs) of coefficients (..., term) on some rows."""
        found = self.tables[table]
        if isinstance(found, SparseTable):
            return found.rows(where).products(coef)
        eta: np.ndarray = np.matmul(coef, self.take(table, where))
        return eta

    def sums(self, weights: np.ndarray, table: int, where: slice) -> np.ndarray:
        """Sums (..., term) over some rows of features times weights (..., obs)."""
        if self._constant(table):
            return weights.sum(axis=-1, keepdims=True)
        found = self.tables[table]
        if isinstance(found, SparseTable):
            return found.rows(where).sums(weights)
        sums: np.ndarray = np.matmul(weights, found[:, where].T)
        return sums

    def products(self, weights: np.ndarray, tables: tuple[int, int], where: slice) -> np.ndarray:
        """Sums (point, pair, term, term) of products of features times weights (..., obs)."""
        a, b = tables
        shape = (*weights.shape[:2], len(self.tables[a]), len(self.tables[b]))
        if self._constant(a) or self._constant(b):
            return self.sums(weights, b if self._constant(a) else a, where).reshape(shape)
        flat = weights.reshape(-1, weights.shape[-1])
        if isinstance(self.tables[a], SparseTable) or isinstance(self.tables[b], SparseTable):
            return self._sparse_products(flat, a, b, where).reshape(shape)
        if min(shape[2:]) >= WIDE and len(flat) < min(shape[2:]):
            return self._wide_products(flat, a, b, where).reshape(shape)
        sums = np.matmul(flat, self._of_pairs(a, b, where).T)
        if a != b:
            return sums.reshape(shape)
        i, j = _triangle(shape[2])
        square = np.empty((len(flat), *shape[2:]))
        square[:, i, j] = sums
        square[:, j, i] = sums
        return square.reshape(shape)

    def _wide_products(self, flat: np.ndarray, a: int, b: int, where: slice) -> np.ndarray:
        """Sums (weight, term, term) for weights (weight, obs), of tables with many terms.

        One product of matrices for each weight: products of all pairs of terms, made anew for each
        part of the rows, take far longer.
        """
        one, other = self.take(a, where), self.take(b, where)
        found: np.ndarray = np.stack([np.matmul(one * w, other.T) for w in flat])
        if a == b:  # rounding alone makes these asymmetric
            found = (found + np.swapaxes(found, -1, -2)) / 2
        return found

    def _sparse_products(self, flat: np.ndarray, a: int, b: int, where: slice) -> np.ndarray:
        """Sums (weight, term, term) for weights (weight, obs), where a table is sparse."""
        one, other = (
            t.rows(where) if isinstance(t, SparseTable) else t[:, where]
            for t in (self.tables[a], self.tables[b])
        )
        if isinstance(one, SparseTable):
            return np.stack([one.cross_products(w, other) for w in flat])
        assert isinstance(other, SparseTable)
        return np.stack([other.cross_products(w, one).T for w in flat])

    def _constant(self, table: int) -> bool:
        return self.tables[table].shape[1] == 1

    def _of_pairs(self, a: int, b: int, where: slice) -> np.ndarray:
        """Products (product, obs) of features; of one table, each unordered pair once."""
        if (a, b) in self._products:
            return self._products[a, b][:, where]
        one, other = self.take(a, slice(None)), None if a == b else self.take(b, slice(None))
        height = len(one) * (len(one) + 1) // 2 if other is None else len(one) * len(other)
        if height * one.shape[1] <= LARGEST_CACHE:
            self._products[a, b] = _multiplied(one, other)
            return self._products[a, b][:, where]
        return _multiplied(one[:, where], None if other is None else other[:, where])


def _multiplied(one: np.ndarray, other: np.ndarray | None) -> np.ndarray:
    """Products (product, obs) of the terms of two tables, or of the unordered pairs of one."""
    if other is not None:
        return (one[:, None] * other[None]).reshape(-1, one.shape[1])
    height, n = one.shape
    products = np.empty((height * (height + 1) // 2, n))
    at = 0
    for j in range(height):
        np.multiply(one[j], one[j:], out=products[at : at + height - j])
        at += height - j
    return products


def _table(matrix: Matrix | None) -> np.ndarray | SparseTable:
    """Internal features (term, obs) of a matrix; (1, 1) of a constant."""
    if matrix is None:
        return np.ones((1, 1))
    if isinstance(matrix, SparseMatrix):
        return SparseTable.of(matrix)
    return np.ascontiguousarray(matrix.standardised.T)


def _same(one: Matrix | None, other: Matrix | None) -> bool:
    if one is None or other is None:
        return one is other
    return (
        one.terms == other.terms
        and np.array_equal(one.center, other.center)
        and np.array_equal(one.scale, other.scale)
        and one.same_values(other)
    )


@dataclass(frozen=True)
class Group:
    """Pairs of outputs whose features are in the same two tables."""

    tables: tuple[int, int]
    pairs: slice  # positions among the plan's pairs
    row: np.ndarray  # (pair, feature) positions in the matrix
    column: np.ndarray  # (pair, feature)
    size: int  # of the matrix

    @cached_property
    def places(self) -> np.ndarray:
        """Positions (pair, feature, feature) in the raveled matrix."""
        places: np.ndarray = self.row[:, :, None] * self.size + self.column[:, None, :]
        return places


@dataclass(frozen=True)
class Plan:
    """Pairs of stacked outputs that an information matrix needs, and the positions of their sums.

    Pairs are ordered by groups. ``runs`` are consecutive pairs of one output with consecutive
    others: (first, second, positions).
    """

    first: np.ndarray
    second: np.ndarray
    groups: tuple[Group, ...]
    runs: tuple[tuple[slice, slice, slice], ...]

    @classmethod
    def of_pairs(
        cls, first: np.ndarray, second: np.ndarray, tables: np.ndarray, starts: np.ndarray
    ) -> Plan:
        """Plan for pairs (first, second) of outputs.

        ``tables`` (output,) is each output's table of features, ``starts`` (output + 1,) its first
        coefficient.
        """
        key = tables[first] * (tables.max() + 1) + tables[second]
        order = np.argsort(key, kind="stable")
        first, second, key = first[order], second[order], key[order]
        full = int(starts[-1])
        widths = np.diff(starts)
        groups = []
        for start, stop in _stretches(key[1:] != key[:-1]):
            a, b = first[start:stop], second[start:stop]
            row = starts[a, None] + np.arange(widths[a[0]])
            column = starts[b, None] + np.arange(widths[b[0]])
            pair = (int(tables[a[0]]), int(tables[b[0]]))
            groups.append(Group(pair, slice(start, stop), row, column, full))
        breaks = (first[1:] != first[:-1]) | (second[1:] != second[:-1] + 1)
        runs = tuple(
            (slice(first[a], first[a] + 1), slice(second[a], second[b - 1] + 1), slice(a, b))
            for a, b in _stretches(breaks)
        )
        return cls(first, second, tuple(groups), runs)

    def matrix(self, sums: Sequence[np.ndarray], size: int) -> np.ndarray:
        """Symmetric matrices (point, size, size) of sums (point, pair, feature, feature) by group.

        ``size`` is the number of coefficients of all outputs.
        """
        matrix = np.zeros((len(sums[0]), size * size))
        for group, total in zip(self.groups, sums, strict=True):
            matrix[:, group.places] = total
            matrix[:, group.places % size * size + group.places // size] = total
        return matrix.reshape(-1, size, size)

    def pair(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Positions of pairs (a, b), a <= b, among the plan's."""
        order = {pair: k for k, pair in enumerate(zip(self.first, self.second, strict=True))}
        return np.array([order[pair] for pair in zip(a, b, strict=True)])


@cache
def _triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the upper triangle of a square."""
    return np.triu_indices(size)


def _stretches(breaks: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of stretches without breaks; ``breaks`` are between neighbours."""
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(breaks) + 1]
    return list(pairwise(edges))

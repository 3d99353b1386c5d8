"""Tables of standardised features with sparse columns, for sums over rows of products with them.

Standardised sparse features are ``(S - c) / s``: products with them are products with ``S``,
scaled, less a part of rank one. Nothing of the size of the table is made dense.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayes_moe.data.sparse_matrix import SparseMatrix

PROJECTIONS, POWERS = 10, 2
"""Directions in which sparse features vary most that stand for these, and passes to find them."""
MOST_PARTS = 64
"""Stretches of rows of which the sparse part is kept."""


@dataclass(frozen=True, eq=False)
class SparseTable:
    """Standardised features (term, obs), dense ones and then sparse ones.

    Attributes
    ----------
    dense : array (term, obs)
        The dense features.
    sparse : sparse matrix (obs, term)
        The sparse ones, on the user's scale.
    center, scale : array (term,)
        Of the sparse ones.
    """

    dense: np.ndarray
    sparse: Any
    center: np.ndarray
    scale: np.ndarray
    _parts: dict[tuple[int, int], SparseTable] = field(default_factory=dict)

    @classmethod
    def of(cls, matrix: SparseMatrix) -> SparseTable:
        """The standardised features of a design matrix."""
        values = matrix.parts
        own = values.dense.shape[1]
        center, scale = matrix.center, matrix.scale
        dense = np.ascontiguousarray(((values.dense - center[:own]) / scale[:own]).T)
        return cls(dense, values.sparse, center[own:], scale[own:])

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of terms and of rows."""
        return len(self), len(self.sparse.indptr) - 1

    def __len__(self) -> int:
        return len(self.dense) + len(self.scale)

    def rows(self, where: slice) -> SparseTable:
        """The table of some rows."""
        start, stop, _ = where.indices(self.shape[1])
        if (start, stop) == (0, self.shape[1]):
            return self
        part = self._parts.get((start, stop))
        if part is None:
            if len(self._parts) >= MOST_PARTS:  # threads may do so at the same time
                self._parts.clear()
            sparse = self.sparse[start:stop]
            part = SparseTable(self.dense[:, start:stop], sparse, self.center, self.scale)
            self._parts[start, stop] = part
        return part

    def products(self, coef: np.ndarray) -> np.ndarray:
        """Sums (..., obs) over terms of features times coefficients (..., term)."""
        own, flat = len(self.dense), coef.reshape(-1, coef.shape[-1])
        scaled = flat[:, own:] / self.scale
        sums = (self.sparse @ np.ascontiguousarray(scaled.T)).T - (scaled @ self.center)[:, None]
        sums = sums + flat[:, :own] @ self.dense if own else sums
        return sums.reshape(*coef.shape[:-1], self.shape[1])

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Sums (..., term) over rows of features times weights (..., obs)."""
        flat = weights.reshape(-1, weights.shape[-1])
        sparse = (self.sparse.T @ np.ascontiguousarray(flat.T)).T
        sparse = (sparse - flat.sum(axis=1, keepdims=True) * self.center) / self.scale
        sums = np.concatenate([flat @ self.dense.T, sparse], axis=1)
        return sums.reshape(*weights.shape[:-1], len(self))

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """Sums (..., term) over rows of squared features times weights (..., obs)."""
        flat = weights.reshape(-1, weights.shape[-1])
        across = np.ascontiguousarray(flat.T)
        linear, square = (self.sparse.T @ across).T, (self.sparse.power(2).T @ across).T
        total = flat.sum(axis=1, keepdims=True)
        sparse = square - 2 * self.center * linear + total * self.center**2
        sums = np.concatenate([flat @ (self.dense**2).T, sparse / self.scale**2], axis=1)
        return sums.reshape(*weights.shape[:-1], len(self))

    def cross_products(self, weights: np.ndarray, other: SparseTable | np.ndarray) -> np.ndarray:
        """Sums (term, other's term) over rows of products of features times weights (obs,)."""
        if not isinstance(other, SparseTable):
            return self.sums(weights * other).T
        own, theirs = len(self.dense), len(other.dense)
        result = np.empty((len(self), len(other)))
        result[:, :theirs] = self.sums(weights * other.dense).T
        result[:own, theirs:] = other.sums(weights * self.dense)[:, theirs:]
        by_row = self.sparse._with_data(
            self.sparse.data * np.repeat(weights, np.diff(self.sparse.indptr))
        )
        products = (by_row.T @ other.sparse).toarray()
        products -= np.outer(self.center, weights @ other.sparse)
        products -= np.outer(by_row.sum(axis=0), other.center)
        products += weights.sum() * np.outer(self.center, other.center)
        result[own:, theirs:] = products / np.outer(self.scale, other.scale)
        return result


def projections(matrix: SparseMatrix) -> dict[str, np.ndarray]:
    """Features (obs,) that stand for those of a design matrix with sparse columns, by name.

    They are the dense ones, and scores of the directions in which the sparse ones vary most, found
    by subspace iteration from a fixed seed.

    References
    ----------
    Halko, N., Martinsson, P. G., & Tropp, J. A. (2011). Finding structure with randomness:
    probabilistic algorithms for constructing approximate matrix decompositions. SIAM Review, 53(2),
    217-288.
    """
    table = SparseTable.of(matrix)
    own = len(table.dense)
    part = SparseTable(table.dense[:0], table.sparse, table.center, table.scale)
    count = min(PROJECTIONS, *part.shape)
    rng = np.random.default_rng(0)
    basis = part.products(rng.standard_normal((count, len(part))))
    for _ in range(POWERS):
        basis = np.linalg.qr(basis.T)[0].T
        basis = part.products(part.sums(basis))
    scores = np.linalg.qr(basis.T)[0].T * np.sqrt(part.shape[1])
    dense = {t: table.dense[j] for j, t in enumerate(matrix.terms[:own]) if j != matrix.intercept}
    named = ",".join(matrix.columns)
    return dense | {f"{named}: projection {j}": score for j, score in enumerate(scores)}

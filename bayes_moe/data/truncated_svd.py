"""Truncated singular value decomposition of a sparse matrix, without a dense copy of it."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL = 600
"""Rows or columns up to which the decomposition is exact."""
STEPS = 6
"""Steps of the iteration of a subspace."""
LEAST = 1e-7
"""Singular value, relative to the largest, below which there are no more directions."""


def right_directions(matrix: Any, count: int, seed: int = 0) -> np.ndarray:
    r"""First right singular vectors (component, column) of a sparse matrix (row, column).

    Where the smaller side of the matrix has more than ``SMALL`` entries, they are found in a random
    subspace that is multiplied by :math:`X X^T` some times (Halko, Martinsson and Tropp 2011,
    algorithm 4.4), so that the last of many directions are approximate. They are orthonormal up to
    rounding, and the same for the same matrix: the largest entry of each is positive.

    Fewer than ``count`` are returned of a matrix that has fewer directions.
    """
    wide = matrix.T.tocsr()
    flipped = matrix.shape[1] < matrix.shape[0]
    # X of the text below has its smaller side first.
    x, transposed = (wide, matrix) if flipped else (matrix, wide)
    size = x.shape[0]
    if size <= SMALL:
        squares, vectors = np.linalg.eigh((x @ transposed).toarray())
    else:
        width = min(count + max(20, count // 5), size)
        basis = np.random.default_rng(seed).normal(size=(size, width))
        for _ in range(STEPS):
            basis = _orthonormal(x @ (transposed @ basis))
        across = transposed @ basis
        squares, rotation = np.linalg.eigh(across.T @ across)
        vectors = basis @ rotation
    kept = np.flatnonzero(squares > squares[-1] * LEAST**2)[::-1][:count]
    vectors, sizes = vectors[:, kept], np.sqrt(squares[kept])
    found = vectors if flipped else transposed @ vectors / sizes
    largest = np.abs(found).argmax(axis=0)
    signs = np.sign(found[largest, np.arange(len(sizes))])
    return np.ascontiguousarray((found * signs).T)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Orthonormal basis (row, vector) of what columns (row, vector) span."""
    squares, rotation = np.linalg.eigh(columns.T @ columns)
    kept = squares > squares[-1] * 1e-13
    basis: np.ndarray = columns @ (rotation[:, kept] / np.sqrt(squares[kept]))
    return basis

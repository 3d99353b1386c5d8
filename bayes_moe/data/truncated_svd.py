"""Truncated singular value decomposition of a sparse matrix, without a dense copy of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayes_moe.core.errors import need

SMALL = 600
"""Rows or columns up to which the decomposition is exact."""
STEPS = 6
"""Steps of the iteration of a random subspace."""
LEAST = 1e-7
"""Singular value, relative to the largest, below which there are no more directions."""


def right_directions(matrix: Any, count: int, seed: int = 0) -> np.ndarray:
    """First right singular vectors (component, column) of a sparse matrix (row, column).

    Where the smaller side of the matrix has more than ``SMALL`` entries, they are scikit-learn's by
    a random subspace (Halko, Martinsson and Tropp 2011), so that the last of many directions are
    approximate. They are orthonormal up to rounding, and the same for the same matrix: the largest
    entry of each is positive.

    Fewer than ``count`` are returned of a matrix that has fewer directions.
    """
    flipped = matrix.shape[1] < matrix.shape[0]
    x, transposed = (matrix.T.tocsr(), matrix) if flipped else (matrix, matrix.T.tocsr())
    if x.shape[0] <= SMALL:
        squares, vectors = np.linalg.eigh((x @ transposed).toarray())
        kept = np.flatnonzero(squares > squares[-1] * LEAST**2)[::-1][:count]
        vectors = vectors[:, kept]
        found = (vectors if flipped else transposed @ vectors / np.sqrt(squares[kept])).T
    else:
        need("sklearn", "sklearn")
        from sklearn.utils.extmath import randomized_svd

        more = min(max(20, count // 5), x.shape[0] - min(count, x.shape[0]))
        _, sizes, found = randomized_svd(
            matrix, count, n_oversamples=more, n_iter=STEPS, random_state=seed
        )
        found = found[sizes > sizes[0] * LEAST]
    largest = np.abs(found).argmax(axis=1)
    signs = np.sign(found[np.arange(len(found)), largest])
    return np.ascontiguousarray(found * signs[:, None])

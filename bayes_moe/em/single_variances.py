"""Variances of single coefficients of models with too many for a matrix: a system of each.

The variance of a linear function ``c' theta`` under the normal approximation at a mode is
``c' H^-1 c``, with ``H`` the observed information. Conjugate gradients solve ``H x = c`` by
products with ``H`` alone (:mod:`bayes_moe.em.curvature_products`), so that variances of some
coefficients take seconds where the inverse of all would not fit into memory. They are exact up to
the tolerance.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.em.curvature_products import CurvatureProducts

TOLERANCE, ITERATIONS = 1e-5, 2000
"""Largest residual of a system in units of its right-hand side, and most iterations."""
ELEMENTS = 2**22
"""Numbers of the largest array of systems that are solved at once."""


def variances(products: CurvatureProducts, functions: np.ndarray) -> np.ndarray:
    """Variances (function,) of linear functions (function, free) of the free coordinates.

    They are NaN where the information is not positive definite along a direction that was met, and
    where the iterations do not suffice.

    References
    ----------
    Hestenes, M. R., & Stiefel, E. (1952). Methods of conjugate gradients for solving linear
    systems. Journal of Research of the National Bureau of Standards, 49(6), 409-436.
    """
    step = max(1, ELEMENTS // max(products.width, functions.shape[1]))
    parts = [
        _of_some(products, functions[start : start + step])
        for start in range(0, len(functions), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _of_some(products: CurvatureProducts, functions: np.ndarray) -> np.ndarray:
    """Variances of functions whose systems are solved at once, each with steps of its own."""
    scale = products.diagonal
    found = np.zeros(len(functions))
    residual = functions.copy()
    scaled = residual / scale
    direction, size = scaled.copy(), np.einsum("fc,fc->f", residual, scaled)
    least = TOLERANCE**2 * size
    open_ = np.flatnonzero(size > 0)
    for _ in range(ITERATIONS):
        if not open_.size:
            return found
        d = direction[open_]
        along = products.times_each(d)
        curvature = np.einsum("fc,fc->f", d, along)
        concave = curvature > 0
        found[open_[~concave]] = np.nan
        open_, d, along = open_[concave], d[concave], along[concave]
        length = size[open_] / curvature[concave]
        # The sum of size**2 / curvature is c' x, and grows with every step.
        found[open_] += length * size[open_]
        residual[open_] -= length[:, None] * along
        scaled = residual[open_] / scale
        new = np.einsum("fc,fc->f", residual[open_], scaled)
        direction[open_] = scaled + (new / size[open_])[:, None] * d
        size[open_] = new
        open_ = open_[new > least[open_]]
    found[open_] = np.nan
    return found

"""Labels of exchangeable experts: their order, and putting draws into an order.

Experts of one kind are numbered by the average of their location over rows, the lowest first, so
that the same answer gets the same labels from every method and every run.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.core.linalg import unmixed
from bayes_moe.data.matrix import Rows
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts

MOST_ROWS = 500


def evenly_spaced_rows(rows: Rows, most: int = MOST_ROWS) -> Rows:
    """Return at most so many rows, evenly spaced in the table."""
    if rows.size <= most:
        return rows
    return rows.pick(np.unique(np.linspace(0, rows.size - 1, most).astype(int)))


def levels(spec: MixtureOfExperts, draws: Values, rows: Rows) -> np.ndarray:
    """Average location (sample, expert) of each expert over some rows."""
    picked = evenly_spaced_rows(rows)
    total = np.zeros((len(next(iter(draws.values()))), spec.n_experts))
    for _, _, mixture in chunks(spec, draws, picked):
        total += mixture.moments("location").sum(axis=-1)
    return total / picked.size


def order(spec: MixtureOfExperts, level: np.ndarray) -> np.ndarray:
    """Experts (..., place) by level (..., expert), as far as they may trade places."""
    return spec.structure.symmetry.order(level)


def permute(spec: MixtureOfExperts, values: Values, orders: np.ndarray) -> dict[str, np.ndarray]:
    """Put expert ``orders[sample, k]`` in place ``k`` of every variable (sample, ...)."""
    index_by_dim, bases = spec.structure.permutation_index(orders), spec.structure.bases
    all_dims = spec.structure.dims | spec.structure.derived_dims
    permuted = {}
    for name, value in values.items():
        dims = all_dims[name]
        if name in bases:  # coordinates in a basis (sample, term, direction)
            dim, basis = bases[name]
            outputs = np.swapaxes(value @ basis, -1, -2)
            moved = np.take_along_axis(outputs, index_by_dim[dim][..., None], axis=1)
            permuted[name] = np.swapaxes(unmixed(basis, moved), -1, -2)
            continue
        axis = next((1 + j for j, dim in enumerate(dims) if dim in index_by_dim), None)
        if axis is None:
            permuted[name] = value
            continue
        index = index_by_dim[dims[axis - 1]]
        shape = [len(index), *(index.shape[1] if j == axis else 1 for j in range(1, value.ndim))]
        permuted[name] = np.take_along_axis(value, index.reshape(shape), axis=axis)
    return permuted

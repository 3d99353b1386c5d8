"""Labels of exchangeable experts: their order, and putting draws into an order.

Experts of one kind are numbered by the average of their location over rows, the lowest first, so
that the same answer gets the same labels from every method and every run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.core.linalg import unmixed
from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import some_rows
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.spec import MixtureOfExperts

MOST_ROWS = 500
ALIKE = 1e-9
"""Relative difference up to which average locations of a model with constraints are the same."""


def evenly_spaced(size: int, most: int = MOST_ROWS) -> np.ndarray:
    """Return positions of at most so many rows, evenly spaced in a table of a size."""
    if size <= most:
        return np.arange(size)
    return np.unique(np.linspace(0, size - 1, most).astype(int))


def evenly_spaced_rows(rows: Rows, most: int = MOST_ROWS) -> Rows:
    """Return at most so many rows, evenly spaced in the table."""
    return rows if rows.size <= most else rows.pick(some_rows(rows, most, evenly_spaced))


def levels(spec: MixtureOfExperts, draws: Values, rows: Rows) -> np.ndarray:
    """Average location (sample, expert) of each expert over some rows.

    That of the first of several responses.
    Where all experts share the location, it is the average of their scale.
    """
    picked = evenly_spaced_rows(rows)
    total = np.zeros((len(next(iter(draws.values()))), spec.n_experts))
    widths = np.zeros_like(total)
    for part, mixture in _mixtures(spec, draws, picked):
        first = mixture.of_first_response
        total += part.counted(first.moments("location")).sum(axis=-1)
        if spec.structure.constraints:
            widths += part.counted(first.moments("scale")).sum(axis=-1)
    if spec.structure.constraints:
        alike = np.ptp(total, axis=1) <= ALIKE * (np.abs(total) + widths).max(axis=1)
        total = np.where(alike[:, None], widths, total)
    return total / picked.weight


def _mixtures(
    spec: MixtureOfExperts, draws: Values, rows: Rows
) -> Iterator[tuple[Rows, Mixture]]:
    """Rows and mixture of chunks; with equal weights, where these alone depend on other rows."""
    remember = any(getattr(p, "has_memory", False) for _, p in spec.structure.sites)
    if spec.structure.gate.chain is None or remember:
        yield from ((part, mixture) for _, part, mixture in chunks(spec, draws, rows))
        return
    blocks = spec.structure.blocks
    params = tuple(block.evaluate(draws, rows.matrices) for block in blocks)
    samples = len(next(iter(draws.values())))
    weights = np.full((samples, spec.n_experts, rows.size), -np.log(spec.n_experts))
    yield rows, Mixture(weights, blocks, params)


def order(spec: MixtureOfExperts, level: np.ndarray) -> np.ndarray:
    """Experts (..., place) by level (..., expert), as far as they may trade places."""
    return spec.structure.symmetry.order(level)


def permute(spec: MixtureOfExperts, values: Values, orders: np.ndarray) -> dict[str, np.ndarray]:
    """Put expert ``orders[sample, k]`` in place ``k`` of every variable (sample, ...)."""
    index, bases = spec.structure.permutation_index(orders), bases_by_dim(spec)
    all_dims = spec.structure.dims | spec.structure.derived_dims
    return {n: permute_axes(v, all_dims[n], index, bases) for n, v in values.items()}


def bases_by_dim(spec: MixtureOfExperts) -> dict[str, tuple[str, np.ndarray]]:
    """Of dimensions over directions: the dimension of the basis' columns, and the basis."""
    structure = spec.structure
    return {structure.dims[name][-1]: basis for name, basis in structure.bases.items()}


def permute_axes(
    value: np.ndarray,
    dims: Sequence[Hashable],
    index: Mapping[Any, np.ndarray],
    bases: Mapping[Any, tuple[str, np.ndarray]],
) -> np.ndarray:
    """Values (sample, ...) put in order along every dimension of experts, branches or directions.

    ``dims`` are those after the samples, ``index`` (sample, position) is by dimension.
    """
    for axis, dim in enumerate(dims, start=1):
        if dim in bases:  # coordinates in a basis (direction, output)
            of, basis = bases[dim]
            outputs = _taken(np.swapaxes(value, axis, -1) @ basis, index[of], value.ndim - 1)
            value = np.swapaxes(unmixed(basis, outputs[..., None])[..., 0], axis, -1)
        elif dim in index:
            value = _taken(value, index[dim], axis)
    return value


def _taken(value: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    """Values (sample, ...) at an index (sample, position) along an axis."""
    shape = [len(index), *(index.shape[1] if j == axis else 1 for j in range(1, value.ndim))]
    return np.take_along_axis(value, index.reshape(shape), axis=axis)

"""Reported variables of a tree: two dimensions for a parameter's numbers and experts.

Methods make trees with internal dimensions, on which such a parameter is (number and expert) along
one; what is read from a fit becomes internal arrays again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr


def reported_tree(tree: xr.DataTree, spec: MixtureOfExperts) -> xr.DataTree:
    """Tree whose reported variables have their reported dimensions in all groups."""
    if not spec.structure.pairs:
        return tree
    result = tree.copy()
    for node in result.subtree:
        node.dataset = reported_dataset(node.to_dataset(inherit=False), spec)
    return result


def reported_dataset(dataset: xr.Dataset, spec: MixtureOfExperts) -> xr.Dataset:
    """Dataset whose reported variables have their reported dimensions."""
    pairs, changed = spec.structure.pairs, {}
    for name in {*spec.variables} & {*dataset.data_vars}:
        variable = dataset[name]
        dims = tuple(map(str, variable.dims))
        if not pairs.labels.keys().isdisjoint(dims):
            changed[name] = (pairs.dims(dims), pairs.reported(variable.values, dims))
    if not changed:
        return dataset
    coords = {dim: np.array(labels) for dim, labels in pairs.coords.items()}
    result = dataset.assign(changed)
    used = {dim for variable in result.data_vars.values() for dim in variable.dims}
    result = result.drop_vars({*pairs.labels} & {*result.coords} - used)
    return result.assign_coords({d: v for d, v in coords.items() if d in used})


def internal_arrays(
    spec: MixtureOfExperts, dataset: xr.Dataset, lead: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Reported variables of a dataset as internal arrays, the dimensions ``lead`` first."""
    structure, arrays = spec.structure, {}
    for name in spec.variables:
        variable, dims = dataset[name], structure.reported_dims[name]
        # A user's tree may have dimensions of other names, in the model's order.
        named = {*dims} <= {*variable.dims}
        ordered = variable.transpose(*lead, *(dims if named else (...,)))
        values = np.asarray(ordered.values, dtype=float)
        arrays[name] = structure.pairs.internal(values, structure.dims[name])
    return arrays

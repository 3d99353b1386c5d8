"""Experts put in another order, in every group of a tree.

A variable is permuted along every dimension over experts, over branches of the gate, or over
directions of a zero-sum prior, whoever made it. A dimension is one over experts if the model has
it, or if its name contains "expert" and its labels are the experts'.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import PACKAGE_FILES, SpecError
from bayes_moe.model import expert_order
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr

SAMPLE = (names.CHAIN, names.DRAW)


def permute_draws(
    tree: xr.DataTree, spec: MixtureOfExperts, permutation: xr.DataArray
) -> xr.DataTree:
    """Tree in which expert ``permutation[chain, draw, k]`` has label ``k`` in all posterior draws.

    Draws are matched by their coordinates; of a group with other draws than those of the
    permutation only the common ones are kept, if it has anything to permute. Draws from the prior
    stay as they are: under it, exchangeable experts have the same distribution.

    Raises
    ------
    SpecError
        For a group that has no draws in common with the permutation.
    """
    result = tree.copy()
    left: list[str] = []
    for node in result.subtree:
        data = node.to_dataset(inherit=False)
        if node.name == names.RELABELLING or not _along_experts(data, spec):
            continue
        if {*node.path.split("/")} & {*names.GROUPS_OF_PRIOR}:
            continue
        if {*SAMPLE} <= {*data.dims}:
            data, index = common_draws(data, permutation, str(node.name))
            node.dataset = permute(data, spec, index, left=left)
    _say_left(left, permutation)
    return result


def permute_constants(
    tree: xr.DataTree, spec: MixtureOfExperts, order: np.ndarray, but: Sequence[str]
) -> xr.DataTree:
    """Tree with expert ``order[k]`` as ``k`` in all groups without draws, except those named."""
    result = tree.copy()
    for node in result.subtree:
        data = node.to_dataset(inherit=False)
        if node.name not in but and not {*SAMPLE} & {*data.dims} and _along_experts(data, spec):
            node.dataset = permute(data, spec, order, lead=())
    return result


def permute(
    dataset: xr.Dataset,
    spec: MixtureOfExperts,
    permutation: np.ndarray,
    lead: tuple[str, ...] = SAMPLE,
    left: list[str] | None = None,
) -> xr.Dataset:
    r"""Dataset in which expert ``permutation[..., k]`` has label ``k``.

    Parameters
    ----------
    dataset : Dataset
        Variables, of which those with all the leading dimensions are permuted.
    spec : MixtureOfExperts
        The model.
    permutation : array
        Experts (\*lead, expert).
    lead : tuple of str
        Dimensions over which the permutation varies.
    left : list, optional
        Gets the names of variables that have a dimension over experts and cannot be permuted.
    """
    result = dataset.copy()
    flat = permutation.reshape(-1, permutation.shape[-1])
    if (flat == np.arange(flat.shape[1])).all():
        return result
    index = spec.structure.permutation_index(flat) | _branches(spec, flat)
    bases = expert_order.bases_by_dim(spec)
    for name, variable in dataset.data_vars.items():
        along, unknown = _dims_along_experts(variable, spec)
        if not along and not unknown:
            continue
        if unknown or not {*lead} <= {*variable.dims}:
            if left is not None:
                left.append(f"{name} ({', '.join(map(str, variable.dims))})")
            continue
        ordered = variable.transpose(*lead, ...)
        dims = ordered.dims[len(lead) :]
        here: dict[Hashable, np.ndarray] = {of: index[of] for of, _ in bases.values()}
        here |= {dim: index[along[dim]] for dim in dims if along.get(dim) in index}
        values = ordered.values.reshape(len(flat), *ordered.shape[len(lead) :])
        data = expert_order.permute_axes(values, dims, here, bases).reshape(ordered.shape)
        result[name] = ordered.copy(data=data).transpose(*variable.dims)
    return result


def common_draws(
    dataset: xr.Dataset, permutation: xr.DataArray, group: str
) -> tuple[xr.Dataset, np.ndarray]:
    """Draws of a group that a permutation has too, and the permutation of these as an array.

    Raises
    ------
    SpecError
        If there are none.
    """
    chosen: dict[str, Any] = {}
    for dim in SAMPLE:
        if dim in dataset.indexes and dim in permutation.indexes:
            own, its = dataset.indexes[dim], permutation.indexes[dim]
            chosen[dim] = own[own.isin(its)]
        elif dataset.sizes[dim] != permutation.sizes[dim]:
            chosen[dim] = ()
    if any(len(labels) == 0 for labels in chosen.values()):
        size, other = (
            " x ".join(str(data.sizes[d]) for d in SAMPLE) for data in (dataset, permutation)
        )
        raise SpecError(
            f"Group {group!r} of `fit.idata` has {size} (chains x draws), and the labels of the "
            f"experts are known of {other} others: no chain and draw is in both. Select draws in "
            "all groups at once, for example by fit.idata.isel(draw=slice(None, None, 10)), and "
            "keep the coordinates."
        )
    data = dataset.sel({d: v for d, v in chosen.items() if len(v) < dataset.sizes[d]})
    return data, permutation.sel(chosen).transpose(*SAMPLE, ...).values


def _branches(spec: MixtureOfExperts, orders: np.ndarray) -> dict[Any, np.ndarray]:
    """Index (sample, branch) along all branches of the gate's splits, by their labels."""
    splits = spec.structure.gate.splits
    if splits is None:
        return {}
    branches = [(s.depth, leaves) for s in splits.splits for leaves in s.leaves]
    position = {(depth, k): b for b, (depth, leaves) in enumerate(branches) for k in leaves}
    columns = []
    for depth, leaves in branches:
        at_depth = np.array([position.get((depth, k), -1) for k in range(splits.experts)])
        columns.append(at_depth[orders[:, leaves[0]]])
    return {_branch_labels(spec): np.stack(columns, axis=1)}


def _branch_labels(spec: MixtureOfExperts) -> tuple[str, ...]:
    """Labels of all branches of the gate's splits, as of :func:`bayes_moe.node_probabilities`."""
    splits = spec.structure.gate.splits
    return () if splits is None else tuple(b for s in splits.splits for b in s.labels)


def _along_experts(dataset: xr.Dataset, spec: MixtureOfExperts) -> bool:
    """Whether any variable has a dimension over experts."""
    return any(any(_dims_along_experts(v, spec)) for v in dataset.data_vars.values())


def _dims_along_experts(
    variable: xr.DataArray, spec: MixtureOfExperts
) -> tuple[dict[Hashable, Any], list[Hashable]]:
    """Dimensions over experts with the model's name of each, and those whose order is not known."""
    structure, labels = spec.structure, spec.expert_labels
    coords = {names.EXPERT: labels, **structure.gate.coords()}
    for block in structure.blocks:
        coords[block.dim] = [labels[k] for k in block.positions]
        for c in block.components:
            coords |= c.coords(coords[block.dim])
    along: dict[Hashable, Any] = {}
    unknown: list[Hashable] = []
    for dim in variable.dims:
        if dim not in coords and dim != names.GATE_BRANCH and names.EXPERT not in str(dim):
            continue
        given = [str(v) for v in variable[dim].values] if dim in variable.coords else None
        size = variable.sizes[dim]
        known = [str(v) for v in coords[str(dim)]] if dim in coords else None
        if known is not None and (given == known or (given is None and size == len(known))):
            along[dim] = dim
        elif dim == names.GATE_BRANCH and given == [*_branch_labels(spec)]:
            along[dim] = _branch_labels(spec)
        elif names.EXPERT in str(dim) and given == [str(k) for k in labels]:
            along[dim] = names.EXPERT
        elif known is not None or (names.EXPERT in str(dim) and size > 1):
            unknown.append(dim)
    return along, unknown


def _say_left(left: list[str], permutation: xr.DataArray) -> None:
    """Warn of variables that keep the labels they had, if any label changed."""
    moved = (permutation.values != np.arange(permutation.shape[-1])).any()
    if left and moved:
        warnings.warn(
            f"Not relabelled: {'; '.join(left)}. A variable follows the labels if it has the "
            "dimensions chain and draw and all the experts of the model along its dimension. Make "
            "these again from the relabelled fit.",
            UserWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )

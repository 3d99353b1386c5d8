"""Alignment of expert labels over draws and chains, with a certainty for every draw.

The posterior of exchangeable experts is the same for every labelling, so a sampler may change
labels between chains and draws. Each draw is relabelled by the assignment (Hungarian algorithm)
of least cost to the mean of all relabelled draws, and the mean is updated until no label changes.
Two costs:

``"responsibilities"`` (default)
    The Kullback-Leibler divergence between allocation probabilities of the rows (Stephens 2000).
``"parameters"``
    The normal log density of the expert's parameters about their mean over draws.

Labels are exchanged only among experts of one formula and family, and under a tree gate only among
exchangeable branches of one split. Finally experts are ordered by the posterior mean of their
average location, so that the same posterior gets the same labels from every run.

References
----------
Stephens, M. (2000). Dealing with label switching in mixture models. Journal of the Royal
Statistical Society B, 62(4), 795-809.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.data.design import Design
from bayes_moe.model import expert_order
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.alignment import (
    assign,
    kullback_leibler,
    label_certainty,
    normal_cost,
    scaled,
)
from bayes_moe.results.draws import stacked_draws

if TYPE_CHECKING:
    import xarray as xr

METHODS = ("responsibilities", "parameters", "none")
MOST_ELEMENTS = 2 * 10**7


def align(
    tree: xr.DataTree, spec: MixtureOfExperts, design: Design, method: str = "responsibilities"
) -> xr.DataTree:
    """Tree with aligned labels and a group ``relabelling``.

    The group holds ``permutation`` (chain, draw, expert), the sampler's label of the expert that
    now has each label, and ``certainty`` (chain, draw). With ``d`` the squared distance of a
    draw's allocation probabilities to the mean of the relabelled draws, certainty is
    ``d_exchanged / (d_exchanged + d)`` for the two experts that are easiest to exchange: 1 means
    that no other labels are possible, 0.5 that the exchange fits as well.

    Raises
    ------
    SpecError
        For an unknown method.
    """
    check_method(method)
    tree = undo(tree, spec)
    symmetry = spec.structure.symmetry
    if method == "none" or symmetry.trivial:
        return tree
    posterior = tree[names.POSTERIOR].to_dataset()
    draws = stacked_draws(spec, posterior)
    allocations, locations = _read_draws(spec, draws, design)
    if method == "responsibilities":
        permutation = assign(symmetry, allocations, kullback_leibler)
    else:
        permutation = assign(symmetry, _parameters(spec, draws), normal_cost)
    certainty = label_certainty(symmetry, allocations, permutation)
    level = np.take_along_axis(locations, permutation, axis=1).mean(axis=0)
    permutation = permutation[:, symmetry.order(level)]
    return _record(tree, spec, permutation, certainty, method)


def check_method(method: str) -> None:
    """Raise :class:`SpecError` for an unknown relabelling method."""
    check_one_of("relabelling method", method, METHODS)


def undo(tree: xr.DataTree, spec: MixtureOfExperts) -> xr.DataTree:
    """Tree with the sampler's labels, without a relabelling group."""
    if names.RELABELLING not in tree.children:
        return tree
    stored = tree[names.RELABELLING][names.PERMUTATION]
    inverse = np.argsort(stored.transpose(names.CHAIN, names.DRAW, ...).values, axis=-1)
    restored = _permuted(tree, spec, inverse)
    del restored[names.RELABELLING]
    return restored


def _read_draws(
    spec: MixtureOfExperts, draws: dict[str, np.ndarray], design: Design
) -> tuple[np.ndarray, np.ndarray]:
    """Allocations (sample, expert, obs) of a subset of rows, and locations (sample, expert)."""
    n_samples = len(next(iter(draws.values())))
    most = min(expert_order.MOST_ROWS, max(20, MOST_ELEMENTS // (n_samples * spec.n_experts)))
    rows = expert_order.evenly_spaced_rows(design.rows, most)
    allocations = np.empty((n_samples, spec.n_experts, rows.size))
    for where, chunk, mixture in chunks(spec, draws, rows):
        allocations[:, :, where] = mixture.responsibilities(chunk.observed)
    return allocations, expert_order.levels(spec, draws, design.rows)


def _parameters(spec: MixtureOfExperts, draws: dict[str, np.ndarray]) -> np.ndarray:
    """Standardised parameters (sample, expert, parameter) of all experts.

    Parameters that an expert's block lacks are zero and cost nothing. Of a gate, only variables
    along the experts are read.
    """
    n_samples = len(next(iter(draws.values())))
    by_expert = [
        n for n in spec.structure.gate_variables if spec.structure.dims[n][0] == names.EXPERT
    ]
    values = [scaled(draws[n]) for n in by_expert]
    for block in spec.structure.blocks:
        for c in block.components:
            if c.variable not in draws:
                continue
            parameter = draws[c.variable] if c.formula else np.log(draws[c.variable])[..., None]
            padded = np.zeros((n_samples, spec.n_experts, parameter.shape[-1]))
            padded[:, list(block.positions)] = scaled(parameter)
            values.append(padded)
    return np.concatenate(values, axis=-1)


def _record(
    tree: xr.DataTree,
    spec: MixtureOfExperts,
    permutation: np.ndarray,
    certainty: np.ndarray,
    method: str,
) -> xr.DataTree:
    """Tree with permuted draws and the group ``relabelling``."""
    import xarray as xr

    posterior = tree[names.POSTERIOR].to_dataset()
    sizes = (posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW])
    permutation = permutation.reshape(*sizes, -1)
    coords = {
        names.CHAIN: posterior[names.CHAIN],
        names.DRAW: posterior[names.DRAW],
        names.EXPERT: spec.expert_labels,
    }
    group = xr.Dataset(
        {
            names.PERMUTATION: ((names.CHAIN, names.DRAW, names.EXPERT), permutation),
            names.CERTAINTY: ((names.CHAIN, names.DRAW), certainty.reshape(sizes)),
        },
        coords=coords,
        attrs={names.METHOD: method},
    )
    result = _permuted(tree, spec, permutation)
    result[names.RELABELLING] = _as_node(group)
    return result


def _permuted(tree: xr.DataTree, spec: MixtureOfExperts, permutation: np.ndarray) -> xr.DataTree:
    """Tree with permuted draws, the reported ones and the sampler's."""
    result = tree.copy()
    for group in (names.POSTERIOR, names.UNCONSTRAINED):
        if group in tree.children:
            result[group] = _as_node(permute(tree[group].to_dataset(), spec, permutation))
    return result


def _as_node(dataset: xr.Dataset) -> xr.DataTree:
    import xarray as xr

    return xr.DataTree(dataset)


def permute(posterior: xr.Dataset, spec: MixtureOfExperts, permutation: np.ndarray) -> xr.Dataset:
    """Posterior in which expert ``permutation[chain, draw, k]`` has label ``k``."""
    result = posterior.copy()
    sizes = permutation.shape[:2]
    for name, dims in (spec.structure.dims | spec.structure.derived_dims).items():
        if name not in posterior:
            continue
        variable = posterior[name].transpose(names.CHAIN, names.DRAW, *dims)
        draws = {name: variable.values.reshape(-1, *variable.shape[2:])}
        permuted = expert_order.permute(spec, draws, permutation.reshape(-1, permutation.shape[-1]))
        data = permuted[name].reshape(*sizes, *variable.shape[2:])
        result[name] = variable.copy(data=data).transpose(*posterior[name].dims)
    return result

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
average location, so that the same posterior gets the same labels from every run; or they get the
labels of another fit.

References
----------
Stephens, M. (2000). Dealing with label switching in mixture models. Journal of the Royal
Statistical Society B, 62(4), 795-809.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.model import expert_order
from bayes_moe.model.allocation import allocation_of, observed_responsibilities
from bayes_moe.model.evaluation import Where, map_chunks
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.coordinates import COORDINATES
from bayes_moe.results.alignment import (
    assign,
    assign_like,
    distance,
    kullback_leibler,
    label_certainty,
    normal_cost,
    scaled,
)
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import kind_of, posterior_of
from bayes_moe.results.label_reference import Reference
from bayes_moe.results.permuting import permute, permute_constants, permute_draws
from bayes_moe.results.reported_shape import internal_arrays

if TYPE_CHECKING:
    import xarray as xr

METHODS = ("responsibilities", "parameters", "none")
MOST_ELEMENTS = 2 * 10**7
COSTS = {"responsibilities": kullback_leibler, "parameters": normal_cost}


def align(
    tree: xr.DataTree,
    spec: MixtureOfExperts,
    design: Design,
    method: str = "responsibilities",
    like: Reference | None = None,
) -> xr.DataTree:
    """Tree with aligned labels and a group ``relabelling``.

    The group holds ``permutation`` (chain, draw, expert), the sampler's label of the expert that
    now has each label, and ``certainty`` (chain, draw). With ``d`` the squared distance of a
    draw's allocation probabilities to the mean of the relabelled draws, certainty is
    ``d_exchanged / (d_exchanged + d)`` for the two experts that are easiest to exchange: 1 means
    that no other labels are possible, 0.5 that the exchange fits as well.

    With ``like``, labels are those of another fit, and certainty is measured by the distance to
    the other fit's mean. A result about one mode then gets one permutation. Modes get one each,
    ``mode_permutation`` (mode, expert).

    Raises
    ------
    SpecError
        For an unknown method, and groups whose draws do not belong together.
    """
    check_method(method)
    posterior_of(tree)  # raises before anything is permuted
    tree = undo(tree, spec)
    if method == "none" or spec.structure.symmetry.trivial:
        return tree
    posterior = tree[names.POSTERIOR].to_dataset()
    draws = stacked_draws(spec, posterior)
    if like is None:
        found = _ordered(spec, draws, design, method)
    else:
        found = _followed(spec, draws, like, method, kind_of(tree) == names.KIND_DRAWS)
    group = _group(spec, posterior, *found).assign_attrs({names.METHOD: method})
    if like is not None:
        group = group.assign_attrs({names.LIKE: 1})
        if names.MODES in tree.children:
            modes = tree[names.MODES].to_dataset()
            orders = _mode_orders(spec, modes, like, method)
            group[names.MODE_PERMUTATION] = ((names.MODE, names.EXPERT), orders)
    result = _permuted(tree, spec, group)
    result[names.RELABELLING] = _as_node(group)
    return result


def check_method(method: str) -> None:
    """Raise :class:`SpecError` for an unknown relabelling method."""
    check_one_of("relabelling method", method, METHODS)


def undo(tree: xr.DataTree, spec: MixtureOfExperts) -> xr.DataTree:
    """Tree with the labels of the method that made it, without a relabelling group."""
    if names.RELABELLING not in tree.children:
        return tree
    stored = tree[names.RELABELLING].to_dataset()
    inverse = stored.copy()
    for name in {names.PERMUTATION, names.MODE_PERMUTATION} & {*stored.data_vars}:
        last = stored[name].transpose(..., names.EXPERT)
        inverse[name] = last.copy(data=np.argsort(last.values, axis=-1))
    restored = _permuted(tree, spec, inverse)
    del restored[names.RELABELLING]
    return restored


def _permuted(tree: xr.DataTree, spec: MixtureOfExperts, group: xr.Dataset) -> xr.DataTree:
    """Tree permuted by what a group ``relabelling`` holds."""
    permutation = group[names.PERMUTATION]
    result = permute_draws(tree, spec, permutation)
    if kind_of(tree) != names.KIND_DRAWS:
        one = permutation.transpose(names.CHAIN, names.DRAW, ...).values[0, 0]
        groups_of_rows = (names.OBSERVED_DATA, names.CONSTANT_DATA)
        result = permute_constants(
            result, spec, one, but=(names.RELABELLING, names.MODES, *groups_of_rows)
        )
    if names.MODE_PERMUTATION in group and names.MODES in tree.children:
        orders = group[names.MODE_PERMUTATION].transpose(names.MODE, ...).values
        modes = tree[names.MODES].to_dataset()
        result[names.MODES] = _as_node(permute(modes, spec, orders, lead=(names.MODE,)))
    return result


def _ordered(
    spec: MixtureOfExperts, draws: Mapping[str, np.ndarray], design: Design, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """Permutations (sample, expert) in the order of location, and their certainty (sample,)."""
    symmetry = spec.structure.symmetry
    rows = expert_order.evenly_spaced_rows(design.rows, _most_rows(spec, draws))
    allocations = _allocations(spec, draws, rows)
    features = allocations if method == "responsibilities" else _parameters(spec, draws)
    permutation = assign(symmetry, features, COSTS[method])
    certainty = label_certainty(symmetry, allocations, permutation)
    locations = expert_order.levels(spec, draws, design.rows)
    level = np.take_along_axis(locations, permutation, axis=1).mean(axis=0)
    return permutation[:, symmetry.order(level)], certainty


def _followed(
    spec: MixtureOfExperts,
    draws: Mapping[str, np.ndarray],
    like: Reference,
    method: str,
    by_draw: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Permutations (sample, expert) to another fit's labels, and their certainty (sample,)."""
    symmetry, like = spec.structure.symmetry, like.thinned(_most_rows(spec, draws))
    allocations = _allocations(spec, draws, like.rows)
    costs = _costs_like(spec, draws, allocations, like, method)
    features = None
    if by_draw:
        features = allocations if method == "responsibilities" else _parameters(spec, draws)
    permutation = assign_like(symmetry, costs, features, COSTS[method])
    return permutation, label_certainty(symmetry, allocations, permutation, like.allocations)


def _mode_orders(
    spec: MixtureOfExperts, modes: xr.Dataset, like: Reference, method: str
) -> np.ndarray:
    """Permutation of each mode (mode, expert) to another fit's labels."""
    values = internal_arrays(spec, modes, (names.MODE,))
    allocations = _allocations(spec, values, like.rows)
    costs = _costs_like(spec, values, allocations, like, method)
    return spec.structure.symmetry.assign(costs)


def _costs_like(
    spec: MixtureOfExperts,
    draws: Mapping[str, np.ndarray],
    allocations: np.ndarray,
    like: Reference,
    method: str,
) -> np.ndarray:
    """Cost (sample, label, expert) of an expert under a label of another fit."""
    if method == "responsibilities":
        return kullback_leibler(allocations, like.allocations[None])
    pooled = {n: np.concatenate([draws[n], like.draws[n]]) for n in spec.variables}
    features = np.nan_to_num(_parameters(spec, pooled))
    return distance(features[: len(allocations)], features[len(allocations) :].mean(axis=0))


def _most_rows(spec: MixtureOfExperts, draws: Mapping[str, np.ndarray]) -> int:
    """Most rows whose allocations under all draws are held in memory."""
    n_samples = len(next(iter(draws.values())))
    return min(expert_order.MOST_ROWS, max(20, MOST_ELEMENTS // (n_samples * spec.n_experts)))


def _allocations(spec: MixtureOfExperts, draws: Mapping[str, np.ndarray], rows: Rows) -> np.ndarray:
    """Allocation probabilities (sample, expert, unit) of rows, or of groups of them."""
    n_samples = len(next(iter(draws.values())))
    allocations = np.empty((n_samples, spec.n_experts, rows.size))

    def fill(where: Where, chunk: Rows, mixture: Mixture) -> None:
        with np.errstate(all="ignore"):  # singular modes
            allocations[:, :, where] = observed_responsibilities(mixture, chunk)

    for _ in map_chunks(fill, spec, draws, rows):
        pass
    units = allocation_of(rows.observation).first
    return np.nan_to_num(allocations[..., units], copy=False)


def _parameters(spec: MixtureOfExperts, draws: Mapping[str, np.ndarray]) -> np.ndarray:
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
            parameter = draws[c.variable]
            if c.formula is None:
                coordinate = COORDINATES[c.parameter.link.support]
                parameter = coordinate.of_value(parameter)[..., None]
            if c.parameter.labels:  # (sample, label and expert, term) -> (sample, expert, all)
                by_label = parameter.reshape(n_samples, c.parameter.size, c.experts, -1)
                parameter = np.swapaxes(by_label, 1, 2).reshape(n_samples, c.experts, -1)
            padded = np.zeros((n_samples, spec.n_experts, parameter.shape[-1]))
            padded[:, list(block.positions)] = scaled(parameter)
            values.append(padded)
    return np.concatenate(values, axis=-1)


def _group(
    spec: MixtureOfExperts, posterior: xr.Dataset, permutation: np.ndarray, certainty: np.ndarray
) -> xr.Dataset:
    """Group ``relabelling`` of permutations (sample, expert) and their certainty (sample,)."""
    import xarray as xr

    sizes = (posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW])
    coords = {
        names.CHAIN: posterior[names.CHAIN],
        names.DRAW: posterior[names.DRAW],
        names.EXPERT: spec.expert_labels,
    }
    by_draw = permutation.reshape(*sizes, -1)
    return xr.Dataset(
        {
            names.PERMUTATION: ((names.CHAIN, names.DRAW, names.EXPERT), by_draw),
            names.CERTAINTY: ((names.CHAIN, names.DRAW), certainty.reshape(sizes)),
        },
        coords=coords,
    )


def _as_node(dataset: xr.Dataset) -> xr.DataTree:
    import xarray as xr

    return xr.DataTree(dataset)

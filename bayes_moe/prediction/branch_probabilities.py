"""Probabilities of the branches of a gate's splits, prior to the response and given it.

One dimension, ``gate_branch``, indexes the branches of all splits, in the order of
:mod:`bayes_moe.gates.splits`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import AVERAGE, ERROR
from bayes_moe.data.matrix import Rows
from bayes_moe.gates.splits import Split, SplitTree
from bayes_moe.model.allocation import observed_responsibilities
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import ChunkedMixture, mixtures_on
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr


def node_probabilities(
    fit: Fit, rows: Any = None, *, draws: bool = False, unseen: str = ERROR
) -> xr.DataArray:
    """Return the gate's probability of each branch at its split, prior to ``y``.

    ``g_vc(x) = P(branch c | at split v, x)``: the branches of a split sum to one. An expert's gate
    weight is the product over the branches on its path.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits: a tree, sticks, or one softmax, which is one split.
    rows : table, optional
        Rows with the features; None means the fitted rows.
    draws : bool
        Whether to keep the posterior draws instead of averaging over them.
    unseen : {"error", "average", "sample"}
        As for :func:`predict`.

    Returns
    -------
    xarray.DataArray
        (obs_id, gate_branch), or (chain, draw, obs_id, gate_branch). Branches have the coordinates
        ``split``, the name of their split, and ``depth``, how many branches lead to it.

    Raises
    ------
    SpecError
        If the gate has no splits.
    DataError
        For missing columns or values, and categories that the fitted rows do not have.

    Examples
    --------
    >>> bm.node_probabilities(fit).sel(gate_branch="0.1")  # doctest: +SKIP
    """
    return _branch_means(mixtures_on(fit, rows, unseen=unseen), np.exp, draws)


def log_node_probabilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return the posterior mean of ``log g_vc(x)`` (obs_id, gate_branch).

    Groups that no fitted row has are average ones. See :func:`node_probabilities`.
    """
    return _branch_means(mixtures_on(fit, rows, unseen=AVERAGE), np.asarray, False)


def node_responsibilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return the posterior probability of each branch given ``y``.

    It is the sum of the responsibilities of the experts below the branch. The sum over the
    branches of a split is the probability of that split.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits.
    rows : table, optional
        Rows with features and response; None means the fitted rows.

    Returns
    -------
    xarray.DataArray
        (chain, draw, obs_id, gate_branch), with the coordinates of :func:`node_probabilities`.

    Raises
    ------
    SpecError
        If the gate has no splits.
    """
    splits = split_tree(fit)
    below = splits.paths.T  # (branch, expert)

    def sums(mixture: Mixture, part: Rows) -> np.ndarray:
        return np.matmul(below, observed_responsibilities(mixture, part))

    mixtures = mixtures_on(fit, rows, with_response=True)
    return _with_split_coords(mixtures.summarise(sums, draws=True, dim=_dim(splits)), splits)


def split_tree(fit: Fit) -> SplitTree:
    """Return the splits of a fit's gate, from the root to the experts.

    Raises
    ------
    SpecError
        If the gate has none.
    """
    spec = fit.spec
    if spec.n_experts == 1:
        raise SpecError("The fit has one expert, whose gate weight is 1: its gate has no splits.")
    splits = spec.structure.gate.splits
    if splits is None:
        raise SpecError(
            f"The gate {spec.gate.kind!r} has no splits; read its weights with "
            "bm.predict(fit, rows).weights(), or fit a tree (bm.gates.Tree)."
        )
    return splits


def _branch_means(
    mixtures: ChunkedMixture, transform: Callable[[np.ndarray], np.ndarray], draws: bool
) -> xr.DataArray:
    """Return transformed log branch probabilities, averaged over draws or for each draw."""
    splits = split_tree(mixtures.fit)

    def transformed(mixture: Mixture, _: Rows) -> np.ndarray:
        parts = [_log_branches(mixture.log_weights, split) for split in splits.splits]
        return np.asarray(transform(np.concatenate(parts, axis=-2)))

    values = mixtures.summarise(transformed, draws=draws, dim=_dim(splits))
    return _with_split_coords(values, splits)


def _log_branches(log_weights: np.ndarray, split: Split) -> np.ndarray:
    """Log probabilities (sample, branch, obs) of a split's branches, from log weights.

    The weight of a branch is the sum of the weights of its experts, which holds for every gate.
    """
    below = [
        NUMERIC.logsumexp(log_weights[:, list(leaves)], axis=-2, keepdims=True)
        for leaves in split.leaves
    ]
    return np.asarray(log_softmax(np.concatenate(below, axis=-2), NUMERIC))


def _dim(splits: SplitTree) -> dict[str, list[str]]:
    """Return the dimension of the branches with their labels."""
    return {names.GATE_BRANCH: [label for split in splits.splits for label in split.labels]}


def _with_split_coords(values: xr.DataArray, splits: SplitTree) -> xr.DataArray:
    """Return values with the coordinates ``split`` and ``depth`` of each branch."""
    by_branch = [split for split in splits.splits for _ in split.labels]
    return values.assign_coords(
        {
            names.SPLIT: (names.GATE_BRANCH, [split.name for split in by_branch]),
            names.DEPTH: (names.GATE_BRANCH, [split.depth for split in by_branch]),
        }
    )

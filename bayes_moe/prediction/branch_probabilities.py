"""What a fit says of the splits of its gate: how likely each branch is, before and after ``y``.

Branches stand in one dimension over all splits, as :mod:`bayes_moe.gates.splits` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Rows
from bayes_moe.gates.splits import Split, SplitTree
from bayes_moe.model.evaluation import Mixture
from bayes_moe.prediction.predict import predict, reduced, with_response
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

BRANCH = "gate_branch"
SPLIT = "split"
DEPTH = "depth"


def node_probabilities(fit: Fit, rows: Any = None, *, draws: bool = False) -> xr.DataArray:
    """Return the gate's probability of every branch at its split, before ``y``.

    ``g_vc(x) = P(branch c | at split v, x)``: the branches of a split sum to one. An expert's gate
    weight is the product over the branches that lead to it.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits: a tree, sticks, or one softmax, which is one split.
    rows : table, optional
        Rows with the features; None means the fitted rows.
    draws : bool
        Whether to keep the posterior draws instead of averaging over them.

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
    return _over_branches(fit, rows, np.exp, draws)


def log_node_probabilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return the posterior mean of ``log g_vc(x)`` (obs_id, gate_branch).

    See :func:`node_probabilities`.
    """
    return _over_branches(fit, rows, np.asarray, False)


def node_responsibilities(fit: Fit, rows: Any = None) -> xr.DataArray:
    """Return the posterior probability that a row passes a branch, given its ``y``.

    It is the sum of the responsibilities of the experts below the branch; over the branches of a
    split, the probability of being there at all.

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
    branching = branching_of(fit)
    below = branching.paths.T  # (branch, expert)

    def read(mixture: Mixture, part: Rows) -> np.ndarray:
        return np.matmul(below, mixture.responsibilities(part.observed))

    found = reduced(with_response(fit, rows), read, {BRANCH: _labels(branching)}, draws=True)
    return _named(found, branching)


def branching_of(fit: Fit) -> SplitTree:
    """Return the splits of a fit's gate.

    Raises
    ------
    SpecError
        If the gate has none.
    """
    spec = fit.spec
    if spec.n_experts == 1:
        raise SpecError("The fit has one expert, whose gate weight is 1: its gate has no splits.")
    branching = spec.gate.branching(spec.n_experts)
    if branching is None:
        raise SpecError(
            f"The gate {spec.gate.kind!r} has no splits; read its weights with "
            "bm.predict(fit, rows).weights(), or fit a tree (bm.gates.Tree)."
        )
    return branching


def _over_branches(fit: Fit, rows: Any, change: Any, draws: bool) -> xr.DataArray:
    """Read log branch probabilities (sample, branch, obs), changed by a function."""
    branching = branching_of(fit)

    def read(mixture: Mixture, _: Rows) -> np.ndarray:
        parts = [_log_branches(mixture.log_weights, split) for split in branching.splits]
        return np.asarray(change(np.concatenate(parts, axis=-2)))

    along = {BRANCH: _labels(branching)}
    return _named(reduced(predict(fit, rows), read, along, draws=draws), branching)


def _log_branches(log_weights: np.ndarray, split: Split) -> np.ndarray:
    """Log probabilities (sample, branch, obs) of a split's branches, from log weights.

    A branch has the weight of the experts below; so it is for every gate, however it makes them.
    """
    below = [
        NUMERIC.logsumexp(log_weights[:, list(leaves)], axis=-2, keepdims=True)
        for leaves in split.leaves
    ]
    return np.asarray(log_softmax(np.concatenate(below, axis=-2), NUMERIC))


def _labels(branching: SplitTree) -> list[str]:
    return [label for split in branching.splits for label in split.labels]


def _named(values: xr.DataArray, branching: SplitTree) -> xr.DataArray:
    """Say of every branch at which split it is, and how deep."""
    splits = [split for split in branching.splits for _ in split.labels]
    return values.assign_coords(
        {
            SPLIT: (BRANCH, [split.name for split in splits]),
            DEPTH: (BRANCH, [split.depth for split in splits]),
        }
    )

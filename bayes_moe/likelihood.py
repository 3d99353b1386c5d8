"""The marginal mixture, and the mixture as one observed random variable.

``log p(y | x) = logsumexp_k(log w_k(x) + log f_k(y | x))``: the allocation of a row to an expert
is summed out and never sampled. Layout: (expert, obs), experts on the last axis but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayes_moe import names
from bayes_moe.arrays import Arrays
from bayes_moe.arrays import symbolic as symbolic_arrays
from bayes_moe.experts import Block


def log_components(
    y: Any, blocks: Sequence[Block], params: Sequence[dict[str, Any]], xp: Arrays
) -> Any:
    """Log density of ``y`` under each expert (..., expert, obs), in the order of the blocks."""
    parts = [b.family.log_density(y, p, xp) for b, p in zip(blocks, params, strict=True)]
    return parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=-2)


def log_mixture(log_weights: Any, log_densities: Any, xp: Arrays) -> Any:
    """Log density of the mixture (..., obs)."""
    return xp.logsumexp(log_weights + log_densities, axis=-2)


def allocate(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density (..., obs) and responsibilities (..., expert, obs), in NumPy.

    ``joint`` is ``log w_k + log f_k`` (..., expert, obs); the responsibilities are its softmax.
    """
    top = joint.max(axis=-2, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    share = joint - top
    np.exp(share, out=share)
    total = share.sum(axis=-2, keepdims=True)
    share /= total
    return (np.log(total) + top)[..., 0, :], share


def observed_mixture(
    blocks: Sequence[Block], log_weights: Any, params: Sequence[dict[str, Any]], observed: Any
) -> Any:
    """Create the response of the current model: an observed variable with dims (obs,).

    ``log_weights`` and every parameter are (expert, obs) or (expert, 1), with the experts in the
    order of the blocks; what is known of the rows is (1, obs) or (1, 1).
    """
    import pymc as pm
    import pytensor.tensor as pt

    keys = [(j, name) for j, p in enumerate(params) for name in p]
    rows = observed.shape[0]
    # As inputs of the random variable, rows come first: (obs, expert).
    flat = [log_weights, *(params[j][name] for j, name in keys)]
    inputs = [pt.broadcast_to(x, (x.shape[0], rows)).T for x in flat]

    def unpack(arguments: Sequence[Any]) -> list[dict[str, Any]]:
        unpacked: list[dict[str, Any]] = [{} for _ in blocks]
        for (j, name), value in zip(keys, arguments, strict=True):
            unpacked[j][name] = value
        return unpacked

    def dist(log_w: Any, *arguments: Any) -> Any:
        parts = [b.family.dist(p) for b, p in zip(blocks, unpack(arguments[:-1]), strict=True)]
        chosen = pm.Categorical.dist(p=pt.exp(log_w))
        return pt.take_along_axis(pt.concatenate(parts, axis=-1), chosen[..., None], axis=-1)[
            ..., 0
        ]

    def logp(value: Any, log_w: Any, *arguments: Any) -> Any:
        xp = symbolic_arrays()
        densities = log_components(value, blocks, unpack([a.mT for a in arguments]), xp)
        return log_mixture(log_w.mT, densities, xp)

    known = [f"(one{j})" if name in blocks[j].family.KNOWN else f"(k{j})" for j, name in keys]
    signature = ",".join(["(k)", *known]) + "->()"
    return pm.CustomDist(
        names.RESPONSE,
        *inputs,
        dist=dist,
        logp=logp,
        signature=signature,
        support_point=lambda rv, *_: pt.zeros(rv.shape),
        class_name="MixtureOfExperts",
        observed=observed,
        dims=names.OBS,
    )


def random_expert(log_weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the expert of each row from log weights (..., obs, expert)."""
    cumulative = np.cumsum(np.exp(log_weights), axis=-1)
    u = rng.random(log_weights.shape[:-1]) * cumulative[..., -1]
    return np.minimum((u[..., None] > cumulative).sum(axis=-1), log_weights.shape[-1] - 1)

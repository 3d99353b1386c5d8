"""The marginal mixture.

``log p(y | x) = logsumexp_k(log w_k(x) + log f_k(y | x))``: the allocation of a row to an expert
is summed out and never sampled. Of rows that were only recorded because ``y`` is between limits it
is less ``logsumexp_k(log w_k(x) + log P_k(limits | x))``. Layout: (expert, obs), experts on the
last axis but one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.model.blocks import Block


def log_components(
    y: Any, blocks: Sequence[Block], params: Sequence[Mapping[str, Any]], xp: Arrays
) -> Any:
    """Log density of ``y`` under each expert (..., expert, obs), in the order of the blocks."""
    parts = [b.log_density(y, p, xp) for b, p in zip(blocks, params, strict=True)]
    return concatenated(parts, xp)


def log_recorded(
    y: Any, blocks: Sequence[Block], params: Sequence[Mapping[str, Any]], xp: Arrays
) -> Any | None:
    """Log probability under each expert (..., expert, obs) that a row of ``y`` was recorded.

    None if nothing is truncated, or ``y`` are responses without limits.
    """
    if y.ndim == 1 or blocks[0].family.truncation is None:
        return None
    parts = []
    for block, named in zip(blocks, params, strict=True):
        assert block.family.truncation is not None
        data = block.family.truncation.data(y, named, xp)
        parts.append(block.family.truncation.log_density_at(data, block.family.etas(named, xp), xp))
    return concatenated(parts, xp)


def concatenated(parts: Sequence[Any], xp: Arrays) -> Any:
    """Values (..., expert, obs) of all experts from those of each block."""
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


def random_expert(log_weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the expert of each row from log weights (..., obs, expert)."""
    cumulative = np.cumsum(np.exp(log_weights), axis=-1)
    u = rng.random(log_weights.shape[:-1]) * cumulative[..., -1]
    return np.minimum((u[..., None] > cumulative).sum(axis=-1), log_weights.shape[-1] - 1)

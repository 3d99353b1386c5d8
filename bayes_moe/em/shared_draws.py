"""Draws of a model whose groups share an expert and have effects, about its marginal mode.

All but the effects are normal about their mode. Given these, a group has each expert with its
responsibility; its effects in that expert are normal about their mode, and its effects in the
others have the distribution that they have without rows. For normal responses with effects on the
mean that is the posterior distribution of the effects itself.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.em.shared_marginal import Integrated, SharedMarginal
from bayes_moe.model.likelihood import random_expert

CHUNK_ELEMENTS = 2**20
"""Elements of an array (draw, expert, obs) of the draws of a chunk."""


def effects_given(
    marginal: SharedMarginal, psi: np.ndarray, effects: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Effects (draw, effect) of points (draw, coordinate), and the objective (draw,) there.

    ``effects`` (effect,) are a guess of the modes.
    """
    rows = marginal.rows.rows.size
    step = max(1, CHUNK_ELEMENTS // (rows * marginal.mixture.n_experts))
    drawn, value = np.empty((len(psi), marginal.rows.size)), np.empty(len(psi))
    for start in range(0, len(psi), step):
        part = slice(start, start + step)
        guess = np.broadcast_to(effects, (len(psi[part]), len(effects)))
        found = marginal.integrated(psi[part], guess)
        value[part] = marginal.total(found.value)
        drawn[part] = _drawn(marginal, found, rng)
    return drawn, value + [marginal.log_prior(at)[0] for at in psi]


def _drawn(marginal: SharedMarginal, found: Integrated, rng: np.random.Generator) -> np.ndarray:
    """Effects (draw, effect) given all else."""
    with np.errstate(divide="ignore"):
        chosen = random_expert(np.log(np.swapaxes(found.r, -1, -2)), rng)  # (draw, unit)
    by_part = []
    for part, own, factor in zip(marginal.parts, found.parts, found.factors, strict=True):
        z = rng.standard_normal(own.modes.shape)
        upper = np.swapaxes(np.linalg.cholesky(own.information), -1, -2)
        inside = own.modes + np.linalg.solve(upper, z[..., None])[..., 0]
        outside = np.einsum("sepq,seuq->seup", factor, z)
        has = chosen[:, None] == np.array(part.experts)[:, None]
        by_part.append(np.where(has[..., None], inside, outside))
    return marginal.internal(by_part)

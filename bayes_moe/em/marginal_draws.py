"""Draws from the normal approximation of a model with random effects at its marginal mode.

All but the effects are normal about their mode, with the curvature of the marginal posterior
density there. The effects are normal given these, about a mode that changes linearly with them; or,
where rows share an expert by group, as :mod:`bayes_moe.em.shared_draws` says.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.em.effect_marginal import EffectMarginal
from bayes_moe.em.group_marginal import GroupMarginal
from bayes_moe.em.random_effects import MarginalModes
from bayes_moe.em.shared_draws import effects_given
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.predictors.group_basis import reported_parts

CHUNK = 64
"""Draws whose log density is evaluated at a time."""


def drawn(
    found: MarginalModes, z: np.ndarray, weighed: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Variables (draw, ...) of normal numbers (draw, ...), and log densities of the first draws.

    The densities are those of the coordinates and effects, or of coordinates alone where all
    effects are drawn from their distribution given these; each differs by a constant from that
    of which the mode's value is.
    """
    marginal, point = found.marginal, found.point
    if isinstance(marginal, SharedMarginal):
        psi = point.psi + z @ _root(found.covariance).T
        effects, log_p = effects_given(marginal, psi, point.effects, rng)
        return variables(marginal, psi, effects), log_p[:weighed]
    psi, effects = draws(found, z)
    log_p = log_density(marginal, psi[:weighed], effects[:weighed])
    log_p += point.value - log_density(marginal, point.psi[None], point.effects[None])[0]
    return variables(marginal, psi, effects), log_p


def dimension(found: MarginalModes) -> int:
    """Number of standard normal numbers of a draw."""
    count: int = _root(found.covariance).shape[1]
    return count if isinstance(found.marginal, SharedMarginal) else count + found.marginal.rows.size


def draws(found: MarginalModes, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (draw, coordinate) and effects (draw, effect), of normal numbers (draw, ...)."""
    root, point = _root(found.covariance), found.point
    assert isinstance(found.marginal, GroupMarginal)
    count = root.shape[1]
    steps = z[:, :count] @ root.T
    given = found.marginal.information.matrices.draws(point.factor, z[:, count:])
    return point.psi + steps, point.effects + steps @ point.slopes.T + given


def log_density(marginal: EffectMarginal, psi: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Log density (draw,) of the coordinates and effects of draws, with the response's."""
    total = np.empty(len(psi))
    for start in range(0, len(psi), CHUNK):
        part = slice(start, start + CHUNK)
        total[part] = marginal.rows.value(psi[part, : marginal.fixed], effects[part])
    for j, (at, u) in enumerate(zip(psi, effects, strict=True)):
        own = (p.log_density(u[p.effects.where]) for p in marginal.group_priors(at))
        total[j] += sum(own) + marginal.log_prior(at)[0]
    return total


def variables(
    marginal: EffectMarginal, psi: np.ndarray, effects: np.ndarray
) -> dict[str, np.ndarray]:
    """Variables (draw, ...) of a model at coordinates and effects of draws."""
    vector, rows = marginal.vector, marginal.rows
    whole = rows.joined(psi[:, : marginal.fixed], effects)
    values: dict[str, np.ndarray] = {}
    for block in vector.blocks:
        raw = block.raw(whole)
        if block.scaling is None:
            values[block.variable] = block.link.inverse(block.bounded(raw[..., 0]), NUMERIC)
        else:
            at = (block.predictor, block.site, block.scaling.matrix)
            values |= reported_parts(*at, block.scaling.to_user(raw))
    scales = [marginal.scales(at) for at in psi]
    return values | {n: np.stack([s[n] for s in scales]) for n in marginal.shapes}


def _root(covariance: np.ndarray | None) -> np.ndarray:
    """Root (coordinate, direction) of a covariance that may be singular."""
    assert covariance is not None
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-14 * values.max()
    root: np.ndarray = vectors[:, kept] * np.sqrt(values[kept])
    return root

"""Draws from the normal approximation of a model with random effects at its marginal mode.

All but the effects are normal about their mode, with the curvature of the marginal posterior
density there; the effects are normal given these, about a mode that changes linearly with them.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.em.group_marginal import GroupMarginal
from bayes_moe.em.random_effects import MarginalModes
from bayes_moe.predictors.group_basis import reported_parts

CHUNK = 64
"""Draws whose log density is evaluated at a time."""


def dimension(found: MarginalModes) -> int:
    """Number of standard normal numbers of a draw."""
    assert found.covariance is not None
    return _root(found.covariance).shape[1] + found.marginal.rows.size


def draws(found: MarginalModes, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (draw, coordinate) and effects (draw, effect), of normal numbers (draw, ...)."""
    assert found.covariance is not None
    root, point = _root(found.covariance), found.point
    count = root.shape[1]
    steps = z[:, :count] @ root.T
    given = found.marginal.information.matrices.draws(point.factor, z[:, count:])
    return point.psi + steps, point.effects + steps @ point.slopes.T + given


def log_density(marginal: GroupMarginal, psi: np.ndarray, effects: np.ndarray) -> np.ndarray:
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
    marginal: GroupMarginal, psi: np.ndarray, effects: np.ndarray
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


def _root(covariance: np.ndarray) -> np.ndarray:
    """Root (coordinate, direction) of a covariance that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-14 * values.max()
    root: np.ndarray = vectors[:, kept] * np.sqrt(values[kept])
    return root

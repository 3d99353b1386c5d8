"""M-steps: the change of the parameter vector in one sweep of EM."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.em.objective import Evaluation, Objective
from bayes_moe.em.parameter_vector import ParameterBlock
from bayes_moe.em.proximal_newton import proximal_step
from bayes_moe.priors.densities import log_density, log_density_of_log

LARGEST_CHANGE = 3.0
"""Largest root mean square change of a predictor on a log or logit scale in one step."""


def sweep_step(objective: Objective, theta: np.ndarray, found: Evaluation) -> np.ndarray:
    """Return the step of one sweep of EM from the complete-data derivatives."""
    bend = np.einsum("bii->bi", found.curvature)
    ridge = 1e-10 * (1 + np.abs(bend))
    scale = 1 / np.sqrt(np.maximum(bend + ridge, 1e-300))
    matrix = found.curvature * scale[:, :, None] * scale[:, None, :]
    diagonal = np.arange(objective.size)
    matrix[:, diagonal, diagonal] += ridge * scale**2
    good = np.isfinite(matrix).all(axis=(1, 2))
    matrix[~good] = np.eye(objective.size)
    if np.isnan(objective.coordinates.kinks).all():
        step = np.linalg.solve(matrix, (found.gradient * scale)[..., None])[..., 0] * scale
    else:
        whole = matrix / scale[:, :, None] / scale[:, None, :]
        step = proximal_step(objective.coordinates, theta, found, whole)
    step = np.where(good[:, None], step, np.nan)
    step = capped(objective, theta, step)
    for slot, location in scale_slots(objective.coordinates.slots):
        step[:, slot.where] = _scale_step(theta, found, step, slot, location)
    gate = objective.coordinates.slots[0]
    if _is_constant_gate(objective):
        step[:, gate.where] = _weight_step(theta, found, gate)
    return step


def _is_constant_gate(objective: Objective) -> bool:
    """Whether the gate is one softmax of constants, whose optimum is the experts' share of rows."""
    branching, gate = objective.coordinates.branching, objective.coordinates.slots[0]
    if (
        branching is None
        or not branching.is_single_softmax
        or gate.scaling is None
        or gate.basis is None
    ):
        return False
    return gate.scaling.matrix.terms == (INTERCEPT,)


def _weight_step(theta: np.ndarray, found: Evaluation, gate: ParameterBlock) -> np.ndarray:
    """Step of a constant gate to its optimum, given the experts' rows.

    With ``N_k`` the rows, it maximises ``sum_k N_k log w_k + log prior``; without a prior,
    ``w_k = N_k / n``.
    """
    assert gate.basis is not None
    rows = np.maximum(found.rows, 1e-12)
    total = rows.sum(axis=1, keepdims=True)
    free = np.log(rows) @ gate.basis.T / gate.unit
    if gate.prior is None:
        return free - theta[:, gate.where]
    free = theta[:, gate.where].copy()
    for _ in range(12):
        weights = np.exp(log_softmax((free @ gate.basis * gate.unit)[..., None], NUMERIC))[..., 0]
        _, first, second = log_density(gate.prior, free[..., None])
        slope = gate.unit * (rows - total * weights) @ gate.basis.T + first[..., 0]
        spread = np.einsum("bk,kl->bkl", weights, np.eye(weights.shape[1]))
        spread = (spread - weights[:, :, None] * weights[:, None, :]) * total[:, :, None]
        bend = gate.unit**2 * gate.basis @ spread @ gate.basis.T
        diagonal = np.arange(bend.shape[1])
        bend[:, diagonal, diagonal] += np.maximum(-second[..., 0], 1e-9)
        change = np.clip(np.linalg.solve(bend, slope[..., None])[..., 0], -3.0, 3.0)
        free += change
        if np.abs(change).max() < 1e-10:
            break
    return free - theta[:, gate.where]


def capped(objective: Objective, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Shorten steps that would change a predictor on a log or logit scale beyond reason.

    A predictor may change by ``LARGEST_CHANGE``, or by as much as it is.
    """
    free = np.array([s.role == "location" for s in objective.coordinates.slots])
    allowed = LARGEST_CHANGE + objective.eta_size(theta)
    beyond = np.where(free, 0.0, objective.eta_size(step) / allowed).max(axis=1)
    return step / np.maximum(beyond, 1.0)[:, None]


def scale_slots(slots: tuple[ParameterBlock, ...]) -> list[tuple[ParameterBlock, ParameterBlock]]:
    """Return the slots of constant scales with the location slots they belong to."""
    locations = {s.block: s for s in slots if s.role == "location"}
    return [
        (s, locations[s.block])
        for s in slots
        if s.role == "scale" and s.scaling is None and s.block in locations
    ]


def _scale_step(
    theta: np.ndarray,
    found: Evaluation,
    step: np.ndarray,
    slot: ParameterBlock,
    location: ParameterBlock,
) -> np.ndarray:
    """Step of log sigma to its optimum, given the location's step.

    With ``N`` the experts' rows and ``S`` the weighted sum of squares of the new residuals in units
    of the old sigma, it maximises ``-N t - S exp(-2 t) / 2 + log prior`` over ``t``.
    """
    experts = len(slot.experts)
    move = step[:, location.where]
    own = found.own_curvature[:, location.where, location.where]
    gained = 2 * move * found.own_gradient[:, location.where] - move * np.einsum(
        "bij,bj->bi", own, move
    )
    gained = gained.reshape(len(theta), experts, -1).sum(axis=-1)
    rows = found.rows[:, slot.experts]
    square = np.maximum(rows + found.own_gradient[:, slot.where] - gained, 1e-12 * rows + 1e-300)
    old = theta[:, slot.where]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.clip(0.5 * np.log(square / rows), -8.0, 8.0)
    t = np.where(rows > 1e-8, t, 0.0)
    if slot.prior is None:
        return np.where(rows > 1e-8, np.maximum(t, slot.floor - old), 0.0)
    for _ in range(12):
        _, first, second = log_density_of_log(slot.prior, (old + t)[..., None])
        shrunk = square * np.exp(-2 * t)
        slope = shrunk - rows + first[..., 0]
        bend = 2 * shrunk + np.maximum(-second[..., 0], 1e-6)
        change = np.clip(slope / bend, -1.0, 1.0)
        t = t + change
        if np.abs(change).max() < 1e-10:
            break
    return t

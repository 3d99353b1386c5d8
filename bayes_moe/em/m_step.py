"""M-steps: the change of the parameter vector in one sweep of EM."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.em.covariance_step import with_covariances, without_covariances
from bayes_moe.em.newton import expanded, reduced
from bayes_moe.em.objective import Evaluation, Objective
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.em.proximal_newton import proximal_step
from bayes_moe.priors.densities import formula, formula_arguments, log_density

LARGEST_CHANGE = 3.0
"""Largest root mean square change of a predictor on a log or logit scale in one step."""


def sweep_step(objective: Objective, theta: np.ndarray, evaluation: Evaluation) -> np.ndarray:
    """Step (point, coordinate) of one sweep of EM from the complete-data derivatives."""
    vector = objective.vector
    of_free = reduced(vector, evaluation)
    curvature = np.einsum("bii->bi", of_free.curvature)
    ridge = 1e-10 * (1 + np.abs(curvature))
    scale = 1 / np.sqrt(np.maximum(curvature + ridge, 1e-300))
    matrix = of_free.curvature * scale[:, :, None] * scale[:, None, :]
    diagonal = np.arange(scale.shape[1])
    matrix[:, diagonal, diagonal] += ridge * scale**2
    good = np.isfinite(matrix).all(axis=(1, 2))
    matrix[~good] = np.eye(scale.shape[1])
    if vector.has_kinks:
        unscaled = matrix / scale[:, :, None] / scale[:, None, :]
        step = proximal_step(vector, theta, evaluation, unscaled)
    else:
        step = np.linalg.solve(matrix, (of_free.gradient * scale)[..., None])[..., 0] * scale
    step = np.where(good[:, None], step, np.nan)
    step = capped(objective, theta, without_covariances(vector, expanded(vector, step)))
    shared = vector.constraint.variables if vector.constraint else frozenset()
    for scales, location in scale_blocks(vector):
        if scales.variable not in shared:
            step[:, scales.where] = _scale_step(theta, evaluation, step, scales, location)
    if vector.constraint is not None:
        step = with_shared_scales(vector, theta, evaluation, step)
    step = with_covariances(objective, theta, step, evaluation)
    gate = vector.blocks[0]
    if _is_constant_gate(objective) and gate.variable not in shared:
        step[:, gate.where] = _weight_step(theta, evaluation, gate)
    return step


def _is_constant_gate(objective: Objective) -> bool:
    """Whether the gate is one softmax of constants, whose maximum is the experts' share of rows."""
    tree, gate = objective.vector.split_tree, objective.vector.blocks[0]
    if tree is None or not tree.is_single_softmax or gate.scaling is None or gate.basis is None:
        return False
    matrix = gate.scaling.matrix
    return matrix.terms == (INTERCEPT,) and matrix.offset is None


def _weight_step(theta: np.ndarray, evaluation: Evaluation, gate: ParameterBlock) -> np.ndarray:
    """Step of a constant gate to its maximum, for the experts' rows.

    With ``N_k`` the rows, or the groups of rows that share an expert, it maximises ``sum_k N_k log
    w_k + log prior``; without a prior, ``w_k = N_k / n``.
    """
    assert gate.basis is not None
    rows = np.maximum(evaluation.units, 1e-12)
    total = rows.sum(axis=1, keepdims=True)
    free = np.log(rows) @ gate.basis.T / gate.unit
    if gate.prior is None:
        return free - theta[:, gate.where]
    free = theta[:, gate.where].copy()
    for _ in range(12):
        weights = np.exp(log_softmax((free @ gate.basis * gate.unit)[..., None], NUMERIC))[..., 0]
        _, first, second = log_density(gate.prior, free[..., None])
        slope = gate.unit * (rows - total * weights) @ gate.basis.T + first[..., 0]
        covariance = np.einsum("bk,kl->bkl", weights, np.eye(weights.shape[1]))
        covariance = (covariance - weights[:, :, None] * weights[:, None, :]) * total[:, :, None]
        curvature = gate.unit**2 * gate.basis @ covariance @ gate.basis.T
        diagonal = np.arange(curvature.shape[1])
        curvature[:, diagonal, diagonal] += np.maximum(-second[..., 0], 1e-9)
        change = np.clip(np.linalg.solve(curvature, slope[..., None])[..., 0], -3.0, 3.0)
        free += change
        if np.abs(change).max() < 1e-10:
            break
    return free - theta[:, gate.where]


def capped(objective: Objective, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Steps shortened so that predictors on a log or logit scale change by a bounded amount.

    A predictor may change by ``LARGEST_CHANGE`` plus its size.
    """
    free = np.array([block.role == "location" for block in objective.vector.blocks])
    change = np.where(free, 0.0, objective.eta_size(step))
    if (change <= LARGEST_CHANGE).all():
        return step
    allowed = LARGEST_CHANGE + objective.eta_size(theta)
    return step / np.maximum((change / allowed).max(axis=1), 1.0)[:, None]


def scale_blocks(vector: ParameterVector) -> list[tuple[ParameterBlock, ParameterBlock]]:
    """Pairs of a block of constant scales and that of the location of the same normal mixture."""
    locations = {b.factor: b for b in vector.blocks if b.factor is not None and b.parameter == 0}
    factors = vector.spec.structure.factors
    return [
        (b, locations[b.factor])
        for b in vector.blocks
        if b.factor in locations and b.parameter == 1 and b.scaling is None
        if factors[b.factor].block.family.normal_mixture
    ]


def squares(
    evaluation: Evaluation, step: np.ndarray, scales: ParameterBlock, location: ParameterBlock
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (point, expert), and sums of squared residuals in units of sigma after a step."""
    change = step[:, location.where]
    curvature = evaluation.likelihood_curvature[:, location.where, location.where]
    gain = 2 * change * evaluation.likelihood_gradient[:, location.where] - change * np.einsum(
        "bij,bj->bi", curvature, change
    )
    gain = gain.reshape(len(step), len(scales.experts), -1).sum(axis=-1)
    rows = evaluation.rows[:, scales.experts]
    square = rows + evaluation.likelihood_gradient[:, scales.where] - gain
    return rows, np.maximum(square, 1e-12 * rows + 1e-300)


def with_shared_scales(
    vector: ParameterVector, theta: np.ndarray, evaluation: Evaluation, step: np.ndarray
) -> np.ndarray:
    """The step with constrained log sigmas at their maximum, for the location's step.

    As :func:`_scale_step`, with rows and squares summed over the experts that share one.
    """
    constraint = vector.constraint
    assert constraint is not None
    pairs = [p for p in scale_blocks(vector) if p[0].variable in constraint.variables]
    if not pairs:
        return step
    covered = np.zeros(vector.size, dtype=bool)
    sums = np.zeros((2, len(theta), len(constraint.at)))
    for scales, location in pairs:
        covered[scales.where] = True
        to_free = constraint.matrix[scales.where]
        sums += np.stack([each @ to_free for each in squares(evaluation, step, scales, location)])
    members = constraint.matrix != 0
    free = np.flatnonzero(members[covered].any(axis=0) & ~members[~covered].any(axis=0))
    rows, square = sums[:, :, free]
    at, point = constraint.at[free], theta.copy()
    t = np.zeros(rows.shape)
    with np.errstate(all="ignore"):
        t = np.where(rows > 1e-8, np.clip(0.5 * np.log(square / rows), -8.0, 8.0), 0.0)
        for _ in range(12):
            point[:, at] = theta[:, at] + t
            _, first, second = vector.log_prior(point)
            shrunk = square * np.exp(-2 * t)
            slope = shrunk - rows + first[:, at]
            change = slope / (2 * shrunk + np.maximum(-second[:, at], 1e-6))
            change = np.where(rows > 1e-8, np.clip(change, -1.0, 1.0), 0.0)
            t = t + change
            if np.abs(change).max(initial=0.0) < 1e-10:
                break
    full = np.zeros((len(theta), len(constraint.at)))
    full[:, free] = t
    moved = members[:, free].any(axis=1)
    step[:, moved] = constraint.step(full)[:, moved]
    return step


def _scale_step(
    theta: np.ndarray,
    evaluation: Evaluation,
    step: np.ndarray,
    scales: ParameterBlock,
    location: ParameterBlock,
) -> np.ndarray:
    """Step of log sigma to its maximum, for the location's step.

    With ``N`` the experts' rows and ``S`` the weighted sum of squares of the new residuals in units
    of the old sigma, it maximises ``-N t - S exp(-2 t) / 2 + log prior`` over ``t``. Weights are
    the expected inverse variances of a normal mixture; the score of log sigma is ``S - N``.
    """
    rows, square = squares(evaluation, step, scales, location)
    old = theta[:, scales.where]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.clip(0.5 * np.log(square / rows), -8.0, 8.0)
    t = np.where(rows > 1e-8, t, 0.0)
    if scales.prior is None:
        return np.where(rows > 1e-8, np.maximum(t, scales.floor - old), 0.0)
    prior, arguments = formula(scales.prior), formula_arguments(scales.prior)
    for _ in range(12):
        with np.errstate(over="ignore", under="ignore"):
            _, first, second = prior(old + t, *arguments)
        shrunk = square * np.exp(-2 * t)
        slope = shrunk - rows + first
        curvature = 2 * shrunk + np.maximum(-second, 1e-6)
        change = np.clip(slope / curvature, -1.0, 1.0)
        t = t + change
        if np.abs(change).max() < 1e-10:
            break
    return t

"""Starting points of EM runs, fitted to partitions of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayes_moe.core.threads import one_blas_thread
from bayes_moe.em.constraint import feasible
from bayes_moe.em.m_step import sweep_step
from bayes_moe.em.objective import Curvature, Objective, features_of, parts
from bayes_moe.em.parameter_vector import ParameterBlock, own_response
from bayes_moe.priors.defaults import role_of

RIDGE = 1e-9
"""Added to the mean squares of features, which may be collinear."""


def initial_points(
    objective: Objective, allocation: np.ndarray, sweeps: int | np.ndarray = 2
) -> np.ndarray:
    """Return points (point, coordinate) fitted to partitions of the rows (point, expert, obs).

    ``sweeps``, one number or one a point, is the number of M-steps with the allocation fixed.
    """
    theta = equal_experts(objective, len(allocation))
    counts = np.broadcast_to(sweeps, len(allocation))
    signed = [block for block in objective.vector.blocks if role_of(block.role).signed]
    sizes = [_sizes(theta, block) for block in signed]
    for block in signed:
        theta[:, block.where] = 0.0
    with one_blas_thread(objective.size):
        for done in range(int(counts.max())):
            which = np.flatnonzero(counts > done)
            evaluation = objective.evaluate(theta[which], Curvature.COMPLETE, allocation[which])
            step = sweep_step(objective, theta[which], evaluation)
            for block in objective.vector.blocks:
                # Residuals of a bad fit carry no information on the shape.
                if role_of(block.role).of_form:
                    step[:, block.where] = 0.0
            theta[which] += step
            if done == 0:
                for block, size in zip(signed, sizes, strict=True):
                    theta[:, block.where] = size * _directions(objective, theta, allocation, block)
                    theta = feasible(objective.vector.constraint, theta)
    return theta


def _sizes(theta: np.ndarray, block: ParameterBlock) -> np.ndarray | float:
    """Sizes of asymmetries: those of constants at a point, which may be held, or the neutral."""
    return theta[:, block.where].copy() if block.scaling is None else role_of(block.role).neutral


def _directions(
    objective: Objective, theta: np.ndarray, allocation: np.ndarray, block: ParameterBlock
) -> np.ndarray:
    """Asymmetries (point, coordinate) by residuals of symmetric experts, on average of size one.

    At zero the gradient by an asymmetry vanishes with that by the location: a saddle. Its curvature
    there is a sum of odd functions of the residuals; they are regressed on the features.
    """
    assert block.factor is not None
    family = objective.vector.spec.structure.factors[block.factor].block.family
    slot = block.parameter
    j = objective.vector.blocks.index(block)
    pull = np.zeros((len(theta), len(block.experts), block.terms))
    moments, rows = np.zeros((*pull.shape, block.terms)), np.zeros(pull.shape[:2])
    for chunk in parts(objective, theta):
        data, etas = chunk.data[block.factor], chunk.etas[block.factor]
        odd: Any = 0.0
        for value, times in ((1.0, 1.0), (-1.0, 1.0), (0.0, -2.0)):
            moved = [value + 0.0 * eta if k == slot else eta for k, eta in enumerate(etas)]
            odd = odd + times * family.derivatives_at(data, moved).score[slot]
        r = chunk.counted(allocation[:, list(block.experts)][..., chunk.where])
        features = features_of(objective, j, chunk.where)
        features = np.broadcast_to(features, (block.terms, r.shape[2]))
        rows += r.sum(axis=-1)
        pull += np.einsum("bki,ti->bkt", r * odd, features)
        moments += np.einsum("bki,ti,ui->bktu", r, features, features)
    moments /= np.maximum(rows, 1e-300)[..., None, None]
    coef = np.linalg.solve(moments + RIDGE * np.eye(block.terms), pull[..., None])[..., 0]
    length = np.sqrt(np.einsum("bki,bkij,bkj->bk", coef, moments, coef))[..., None]
    found = np.where(length > 0.0, coef / np.where(length > 0.0, length, 1.0), 1.0)
    return found.reshape(len(theta), -1)


def equal_experts(objective: Objective, points: int) -> np.ndarray:
    """Return equal experts (point, coordinate): no features, half the response's spread."""
    theta = np.zeros((points, objective.size))
    for block in objective.vector.blocks:
        if block.scaling is None:
            role = role_of(block.role)
            half = role.neutral
            if role.log_unit is not None:
                unit = role.log_unit(own_response(objective.vector, block))
                half = (unit - np.log(2.0)) / role.spread
            theta[:, block.where] = half
    return feasible(objective.vector.constraint, theta)

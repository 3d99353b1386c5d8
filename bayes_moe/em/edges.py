"""Steps at edges of the objective, where its slope jumps, and whether a maximum is at them.

Where a response equals the location of a Laplace distribution, or a coordinate the centre of a
Laplace prior, the slope takes all values between two limits. With ``J`` half the jumps, the
quadratic model ``g'd - d'Cd / 2 - |J'd|`` has its maximum at ``d = C^-1 (g + J s)``, where ``s``,
between -1 and 1, makes ``g + J s`` least in the metric of ``C^-1``. At a maximum of the objective
that is zero.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.em.newton import expanded, modulus, reduced, reduced_gradient
from bayes_moe.em.objective import Chunk, Curvature, Objective, features_of, parts

AT_EDGE = 1e-6
"""Distance of response and location, in units of the scale, at which the slope may jump."""

RIDGE = 1e-10
"""Share of the diagonal that is added to a metric."""


def edge_steps(
    objective: Objective, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (point, coordinate) from points to the maxima of their quadratic models with edges.

    Besides, their predicted gains (point,), twice that of the model, and the least norms (point,)
    of subgradients; both are zero at a maximum.
    """
    vector = objective.vector
    evaluation = objective.evaluate(theta, Curvature.OBSERVED)
    matrix = modulus(reduced(vector, evaluation).curvature)
    size = matrix.shape[1]
    matrix = matrix * (1.0 + RIDGE * np.eye(size))  # null directions have Cholesky's factor too
    steps, gains, norms = list[np.ndarray](), list[float](), list[float]()
    for point, gradient, own in zip(theta, evaluation.gradient, matrix, strict=True):
        smooth, columns = _by_sides(objective, point, gradient)
        if not (np.isfinite(smooth).all() and np.isfinite(columns).all()):
            steps.append(np.zeros(size))
            gains.append(np.inf)
            norms.append(np.inf)
            continue
        slope = _least(smooth, columns, np.linalg.cholesky(own))
        steps.append(np.linalg.solve(own, slope))
        gains.append(float(slope @ steps[-1]))
        norms.append(float(np.linalg.norm(_least(smooth, columns, np.eye(len(smooth))))))
    return expanded(vector, np.array(steps)), np.array(gains), np.array(norms)


def _least(smooth: np.ndarray, columns: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Least of ``smooth + s columns`` for ``s`` between -1 and 1, by a metric's inverse root."""
    from scipy import optimize

    if not len(columns):
        return smooth
    of_model = np.linalg.solve(root, columns.T), -np.linalg.solve(root, smooth)
    found = optimize.lsq_linear(*of_model, (-1.0, 1.0), method="bvls", tol=1e-14)
    return np.asarray(smooth + found.x @ columns)


def _by_sides(
    objective: Objective, theta: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle (free,) of the subgradients at a point (coordinate,), and half jumps (edge, free)."""
    vector = objective.vector
    sides, jumps = [np.zeros(0)], [np.zeros((0, theta.size))]
    at_centre = np.flatnonzero(theta == vector.kinks)
    jumps.append(np.eye(theta.size)[at_centre] * vector.kink_slopes[at_centre, None])
    sides.append(np.zeros(at_centre.size))  # the gradient has nothing of a prior at its centre
    for chunk in parts(objective, theta[None]):
        for j, block in enumerate(vector.blocks):
            if block.factor is not None and block.parameter == 0:
                distance, slopes = _edges(objective, chunk, j)
                jumps.append(slopes)
                sides.append(np.sign(distance))
    columns = np.concatenate(jumps)
    smooth = gradient - np.concatenate(sides) @ columns
    return reduced_gradient(vector, smooth[None])[0], reduced_gradient(vector, columns)


def _edges(objective: Objective, chunk: Chunk, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of a block of locations, at one point, on some rows.

    How far responses are above the locations (edge,), in scales, and half the jumps (edge,
    coordinate) of the gradient.
    """
    block = objective.vector.blocks[j]
    assert block.factor is not None
    factor, size = block.factor, objective.size
    family = objective.vector.spec.structure.factors[factor].block.family
    if not family.kink:
        return np.zeros(0), np.zeros((0, size))
    data, etas, r = chunk.data[factor], chunk.etas[factor], chunk.r[:, list(block.experts)]
    scale = np.exp(etas[1])
    distance = np.broadcast_to((data.t - etas[0]) / scale, r.shape)
    _, expert, row = np.nonzero((np.abs(distance) <= AT_EDGE) & family.is_exact(data))
    below = [data.t - scale, *etas[1:]]  # the slope above a response is that with the other sign
    half = np.broadcast_to(r * family.derivatives_at(data, below).score[0], r.shape)
    unit = block.raw(np.eye(size)) * block.unit  # (coordinate, expert, term)
    features = features_of(objective, j, chunk.where)
    features = np.broadcast_to(features, (features.shape[0], r.shape[2]))
    by_edge = np.einsum("cet,te->ec", unit[:, expert], features[:, row])
    return distance[0, expert, row], half[0, expert, row][:, None] * by_edge

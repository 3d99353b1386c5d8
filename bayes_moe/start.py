"""Starting points that break the symmetry between experts.

A mixture's posterior has a saddle where all experts are equal; a sampler or optimiser started
there sees no reason to leave it. Each point here comes from the data: rows are split into groups
(k-means on features and response, or at random), each expert is fitted to its group, and a few
sweeps of reassigning and refitting follow. Of several such splits the likeliest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.cluster.vq import kmeans2

from bayes_moe import names
from bayes_moe.arrays import NUMERIC
from bayes_moe.design import Design, Matrix
from bayes_moe.mixture import evaluate
from bayes_moe.spec import MixtureOfExperts

SPLITS = 6
SWEEPS = 8
RIDGE = 1e-2
LEAST_SIGMA = 0.05
LARGEST_SAMPLE = 2000
NU = 10.0

Point = dict[str, np.ndarray]


def point(spec: MixtureOfExperts, design: Design, rng: np.random.Generator) -> Point:
    """Return reported variables (on the user's scale) at an asymmetric, data-driven point.

    Parameters
    ----------
    spec, design
        The model and its data. At most 2,000 rows, drawn by ``rng``, are looked at.
    rng : numpy.random.Generator
        Decides the splits; different generators give different points.
    """
    rows = design.rows
    if rows.size > LARGEST_SAMPLE:
        rows = rows.pick(np.sort(rng.choice(rows.size, LARGEST_SAMPLE, replace=False)))
    y, matrices = rows.observed, rows.matrices
    best: tuple[float, Point] | None = None
    for attempt in range(SPLITS if spec.n_experts > 1 else 1):
        weights = _split(spec, y, matrices, rng, by_distance=attempt % 2 == 0)
        for _ in range(SWEEPS):
            candidate = _fit(spec, y, matrices, weights, np.std(design.response))
            mixture = evaluate(spec, {k: v[None] for k, v in candidate.items()}, rows)
            weights = mixture.responsibilities(y)[0]
        score = float(mixture.log_density(y).sum())
        if best is None or score > best[0]:
            best = score, candidate
    assert best is not None
    return best[1]


def _split(
    spec: MixtureOfExperts,
    y: np.ndarray,
    matrices: Mapping[str, Matrix],
    rng: np.random.Generator,
    *,
    by_distance: bool,
) -> np.ndarray:
    """Soft groups (expert, obs)."""
    k, n = spec.n_experts, y.size
    if by_distance and n > k:
        location = matrices[spec.blocks[0].components[0].stem]
        free = [j for j in range(len(location.terms)) if j != location.intercept]
        cloud = np.column_stack([location.standardised[:, free], (y - y.mean()) / y.std()])
        label = kmeans2(cloud, k, minit="++", rng=rng, iter=10)[1] if k > 1 else np.zeros(n, int)
    else:
        label = rng.integers(k, size=n)
    hard = np.equal.outer(np.arange(k), label)
    return 0.9 * hard + 0.1 / k


def _fit(
    spec: MixtureOfExperts,
    y: np.ndarray,
    matrices: Mapping[str, Matrix],
    weights: np.ndarray,
    spread: float,
) -> Point:
    """Fit each expert to its rows by weighted ridge regression, the gate to the weights."""
    found: Point = {}
    if spec.n_experts > 1:
        for stem in spec.gate.predictors:
            level = spec.n_experts**2 / (spec.n_experts - 1)  # slope of a logit at equal weights
            target = level * (weights - 1 / spec.n_experts)
            found[names.coef(stem)] = _ridge(matrices[stem], target, np.ones_like(weights))
    for block in spec.blocks:
        mine = weights[list(block.positions)]
        location, *others = block.components
        coef = _ridge(matrices[location.stem], np.broadcast_to(y, mine.shape), mine)
        found[location.variable] = coef
        residual = y - coef @ matrices[location.stem].values.T
        variance = (mine * residual**2).sum(axis=1) / (mine.sum(axis=1) + 1e-12)
        sigma = np.maximum(np.sqrt(variance), LEAST_SIGMA * spread)
        for c in others:
            value = sigma if c.parameter.role == "scale" else np.full(len(mine), NU)
            if c.formula is None:
                found[c.variable] = value
            else:
                eta = c.parameter.link(value, NUMERIC)[:, None]
                found[c.variable] = _ridge(
                    matrices[c.stem], np.broadcast_to(eta, mine.shape), np.ones_like(mine)
                )
    return found


def _ridge(matrix: Matrix, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted ridge regression of each row of ``target`` (expert, obs): coefs (expert, term)."""
    z = matrix.standardised
    penalty = RIDGE * np.eye(z.shape[1])
    gram = np.einsum("ko,oi,oj->kij", weights, z, z, optimize=True) + penalty
    moment = np.einsum("ko,ko,oi->ki", weights, target, z, optimize=True)
    raw = np.linalg.solve(gram, moment[..., None])[..., 0]
    return raw @ matrix.to_user

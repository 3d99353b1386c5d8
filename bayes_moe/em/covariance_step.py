"""M-step of covariances: of responses that are normal together, at their maximum for new means.

With ``N`` the rows of an expert and ``S`` the weighted mean of products of its new residuals, the
covariance is ``S`` without a prior. With one, the maximum is found from there by Newton's method on
standard deviations and (partial) correlations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bayes_moe.em.objective import Evaluation, Objective, features_of, parts
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.families import RowData
from bayes_moe.families.formula import SCORES
from bayes_moe.families.multivariate import MvNormal, expected_information

LEAST_ROWS = 1e-8
"""Rows of an expert below which its covariance stays."""
RIDGE = 1e-12
"""Relative to variances, what is added to them: experts of few rows have singular covariances."""
LARGEST_CORRELATION = 1.0 - 1e-12
NEWTON_STEPS = 2
"""From the maximum without a prior, which moves it little; the next sweep goes on."""


@dataclass(frozen=True)
class _Normals:
    """Blocks of parameters of experts with several normal responses, in the order of the family.

    ``means`` are positions among the vector's blocks; ``spreads`` are constants.
    """

    factor: int
    family: MvNormal
    experts: list[int]
    means: list[int]
    spreads: list[ParameterBlock]


def with_covariances(
    objective: Objective, theta: np.ndarray, step: np.ndarray, evaluation: Evaluation
) -> np.ndarray:
    """The step (point, coordinate) with covariances at their maximum, for the means' step."""
    for normals in _normals(objective.vector):
        moved = theta + step
        rows = evaluation.rows[:, normals.experts]
        enough = rows > LEAST_ROWS
        sums = _products(objective, theta, moved, normals, evaluation.allocation)
        mean = sums / np.where(enough, rows, 1.0)[..., None, None]
        with np.errstate(all="ignore"):
            etas = _with_prior(objective.vector, moved, normals, mean, rows)
        for block, eta in zip(normals.spreads, etas, strict=True):
            new = np.where(enough & np.isfinite(eta), block.bounded(eta), moved[:, block.where])
            step[:, block.where] = new - theta[:, block.where]
    return step


def without_covariances(vector: ParameterVector, step: np.ndarray) -> np.ndarray:
    """The step without the changes that :func:`with_covariances` replaces."""
    for normals in _normals(vector):
        for block in normals.spreads:
            step[:, block.where] = 0.0
    return step


def _normals(vector: ParameterVector) -> Iterator[_Normals]:
    """Experts with several normal responses whose spreads are constants that nothing restricts."""
    shared = vector.constraint.variables if vector.constraint else frozenset()
    for b, factor in enumerate(vector.spec.structure.factors):
        family = factor.block.family
        if not isinstance(family, MvNormal):
            continue
        own = [j for j, block in enumerate(vector.blocks) if block.factor == b]
        means, others = own[: family.count], own[family.count :]
        spreads = [vector.blocks[j] for j in others]
        if all(block.scaling is None and block.variable not in shared for block in spreads):
            yield _Normals(b, family, list(factor.block.positions), means, spreads)


def _products(
    objective: Objective,
    theta: np.ndarray,
    moved: np.ndarray,
    normals: _Normals,
    allocation: np.ndarray | None,
) -> np.ndarray:
    """Sums over rows of products of residuals (point, expert, response, response) at new means.

    Weights are the responsibilities at the old point, or an allocation (point, expert, obs).
    """
    count = normals.family.count
    sums = np.zeros((len(theta), len(normals.experts), count, count))
    coefs = [objective.vector.blocks[j].coefficients(moved) for j in normals.means]
    for chunk in parts(objective, theta):
        r = chunk.r if allocation is None else allocation[..., chunk.where]
        r = chunk.counted(r[:, normals.experts])
        data = chunk.data[normals.factor]
        residuals = [
            np.subtract(y, np.matmul(coef, features_of(objective, j, chunk.where)))
            for y, coef, j in zip((data.t, data.u, *data.more), coefs, normals.means, strict=True)
        ]
        for k, one in enumerate(residuals):
            weighted = r * one
            for j, other in enumerate(residuals[: k + 1]):
                sums[..., k, j] += (weighted * other).sum(axis=-1)
                sums[..., j, k] = sums[..., k, j]
    return sums


def _with_prior(
    vector: ParameterVector,
    moved: np.ndarray,
    normals: _Normals,
    mean: np.ndarray,
    rows: np.ndarray,
) -> list[np.ndarray]:
    """Predictors (point, expert) of spreads at the maximum of likelihood and prior.

    ``mean`` (point, expert, response, response) are mean products of residuals.
    """
    family, spreads = normals.family, normals.spreads
    mean = mean + _diagonal(RIDGE * np.einsum("peii->pei", mean) + 1e-300)
    found = np.stack(_predictors(mean), axis=-1)
    if all(block.prior is None for block in spreads):
        return list(np.moveaxis(found, -1, 0))
    root = np.linalg.cholesky(mean) * np.sqrt(family.count)
    point, zero = moved.copy(), np.zeros((1, 1, 1))
    slots = family.coupled[1]
    for _ in range(NEWTON_STEPS):
        for k, block in enumerate(spreads):
            point[:, block.where] = found[..., k]
        _, first, second = vector.log_prior(point)
        etas = [zero] * family.count + [found[..., k, None] for k in range(len(spreads))]
        slope = rows[..., None] * _score(family, root, etas)
        slope += np.stack([first[:, block.where] for block in spreads], axis=-1)
        bend = np.stack([second[:, block.where] for block in spreads], axis=-1)
        matrix = _diagonal(np.maximum(-bend, 0.0) + 1e-9)
        information = expected_information(family, etas)
        for a in slots:
            for b in slots:
                value = information[min(a, b), max(a, b)]
                matrix[..., a - slots.start, b - slots.start] += rows * value[..., 0]
        change = np.clip(np.linalg.solve(matrix, slope[..., None])[..., 0], -1.0, 1.0)
        found = found + change
        if np.abs(change).max() < 1e-8:
            break
    return list(np.moveaxis(found, -1, 0))


def _score(family: MvNormal, root: np.ndarray, etas: Sequence[np.ndarray]) -> np.ndarray:
    """Mean score of spreads (point, expert, spread) for residuals whose products have a mean.

    Scores are linear in the products, so that columns of their root stand for all rows.
    """
    total: np.ndarray | float = 0.0
    for column in range(family.count):
        t, u, *more = (root[..., j, column, None] for j in range(family.count))
        found = family.derivatives_at(RowData(t, u, 0.0, tuple(more)), etas, SCORES).score
        total = total + np.concatenate([found[k] for k in family.coupled[1]], axis=-1)
    return np.asarray(total) / family.count


def _predictors(covariance: np.ndarray) -> list[np.ndarray]:
    """Predictors of standard deviations and partial correlations of covariances (..., d, d)."""
    count = covariance.shape[-1]
    sigma = np.sqrt(np.einsum("...ii->...i", covariance))
    root = np.linalg.cholesky(covariance / sigma[..., :, None] / sigma[..., None, :])
    fisher = []
    for k in range(count):
        left = np.ones(covariance.shape[:-2])
        for j in range(k):
            rho = np.clip(root[..., k, j] / left, -LARGEST_CORRELATION, LARGEST_CORRELATION)
            fisher.append(2.0 * np.arctanh(rho))
            left = left * np.sqrt(1.0 - rho * rho)
    return [*np.moveaxis(np.log(sigma), -1, 0), *fisher]


def _diagonal(values: np.ndarray) -> np.ndarray:
    """Diagonal matrices (..., item, item) of values (..., item)."""
    return values[..., None] * np.eye(values.shape[-1])

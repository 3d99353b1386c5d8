"""Mixtures of linear regressions with a softmax gate, many at once, fitted in little time.

They stand for a model while partitions of its rows are compared: the gate and all experts are
linear in their features, the errors are normal, and the response is what the first experts' family
starts from. Values of these mixtures and of the model agree about which partitions are good (their
rank correlation is 0.7 on UCI energy and concrete), at a quarter of the time or less: the sums over
rows that a step needs, for all experts of all mixtures, are one product of matrices in single
precision, and steps are not checked for a fall. So a value may fall, and nothing but the partitions
goes back to the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.threads import one_blas_thread
from bayes_moe.data.matrix import Rows
from bayes_moe.em.partitions import gate_and_expert_features
from bayes_moe.model.spec import MixtureOfExperts

SINGLE = np.float32
COLUMNS = 24
"""Most principal components of the features of gate or experts."""
ELEMENTS = 4_000_000
"""Most elements of the weights of mixtures that are fitted at once."""
COEF_PRECISION, GATE_PRECISION = 0.001, 0.1
"""Of normal priors of coefficients: of the experts' relative to their residual precision.

Near those of the default priors. With 0.1 and 0.1, or 0.01 and 0.3, fewer searches of ten found the
best mode of UCI energy: none and two instead of six."""
PRIOR_ROWS, PRIOR_VARIANCE = 2.0, 0.001
"""Of the experts' residual variances, as a share of the response's: experts of the best modes have
variances so small that with 0.01 they were found less often."""
LARGEST_STEP = 2.0
"""Largest norm of a step of one expert's gate coefficients."""


@dataclass(frozen=True)
class Partitions:
    """Fitted mixtures.

    ``shares`` (mixture, expert, obs) are responsibilities, ``value`` (mixture,) penalised log
    likelihoods, -inf where a fit failed, ``density`` (mixture, obs) log densities of the rows.
    """

    shares: np.ndarray
    value: np.ndarray
    density: np.ndarray

    def pick(self, which: np.ndarray | list[int]) -> Partitions:
        """Some of the mixtures."""
        return Partitions(self.shares[which], self.value[which], self.density[which])

    @classmethod
    def concatenate(cls, parts: list[Partitions]) -> Partitions:
        """Mixtures of several fits as one."""
        names = ("shares", "value", "density")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class _Features:
    """Principal components (obs, column) after a constant, and their products (obs, pair)."""

    columns: np.ndarray
    products: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, features: np.ndarray) -> _Features:
        """Components of the features (obs, feature); coefficients keep their norm."""
        centred = features - features.mean(axis=0)
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        kept = sizes[:COLUMNS] > 1e-6 * sizes.max(initial=1e-300)
        components = (left * sizes)[:, : len(kept)][:, kept]
        columns = np.column_stack([np.ones(len(features)), components])
        pairs = np.triu_indices(columns.shape[1])
        products = columns[:, pairs[0]] * columns[:, pairs[1]]
        return cls(columns.astype(SINGLE), products.astype(SINGLE), pairs)

    def squares(self, sums: np.ndarray) -> np.ndarray:
        """Symmetric matrices (..., column, column) from weighted sums of products (..., pair)."""
        size = self.columns.shape[1]
        matrix = np.empty((*sums.shape[:-1], size, size))
        matrix[..., self.pairs[0], self.pairs[1]] = sums
        matrix[..., self.pairs[1], self.pairs[0]] = sums
        return matrix

    def weighted(self, weight: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Sums over rows (..., column) of some columns, times weights (..., obs)."""
        flat = weight.reshape(-1, weight.shape[-1]) @ of
        return flat.reshape(*weight.shape[:-1], of.shape[1]).astype(float)

    def predicted(self, coef: np.ndarray) -> np.ndarray:
        """Linear predictors (..., obs) from coefficients (..., column)."""
        flat = coef.reshape(-1, coef.shape[-1]).astype(SINGLE) @ self.columns.T
        return flat.reshape(*coef.shape[:-1], len(self.columns))


@dataclass(frozen=True)
class _Parameters:
    """Coefficients of experts and gate (mixture, expert, column), variances (mixture, expert).

    The last expert has no gate coefficients.
    """

    coef: np.ndarray
    variance: np.ndarray
    gate: np.ndarray


class LinearMixtures:
    """Mixtures of linear regressions for the rows of a model."""

    def __init__(self, spec: MixtureOfExperts, rows: Rows) -> None:
        gate, experts, response = gate_and_expert_features(spec, rows)
        self.gate, self.experts = _Features.of(gate), _Features.of(experts)
        self.response = response.astype(SINGLE)
        with_response = self.experts.columns * self.response[:, None]
        self.sums = np.column_stack([self.experts.products, with_response, self.response**2])

    def fitted(self, shares: np.ndarray, sweeps: int, fixed: int = 2) -> Partitions:
        """Return mixtures after some sweeps of EM from partitions (mixture, expert, obs).

        Before, there are ``fixed`` steps with the partition fixed.
        """
        count, experts, rows = shares.shape
        size = max(1, ELEMENTS // (rows * experts * (experts + 1)))
        with one_blas_thread(), np.errstate(all="ignore"):
            parts = [
                self._fitted(shares[first : first + size].astype(SINGLE), sweeps, fixed)
                for first in range(0, count, size)
            ]
        return Partitions.concatenate(parts)

    def _fitted(self, shares: np.ndarray, sweeps: int, fixed: int) -> Partitions:
        count, experts, _ = shares.shape
        gate = np.zeros((count, experts - 1, self.gate.columns.shape[1]))
        weights, log_weights = self._weights(gate)
        for _ in range(fixed):
            parameters = self._step(shares, gate, weights)
            gate = parameters.gate
            weights, log_weights = self._weights(gate)
        for _ in range(sweeps):
            shares, _ = self._expectation(parameters, log_weights)
            parameters = self._step(shares, gate, weights)
            gate = parameters.gate
            weights, log_weights = self._weights(gate)
        shares, density = self._expectation(parameters, log_weights)
        value = density.sum(axis=1, dtype=float)
        value -= GATE_PRECISION / 2 * (parameters.gate**2).sum(axis=(1, 2))
        value = np.where(np.isfinite(value), value, -np.inf)
        return Partitions(np.nan_to_num(shares), value, np.nan_to_num(density))

    def _step(self, shares: np.ndarray, gate: np.ndarray, weights: np.ndarray) -> _Parameters:
        """Least squares for every expert, and a Newton step of the gate from its coefficients."""
        size = self.experts.columns.shape[1]
        sums = self.experts.weighted(shares, self.sums)
        information = self.experts.squares(sums[..., : -size - 1])
        score, square, rows = sums[..., -size - 1 : -1], sums[..., -1], information[..., 0, 0]
        penalised = information + COEF_PRECISION * np.eye(size)
        coef = np.linalg.solve(penalised, score[..., None])[..., 0]
        fitted = 2 * score - (information @ coef[..., None])[..., 0]
        residual = np.maximum(square - (coef * fitted).sum(axis=-1), 0)
        variance = (residual + PRIOR_ROWS * PRIOR_VARIANCE) / (rows + PRIOR_ROWS)
        return _Parameters(coef, variance, gate + self._gate_step(shares, gate, weights))

    def _gate_step(self, shares: np.ndarray, gate: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Newton step (mixture, expert, column) of the gate, of limited length."""
        count, free, size = gate.shape
        pairs = [(j, k) for j in range(free) for k in range(j, free)]
        products = np.stack(
            [weights[:, j] * (SINGLE(j == k) - weights[:, k]) for j, k in pairs], axis=1
        )
        blocks = self.gate.squares(self.gate.weighted(products, self.gate.products))
        information = np.empty((count, free, size, free, size))
        for i, (j, k) in enumerate(pairs):
            information[:, j, :, k] = information[:, k, :, j] = blocks[:, i]
        gradient = self.gate.weighted(shares[:, :free] - weights[:, :free], self.gate.columns)
        gradient -= GATE_PRECISION * gate
        joint = information.reshape(count, free * size, free * size)
        penalised = joint + GATE_PRECISION * np.eye(free * size)
        step = np.linalg.solve(penalised, gradient.reshape(count, -1, 1)).reshape(gate.shape)
        length = np.sqrt((step**2).sum(axis=-1)).max(axis=1)
        limited: np.ndarray = step * np.minimum(1, LARGEST_STEP / (length + 1e-9))[:, None, None]
        return limited

    def _weights(self, gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (mixture, expert, obs) of the gate, and their logarithms."""
        count, free, _ = gate.shape
        log_weights = np.zeros((count, free + 1, len(self.response)), SINGLE)
        log_weights[:, :-1] = self.gate.predicted(gate)
        log_weights -= log_weights.max(axis=1, keepdims=True)
        weights = np.exp(log_weights)
        total = weights.sum(axis=1, keepdims=True)
        weights /= total
        log_weights -= np.log(total)
        return weights, log_weights

    def _expectation(
        self, parameters: _Parameters, log_weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Responsibilities (mixture, expert, obs) and log densities (mixture, obs)."""
        variance = parameters.variance.astype(SINGLE)[..., None]
        joint = self.experts.predicted(parameters.coef) - self.response
        joint *= joint
        joint *= SINGLE(-0.5) / variance
        joint += log_weights - SINGLE(0.5) * np.log(variance)
        largest = joint.max(axis=1)
        joint -= largest[:, None]
        np.exp(joint, out=joint)
        density = joint.sum(axis=1)
        joint /= density[:, None]
        return joint, np.log(density) + largest

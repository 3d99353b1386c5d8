r"""Log posterior of mixtures of constant class probabilities, by sums over the rows of a class.

Expert ``k`` gives class ``c`` the probability ``p_kc = softmax(eta_k)_c`` in every row, and a
softmax gate weighs the experts. A row's log densities are looked up at its class, and with ``r`` a
row's responsibilities the derivatives need sums by class alone, ``N_kc = sum_{i: y_i = c} r_ik``:

* gradient: ``N_kc - N_k p_kc`` for ``eta_kc``, and ``(r - g) z`` for the gate, with branch
  probabilities ``g`` and features ``z``;
* at fixed ``N_kc``, the M-step of EM: the maximum of ``sum_c N_kc log p_kc + log prior``, by
  Newton's method, whose matrix is diagonal but for one vector.

A normal prior of the coordinates in an orthonormal basis of the log odds that sum to zero has the
density ``- sum_c eta_c^2 / (2 sigma^2)`` up to a constant. Without the limit to a zero sum it has
its maximum there, so ``eta`` are free here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.threads import in_threads
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.em.cross_products import Features
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.model.likelihood import allocate
from bayes_moe.model.spec import MixtureOfExperts

CHUNK_ELEMENTS = 2**18
"""Elements (expert, obs) of a chunk of rows."""
SHARED_ROWS = 50_000
"""Rows from which on threads share the chunks."""
NEWTON_STEPS, HALVINGS = 100, 40
"""Most steps of an M-step, and halvings of each."""
SMALL = 1e-12
"""Relative promise of a Newton step below which an M-step ends."""


@dataclass(frozen=True)
class Sums:
    """Sums over rows at one point: the log likelihood, and what its derivatives need.

    ``counts`` (expert, class) are ``N_kc``, and ``gate`` (coordinate,) is the gate's gradient.
    """

    value: float
    counts: np.ndarray
    gate: np.ndarray

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.value + other.value, self.counts + other.counts, self.gate + other.gate)


@dataclass(frozen=True)
class ClassMixture:
    """The objective at points: the gate's coordinates, then ``eta`` (expert, class), as one array.

    Attributes
    ----------
    spec, design
        The model and its data.
    rows : Rows
        The rows, those of the design or some of them.
    gate : ParameterVector or None
        The gate's coordinates with their prior; None for one expert.
    sigma : float
        Standard deviation of the prior of the log odds.
    classes, cores : int
        Number of classes, and of threads.
    """

    spec: MixtureOfExperts
    design: Design
    rows: Rows
    gate: ParameterVector | None
    sigma: float
    classes: int
    cores: int

    @property
    def experts(self) -> int:
        """Number of experts."""
        return self.spec.n_experts

    @property
    def gate_size(self) -> int:
        """Number of the gate's coordinates."""
        return 0 if self.gate is None else self.gate.size

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.gate_size + self.experts * self.classes

    @cached_property
    def codes(self) -> np.ndarray:
        """Class of each row (obs,)."""
        return self.rows.observed.astype(np.int64)

    @cached_property
    def features(self) -> Features | None:
        """Features of the gate on the rows."""
        return None if self.gate is None else Features.of_blocks(self.gate.blocks, self.rows)

    @cached_property
    def offsets(self) -> list[np.ndarray | None]:
        """Offset (output or 1, obs) of each of the gate's predictors on the rows."""
        return [] if self.gate is None else [b.offset_of(self.rows) for b in self.gate.blocks]

    def parts(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gate's coordinates (coordinate,), and log odds (expert, class), of a point."""
        return theta[: self.gate_size], theta[self.gate_size :].reshape(self.experts, self.classes)

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Log posterior at a point (coordinate,), its gradient, and the counts (expert, class)."""
        sums = self.sums(theta)
        prior, first = self.log_prior(theta)
        _, eta = self.parts(theta)
        own = sums.counts - sums.counts.sum(axis=1, keepdims=True) * np.exp(log_softmax(eta))
        return sums.value + prior, np.r_[sums.gate, own.ravel()] + first, sums.counts

    def log_prior(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log prior density of the free coordinates at a point, and its gradient (coordinate,)."""
        at, eta = self.parts(theta)
        free = self.experts * (self.classes - 1)
        value = -0.5 * float((eta**2).sum()) / self.sigma**2
        value -= free * (math.log(self.sigma) + 0.5 * math.log(2 * math.pi))
        first = -theta / self.sigma**2
        if self.gate is not None:
            of_gate, slope, _ = self.gate.log_prior(at[None])
            value += float(of_gate[0])
            first[: self.gate_size] = slope[0]
        return value, first

    def sums(self, theta: np.ndarray) -> Sums:
        """Sums over all rows at a point."""
        table = log_softmax(self.parts(theta)[1])

        def of_chunk(where: slice) -> Sums:
            log_weights, branch = self.log_weights(theta, where)
            joint = log_weights + table[:, self.codes[where]]
            value, r = allocate(joint)
            weights = self.rows.observation.weights
            own = None if weights is None else weights[where]
            counted = r if own is None else r * own
            total = float(value.sum() if own is None else value @ own)
            counts = self._by_class(counted, where)
            scores = counted - (branch if own is None else branch * own)
            return Sums(total, counts, _gate_slope(self, scores, where))

        return reduce(Sums.__add__, in_threads(of_chunk, self.chunks(), self.workers))

    @property
    def workers(self) -> int:
        """Number of threads that share the chunks."""
        return self.cores if self.rows.size >= SHARED_ROWS else 1

    def chunks(self) -> Iterator[slice]:
        """Positions of the rows of each chunk."""
        step = max(1, CHUNK_ELEMENTS // self.experts)
        return (slice(a, min(a + step, self.rows.size)) for a in range(0, self.rows.size, step))

    def counts_of(self, shares: np.ndarray) -> np.ndarray:
        """Counts (expert, class) of shares (expert, obs) of all rows."""
        weights = self.rows.observation.weights
        return self._by_class(shares if weights is None else shares * weights, slice(None))

    def _by_class(self, values: np.ndarray, where: slice) -> np.ndarray:
        """Sums (expert, class) of values (expert, obs) by the rows' class."""
        codes = self.codes[where]
        return np.stack([np.bincount(codes, weights=v, minlength=self.classes) for v in values])

    def log_weights(self, theta: np.ndarray, where: slice) -> tuple[np.ndarray, np.ndarray]:
        """The gate's log weights (expert, obs) on some rows, and the weights."""
        count = len(self.codes[where])
        if self.gate is None or self.features is None:
            return np.zeros((1, count)), np.ones((1, count))
        point, etas = theta[None, : self.gate_size], []
        parts = zip(self.gate.blocks, self.features.of, self.offsets, strict=True)
        for block, table, offset in parts:
            eta = self.features.predictors(block.coefficients(point)[0], table, where)
            etas.append(eta if offset is None else eta + offset[:, where])
        log_w = log_softmax(np.concatenate(etas).T).T
        return log_w, np.exp(log_w)


def diagonal_curvature(mixture: ClassMixture, theta: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Positive diagonal (coordinate,) near that of minus the second derivatives.

    It is that of complete data; of the gate at equal weights.
    """
    at, eta = mixture.parts(theta)
    n = counts.sum(axis=1, keepdims=True)
    own = n * np.exp(log_softmax(eta)) + 1 / mixture.sigma**2
    if mixture.gate is None or mixture.features is None:
        return own.ravel()
    share, parts = (1 - 1 / mixture.experts) / mixture.experts, []
    for block, table in zip(mixture.gate.blocks, mixture.features.of, strict=True):
        squares = mixture.features.mean_squares(np.eye(block.terms)[None], table)[0]
        of_terms = share * mixture.rows.weight * block.unit**2 * squares
        parts.append(np.tile(of_terms, block.directions))
    second = mixture.gate.log_prior(at[None])[2][0]
    return np.r_[np.concatenate(parts) - second, own.ravel()]


def _gate_slope(mixture: ClassMixture, scores: np.ndarray, where: slice) -> np.ndarray:
    """Gradient (coordinate,) by the gate's coordinates of scores (expert, obs)."""
    if mixture.gate is None or mixture.features is None:
        return np.zeros(0)
    slopes, start = [], 0
    for block, table in zip(mixture.gate.blocks, mixture.features.of, strict=True):
        own = scores[start : start + len(block.experts)]
        start += len(block.experts)
        raw = mixture.features.sums(own, table, where) * block.unit
        slopes.append((raw if block.basis is None else block.basis @ raw).ravel())
    return np.concatenate(slopes)


def log_softmax(eta: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax along the last axis."""
    found: np.ndarray = eta - NUMERIC.logsumexp(eta, axis=-1, keepdims=True)
    return found


def best_log_odds(counts: np.ndarray, sigma: float) -> np.ndarray:
    """Log odds (expert, class) of largest ``sum_c (N_c log softmax(eta)_c - eta_c^2 / 2 s^2)``.

    By Newton's method. The matrix is ``D - n p p'`` with ``D = diag(n p + 1 / s^2)``, whose inverse
    is ``D^-1 + n D^-1 p p' D^-1 / (1 - n p' D^-1 p)``; ``1 - n p' D^-1 p`` is
    ``sum_c p_c / (s^2 D_c)``, which is positive. A step is halved until it gains.

    Parameters
    ----------
    counts : array (expert, class)
        Expected counts ``N``, not negative.
    sigma : float
        Standard deviation ``s`` of the prior.
    """
    tau = 1 / sigma**2
    n = counts.sum(axis=1, keepdims=True)
    eta = np.log(counts + 0.5)
    eta -= eta.mean(axis=1, keepdims=True)

    def value(at: np.ndarray) -> np.ndarray:
        found: np.ndarray = (counts * log_softmax(at)).sum(axis=1) - tau / 2 * (at**2).sum(axis=1)
        return found

    now = value(eta)
    for _ in range(NEWTON_STEPS):
        p = np.exp(log_softmax(eta))
        gradient, diagonal = counts - n * p - tau * eta, n * p + tau
        left = (p * tau / diagonal).sum(axis=1, keepdims=True)
        along = (p * gradient / diagonal).sum(axis=1, keepdims=True)
        step = (gradient + n * p * along / left) / diagonal
        promised = (gradient * step).sum(axis=1)
        open_ = promised > SMALL * (1 + np.abs(now))
        length = np.ones(len(eta))
        for _ in range(HALVINGS):
            reached = value(eta + length[:, None] * step)
            short = open_ & ~(reached >= now + 1e-4 * length * promised)
            if not short.any():
                break
            length = np.where(short, length / 2, length)
        moved = ~open_ | (reached >= now)
        eta = eta + np.where(moved, length, 0.0)[:, None] * step
        now = value(eta)
        if not (open_ & moved).any():
            break
    return eta

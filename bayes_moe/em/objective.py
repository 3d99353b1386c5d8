"""Log posterior (or log likelihood) of many points at once, with its derivatives.

With ``r`` a row's responsibilities, ``g_vc`` the probability of branch ``c`` at split ``v`` of the
gate, ``R_vc`` and ``H_v`` the responsibility of all experts below the branch and the split, and
``s_a``, ``h_ab`` the first and second derivatives of an expert's log density by its linear
predictors, the derivatives of ``log p(y | x) = logsumexp_k(log w_k + log f_k)`` are

* gradient: ``l_vc = R_vc - H_v g_vc`` for the gate, ``l_ka = r_k s_ka`` for parameter ``a`` of
  expert ``k``;
* Hessian, less ``- l l'``: ``delta_cd l_c - l_c g_d - g_c l_d`` between branches ``c`` and ``d`` of
  one split; ``l_vc (delta_de - g_ud)`` between a split ``v`` below branch ``e`` of ``u`` and ``u``;
  ``l_ka (delta_ce - g_vc)`` between a split ``v`` and an expert below its branch ``e``; and
  ``delta_jk r_k (h_kab + s_ka s_kb)`` between experts.

At the root of the gate ``H = 1`` and all experts are below: with ``R`` in the place of ``l`` in the
product, the terms in ``g`` cancel but for ``g_c g_d`` at the root itself. A softmax gate is a root
alone.

The complete-data information, for the steps of EM, is ``H_v (delta_cd g_c - g_c g_d)`` for the gate
and ``r_k`` times the family's expected information for an expert: block diagonal and non-negative
definite. Both are in :mod:`bayes_moe.em.information`.

The linear predictors of all experts are stacked: those of the gate, then those of each parameter.
A sum over rows of products of features is a matrix product of weights (pair of predictors, obs)
with products of features (product, obs). Rows are taken in chunks, which threads may share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from enum import Enum
from functools import reduce

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Rows
from bayes_moe.em.cross_products import Features
from bayes_moe.em.floors import few_rows
from bayes_moe.em.information import (
    CompleteInformation,
    Information,
    ObservedInformation,
    PredictorStack,
    RowTerms,
)
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.families import Derivatives, RowData
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.likelihood import allocate, concatenated

CHUNK_ELEMENTS = 2**18
"""Elements of a chunk's largest array: 2 MiB, for caches."""

SHARED_ROWS = 50_000
"""Rows from which on threads share the chunks, which are then four times as large. On fewer rows
operations are so short that handing over the interpreter's lock takes longer than a second thread
saves, and several times longer where other processes are busy."""

LEAST_ROWS = 256
"""Least rows of a chunk; above as many points as this allows, points are taken in groups."""

LARGEST_LOG = 300.0
"""Largest logarithm of a parameter: beyond it densities are zero, and derivatives overflow."""


class Curvature(Enum):
    """Which matrix of second derivatives an evaluation returns."""

    COMPLETE = "complete"
    OBSERVED = "observed"


RULES = {Curvature.COMPLETE: CompleteInformation, Curvature.OBSERVED: ObservedInformation}


@dataclass(frozen=True)
class Evaluation:
    """The objective at some points, with derivatives.

    ``value`` (point,), ``gradient`` (point, coordinate) and ``curvature`` (point, coordinate,
    coordinate), which is minus the second derivatives, include the log prior;
    ``likelihood_gradient`` and ``likelihood_curvature`` do not. ``rows`` (point, expert) are sums
    of responsibilities; ``at_floor`` (point,) is how many rows have a spread at its floor, or a
    narrow one of an expert with few rows. ``allocation`` is what was given in the place of the
    responsibilities, if anything.
    """

    value: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    likelihood_gradient: np.ndarray
    likelihood_curvature: np.ndarray
    rows: np.ndarray
    at_floor: np.ndarray
    allocation: np.ndarray | None = None


_Indicators = tuple[np.ndarray | None, ...]


@dataclass(frozen=True)
class Chunk:
    """The mixture of some points on some rows."""

    where: slice
    gate: np.ndarray | None  # branch probabilities (point, output, obs)
    data: tuple[RowData, ...]  # by factor of the density
    etas: tuple[list[np.ndarray], ...]  # by factor, of each slot (point, expert, obs)
    above: _Indicators  # by block of parameters: spread above its floor
    narrow: _Indicators  # by block of parameters: spread of a collapsed expert
    r: np.ndarray  # (point, expert, obs)
    value: np.ndarray  # (point, obs)


class Objective:
    """Log posterior of a parameter vector on rows, for many points at once.

    Parameters
    ----------
    vector : ParameterVector
        The free parameters. Without priors, the objective is the log likelihood.
    rows : Rows, optional
        Rows with a response; by default the fitted ones.
    cores : int
        Threads that share the chunks of rows; the result does not depend on it.
    """

    def __init__(self, vector: ParameterVector, rows: Rows | None = None, cores: int = 1) -> None:
        self.vector = vector
        self.rows = vector.design.rows if rows is None else rows
        self.cores = cores
        self._factors = vector.spec.structure.factors
        self._experts = [factor.block for factor in self._factors]
        self._data = [
            f.block.data(f.response(self.rows), f.block.known(self.rows.matrices), NUMERIC)
            for f in self._factors
        ]
        self._features = Features.of_blocks(vector.blocks, self.rows)
        self._stack = PredictorStack(vector, self._features.of)
        self._few_rows = few_rows(vector)
        self._rules: dict[Curvature, Information] = {}

    def with_hyperparameters(self, hyperparameters: Mapping[str, np.ndarray]) -> Objective:
        """Return the objective under other values of the hyperparameters."""
        other = copy(self)
        other.vector = self.vector.with_hyperparameters(hyperparameters)
        return other

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.vector.size

    def value(self, theta: np.ndarray) -> np.ndarray:
        """Return the objective (point,) at points (point, coordinate); -inf if it is not finite."""
        (value,) = self._sum(theta, None, None)
        return _finite(value + self.vector.log_prior(theta)[0])

    def evaluate(
        self, theta: np.ndarray, curvature: Curvature, allocation: np.ndarray | None = None
    ) -> Evaluation:
        """Return the objective with its gradient and a curvature.

        ``allocation`` (point, expert, obs) replaces the responsibilities, for the first steps from
        an initial partition of the rows.
        """
        prior, first, second = self.vector.log_prior(theta)
        information = self._information(curvature)
        value, rows, at_floor, narrow, slope, *sums = self._sum(theta, information, allocation)
        at_floor = at_floor + np.where(rows <= self._few_rows, narrow, 0.0).sum(axis=1)
        matrix = information.plan.matrix(sums, len(self._stack.units))
        scaled = matrix * np.multiply.outer(self._stack.units, self._stack.units)
        likelihood_gradient = self._stack.to_coordinates(slope * self._stack.units)
        half = self._stack.to_coordinates(scaled)  # (point, coordinate, coefficient)
        likelihood_curvature = self._stack.to_coordinates(np.swapaxes(half, 1, 2))
        total = likelihood_curvature.copy()
        diagonal = np.arange(self.size)
        total[:, diagonal, diagonal] -= information.prior_curvature(second)
        return Evaluation(
            _finite(value + prior),
            likelihood_gradient + first,
            total,
            likelihood_gradient,
            likelihood_curvature,
            rows,
            at_floor,
            allocation,
        )

    def eta_size(self, theta: np.ndarray) -> np.ndarray:
        """Root mean square (point, block) of the linear predictors without their offsets.

        The largest over the experts of a block of parameters; a location's in internal units.
        """
        sizes = []
        for block, table in zip(self.vector.blocks, self._features.of, strict=True):
            raw = block.raw(theta)
            square = np.einsum("bki,ij,bkj->bk", raw, self._features.moments[table], raw)
            sizes.append(np.sqrt(np.maximum(square, 0.0)).max(axis=1))
        return np.stack(sizes, axis=1)

    # --- sums over rows -----------------------------------------------------------------------

    def _information(self, curvature: Curvature) -> Information:
        if curvature not in self._rules:
            self._rules[curvature] = RULES[curvature](self._stack)
        return self._rules[curvature]

    def _sum(
        self, theta: np.ndarray, information: Information | None, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Sum over rows of the value (point,); with an information also of :meth:`_derivatives`.

        Points are taken in groups, so that chunks have enough rows for fast matrix products.
        """
        pairs = 0 if information is None else len(information.plan.first)
        group = max(1, CHUNK_ELEMENTS // (min(LEAST_ROWS, self.rows.size) * self._width(pairs)))
        sums = []
        for start in range(0, len(theta), group):
            points = slice(start, start + group)
            shares = None if allocation is None else allocation[points]
            sums.append(self._sum_of(theta[points], information, shares, pairs))
        if len(sums) == 1:
            return sums[0]
        return tuple(np.concatenate(terms) for terms in zip(*sums, strict=True))

    def _sum_of(
        self,
        theta: np.ndarray,
        information: Information | None,
        allocation: np.ndarray | None,
        pairs: int,
    ) -> tuple[np.ndarray, ...]:
        coefs = [block.coefficients(theta) for block in self.vector.blocks]

        def chunk_sum(where: slice) -> tuple[np.ndarray, ...]:
            with np.errstate(all="ignore"):
                chunk = self._chunk(coefs, where)
                total = chunk.value.sum(axis=-1)
                if information is None:
                    return (total,)
                return (total, *self._derivatives(chunk, information, allocation))

        cores = self.cores if self.rows.size >= SHARED_ROWS else 1
        return reduce(_add, in_threads(chunk_sum, self._slices(len(theta), pairs), cores))

    def _slices(self, points: int, pairs: int) -> Iterator[slice]:
        """Chunks of rows whose largest array has about ``CHUNK_ELEMENTS`` elements."""
        elements = CHUNK_ELEMENTS * (4 if self.rows.size >= SHARED_ROWS else 1)
        step = max(16, elements // (points * self._width(pairs)))
        for start in range(0, self.rows.size, step):
            yield slice(start, min(start + step, self.rows.size))

    def _width(self, pairs: int) -> int:
        """Elements of a row in a chunk's largest array."""
        return pairs + 2 * len(self._stack.starts)

    def _chunk(self, coefs: list[np.ndarray], where: slice) -> Chunk:
        eta = [
            np.matmul(coef, self._features.take(table, where))
            for coef, table in zip(coefs, self._features.of, strict=True)
        ]
        gate, log_weights = None, np.zeros((len(coefs[0]), self.vector.spec.n_experts, 1))
        if self._stack.gate_blocks:
            log_weights, gate = self._stack.gate.log_weights(eta[: self._stack.gate_blocks])
        etas, above, narrow = self._predictors(eta)
        data = tuple(of_rows.at(where) for of_rows in self._data)
        densities = [
            experts.family.log_density_at(of_rows, own, NUMERIC)
            for experts, of_rows, own in zip(self._experts, data, etas, strict=True)
        ]
        responses = sum(factor.column is None for factor in self._factors)
        joint = log_weights + concatenated(densities[:responses], NUMERIC)
        for of_features in densities[responses:]:
            joint += of_features
        value, r = allocate(joint)
        return Chunk(where, gate, data, etas, above, narrow, r, value)

    def _predictors(
        self, eta: list[np.ndarray]
    ) -> tuple[tuple[list[np.ndarray], ...], _Indicators, _Indicators]:
        """Predictors by factor and slot, and by block whether spreads are above floors, narrow.

        ``eta`` (point, expert, obs) are the linear predictors, by block.
        """
        etas: tuple[list[np.ndarray], ...] = tuple([] for _ in self._experts)
        above: list[np.ndarray | None] = [None] * len(eta)
        narrow: list[np.ndarray | None] = [None] * len(eta)
        for j, block in enumerate(self.vector.blocks):
            if block.factor is None:
                continue
            values = eta[j]
            if block.floor > -np.inf:
                spread = block.log_spread(values)
                least = spread.min()
                if least <= block.floor:
                    above[j] = spread > block.floor
                    values = block.bounded(values)
                if least <= block.narrow:
                    narrow[j] = spread <= block.narrow
            if block.link.name == "log":
                values = np.clip(values, -LARGEST_LOG, LARGEST_LOG)
            count = values.shape[1] // block.size
            starts = range(0, values.shape[1], count)
            etas[block.factor].extend(values[:, a : a + count] for a in starts)
        for experts, own in zip(self._experts, etas, strict=True):
            if not own:  # without parameters: see `Formula.slots`
                own.append(np.zeros((len(eta[0]), len(experts.positions), 1)))
        return etas, tuple(above), tuple(narrow)

    def _derivatives(
        self, chunk: Chunk, information: Information, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Rows of experts, at a floor, and narrow, gradient and sums of pairs over a chunk."""
        r = chunk.r if allocation is None else allocation[..., chunk.where]
        factors = [
            experts.family.derivatives_at(of_rows, etas, information.asked)
            for experts, of_rows, etas in zip(self._experts, chunk.data, chunk.etas, strict=True)
        ]
        gate = self._stack.gate
        branch, split = gate.responsibilities(r)
        scores, at_floor, narrow = self._scores(chunk, factors, r)
        if chunk.gate is not None:
            scores[:, : gate.size] = branch
            if gate.deep.size:
                scores[:, gate.deep] -= split[:, gate.deep] * chunk.gate[:, gate.deep]
        terms = RowTerms(r, scores, split, chunk.gate, factors, chunk.above)
        weights = information.weights(terms)
        if chunk.gate is not None:
            scores[:, gate.root] -= chunk.gate[:, gate.root]
        slopes = [
            self._features.sums(scores[:, places], table, chunk.where)
            for places, table in zip(self._stack.places, self._features.of, strict=True)
        ]
        gradient = np.concatenate([s.reshape(len(r), -1) for s in slopes], axis=1)
        sums = [
            self._features.products(weights[:, group.pairs], group.tables, chunk.where)
            for group in information.plan.groups
        ]
        return (r.sum(axis=-1), at_floor, narrow, gradient, *sums)

    def _scores(
        self, chunk: Chunk, factors: list[Derivatives], r: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First derivatives (point, output, obs) by the experts' outputs, rows at a floor (point,).

        The outputs of the gate are left empty. Last, the rows with a narrow spread (point, expert).
        """
        scores = np.empty((r.shape[0], self._stack.size, r.shape[2]))
        at_floor, low = np.zeros(len(r)), np.zeros(r.shape[:2])
        for part in self._stack.parts:
            above, narrow, experts = chunk.above[part.block], chunk.narrow[part.block], part.experts
            score = factors[part.factor].score[part.slot]
            score = score if above is None else score * above
            np.multiply(r[:, experts], score, out=scores[:, part.places])
            if above is not None:
                at_floor += np.where(above, 0.0, r[:, experts]).sum(axis=(1, 2))
            if narrow is not None:
                low[:, experts] += np.where(narrow, r[:, experts], 0.0).sum(axis=2)
        return scores, at_floor, low


def parts(objective: Objective, theta: np.ndarray) -> Iterator[Chunk]:
    """The mixture at points (point, coordinate), on some rows at a time."""
    coefs = [block.coefficients(theta) for block in objective.vector.blocks]
    for where in objective._slices(len(theta), 0):
        with np.errstate(all="ignore"):
            chunk = objective._chunk(coefs, where)
        yield chunk


def features_of(objective: Objective, block: int, where: slice) -> np.ndarray:
    """Features (term, obs) of a block of parameters, on some rows."""
    return objective._features.take(objective._features.of[block], where)


def responsibilities(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Responsibilities (point, expert, obs) at points (point, coordinate)."""
    vector, rows = objective.vector, objective.rows
    parts = chunks(vector.spec, vector.variables(theta), rows)
    with np.errstate(all="ignore"):
        shares = [m.responsibilities(part.observed) for _, part, m in parts]
    return np.nan_to_num(np.concatenate(shares, axis=-1))


def _add(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _finite(value: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value), value, -np.inf)

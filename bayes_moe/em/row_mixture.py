"""The mixture of many points on some rows, and the derivatives of its log density.

The formulas are in :mod:`bayes_moe.em.objective`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.matrix import Rows
from bayes_moe.em.cross_products import Features
from bayes_moe.em.information import Information, PredictorStack, RowTerms
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.families import Derivatives, RowData
from bayes_moe.families.formula import OBSERVED
from bayes_moe.model.allocation import Allocation, allocation_of
from bayes_moe.model.likelihood import allocate, concatenated

MOST_CHUNKS = 256
"""Chunks of rows of which it is kept how these share experts."""
LARGEST_LOG = 300.0
"""Largest logarithm of a parameter: beyond it densities are zero, and derivatives overflow."""


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
    weights: np.ndarray | None  # (obs,)
    shared: Allocation  # of the rows
    limits: tuple[RowData, ...] = ()  # by factor, of the limits of a truncation
    recorded: np.ndarray | None = None  # (point, expert, obs): experts of rows between these

    def counted(self, values: np.ndarray) -> np.ndarray:
        """Values (..., obs) of rows times their weights."""
        return values if self.weights is None else values * self.weights


class RowMixture:
    """The mixture of a model on rows: its log density at points, chunk by chunk, with derivatives.

    Parameters
    ----------
    vector : ParameterVector
        The free parameters.
    rows : Rows
        Rows with a response.
    """

    def __init__(self, vector: ParameterVector, rows: Rows) -> None:
        self.blocks = vector.blocks
        self.observation = rows.observation
        self._shared: dict[tuple[int, int], Allocation] = {}
        self.n_experts = vector.spec.n_experts
        self.factors = vector.spec.structure.factors
        self.experts = [factor.block for factor in self.factors]
        self.data = [
            f.block.data(f.response(rows), f.block.known(rows.matrices), NUMERIC)
            for f in self.factors
        ]
        every = (f.block.family.truncation for f in self.factors)
        self.truncations = [t for t in every if t is not None]
        self.limits = [
            t.data(f.response(rows), f.block.known(rows.matrices), NUMERIC)
            for f, t in zip(self.factors, self.truncations, strict=False)
        ]
        self.features = Features.of_blocks(vector.blocks, rows)
        self.offsets = [block.offset_of(rows) for block in vector.blocks]
        self.stack = PredictorStack(vector, self.features.of)

    def with_blocks(self, blocks: Sequence[ParameterBlock]) -> RowMixture:
        """Return the mixture of the same blocks of parameters with other floors."""
        other = copy(self)
        other.blocks = tuple(blocks)
        return other

    def chunk(self, coefs: list[np.ndarray], where: slice) -> Chunk:
        """The mixture on rows ``where``, from the coefficients of each block of parameters."""
        return self.of_predictors(self.linear_predictors(coefs, where), where)

    def linear_predictors(self, coefs: list[np.ndarray], where: slice) -> list[np.ndarray]:
        """Linear predictors (point, output, obs) of each block of parameters."""
        eta = [
            np.matmul(coef, self.features.take(table, where))
            for coef, table in zip(coefs, self.features.of, strict=True)
        ]
        for of_block, offset in zip(eta, self.offsets, strict=True):
            if offset is not None:
                of_block += offset[:, where]
        return eta

    def of_predictors(self, eta: list[np.ndarray], where: slice) -> Chunk:
        """The mixture on rows ``where``, from the linear predictors of each block."""
        gate, log_weights = None, np.zeros((len(eta[0]), self.n_experts, 1))
        if self.stack.gate_blocks:
            log_weights, gate = self.stack.gate.log_weights(eta[: self.stack.gate_blocks])
        etas, above, narrow = self._predictors(eta)
        data = tuple(of_rows.at(where) for of_rows in self.data)
        densities = [
            experts.family.log_density_at(of_rows, own, NUMERIC)
            for experts, of_rows, own in zip(self.experts, data, etas, strict=True)
        ]
        responses = sum(factor.column is None for factor in self.factors)
        for of_features in densities[responses:]:
            log_weights = log_weights + of_features
        shared = self._sharing(where)
        value, r = shared.by_unit(log_weights, concatenated(densities[:responses], NUMERIC))
        value, r = shared.at_first(value), shared.spread(r)
        weights = None if self.observation.weights is None else self.observation.weights[where]
        found = Chunk(where, gate, data, etas, above, narrow, r, value, weights, shared)
        return self._between_limits(found, log_weights) if self.limits else found

    def _between_limits(self, chunk: Chunk, log_weights: np.ndarray) -> Chunk:
        """The mixture on rows that were only recorded because the response is between limits."""
        limits = tuple(of_rows.at(chunk.where) for of_rows in self.limits)
        parts = [
            truncation.log_density_at(of_rows, own, NUMERIC)
            for truncation, of_rows, own in zip(self.truncations, limits, chunk.etas, strict=True)
        ]
        value, recorded = allocate(log_weights + concatenated(parts, NUMERIC))
        return replace(chunk, value=chunk.value - value, limits=limits, recorded=recorded)

    def _sharing(self, where: slice) -> Allocation:
        """How rows ``where`` share experts; many passes are over the same chunks of rows."""
        place = (where.start, where.stop)
        shared = self._shared.get(place)
        if shared is None:
            if len(self._shared) >= MOST_CHUNKS:  # threads may do so at the same time
                self._shared.clear()
            shared = self._shared[place] = allocation_of(self.observation.pick(where))
        return shared

    def _predictors(
        self, eta: list[np.ndarray]
    ) -> tuple[tuple[list[np.ndarray], ...], _Indicators, _Indicators]:
        """Predictors by factor and slot, and by block whether spreads are above floors, narrow.

        ``eta`` (point, expert, obs) are the linear predictors, by block.
        """
        etas: tuple[list[np.ndarray], ...] = tuple([] for _ in self.experts)
        above: list[np.ndarray | None] = [None] * len(eta)
        narrow: list[np.ndarray | None] = [None] * len(eta)
        for j, block in enumerate(self.blocks):
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
        for experts, own in zip(self.experts, etas, strict=True):
            if not own:  # without parameters: see `Formula.slots`
                own.append(np.zeros((len(eta[0]), len(experts.positions), 1)))
        return etas, tuple(above), tuple(narrow)

    def derivatives(
        self, chunk: Chunk, information: Information, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Rows and units of experts, at a floor, narrow, gradient and sums of pairs over a chunk.

        A unit is a row, or a group of rows that share an expert.
        """
        r, at_floor, narrow, scores, weights, by_group = self.by_row(chunk, information, allocation)
        gradient, sums = self.sums(chunk, information, scores, weights)
        counted, leads = chunk.counted(r), chunk.shared.leads
        rows = counted.sum(axis=-1)
        units = rows if leads is None else (counted * leads).sum(axis=-1)
        return (rows, units, at_floor, narrow, gradient, *sums, *by_group)

    def sums(
        self, chunk: Chunk, information: Information, scores: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, list[Any]]:
        """Gradient (point, coefficient) and sums by groups of pairs, of derivatives by row."""
        slopes = [
            self.features.sums(scores[:, places], table, chunk.where)
            for places, table in zip(self.stack.places, self.features.of, strict=True)
        ]
        gradient = np.concatenate([s.reshape(len(scores), -1) for s in slopes], axis=1)
        return gradient, [
            self.features.products(weights[:, group.pairs], group.tables, chunk.where)
            for group in information.plan.groups
        ]

    def by_row(self, chunk: Chunk, information: Information, allocation: np.ndarray | None) -> Any:
        """Responsibilities, rows at a floor, and narrow, of a chunk, and derivatives by row.

        The latter are first derivatives (point, output, obs) by the linear predictors, and weights
        (point, pair, obs) of the information's pairs. Last, products over groups of rows that share
        an expert.
        """
        r = chunk.r if allocation is None else allocation[..., chunk.where]
        factors = [
            experts.family.derivatives_at(of_rows, etas, information.asked)
            for experts, of_rows, etas in zip(self.experts, chunk.data, chunk.etas, strict=True)
        ]
        terms, at_floor, narrow = self._terms(chunk, factors, r)
        scores, weights, gate = terms.scores, information.weights(terms), self.stack.gate
        if chunk.recorded is not None:
            less = self._recorded(chunk, information)
            if information.asked == OBSERVED:  # of complete data, recorded rows have no more
                weights -= information.weights(less)
            scores -= less.scores
        elif chunk.gate is not None:
            scores[:, gate.root] -= chunk.gate[:, gate.root]
        leads = chunk.shared.leads
        if leads is not None:  # the gate speaks once for a group
            scores[:, : gate.size] *= leads
            weights[:, information.of_gate] *= leads
        by_group = information.of_groups(
            terms, self.features, chunk.where, chunk.shared, chunk.weights
        )
        if chunk.weights is not None:
            scores *= chunk.weights
            weights *= chunk.weights
        return r, at_floor, narrow, scores, weights, by_group

    def _recorded(self, chunk: Chunk, information: Information) -> RowTerms:
        """Derivatives of the log probability that rows were recorded."""
        assert chunk.recorded is not None
        factors = [
            truncation.derivatives_at(of_rows, etas, information.asked)
            for truncation, of_rows, etas in zip(
                self.truncations, chunk.limits, chunk.etas, strict=True
            )
        ]
        return self._terms(chunk, factors, chunk.recorded)[0]

    def _terms(
        self, chunk: Chunk, factors: list[Derivatives], r: np.ndarray
    ) -> tuple[RowTerms, np.ndarray, np.ndarray]:
        """Derivatives of a log density, its rows at a floor (point,), and narrow ones."""
        gate = self.stack.gate
        branch, split = gate.responsibilities(r)
        scores, at_floor, narrow = self._scores(chunk, factors, r)
        if chunk.gate is not None:
            scores[:, : gate.size] = branch
            if gate.deep.size:
                scores[:, gate.deep] -= split[:, gate.deep] * chunk.gate[:, gate.deep]
        return RowTerms(r, scores, split, chunk.gate, factors, chunk.above), at_floor, narrow

    def _scores(
        self, chunk: Chunk, factors: list[Derivatives], r: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First derivatives (point, output, obs) by the experts' outputs, rows at a floor (point,).

        The outputs of the gate are left empty. Last, the rows with a narrow spread (point, expert).
        """
        scores = np.empty((r.shape[0], self.stack.size, r.shape[2]))
        at_floor, low = np.zeros(len(r)), np.zeros(r.shape[:2])
        for part in self.stack.parts:
            above, narrow, experts = chunk.above[part.block], chunk.narrow[part.block], part.experts
            score = factors[part.factor].score[part.slot]
            score = score if above is None else score * above
            np.multiply(r[:, experts], score, out=scores[:, part.places])
            if above is not None:
                at_floor += chunk.counted(np.where(above, 0.0, r[:, experts])).sum(axis=(1, 2))
            if narrow is not None:
                low[:, experts] += chunk.counted(np.where(narrow, r[:, experts], 0.0)).sum(axis=2)
        return scores, at_floor, low

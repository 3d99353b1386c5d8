"""Complete-data and observed information: weights of pairs of linear predictors.

The linear predictors of a model are stacked: the outputs of the gate, then those of each family
parameter. An information matrix is a sum over rows of weights (pair of outputs, obs) times products
of features. Both rules here give these weights; the formulas are in :mod:`bayes_moe.em.objective`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np

from bayes_moe.em.cross_products import Features, Plan
from bayes_moe.em.gate_branches import ChainBranches, GateBranches
from bayes_moe.em.gate_pairs import gate_pairs
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.families import Derivatives
from bayes_moe.families.formula import OBSERVED, WORKING
from bayes_moe.model.allocation import Allocation


class PredictorStack:
    """Positions of a model's linear predictors in one stack of outputs.

    Parameters
    ----------
    vector : ParameterVector
        The model's parameters.
    tables : sequence of int
        Table of features that each block of parameters multiplies.

    Attributes
    ----------
    places : list
        Positions of each block's outputs among all: slices, which NumPy reads without a copy.
    parts : list of Part
        Outputs of one slot of a family each, in the order of the blocks.
    starts : array (output + 1,)
        First coefficient of each output.
    units : array (coefficient,)
        Factors from internal coefficients to eta.
    """

    def __init__(self, vector: ParameterVector, tables: Sequence[int]) -> None:
        self.blocks = vector.blocks
        self._coupled = [f.block.family.coupled for f in vector.spec.structure.factors]
        counts = [len(block.experts) for block in self.blocks]
        self.outputs = [np.arange(a, b) for a, b in pairwise(np.cumsum([0, *counts]))]
        self.places = [_places(outputs) for outputs in self.outputs]
        self.parts = [
            Part(j, block.factor, block.parameter + slot, outputs, block.experts[: len(outputs)])
            for j, (block, of_block) in enumerate(zip(self.blocks, self.outputs, strict=True))
            if block.factor is not None
            for slot, outputs in enumerate(np.split(of_block, block.size))
        ]
        terms = np.repeat([block.terms for block in self.blocks], counts)
        self.starts = np.cumsum([0, *terms])
        self.units = np.repeat(np.repeat([block.unit for block in self.blocks], counts), terms)
        self.tables = np.repeat(tables, counts)
        self.gate_blocks = sum(block.factor is None for block in self.blocks)
        gate_outputs = sum(counts[: self.gate_blocks])
        self.gate = GateBranches(vector.split_tree, vector.spec.n_experts, gate_outputs)
        if vector.spec.structure.gate.chain is not None:
            self.gate = ChainBranches(vector.spec.n_experts)

    @property
    def size(self) -> int:
        """Number of outputs."""
        return len(self.starts) - 1

    def couples(self, one: Part, other: Part) -> bool:
        """Whether the family of two parts solves for them together."""
        if one.factor != other.factor:
            return False
        return any(one.slot in group and other.slot in group for group in self._coupled[one.factor])

    def plan(self, first: np.ndarray, second: np.ndarray) -> Plan:
        """Plan for the pairs (first, second) of outputs."""
        return Plan.of_pairs(first, second, self.tables, self.starts)

    def to_coordinates(self, by_coefficient: np.ndarray) -> np.ndarray:
        """Derivatives (point, coordinate, ...) from those by coefficients (point, all, ...)."""
        parts, start = [], 0
        mixed = [j for j, block in enumerate(self.blocks) if block.basis is not None]
        for block in self.blocks[: mixed[-1] + 1 if mixed else 0]:
            width = len(block.experts) * block.terms
            if block.basis is not None:
                derivatives = by_coefficient[:, start : start + width]
                derivatives = derivatives.reshape(len(by_coefficient), len(block.experts), -1)
                free = np.matmul(block.basis, derivatives)
                parts.append(free.reshape(len(by_coefficient), -1, *by_coefficient.shape[2:]))
            else:
                parts.append(by_coefficient[:, start : start + width])
            start += width
        return np.concatenate([*parts, by_coefficient[:, start:]], axis=1)


def _places(positions: np.ndarray) -> slice | np.ndarray:
    """Positions as a slice if they are consecutive."""
    start, count = int(positions[0]), len(positions)
    same = np.array_equal(positions, np.arange(start, start + count))
    return slice(start, start + count) if same else positions


class Part:
    """Outputs of a stack that are predictors of one slot of a family.

    Attributes
    ----------
    block, factor, slot : int
        Position of the block of parameters, of the factor of the density, and of the slot.
    outputs : array
        Positions of the outputs.
    members : tuple of int
        Their experts.
    places, experts
        Outputs and experts as slices where they are consecutive.
    """

    def __init__(
        self, block: int, factor: int, slot: int, outputs: np.ndarray, members: tuple[int, ...]
    ) -> None:
        self.block, self.factor, self.slot = block, factor, slot
        self.outputs, self.members = outputs, members
        self.places, self.experts = _places(outputs), _places(np.array(members))


@dataclass(frozen=True)
class RowTerms:
    """Derivatives of some rows' log density, before they are multiplied by features.

    Attributes
    ----------
    r : array (point, expert, obs)
        Responsibilities.
    scores : array (point, output, obs)
        ``R`` of the outputs of the gate's root, the first derivative ``l`` of all others.
    split : array (point, output, obs)
        Responsibility of each gate output's split.
    gate : array (point, output, obs) or None
        Probability of each gate output's branch.
    factors : list of Derivatives
        Of the family of each factor of the density.
    above : tuple of array or None
        By block, indicator of eta above its floor; None where all are.
    """

    r: np.ndarray
    scores: np.ndarray
    split: np.ndarray
    gate: np.ndarray | None
    factors: list[Derivatives]
    above: tuple[np.ndarray | None, ...]


class Information(ABC):
    """A rule for the weights of pairs of outputs; ``plan`` holds the pairs.

    ``asked`` is what it reads of the families; see :data:`bayes_moe.families.formula.ALL`.
    """

    plan: Plan
    asked: ClassVar[str] = OBSERVED

    stack: PredictorStack

    @abstractmethod
    def weights(self, terms: RowTerms) -> np.ndarray:
        """Weights (point, pair, obs) of minus the second derivatives."""

    @cached_property
    def of_gate(self) -> np.ndarray:
        """Positions of the pairs of outputs of the gate."""
        return np.flatnonzero(self.plan.second < self.stack.gate.size)

    def of_groups(
        self,
        terms: RowTerms,
        features: Features,
        where: slice,
        shared: Allocation,
        weights: np.ndarray | None,
    ) -> tuple[np.ndarray, ...]:
        """Sums that are no sums over single rows, of rows that share an expert; none by default."""
        return ()

    def matrix(self, sums: Sequence[np.ndarray], size: int) -> np.ndarray:
        """Matrices (point, size, size) of sums by groups of pairs, and of :meth:`of_groups`."""
        return self.plan.matrix(sums, size)

    @abstractmethod
    def prior_curvature(self, second: np.ndarray) -> np.ndarray:
        """Second derivatives (point, coordinate) of the log prior that enter the matrix."""


class CompleteInformation(Information):
    """Complete-data information: block diagonal and non-negative definite.

    Predictors of one parameter with labels, as those of classes, form one block: its matrix is
    minus the second derivatives. So do those of a family's coupled slots.
    """

    asked = WORKING

    def __init__(self, stack: PredictorStack) -> None:
        self.stack = stack
        first, second = [], []
        for split in stack.gate.splits:
            i, j = np.triu_indices(split.rows.stop - split.rows.start)
            first.append(i + split.rows.start)
            second.append(j + split.rows.start)
        pairs = [
            (one, other)
            for j, one in enumerate(stack.parts)
            for other in stack.parts[j:]
            if one is other or one.block == other.block or stack.couples(one, other)
        ]
        first += [one.outputs for one, _ in pairs]
        second += [other.outputs for _, other in pairs]
        self.plan = stack.plan(np.concatenate(first), np.concatenate(second))
        self._pairs = [
            (one, other, _places(self.plan.pair(one.outputs, other.outputs)))
            for one, other in pairs
        ]
        self._of_gate = [
            (outputs, _places(self.plan.pair(outputs, outputs)))
            for outputs in stack.outputs[: stack.gate_blocks]
        ]

    def weights(self, terms: RowTerms) -> np.ndarray:
        weights = np.empty((len(terms.r), len(self.plan.first), terms.r.shape[2]))
        if terms.gate is not None:
            joint, minus = terms.split * terms.gate, -terms.gate
            for first, second, positions in self.plan.runs:
                if second.stop <= self.stack.gate.size:
                    np.multiply(joint[:, first], minus[:, second], out=weights[:, positions])
        for places, (_, diagonal) in zip(self.stack.places, self._of_gate, strict=False):
            weights[:, diagonal] += joint[:, places]
        for one, other, at in self._pairs:
            factor, above = terms.factors[one.factor], terms.above[one.block]
            if len(self.stack.blocks[one.block].experts) > len(one.members):
                expected = -factor.second[one.slot][other.slot]
            elif one is other:
                expected = factor.expected_information[one.slot]
            else:
                expected = factor.expected_pairs[one.slot, other.slot]
            for indicator in (above,) if one is other else (above, terms.above[other.block]):
                if indicator is not None:
                    expected = expected * indicator
            if isinstance(at, slice):
                np.multiply(terms.r[:, one.experts], expected, out=weights[:, at])
            else:
                weights[:, at] = terms.r[:, one.experts] * expected
        return weights

    def prior_curvature(self, second: np.ndarray) -> np.ndarray:
        return np.minimum(second, 0.0)


class ObservedInformation(Information):
    """Observed information: minus the Hessian, which may be indefinite."""

    def __init__(self, stack: PredictorStack) -> None:
        self.stack = stack
        self.plan = stack.plan(*np.triu_indices(stack.size))
        experts = {
            int(output): expert
            for part in stack.parts
            for output, expert in zip(part.outputs, part.members, strict=True)
        }
        self._gate = gate_pairs(self.plan, stack.gate, experts) if stack.gate.size else None
        self.same_expert = self._same_expert_pairs()

    def weights(self, terms: RowTerms) -> np.ndarray:
        weights = self.products(terms)
        for one, other, pairs in self.same_expert:
            in_one, in_other = _shared_experts(one, other)
            score = terms.factors[other.factor].score[other.slot]
            if terms.above[other.block] is not None:
                score = score * terms.above[other.block]
            score = score[:, in_other] if score.shape[1] > len(in_other) else score
            weights[:, pairs] -= terms.scores[:, one.outputs[in_one]] * score
        self.subtract_seconds(weights, terms)
        return weights

    def products(self, terms: RowTerms) -> np.ndarray:
        """Weights (point, pair, obs) without the experts' own derivatives."""
        scores = terms.scores
        weights = np.empty((len(terms.r), len(self.plan.first), terms.r.shape[2]))
        for first, second, positions in self.plan.runs:
            np.multiply(scores[:, first], scores[:, second], out=weights[:, positions])
        if terms.gate is not None:
            self._add_gate(weights, terms.gate, scores)
        return weights

    def subtract_seconds(self, weights: np.ndarray, terms: RowTerms) -> None:
        """Subtract second derivatives of the experts' log densities from weights."""
        for one, other, pairs in self.same_expert:
            if one.factor != other.factor:
                continue
            derivatives = terms.factors[one.factor].second[one.slot][other.slot]
            second = terms.r[:, one.experts] * derivatives
            for above in (terms.above[one.block], terms.above[other.block]):
                if above is not None:
                    second = second * above
            weights[:, pairs] -= second

    def prior_curvature(self, second: np.ndarray) -> np.ndarray:
        return second

    def _add_gate(self, weights: np.ndarray, g: np.ndarray, scores: np.ndarray) -> None:
        """Add the terms in the branch probabilities ``g`` (point, output, obs) to weights."""
        assert self._gate is not None
        at, one, other = self._gate.root
        weights[:, at] -= g[:, one] * g[:, other]
        at, output = self._gate.root_diagonal
        weights[:, at] -= scores[:, output] - g[:, output]
        at, one, other = self._gate.split
        if at.size:
            weights[:, at] += scores[:, one] * g[:, other] + g[:, one] * scores[:, other]
        at, output = self._gate.split_diagonal
        if at.size:
            weights[:, at] -= scores[:, output]
        at, _, lower = self._gate.below_branch
        weights[:, at] -= scores[:, lower]
        at, upper, lower = self._gate.below_split
        if at.size:
            weights[:, at] += scores[:, lower] * g[:, upper]

    def _same_expert_pairs(self) -> list[tuple[Part, Part, np.ndarray]]:
        """Pairs of parts with experts in common, and positions of the pairs of their outputs."""
        found = []
        for j, one in enumerate(self.stack.parts):
            for other in self.stack.parts[j:]:
                in_one, in_other = _shared_experts(one, other)
                if in_one.size:
                    at = self.plan.pair(one.outputs[in_one], other.outputs[in_other])
                    found.append((one, other, at))
        return found


def _shared_experts(one: Part, other: Part) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the experts that two parts share, in each."""
    positions = {expert: j for j, expert in enumerate(other.members)}
    shared = [(j, positions[k]) for j, k in enumerate(one.members) if k in positions]
    pairs = np.array(shared, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]

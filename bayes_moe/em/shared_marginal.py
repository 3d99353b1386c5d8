r"""Marginal likelihood of rows that share an expert by group, with effects of the groups.

The effects of a group are integrated out for each expert by itself, so that the log likelihood is
``sum_g log sum_k w_k(x_g) exp(A_gk)`` with the log integrals ``A`` of
:mod:`bayes_moe.model.group_integrals`. The gradient is that of :mod:`bayes_moe.em.integral_slopes`,
in which rows count by the responsibilities of their groups. No integral has two modes because of
the mixture, so that nothing is bounded as in :mod:`bayes_moe.em.group_marginal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.em.effect_marginal import EffectMarginal, MarginalPoint
from bayes_moe.em.grouped_rows import Effects, GroupedRows
from bayes_moe.em.integral_slopes import IntegralSlopes
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.row_mixture import Chunk
from bayes_moe.model.allocation import Allocation, allocation_of, in_group_order
from bayes_moe.model.group_integrals import BlockIntegrals, Integrals
from bayes_moe.model.shared_effects import SharedEffects

STEP = 1e-5
"""Step of the differences of precisions of effects along logarithms of scales."""


@dataclass(frozen=True)
class SharedPart:
    """One factor of the density with what its experts' effects are.

    Attributes
    ----------
    factor : int
        Position of the factor.
    experts : tuple of int
        Positions of its experts among all.
    integrals : BlockIntegrals
        The integrals over the effects of its groups.
    index : array (expert, unit, position)
        Positions of effects among all; their number where a unit has no such level.
    units : array (position,)
        Effects on the user's scale, of internal ones of 1.
    slot_units : tuple of float
        Units of the predictors of the slots.
    """

    factor: int
    experts: tuple[int, ...]
    integrals: BlockIntegrals
    index: np.ndarray
    units: np.ndarray
    slot_units: tuple[float, ...]


@dataclass(frozen=True)
class Integrated:
    """Integrals at points, and what they say of units of rows.

    Attributes
    ----------
    chunk : Chunk
        All rows at the modes of the effects, with the responsibilities of their units.
    parts : list of Integrals
        Of the factors with effects.
    factors : list of array (point, expert, position, position)
        Lower factors of the covariances of these effects.
    r : array (point, expert, unit)
        Responsibilities.
    value : array (point, unit)
        Log densities of units.
    """

    chunk: Chunk
    parts: list[Integrals]
    factors: list[np.ndarray]
    r: np.ndarray
    value: np.ndarray


class SharedMarginal(EffectMarginal):
    """Marginal log likelihood of rows that share an expert by group, or posterior density.

    Parameters
    ----------
    rows : GroupedRows
        The model and its rows, one group after the other.
    likelihood : bool
        Leave the priors out.
    """

    def __init__(self, rows: GroupedRows, likelihood: bool) -> None:
        super().__init__(rows, likelihood)
        self.order: np.ndarray | None = None
        """Positions of these rows among the design's; None where they are the same."""
        self.mixture, self.where = rows.mixture, slice(0, rows.rows.size)
        self.shared = allocation_of(rows.rows.observation)
        found = (_part(rows, self.shared, j) for j in range(len(self.mixture.factors)))
        self.parts = [part for part in found if part is not None]
        """Factors whose experts have effects."""

    @classmethod
    def of(cls, vector: ParameterVector, likelihood: bool) -> SharedMarginal:
        """That of the rows a vector is of."""
        rows, order = in_group_order(vector.design.rows)
        found = cls(GroupedRows(vector, rows), likelihood)
        found.order = order
        return found

    def effects_of(self, part: SharedPart, effects: np.ndarray) -> np.ndarray:
        """Effects (..., expert, unit, position) on the user's scale, of internal (..., effect)."""
        padded = np.concatenate([effects, np.zeros((*effects.shape[:-1], 1))], axis=-1)
        own: np.ndarray = padded[..., part.index] * part.units
        return own

    def internal(self, by_part: list[np.ndarray]) -> np.ndarray:
        """Internal effects (..., effect) of those of parts (..., expert, unit, position)."""
        found = np.zeros((*by_part[0].shape[:-3], self.rows.size + 1))
        for part, own in zip(self.parts, by_part, strict=True):
            found[..., part.index] = own / part.units
        return found[..., :-1]

    def integrated(self, psi: np.ndarray, effects: np.ndarray | None = None) -> Integrated:
        """Integrals at points (point, coordinate), from a guess (point, effect) of the modes."""
        fixed, scales = psi[:, : self.fixed], [self.scales(at) for at in psi]
        values = {n: np.stack([own[n] for own in scales]) for n in self.shapes}
        coefs = [block.coefficients(fixed) for block in self.rows.fixed.blocks]
        stack, mixture = self.mixture.stack, self.mixture
        with np.errstate(all="ignore"):
            eta = mixture.linear_predictors(coefs, self.where)
            chunk = mixture.of_predictors(eta, self.where)
            log_weights = np.zeros((len(psi), mixture.n_experts, 1))
            if stack.gate_blocks:
                log_weights = stack.gate.log_weights(eta[: stack.gate_blocks])[0]
            found, factors, etas = [], [], list(chunk.etas)
            densities = [np.zeros(0)] * len(etas)
            for part in self.parts:
                factor = part.integrals.effects.factor(values, len(part.experts))
                guess = None if effects is None else self.effects_of(part, effects)
                own = part.integrals.at(etas[part.factor], factor, guess)
                etas[part.factor], densities[part.factor] = own.etas, own.log
                found.append(own)
                factors.append(factor)
            for j, experts in enumerate(mixture.experts):
                if not densities[j].size:
                    by_row = experts.family.log_density_at(chunk.data[j], etas[j], NUMERIC)
                    densities[j] = self.shared.totals(by_row)
            whole = self.shared.at_first(np.concatenate(densities, axis=1))
            value, r = self.shared.by_unit(log_weights, whole)
        chunk = replace(chunk, etas=tuple(etas), r=self.shared.spread(r))
        return Integrated(chunk, found, factors, r, value)

    # --- the objective ----------------------------------------------------------------------------

    def value(self, psi: np.ndarray) -> float:
        """Marginal log likelihood, or log posterior density, at one point (coordinate,)."""
        return float(self.total(self.integrated(psi[None]).value)[0]) + self.log_prior(psi)[0]

    def total(self, by_unit: np.ndarray) -> np.ndarray:
        """Sums over units of values (..., unit) times their weights."""
        weights = self.rows.rows.weights
        return (by_unit if weights is None else by_unit * weights[self.shared.first]).sum(axis=-1)

    def covariances(self, point: MarginalPoint, e: Effects) -> np.ndarray:
        sds = [np.sqrt(np.diagonal(own, axis1=-2, axis2=-1)) for own in point.factor]
        own = self.internal(sds)[e.where].reshape(e.shape) ** 2
        found = np.zeros((e.shape[0], *e.shape))
        found[np.arange(e.shape[0]), np.arange(e.shape[0])] = own
        return found

    def evaluate(
        self, psi: np.ndarray, effects: np.ndarray, axes: np.ndarray
    ) -> MarginalPoint | None:
        found = self.integrated(psi[None], effects[None])
        total = float(self.total(found.value)[0])
        if not np.isfinite(total):
            return None
        slopes, changes = _slopes(self.parts, found), self._precision_changes(psi)
        log_prior, gradient = self.log_prior(psi)
        by_fixed, curvature = self._by_fixed(found, slopes)
        gradient = gradient + np.concatenate([by_fixed, self._by_scales(found, slopes, changes)])
        moved = np.zeros((self.size, self.rows.size))
        for j, change in enumerate(changes, self.fixed):
            moved[j] = self.internal(
                [
                    -np.einsum("eupq,eqr,eur->eup", s.inverse[0], c, own.modes[0], optimize=True)
                    for s, c, own in zip(slopes, change, found.parts, strict=True)
                ]
            )
        for part, slope in zip(self.parts, slopes, strict=True):
            self._add_moved(part, slope, found.r, moved, curvature)
        modes = self.internal([own.modes[0] for own in found.parts])
        inverse = [slope.inverse[0] for slope in slopes]
        value = total + log_prior
        return MarginalPoint(psi, modes, inverse, value, log_prior, gradient, moved.T, curvature)

    def value_and_gradient(self, psi: np.ndarray, effects: np.ndarray) -> tuple[float, np.ndarray]:
        """The objective and its gradient at a point; minus infinity and zero where it is none.

        ``effects`` (effect,) are a guess of their modes.
        """
        found = self.integrated(psi[None], effects[None])
        total = float(self.total(found.value)[0])
        if not np.isfinite(total):
            return -np.inf, np.zeros(self.size)
        slopes, changes = _slopes(self.parts, found), self._precision_changes(psi)
        log_prior, gradient = self.log_prior(psi)
        by_fixed = self._by_fixed(found, slopes)[0]
        own = np.concatenate([by_fixed, self._by_scales(found, slopes, changes)])
        return total + log_prior, gradient + own

    def _by_fixed(
        self, found: Integrated, slopes: list[IntegralSlopes]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradient by fixed coordinates, and about the information that rows would give of them."""
        stack, rule, chunk = self.mixture.stack, self.rows.complete, found.chunk
        of_factor = {p.factor: s for p, s in zip(self.parts, slopes, strict=True)}
        with np.errstate(all="ignore"):
            r, _, _, scores, weights, _ = self.mixture.by_row(chunk, rule, None)
        for part in stack.parts:
            if part.factor in of_factor:
                own = of_factor[part.factor].scores[part.slot]
                scores[:, part.places] = chunk.counted(r[:, part.experts] * own)
        slope, sums = self.mixture.sums(chunk, rule, scores, weights)
        matrix = rule.matrix(sums, len(stack.units)) * np.multiply.outer(stack.units, stack.units)
        half = np.swapaxes(stack.to_coordinates(matrix), 1, 2)
        return stack.to_coordinates(slope * stack.units)[0], stack.to_coordinates(half)[0]

    def _precision_changes(self, psi: np.ndarray) -> list[list[np.ndarray]]:
        """Derivatives (expert, position, position) of precisions, by scale and part."""
        ends = []
        for sign in (1.0, -1.0):
            points = psi + sign * STEP * np.eye(self.size)[self.fixed :]
            scales = [self.scales(at) for at in points]
            values = {n: np.stack([own[n] for own in scales]) for n in self.shapes}
            factors = [p.integrals.effects.factor(values, len(p.experts)) for p in self.parts]
            inverse = [np.linalg.inv(factor) for factor in factors]
            ends.append([np.swapaxes(i, -1, -2) @ i for i in inverse])
        found = [(up - down) / (2 * STEP) for up, down in zip(*ends, strict=True)]
        return [[change[j] for change in found] for j in range(self.count)]

    def _by_scales(
        self,
        found: Integrated,
        slopes: list[IntegralSlopes],
        changes: list[list[np.ndarray]],
    ) -> np.ndarray:
        """Derivatives (scale,) of the log likelihood by the scales of the effects."""
        gradient = np.zeros(self.count)
        for j, by_part in enumerate(changes):
            for part, slope, change in zip(self.parts, slopes, by_part, strict=True):
                by_unit = np.einsum("eupq,epq->eu", slope.by_precision[0], change)
                counted = self.total(by_unit * found.r[0, list(part.experts)])
                gradient[j] += 0.5 * float(counted.sum())
        return gradient

    def _add_moved(
        self,
        part: SharedPart,
        slope: IntegralSlopes,
        r: np.ndarray,
        moved: np.ndarray,
        curvature: np.ndarray,
    ) -> None:
        """Add slopes of modes by fixed coordinates, and subtract what effects take of information.

        ``moved`` is (coordinate, effect).
        """
        effects = part.integrals.effects
        for j, expert in enumerate(part.experts):
            places: list[int] = []
            across: list[np.ndarray] = []
            for k, slot, output in self._outputs(part.factor, j, len(part.experts)):
                block = self.rows.fixed.blocks[k]
                first = block.where.start + output * block.terms
                places.extend(range(first, first + block.terms))
                x = block.unit * self.rows.features(k, self.where)
                second = [slope.second[a][slot] for a in effects.slots]
                own = [
                    w[0, min(j, w.shape[1] - 1)] * z
                    for w, z in zip(second, effects.design, strict=True)
                ]
                sums = [self.shared.totals(x * np.broadcast_to(w, x.shape[-1:])) for w in own]
                across.append(np.stack(sums, axis=-1))  # (term, unit, position)
            by_place = np.concatenate(across)
            steps = np.einsum("upq,cuq->cup", slope.inverse[0, j], by_place)
            inner = part.index[j]
            padded = np.zeros((len(places), self.rows.size + 1))
            padded[:, inner] = -steps / part.units
            moved[places] += padded[:, :-1]
            taken = np.einsum("cup,dup->cdu", by_place, steps) * r[0, expert]
            curvature[np.ix_(places, places)] -= self.total(taken)

    def _outputs(self, factor: int, j: int, count: int) -> list[tuple[int, int, int]]:
        """Blocks of parameters, slots and outputs of the expert at position ``j`` of a factor."""
        return [
            (k, block.parameter + m, m * count + j)
            for k, block in enumerate(self.rows.fixed.blocks)
            if block.factor == factor
            for m in range(block.size)
        ]


def _slopes(parts: Sequence[SharedPart], found: Integrated) -> list[IntegralSlopes]:
    """Derivatives of the integrals of each factor with effects."""
    return [
        IntegralSlopes.of(part.integrals, own, factor, part.slot_units)
        for part, own, factor in zip(parts, found.parts, found.factors, strict=True)
    ]


def _part(rows: GroupedRows, shared: Allocation, j: int) -> SharedPart | None:
    """Effects of a factor of the density; None without effects."""
    factor, vector = rows.mixture.factors[j], rows.whole
    block, group = factor.block, vector.spec.row_columns.group
    assert group is not None
    effects = SharedEffects.of(block, rows.rows.matrices, shared, group)
    if not effects.size:
        return None
    count = len(block.positions)
    index = np.full((count, len(effects.terms[0].codes), effects.size), rows.size)
    units = np.ones(effects.size)
    for term in effects.terms:
        e = next(e for e in rows.effects if e.of.effect == term.of.effect)
        scaling = vector.blocks[e.block].scaling
        assert scaling is not None
        units[term.where] = scaling.units.unit / e.columns.scale
        direction = term.output * count + np.arange(count)
        at = (direction[:, None] * e.shape[1] + term.codes) * e.shape[2] + e.first
        own = at[..., None] + np.arange(e.shape[2])
        index[..., term.where] = np.where((term.codes >= 0)[:, None], own, rows.size)
    own_blocks = [b for b in vector.blocks if b.factor == j]
    slot_units = tuple(b.unit for b in own_blocks for _ in range(b.size))
    integrals = BlockIntegrals(block.family, rows.mixture.data[j], effects, shared)
    return SharedPart(j, block.positions, integrals, index, units, slot_units)

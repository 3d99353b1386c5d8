"""Sums over rows of a linear model with random effects: fixed coefficients and groups' effects.

A direction is a free direction of a block of parameters over its outputs (an expert, mostly). Each
direction ``d`` has the fixed features of its block, and for each of the block's group terms the
effects ``u_dgq`` of every group ``g`` and column ``q`` of its design. With the second derivatives
``W_de`` of the log density of a row by two directions, the information of effects of one grouping
is block diagonal: the blocks are ``sum_(i in g) z_iq W_de z_ir``. No table of features has a column
for each group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.data.group_terms import GroupColumns
from bayes_moe.data.matrix import Rows
from bayes_moe.em.information import CompleteInformation, Information, ObservedInformation
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.em.row_mixture import RowMixture
from bayes_moe.model.allocation import ByGroup, group_slices
from bayes_moe.predictors.group_effects import GroupEffects
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.priors.prior import Prior

CHUNK_ELEMENTS = 2**21
"""Elements of the largest array of a chunk of rows."""


@dataclass(frozen=True)
class Effects:
    """Effects of one group term of one block of parameters.

    ``of`` are the effects at their site, ``block`` is the position of the block, ``first`` the
    first of the effects among all; they are (direction, group, column), in internal units.
    """

    of: GroupEffects
    block: int
    first: int
    directions: int
    columns: GroupColumns

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of directions, groups and columns."""
        return self.directions, len(self.columns.labels), len(self.columns.terms)

    @property
    def where(self) -> slice:
        """Positions of its effects among all."""
        return slice(self.first, self.first + int(np.prod(self.shape)))


def fixed_part(vector: ParameterVector) -> ParameterVector:
    """Return the vector of the coefficients of fixed features, with their priors."""
    blocks, start = [], 0
    for block in vector.blocks:
        if isinstance(block.predictor, RandomEffects):
            assert block.scaling is not None
            matrix = vector.design.rows.matrices[block.stem]
            prior, size = block.prior, len(matrix.terms)
            if prior is not None:
                own = {n: np.asarray(v)[:size] for n, v in prior.arguments.items()}
                prior = Prior(prior.distribution, **own)
            block = replace(
                block,
                predictor=Linear(),
                scaling=Scaling(replace(matrix, groups=()), block.scaling.units),
                prior=prior,
                prior_scale=None,
            )
        stop = start + block.directions * block.terms
        blocks.append(replace(block, where=slice(start, stop)))
        start = stop
    return replace(vector, blocks=tuple(blocks), hyperparameters={})


class GroupedRows:
    """Log likelihood of fixed coefficients and effects, with derivatives by both.

    Parameters
    ----------
    vector : ParameterVector
        All coordinates, effects included.
    rows : Rows
        Rows with a response; those that share an expert by group, one group after the other.
    """

    def __init__(self, vector: ParameterVector, rows: Rows) -> None:
        self.whole, self.fixed, self.rows = vector, fixed_part(vector), rows
        self.mixture = RowMixture(self.fixed, rows)
        self.information = ObservedInformation(self.mixture.stack)
        self.effects = _effects(vector, rows)
        self.size = self.effects[-1].where.stop
        stack = self.mixture.stack
        mixing = [_mixing(block) for block in self.fixed.blocks]
        self.starts = np.cumsum([0, *(len(m) for m in mixing)])
        self.mixing = np.zeros((self.starts[-1], stack.size))
        for m, places, start in zip(mixing, stack.outputs, self.starts, strict=False):
            self.mixing[start : start + len(m), places] = m
        found = [self.starts[e.block] + np.arange(e.directions) for e in self.effects]
        self.random = np.unique(np.concatenate(found))
        """Directions that have effects."""
        self.complete = CompleteInformation(stack)
        self._of_pairs = self._second_of_pairs(self.information, np.arange(len(self.mixing)))
        self._of_random: dict[Information, np.ndarray] = {
            rule: self._second_of_pairs(rule, self.random)
            for rule in (self.information, self.complete)
        }
        self._fixed_where, self._effect_where = _places(vector, self.effects)

    # --- coordinates ------------------------------------------------------------------------------

    def joined(self, fixed: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Points of the whole vector from fixed coordinates and effects, both (point, ...)."""
        theta = np.empty((len(fixed), self.whole.size))
        theta[:, self._fixed_where], theta[:, self._effect_where] = fixed, effects
        return theta

    def parted(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fixed coordinates and effects of points of the whole vector."""
        return theta[:, self._fixed_where], theta[:, self._effect_where]

    @property
    def one_grouping(self) -> bool:
        """Whether all effects are of the same groups, so that their information has blocks."""
        first = self.effects[0].columns
        return all(np.array_equal(e.columns.codes, first.codes) for e in self.effects)

    # --- sums over rows ---------------------------------------------------------------------------

    def value(self, fixed: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Log likelihood (point,) at fixed coordinates and effects."""
        total = np.zeros(len(fixed))
        for where in self._slices(len(fixed)):
            with np.errstate(all="ignore"):
                chunk = self._chunk(fixed, effects, where)
                total += chunk.counted(chunk.value).sum(axis=-1)
        return np.where(np.isfinite(total), total, -np.inf)

    def by_direction(
        self, fixed: np.ndarray, effects: np.ndarray, where: slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log densities (point, obs) of rows, and their derivatives by directions.

        The first are (point, direction, obs), minus the second (point, direction, direction, obs).
        """
        with np.errstate(all="ignore"):
            chunk = self._chunk(fixed, effects, where)
            _, _, _, scores, weights, _ = self.mixture.by_row(chunk, self.information, None)
        size = len(self.mixing)
        second = np.matmul(self._of_pairs, weights).reshape(len(scores), size, size, -1)
        return chunk.counted(chunk.value), np.matmul(self.mixing, scores), second

    def by_random(
        self, fixed: np.ndarray, effects: np.ndarray, where: slice, *, complete: bool
    ) -> list[np.ndarray]:
        """Minus second derivatives of rows by the directions that have effects.

        They are (point, direction, direction, obs); with ``complete``, followed by the information
        that rows of known experts would have.
        """
        rules: list[Information] = [self.information, *([self.complete] if complete else [])]
        size, found = len(self.random), []
        with np.errstate(all="ignore"):
            chunk = self._chunk(fixed, effects, where)
            for rule in rules:
                weights = self.mixture.by_row(chunk, rule, None)[4]
                second = np.matmul(self._of_random[rule], weights)
                found.append(second.reshape(len(weights), size, size, -1))
        return found

    def _second_of_pairs(self, rule: Information, directions: np.ndarray) -> np.ndarray:
        """Matrix (pair of directions, pair of outputs) of second derivatives."""
        plan, mixing = rule.plan, self.mixing[directions]
        one, other = mixing[:, plan.first], mixing[:, plan.second]
        both = one[:, None] * other
        mirrored = both + both.transpose(1, 0, 2)
        same = np.asarray(plan.first) == np.asarray(plan.second)
        found: np.ndarray = np.where(same, both, mirrored).reshape(-1, len(same))
        return found

    def chunks(self, points: int) -> list[slice]:
        """Chunks of rows on which derivatives by directions are affordable."""
        return self._slices(points * max(len(self.mixing) ** 2, len(self.information.plan.first)))

    def features(self, block: int, where: slice) -> np.ndarray:
        """Fixed features (term, obs) of a block of parameters."""
        taken = self.mixture.features.take(self.mixture.features.of[block], where)
        rows = range(self.rows.size)[where]
        return np.broadcast_to(taken, (len(taken), len(rows)))

    def _slices(self, elements: int) -> list[slice]:
        step = max(64, CHUNK_ELEMENTS // max(elements, 1))
        group = self.rows.observation.group
        if group is not None:  # one group after the other
            starts = ByGroup.of(group).starts
            return [slice(a, b) for a, b in group_slices(starts, self.rows.size, step)]
        return [slice(a, min(a + step, self.rows.size)) for a in range(0, self.rows.size, step)]

    def _chunk(self, fixed: np.ndarray, effects: np.ndarray, where: slice) -> Any:
        coefs = [block.coefficients(fixed) for block in self.fixed.blocks]
        eta = self.mixture.linear_predictors(coefs, where)
        for e in self.effects:
            own = effects[:, e.where].reshape(-1, *e.shape)
            codes, design = e.columns.codes[where], self.design(e, where)
            of_rows = (own[:, :, codes] * design.T).sum(axis=-1)  # (point, direction, obs)
            block = self.fixed.blocks[e.block]
            mixed = of_rows if block.basis is None else np.matmul(block.basis.T, of_rows)
            eta[e.block] = eta[e.block] + block.unit * mixed
        return self.mixture.of_predictors(eta, where)

    def design(self, effects: Effects, where: slice) -> np.ndarray:
        """Design (column, obs) of effects in internal units."""
        columns = effects.columns
        scaled: np.ndarray = (columns.values[where] / columns.scale).T
        return scaled


def _effects(vector: ParameterVector, rows: Rows) -> tuple[Effects, ...]:
    """Effects of all blocks, one group term after another."""
    found: list[Effects] = []
    for j, block in enumerate(vector.blocks):
        if isinstance(block.predictor, RandomEffects):
            columns = rows.matrices[block.stem].groups
            for of, own in zip(block.predictor.groups(block.site), columns, strict=True):
                first = found[-1].where.stop if found else 0
                found.append(Effects(of, j, first, block.directions, own))
    return tuple(found)


def _mixing(block: ParameterBlock) -> np.ndarray:
    """Matrix (direction, output) of derivatives by directions from those by outputs."""
    basis = np.eye(len(block.experts)) if block.basis is None else block.basis
    mixing: np.ndarray = block.unit * basis
    return mixing


def _places(vector: ParameterVector, effects: tuple[Effects, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of fixed coordinates, and of effects, in the whole vector."""
    fixed, random = [], []
    for j, block in enumerate(vector.blocks):
        own = np.arange(block.where.start, block.where.stop)
        own = own.reshape(block.directions, block.terms)
        terms = [e for e in effects if e.block == j]
        at = block.terms - sum(e.shape[1] * e.shape[2] for e in terms)
        fixed.append(own[:, :at].ravel())
        for e in terms:
            width = e.shape[1] * e.shape[2]
            random.append(own[:, at : at + width].ravel())
            at += width
    return np.concatenate(fixed), np.concatenate(random)

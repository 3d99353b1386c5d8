r"""Effects of groups whose rows share an expert: their positions, and their covariance.

Where all rows of a group have one expert, effects of an expert's parameters that are of these
groups, or of groups within them, are independent of those of all other groups and experts:
:mod:`bayes_moe.model.group_integrals` integrates them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.observation import RowColumns
from bayes_moe.model.allocation import Allocation
from bayes_moe.model.blocks import Block
from bayes_moe.model.structure import Structure
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.group_effects import GroupEffects
from bayes_moe.predictors.random_effects import RandomEffects

KNOWN_GROUPS = "log_responsibilities_of_fitted_groups"
"""Name among draws of the log responsibilities (sample, expert, group) of fitted groups."""


@dataclass(frozen=True)
class Term:
    """Effects of one group term in one slot of a family, at one level within each unit.

    ``output`` is the slot's number among those of its parameter; ``codes`` (unit,) are the levels
    of the effects' groups, -1 in units that have no more of them.
    """

    of: GroupEffects
    output: int
    slot: int
    where: slice
    codes: np.ndarray


@dataclass(frozen=True)
class SharedEffects:
    """Effects within units of rows that share an expert, of the experts of a block.

    A unit has the same positions of effects in every expert: term by term, level by level, column
    by column. A level that a unit does not have is a position whose effect meets no row.

    Attributes
    ----------
    terms : tuple of Term
        What the positions are of.
    slots : array (position,)
        Slot of the family whose predictor an effect is added to.
    design : array (position, obs)
        Factors of the effects, on the user's scale.
    """

    terms: tuple[Term, ...]
    slots: np.ndarray
    design: np.ndarray

    @classmethod
    def of(
        cls, block: Block, matrices: Mapping[str, Matrix], shared: Allocation, group: str
    ) -> SharedEffects:
        """Effects of a block on rows that share experts by the column ``group``."""
        terms: list[Term] = []
        slots: list[int] = []
        design: list[np.ndarray] = []
        slot = 0
        for c in block.components:
            for e in effects_within(c.predictor, c.site, group):
                columns = matrices[c.stem].groups[e.position]
                rank, codes = _levels(shared, columns.codes)
                for output in range(c.parameter.size):
                    for level, own in enumerate(codes):
                        first = len(slots)
                        slots += [slot + output] * len(columns.terms)
                        design += list(np.where(rank == level, columns.values.T, 0.0))
                        where = slice(first, len(slots))
                        terms.append(Term(e, output, slot + output, where, own))
            slot += c.parameter.size
        return cls(tuple(terms), np.array(slots, dtype=int), np.array(design))

    @property
    def size(self) -> int:
        """Number of positions."""
        return len(self.slots)

    def factor(self, values: Mapping[str, Any], experts: int) -> np.ndarray:
        """Lower factor (sample, expert, position, position) of the covariance of the effects.

        ``values`` (sample, ...) hold standard deviations and correlations.
        """
        samples = len(next(iter(values.values())))
        found = np.zeros((samples, experts, self.size, self.size))
        for term in self.terms:
            outputs = slice(term.output * experts, (term.output + 1) * experts)
            found[..., term.where, term.where] = term.of.factor(values)[:, outputs]
        return found


def effects_within(predictor: Predictor, site: Site, group: str | None) -> list[GroupEffects]:
    """Effects of a predictor whose groups are those of a column, or lie within these.

    The columns that tell such groups apart have the column ``group`` among them.
    """
    if group is None or not isinstance(predictor, RandomEffects):
        return []
    return [e for e in predictor.groups(site) if group in e.term.columns]


def has_shared_effects(structure: Structure, columns: RowColumns) -> bool:
    """Whether experts have effects within the groups of rows that share an expert."""
    return any(effects_within(c.predictor, c.site, columns.group) for c in structure.components)


def fitted_groups(
    structure: Structure, columns: RowColumns, matrices: Mapping[str, Matrix]
) -> tuple[np.ndarray, int]:
    """Fitted groups (obs,) that rows are in, and the number of these, from which on others are.

    They are those of the coarsest group term within groups that share an expert.
    """
    every = [
        matrices[c.stem].groups[e.position]
        for c in structure.components
        for e in effects_within(c.predictor, c.site, columns.group)
    ]
    coarsest = min(every, key=lambda own: len(own.term.columns))
    return coarsest.codes, len(coarsest.labels)


def with_known_weights(log_weights: np.ndarray, known: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Log weights (sample, expert, obs), with those ``known`` (sample, expert, group) in place.

    ``codes`` (obs,) are the groups of rows; groups beyond have the weights of the gate.
    """
    count = known.shape[-1]
    return np.where(codes < count, known[..., np.minimum(codes, count - 1)], log_weights)


def predictors_without(
    block: Block, draws: Values, matrices: Mapping[str, Matrix], group: str
) -> list[np.ndarray]:
    """Predictors (sample, expert, obs or 1) of a block's slots, without effects within groups."""
    etas: list[np.ndarray] = []
    for c in block.components:
        if c.formula is None:
            eta = c.parameter.link(c.split(np.asarray(draws[c.stem])[..., None]), NUMERIC)
        else:
            within = effects_within(c.predictor, c.site, group)
            none = {e.effect: np.zeros_like(draws[e.effect]) for e in within}
            b = c.site.bind(matrices[c.stem])
            eta = c.split(b.shifted(c.predictor.evaluate(b, dict(draws) | none)))
        size = c.parameter.size
        etas += [eta[..., j, :, :] for j in range(size)] if c.parameter.labels else [eta]
    return etas


def _levels(shared: Allocation, codes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number (obs,) of each row's level within its unit, and codes (unit,) level by level."""
    units = len(shared.totals(np.zeros(len(codes))))
    unit = shared.spread(np.arange(units))
    pairs, place = np.unique(np.stack([unit, codes]), axis=1, return_inverse=True)
    first = np.searchsorted(pairs[0], np.arange(units))
    rank = np.arange(pairs.shape[1]) - first[pairs[0]]
    found = np.full((rank.max() + 1, units), -1)
    found[rank, pairs[0]] = pairs[1]
    return rank[place.ravel()], list(found)

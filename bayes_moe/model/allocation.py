"""How rows share an expert: each row has one of its own, or all rows of a group have the same.

Of a group ``g`` of rows ``log p(y_g) = logsumexp_k(log w_k(x_g) + sum_i log f_k(y_i | x_i))``: the
gate speaks once, and the densities of the rows are multiplied. Its value stands at the group's
first row, and zero at its others, so that a sum over rows is that over groups; responsibilities are
the same at all its rows.

Of truncated responses ``logsumexp_k(log w_k(x_g) + sum_i log P_k(limits_i | x_i))`` is taken off:
all rows of a group were recorded together.

An expert that is known is the only one that a row can have: the densities of the others are zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core.arrays import symbolic
from bayes_moe.data.design import Design
from bayes_moe.data.group_terms import ERROR
from bayes_moe.data.matrix import Rows
from bayes_moe.data.observation import Observation, RowColumns
from bayes_moe.data.tables import to_pandas
from bayes_moe.model.likelihood import allocate, log_mixture


@dataclass(frozen=True)
class Allocation(ABC):
    """How some rows share an expert. A unit is what has one expert: a row, or a group of rows.

    Attributes
    ----------
    known : array (obs,) or None
        Positions of the experts that are known, -1 where they are not.
    """

    known: np.ndarray | None

    def possible(self, log_densities: np.ndarray) -> np.ndarray:
        """Log densities (..., expert, obs), minus infinity where a row has another expert."""
        if self.known is None:
            return log_densities
        experts = np.arange(log_densities.shape[-2])
        return np.where(can_have(self.known, experts), log_densities, -np.inf)

    @property
    @abstractmethod
    def first(self) -> np.ndarray | slice:
        """Positions (unit,) of the first row of each unit."""

    @property
    @abstractmethod
    def leads(self) -> np.ndarray | None:
        """Indicator (obs,), 1.0 at the first row of each unit; None if every row is one."""

    @abstractmethod
    def totals(self, by_row: np.ndarray) -> np.ndarray:
        """Sums (..., unit) over the rows of each unit of values (..., obs)."""

    @abstractmethod
    def spread(self, by_unit: np.ndarray) -> np.ndarray:
        """Values (..., obs), the same at all rows of a unit, from those of units (..., unit)."""

    @abstractmethod
    def units_of(self, positions: np.ndarray) -> np.ndarray:
        """Units (unit,) that some rows are in, of which all rows are among them."""

    def by_unit(
        self, log_weights: np.ndarray, log_densities: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log density (..., unit) and responsibilities (..., expert, unit) of each unit.

        From log weights and log densities of rows (..., expert, obs).
        """
        weights = log_weights if log_weights.shape[-1] == 1 else log_weights[..., self.first]
        return allocate(weights + self.totals(self.possible(log_densities)))

    def log_marginal(self, log_weights: np.ndarray, log_densities: np.ndarray) -> np.ndarray:
        """Log density (..., obs): that of a unit at its first row, zero at its others."""
        return self.at_first(self.by_unit(log_weights, log_densities)[0])

    @abstractmethod
    def at_first(self, by_unit: np.ndarray) -> np.ndarray:
        """Values (..., obs): that of a unit at its first row, zero at its others."""

    def responsibilities(self, log_weights: np.ndarray, log_densities: np.ndarray) -> np.ndarray:
        """Responsibilities (..., expert, obs): the gradient of the log density of units."""
        return self.spread(self.by_unit(log_weights, log_densities)[1])


@dataclass(frozen=True)
class Independent(Allocation):
    """Every row has an expert of its own."""

    @property
    def first(self) -> slice:
        return slice(None)

    @property
    def leads(self) -> None:
        return None

    def totals(self, by_row: np.ndarray) -> np.ndarray:
        return by_row

    def spread(self, by_unit: np.ndarray) -> np.ndarray:
        return by_unit

    def units_of(self, positions: np.ndarray) -> np.ndarray:
        return positions

    def at_first(self, by_unit: np.ndarray) -> np.ndarray:
        return by_unit


@dataclass(frozen=True)
class ByGroup(Allocation):
    """All rows of a group have the same expert.

    Units are the groups in the order of their first rows. ``order`` (obs,) are the positions of
    rows one group after the other, None if they are so; ``starts`` (unit,) are the positions of
    groups in that order, ``unit`` (obs,) the group of each row, and ``first`` their first rows.
    """

    order: np.ndarray | None
    starts: np.ndarray
    unit: np.ndarray
    leaders: np.ndarray

    @classmethod
    def of(cls, group: np.ndarray, known: np.ndarray | None = None) -> ByGroup:
        """Rows with these groups (obs,)."""
        _, first, unit = np.unique(group, return_index=True, return_inverse=True)
        by_place = np.argsort(first, kind="stable")
        unit = np.argsort(by_place, kind="stable")[unit]
        leaders = first[by_place]
        starts = np.cumsum([0, *np.bincount(unit, minlength=len(leaders))])[:-1]
        order = None if (np.diff(unit) >= 0).all() else np.argsort(unit, kind="stable")
        return cls(known, order, starts, unit, leaders)

    @property
    def first(self) -> np.ndarray:
        return self.leaders

    @cached_property
    def leads(self) -> np.ndarray:
        return self.at_first(np.ones(len(self.leaders)))

    @property
    def leader(self) -> np.ndarray:
        """Position (obs,) of the first row of each row's group."""
        return self.leaders[self.unit]

    def totals(self, by_row: np.ndarray) -> np.ndarray:
        if by_row.shape[-1] == 1 < len(self.unit):
            by_row = np.broadcast_to(by_row, (*by_row.shape[:-1], len(self.unit)))
        sorted_rows = by_row if self.order is None else by_row[..., self.order]
        return np.add.reduceat(sorted_rows, self.starts, axis=-1)

    def spread(self, by_unit: np.ndarray) -> np.ndarray:
        return by_unit[..., self.unit]

    def units_of(self, positions: np.ndarray) -> np.ndarray:
        return np.unique(self.unit[positions])

    def at_first(self, by_unit: np.ndarray) -> np.ndarray:
        values = np.zeros((*by_unit.shape[:-1], len(self.unit)))
        values[..., self.leaders] = by_unit
        return values


EACH_ROW = Independent(None)
"""Rows that each have an expert of their own, of which none is known."""


def allocation_of(seen: Observation) -> Allocation:
    """How rows share an expert, by what is observed of them.

    Under a Markov gate each row has an expert of its own: log weights of a
    :class:`~bayes_moe.model.mixture.Mixture` are those given the rows before.
    """
    if seen.group is None or not len(seen.group):
        return EACH_ROW if seen.expert is None else Independent(seen.expert)
    return ByGroup.of(seen.group, seen.expert)


def can_have(known: np.ndarray, experts: np.ndarray) -> np.ndarray:
    """Whether experts may be those of rows (expert, obs), of which some are ``known`` (obs,)."""
    return (known == experts[:, None]) | (known < 0)


def whole_groups(rows: Rows, step: int) -> Iterator[np.ndarray]:
    """Positions of about ``step`` rows at a time: all rows of some groups."""
    group = rows.observation.group
    assert group is not None
    units = ByGroup.of(group)
    order = np.arange(rows.size) if units.order is None else units.order
    for start, stop in group_slices(units.starts, rows.size, step):
        yield order[start:stop]


def group_slices(starts: np.ndarray, size: int, step: int) -> Iterator[tuple[int, int]]:
    """Start and stop of about ``step`` rows at a time, which begin at ``starts`` of groups."""
    start, ends = 0, np.append(starts[1:], size)
    while start < size:
        # The last end within the step, or that of the group which begins here.
        last = max(int(np.searchsorted(ends, start + step, "right")) - 1, 0)
        stop = int(ends[last])
        if stop <= start:
            stop = int(ends[np.searchsorted(ends, start, "right")])
        yield start, stop
        start = stop


def in_group_order(rows: Rows) -> tuple[Rows, np.ndarray | None]:
    """Rows one group after the other, and their positions; None where they are so already."""
    group = rows.observation.group
    order = None if group is None or not rows.size else ByGroup.of(group).order
    return (rows, None) if order is None else (rows.pick(order), order)


def random_rows(rows: Rows, most: int, rng: np.random.Generator) -> np.ndarray:
    """Positions, in order, of at most so many rows at random: all rows of some groups.

    There is at least one group.
    """
    group = rows.observation.group
    if group is None:
        return np.sort(rng.choice(rows.size, most, replace=False))
    return _rows_of_groups(group, rng.permutation(len(np.unique(group))), most)


def some_rows(rows: Rows, most: int, evenly: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Positions, in order, of about so many rows: all rows of some groups.

    ``evenly(size, most)`` are positions among so many units.
    """
    group = rows.observation.group
    if group is None:
        return evenly(rows.size, most)
    count = len(np.unique(group))
    which = evenly(count, max(1, most * count // rows.size))
    return _rows_of_groups(group, which, rows.size)


def _rows_of_groups(group: np.ndarray, which: np.ndarray, most: int) -> np.ndarray:
    """Positions of all rows of the first of some groups that have at most so many together."""
    units = ByGroup.of(group)
    size = np.cumsum(np.bincount(units.unit)[which])
    return np.flatnonzero(np.isin(units.unit, which[: max(1, (size <= most).sum())]))


def symbolic_log_marginal(log_weights: Any, log_densities: Any, leader: Any) -> Any:
    """Log density (obs,) in PyTensor; see :meth:`Allocation.log_marginal`.

    ``log_weights`` and ``log_densities`` are (expert, obs); ``leader`` (obs,) is the position of
    the first row of each row's group, or None if every row has an expert of its own.
    """
    xp = symbolic()
    if leader is None:
        return log_mixture(log_weights, log_densities, xp)
    import pytensor.tensor as pt

    by_row = (log_densities + pt.zeros_like(log_weights)).T
    at_first = pt.inc_subtensor(pt.zeros_like(by_row)[leader], by_row)
    value = log_mixture(log_weights, at_first.T, xp)
    # JAX has no ranges of symbolic length.
    positions = pt.cumsum(pt.ones_like(leader, dtype="int64")) - 1
    return pt.where(pt.eq(leader, positions), value, 0.0)


def counted_units(rows: Rows, values: np.ndarray) -> np.ndarray:
    """Values (..., unit) of units from those of rows (..., obs), times the units' weights."""
    return rows.counted(values)[..., allocation_of(rows.observation).first]


def unit_weight(rows: Rows) -> float:
    """Number of rows, or of groups of rows that share an expert; the sum of their weights."""
    if rows.observation.group is None:
        return rows.weight
    return float(counted_units(rows, np.ones(rows.size)).sum())


def observed_rows(design: Design, columns: RowColumns, data: Any, *, unseen: str = ERROR) -> Rows:
    """Rows of a table with their response and groups; those fitted to for None.

    ``unseen`` is that of :meth:`Design.transform`.

    Raises
    ------
    DataError
        As :meth:`Design.transform` does, and for a table without the groups.
    """
    if data is None:
        return design.rows
    found = design.transform(data, with_response=True, unseen=unseen)
    return with_groups(found, columns, data, needed=True)


def with_groups(rows: Rows, columns: RowColumns, data: Any, *, needed: bool = False) -> Rows:
    """Rows of a table with its groups and known experts, where it has these columns.

    Raises
    ------
    DataError
        For a table without a column of groups that is ``needed``, and rows without a group.
    """
    if columns.group is None and columns.expert is None:
        return rows
    table = to_pandas(data)
    if needed:
        replace(columns, expert=None).check_columns(table)
    group, expert = (c if c in table.columns else None for c in (columns.group, columns.expert))
    found = replace(columns, weights=None, group=group, expert=expert)
    positions = np.arange(rows.size)
    seen = replace(
        rows.observation,
        group=found.groups_of(table, positions),
        expert=found.experts_of(table, positions),
    )
    shown = rows.columns
    if found.group is not None:
        shown = shown.assign(**{found.group: table[found.group].to_numpy()})
    return replace(rows, observation=seen, columns=shown)


def observed_log_density(mixture: Any, rows: Rows) -> np.ndarray:
    """Log density (sample, obs) of observed rows: of a group at its first row, zero at others."""
    shared = allocation_of(rows.observation)
    if shared is EACH_ROW:
        density: np.ndarray = mixture.log_density(rows.observed)
        return density
    by_group = shared.log_marginal(mixture.log_weights, _components(mixture, rows))
    recorded = mixture.recorded_components(rows.observed)
    if recorded is None:
        return by_group
    return by_group - shared.log_marginal(mixture.log_weights, recorded)


def observed_responsibilities(mixture: Any, rows: Rows) -> np.ndarray:
    """Responsibilities (sample, expert, obs) of observed rows, the same at all of a group."""
    shared = allocation_of(rows.observation)
    if shared is EACH_ROW:
        shares: np.ndarray = mixture.responsibilities(rows.observed)
        return shares
    return shared.responsibilities(mixture.log_weights, _components(mixture, rows))


def _components(mixture: Any, rows: Rows) -> np.ndarray:
    """Log densities (sample, expert, obs) whose sums over a unit's rows are those of the unit."""
    if mixture.integrals is not None:
        whole: np.ndarray = mixture.integrals.at_first(mixture, rows)
        return whole
    by_row: np.ndarray = mixture.log_components(rows.observed)
    return by_row

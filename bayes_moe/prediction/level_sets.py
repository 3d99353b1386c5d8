"""Highest-density sets: the smallest sets of responses of a given probability, row by row.

Such a set is where the density is at least some level. Atoms are likelier than any interval as
short as they are: those of a set come first, the most probable one first; the rest of the
probability is that of the smallest set by the density. Between a maximum and the next minimum the
density is monotone, so that the set has one bound there at most, a root of the density less the
level; the level is a root of the set's probability, which the cdf gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bayes_moe.model.measure import inside_end
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.quantiles import cdf, density_cdf, quantiles
from bayes_moe.prediction.roots import Brackets, find_roots
from bayes_moe.prediction.turning_points import (
    TurningPoints,
    density_of_rows,
    least_whole,
    log_density,
    padded,
)

LEVEL_TOLERANCE = 1e-9
"""Error of a set's probability, and relative error of the density at its bounds."""

WHOLE_TAIL = 1e-12
"""Probability of larger counts, which are in no set."""

MOST_LEVELS = 100


@dataclass(frozen=True)
class Intervals:
    """Disjoint intervals (interval,) by row and then by location."""

    row: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def real_sets(mixture: Mixture, turning: TurningPoints, prob: np.ndarray) -> Intervals:
    """Return the highest-density sets of a mixture's density, of a probability (obs,) each."""
    return joined(turning.row, *_real_bounds(mixture, turning, prob), 0.0)


def whole_sets(
    mixture: Mixture, turning: TurningPoints, prob: float, hint: Intervals | None = None
) -> Intervals:
    """Return the highest-density sets of a count, from sets that are about the same, if any."""
    levels = None if hint is None else _levels(mixture, hint)
    return joined(turning.row, *_whole_bounds(mixture, turning, prob, levels), 1.0)


def _real_bounds(
    mixture: Mixture, turning: TurningPoints, prob: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds (maximum,) of the set about each maximum; equal if empty."""
    rows = mixture.log_weights.shape[-1]
    sides = _Sides(mixture, turning)
    top = np.full(rows, -np.inf)
    np.maximum.at(top, turning.row, turning.height)
    # The drop of a normal density; any start would do.
    start = top - special.chdtri(1.0, 1 - prob) / 2
    pole = np.flatnonzero(np.isinf(top))
    start[pole] = log_density(mixture, np.median(mixture.moments("location"), axis=(0, 1)))[pole]

    def excess(level: np.ndarray, row: np.ndarray) -> np.ndarray:
        chosen = np.flatnonzero(np.isin(turning.row, row))
        sides.move(level[np.searchsorted(row, turning.row[chosen])], chosen)
        share = np.bincount(turning.row[chosen], sides.probability(chosen), rows)
        return share[row] - prob[row]

    brackets = Brackets(top, np.full(rows, -np.inf), np.ones(rows))
    find_roots(excess, brackets, start, tolerance=LEVEL_TOLERANCE)
    return sides.bound[0], sides.bound[1]


class _Sides:
    """Both bounds (2, maximum) of the set about each maximum, at a level that changes."""

    def __init__(self, mixture: Mixture, turning: TurningPoints) -> None:
        lower, upper = mixture.measure.lower, mixture.measure.upper
        self.turning = turning
        self.mixture = mixture.take_rows(turning.row)
        first, last = np.isneginf(turning.gap_before), turning.last
        before_height = np.concatenate([[-np.inf], turning.gap_height[:-1]])
        end = np.where(first, lower, turning.gap_before)
        end_height = np.where(first, -np.inf, before_height)
        self.end = np.stack([end, np.where(last, upper, turning.gap)])
        self.end_height = np.stack([end_height, turning.gap_height])
        for side, outer, own in ((0, lower, first), (1, upper, last)):
            if np.isfinite(outer):
                near = np.full(own.size, inside_end(outer, -np.inf if side else np.inf))
                limit = log_density(self.mixture, near)
                self.end_height[side] = np.where(own, limit, self.end_height[side])
        self.width = np.median(self.mixture.moments("scale"), axis=(0, 1))
        self.bound = np.stack([turning.mode, turning.mode])

    def move(self, level: np.ndarray, chosen: np.ndarray) -> None:
        """Put the bounds of some maxima where the log density is ``level`` (chosen,)."""
        mode, height = self.turning.mode[chosen], self.turning.height[chosen]
        for side in (0, 1):
            end = self.end[side, chosen]
            beyond = (self.end_height[side, chosen] >= level) | (end == mode)
            bound = np.where(beyond, end, mode)
            between = np.flatnonzero(~beyond & (height > level))
            if between.size:
                bound[between] = self._root(side, level[between], chosen[between])
            bound[height <= level] = mode[height <= level]
            self.bound[side, chosen] = bound

    def _root(self, side: int, level: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return where the log density crosses levels on one side of maxima."""
        mode, end, width = self.turning.mode[at], self.end[side, at], self.width[at]
        part = self.mixture.take_rows(at)

        def excess(y: np.ndarray, index: np.ndarray) -> np.ndarray:
            mixture = part if index.size == at.size else part.take_rows(index)
            return log_density(mixture, y) - level[index]

        low, high = np.minimum(mode, end), np.maximum(mode, end)
        start = self.bound[side, at]
        inside = (start > low) & (start < high)
        away = mode + (width if side else -width)
        with np.errstate(invalid="ignore"):
            middle = np.where((away > low) & (away < high), away, 0.5 * (mode + end))
        start = np.where(inside, start, middle)
        step = 1e-4 * (start - mode)
        everything = np.arange(at.size)
        with np.errstate(all="ignore"):
            slope = (excess(start + step, everything) - excess(start, everything)) / step
        brackets = Brackets(end, mode, width)
        return find_roots(excess, brackets, start, slope, LEVEL_TOLERANCE)

    def probability(self, chosen: np.ndarray) -> np.ndarray:
        """Return the probability (chosen,) between the bounds of some maxima."""
        part = self.mixture.take_rows(chosen)
        return density_cdf(part, self.bound[1, chosen]) - density_cdf(part, self.bound[0, chosen])


def _whole_bounds(
    mixture: Mixture, turning: TurningPoints, prob: float, levels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds (maximum,) of the set about each maximum.

    ``levels`` (2, obs) are likely to have the set's level between them. Where the set is empty,
    the upper bound is the lower one less 1.
    """
    row, mode, rows = turning.row, turning.mode, mixture.log_weights.shape[-1]
    part, density = mixture.take_rows(row), density_of_rows(mixture, row)
    largest = quantiles(mixture, np.array([1 - WHOLE_TAIL]))[row, 0]
    first = np.isneginf(turning.gap_before)
    wide = np.stack(
        [
            np.where(first, mixture.measure.lower, turning.gap_before + 1),
            np.where(turning.last, np.maximum(largest, mode), turning.gap),
        ]
    )
    narrow = np.stack([mode, mode - 1])
    high = np.full(rows, -np.inf)
    np.maximum.at(high, row, turning.height)
    low = high - 1.0 if levels is None else levels[0]
    found = np.zeros(rows, dtype=bool)  # whether `low` is low enough
    for step in range(MOST_LEVELS):
        level = np.where(found, 0.5 * (low + high), low)
        if step == 1 and levels is not None:
            level = np.where(found, levels[1], level)
        bounds = _whole_at(density, level[row], narrow, wide)
        enough = np.bincount(row, _between(part, bounds), rows) >= prob
        grown = enough[row]
        wide = np.where(grown, bounds, wide)
        narrow = np.where(grown, narrow, bounds)
        low = np.where(enough, level, np.where(found, low, level - 2 * np.abs(high - level) - 1))
        high = np.where(enough, high, level)
        found |= enough
        extra = np.abs(wide - narrow).sum(axis=0)
        if found.all() and (extra <= 8).all():
            break
    return _completed(part, density, turning, narrow, wide, prob)


def _levels(mixture: Mixture, sets: Intervals) -> np.ndarray:
    """Return levels (2, obs): least and largest log density beyond and at the bounds of sets."""
    part = mixture.take_rows(sets.row)
    at = [log_density(part, y) for y in (sets.lower, sets.upper)]
    beyond = [log_density(part, y) for y in (sets.lower - 1, sets.upper + 1)]
    levels = np.array([[np.inf], [-np.inf]]) * np.ones(mixture.log_weights.shape[-1])
    for value in (*at, *beyond):
        np.minimum.at(levels[0], sets.row[np.isfinite(value)], value[np.isfinite(value)])
        np.maximum.at(levels[1], sets.row, value)
    return levels


def _whole_at(
    density: Callable[..., np.ndarray], level: np.ndarray, narrow: np.ndarray, wide: np.ndarray
) -> np.ndarray:
    """Return bounds (2, maximum) at a level, between those of a higher and a lower level."""
    lower = least_whole(lambda y, i: density(y, i) < level[i], wide[0], narrow[0])
    upper = least_whole(lambda y, i: density(y, i) >= level[i], narrow[1] + 1, wide[1] + 1)
    return np.stack([lower, upper - 1])


def _between(part: Mixture, bounds: np.ndarray) -> np.ndarray:
    """Return the probability (maximum,) between bounds, both included."""
    return cdf(part, bounds[1]) - cdf(part, bounds[0] - 1)


def _completed(
    part: Mixture,
    density: Callable[..., np.ndarray],
    turning: TurningPoints,
    narrow: np.ndarray,
    wide: np.ndarray,
    prob: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds between ``narrow`` and ``wide``: the likeliest counts are added, as needed."""
    share = _between(part, narrow)
    bounds = narrow.copy()
    counts = (np.abs(wide - narrow)).astype(int)
    maximum, side = (np.repeat(a.ravel(), counts.ravel()) for a in np.indices(counts.shape)[::-1])
    distance = np.concatenate([np.arange(n) for n in counts.ravel()] or [np.zeros(0)]) + 1.0
    y = narrow[side, maximum] + np.where(side == 1, distance, -distance)
    mass = np.exp(density(y, maximum))
    order = np.lexsort((distance, -mass, turning.row[maximum]))
    rows = turning.row[maximum[order]]
    total = np.bincount(turning.row, share)
    ordered = mass[order]
    # The probability before each count is added: that of the likelier ones of its row.
    running = np.cumsum(ordered)
    start = np.searchsorted(rows, rows)
    before = running - ordered - np.where(start > 0, running[start - 1], 0.0) + total[rows]
    added = order[before < prob]
    np.subtract.at(bounds, (0, maximum[added[side[added] == 0]]), 1)
    np.add.at(bounds, (1, maximum[added[side[added] == 1]]), 1)
    return bounds[0], bounds[1]


def joined(row: np.ndarray, lower: np.ndarray, upper: np.ndarray, step: float) -> Intervals:
    """Return intervals without empty ones; those that touch, up to ``step``, are one."""
    kept = np.flatnonzero(upper > lower - step)
    row, lower, upper = row[kept], lower[kept], upper[kept]
    new = np.ones(row.size, dtype=bool)
    new[1:] = (row[1:] != row[:-1]) | (lower[1:] > upper[:-1] + step)
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], row.size) - 1
    return Intervals(row[starts], lower[starts], upper[ends])


def table(mixture: Mixture, sets: Intervals) -> np.ndarray:
    """Return bounds and probabilities (obs, interval, 3) of intervals, padded with NaN.

    Those of a mixture that is not discrete are without its atoms.
    """
    part = mixture.take_rows(sets.row)
    if mixture.measure.discrete:
        mass = cdf(part, sets.upper) - cdf(part, sets.lower - 1)
    else:
        mass = density_cdf(part, sets.upper) - density_cdf(part, sets.lower)
    values = np.stack([sets.lower, sets.upper, mass], axis=-1)
    return padded(sets.row, values, mixture.log_weights.shape[-1])


def of_table(table: np.ndarray) -> Intervals:
    """Return the intervals of a table of bounds; see :func:`table`."""
    row, at = np.nonzero(~np.isnan(table[..., 0]))
    return Intervals(row, table[row, at, 0], table[row, at, 1])


@dataclass(frozen=True)
class Atoms:
    """Atoms (atom, obs) of highest-density sets: their probability, and which are in the sets.

    ``rest`` (obs,) is the probability that is left to the density; zero or less if there is none.
    """

    mass: np.ndarray
    taken: np.ndarray
    rest: np.ndarray

    @classmethod
    def of(cls, mixture: Mixture, prob: float) -> Atoms:
        """The atoms of sets of a probability, the most probable ones first."""
        mass = mixture.atom_masses
        order = np.argsort(-mass, axis=0, kind="stable")
        ordered = np.take_along_axis(mass, order, axis=0)
        taken = np.zeros(mass.shape, dtype=bool)
        before = np.cumsum(ordered, axis=0) - ordered
        np.put_along_axis(taken, order, (before < prob) & (ordered > LEVEL_TOLERANCE), axis=0)
        return cls(mass, taken, prob - np.where(taken, mass, 0.0).sum(axis=0))

    def added(self, atoms: Sequence[float], sets: np.ndarray) -> np.ndarray:
        """Return a table (obs, interval, 3) with the atoms, each in an interval or on its own."""
        rows = np.arange(len(sets))
        row, at = np.nonzero(~np.isnan(sets[..., 0]))
        values = sets[row, at].copy()
        own = [np.column_stack([row, values])]
        for atom, mass, taken in zip(atoms, self.mass, self.taken, strict=True):
            inside = (own[0][:, 1] <= atom) & (atom <= own[0][:, 2])
            inside &= taken[row]
            own[0][inside, 3] += mass[row[inside]]
            alone = taken & ~np.isin(rows, row[inside])
            number = np.full(int(alone.sum()), float(atom))
            own.append(np.column_stack([rows[alone], number, number, mass[alone]]))
        every = np.concatenate(own)
        every = every[np.lexsort((every[:, 1], every[:, 0]))]
        return padded(every[:, 0].astype(int), every[:, 1:], len(sets))

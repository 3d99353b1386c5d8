"""Highest-density sets of all draws, by Newton's method from those of some draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import concatenated
from bayes_moe.prediction.density_modes import predictive_turning_points
from bayes_moe.prediction.level_sets import Atoms, Intervals, of_table, real_sets, table, whole_sets
from bayes_moe.prediction.quantiles import density_cdf
from bayes_moe.prediction.turning_points import TurningPoints, log_density, turning_points

PILOT_DRAWS = 40
"""Draws whose sets are searched; these are then improved with all draws."""

TOLERANCE = 1e-8
"""Error of a set's probability, and relative error of the density at its bounds."""

STEPS = 8
LARGEST_MOVE = 0.5
"""Of a bound in one step, in widths of its interval."""


def searched_sets(mixture: Mixture, prob: float) -> np.ndarray:
    """Return intervals (obs, interval, 3) of at most ``PILOT_DRAWS`` draws, as a table.

    Those of a mixture with atoms are of its part with a density.
    """
    if not mixture.log_weights.shape[-1]:
        return np.zeros((0, 1, 3))
    if mixture.measure.discrete:
        return table(mixture, whole_sets(mixture, turning_points(mixture), prob))
    return _where_needed(_searched, mixture, Atoms.of(mixture, prob).rest)


def _searched(part: Mixture, prob: np.ndarray) -> np.ndarray:
    return table(part, real_sets(part, turning_points(part), prob))


def _where_needed(
    sets_of: Callable[..., np.ndarray], mixture: Mixture, rest: np.ndarray, *beside: np.ndarray
) -> np.ndarray:
    """Return sets (obs, interval, 3) of the density, empty where no probability is left to it.

    ``sets_of`` is given the part of the mixture with a density, the probability and each array
    ``beside``, of the rows where one is left.
    """
    part, needed = mixture.density_part, np.flatnonzero(rest > 0)
    if needed.size == rest.size:
        return sets_of(part, rest, *beside)
    sets = np.full((rest.size, 1, 3), np.nan)
    if needed.size:
        found = sets_of(part.take_rows(needed), rest[needed], *(a[needed] for a in beside))
        sets = np.full((rest.size, *found.shape[1:]), np.nan)
        sets[needed] = found
    return sets


def highest_density_sets(
    mixture: Mixture, prob: float, searched: np.ndarray, guess: np.ndarray
) -> np.ndarray:
    """Return intervals (obs, interval, 3): bounds and probability, by location, then NaN.

    Counts at both bounds are in the set, which then has at least the probability ``prob``.
    ``searched`` and ``guess`` are turning points and sets of some draws, or of all if there are so
    few.
    """
    samples, _, rows = mixture.log_weights.shape
    measure, few = mixture.measure, samples <= PILOT_DRAWS
    if not rows or (few and not measure.atoms):
        return guess
    if measure.discrete:
        turning = predictive_turning_points(mixture, searched)
        return table(mixture, whole_sets(mixture, turning, prob, of_table(guess)))
    atoms = Atoms.of(mixture, prob)
    if not few:
        guess = _where_needed(_improved_sets, mixture, atoms.rest, searched, guess)
    return atoms.added(measure.atoms, guess)


def _improved_sets(
    mixture: Mixture, prob: np.ndarray, searched: np.ndarray, guess: np.ndarray
) -> np.ndarray:
    """Return the sets (obs, interval, 3) of a density from those of some draws."""
    turning = predictive_turning_points(mixture, searched)
    sets, good = _improved(mixture, turning, of_table(guess), prob)
    found = table(mixture, sets)
    bad = np.flatnonzero(~good)
    if bad.size:
        part = mixture.take_rows(bad)
        turning = predictive_turning_points(part, searched[bad])
        mended = table(part, real_sets(part, turning, prob[bad]))
        rest = np.flatnonzero(good)
        found = concatenated([found[rest], mended])[np.argsort(np.concatenate([rest, bad]))]
    return found


def _improved(
    mixture: Mixture, turning: TurningPoints, sets: Intervals, prob: np.ndarray
) -> tuple[Intervals, np.ndarray]:
    """Return sets of as many intervals, and for which rows (obs,) they are the sought ones.

    With the log density ``f`` and its slope ``s`` at the bounds, a step solves ``f + s d = level``
    for the moves ``d`` of a row's bounds and for the level, so that the set has its probability to
    first order.
    """
    rows, row = mixture.log_weights.shape[-1], sets.row
    part = mixture.take_rows(row)
    y = np.stack([sets.lower, sets.upper])
    fixed = (y == mixture.measure.lower) | (y == mixture.measure.upper)
    reach = LARGEST_MOVE * (y[1] - y[0])
    step = np.array([1e-4, -1e-4])[:, None] * reach
    near = np.stack([log_density(part, side) for side in np.where(fixed, y, y + step)])
    at = np.stack([log_density(part, side) for side in y])
    with np.errstate(all="ignore"):
        slope = (near - at) / step
        for _ in range(STEPS):
            share = np.bincount(row, density_cdf(part, y[1]) - density_cdf(part, y[0]), rows)
            gain = np.where(fixed, 0.0, np.exp(at) / np.abs(slope))
            total = np.bincount(row, gain.sum(axis=0), rows)
            weighted = np.bincount(row, np.where(fixed, 0.0, gain * at).sum(axis=0), rows)
            level = ((weighted - (prob - share)) / total)[row]
            error = np.where(fixed, 0.0, at - level)
            if (np.abs(error) <= TOLERANCE).all() and (np.abs(share - prob) <= TOLERANCE).all():
                break
            move = np.where(fixed, 0.0, np.clip(-error / slope, -reach, reach))
            moved = np.stack([log_density(part, side) for side in y + move])
            secant = (moved - at) / move
            slope = np.where(np.abs(move) > np.abs(step), secant, slope)
            y, at = y + move, np.where(fixed, at, moved)
    good = np.abs(share - prob) <= TOLERANCE
    good &= np.bincount(row, ~(np.abs(error) <= TOLERANCE).all(axis=0), rows) == 0
    wrong = ((slope[0] <= 0) & ~fixed[0]) | ((slope[1] >= 0) & ~fixed[1])
    good &= np.bincount(row, wrong, rows) == 0
    return Intervals(row, y[0], y[1]), good & _agree(turning, row, y, level, rows)


def _agree(
    turning: TurningPoints, row: np.ndarray, y: np.ndarray, level: np.ndarray, rows: int
) -> np.ndarray:
    """Whether just the maxima above the level are in intervals, and minima below outside."""
    of_row = np.full(rows, np.nan)
    of_row[row] = level
    known = of_row[turning.row]
    inside = _inside(turning.mode, turning.row, row, y)
    wrong = inside != (turning.height > known)
    gaps = _inside(turning.gap, turning.row, row, y)
    wrong |= ~turning.last & (gaps != (turning.gap_height > known))
    apart = np.ones(rows, dtype=bool)
    follows = row[1:] == row[:-1]
    apart[row[1:][follows & (y[0, 1:] <= y[1, :-1])]] = False
    return apart & (np.bincount(turning.row, wrong, rows) == 0)


def _inside(point: np.ndarray, of: np.ndarray, row: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points are in an interval of their row."""
    starts, ends = np.searchsorted(row, of), np.searchsorted(row, of, side="right")
    inside = np.zeros(point.size, dtype=bool)
    for shift in range(int((ends - starts).max(initial=0))):
        j = np.minimum(starts + shift, row.size - 1)
        inside |= (starts + shift < ends) & (y[0, j] <= point) & (point <= y[1, j])
    return inside

"""Local maxima of the predictive density of each row, and the minima between them.

A sum of densities has a local maximum only where one of them is concave, so within two of its
scales of its location. The density is evaluated there, at points a part of the scale apart, for
every draw and expert; each maximum among the points is then refined between its neighbours. Points
at growing distances from the locations give brackets for the minima, whatever the ratio of scales.
Of a mixture with atoms only the part with a density is searched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.model.measure import NEAR_END, NEARER_END, inside_end
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.search_points import search_points

NEARBY = (0.2, 0.02)
"""Distances of the points of successive parabolas through a maximum: in scales, and then in units
of the distance at which the parabola before falls by a half, since a peak may be narrower."""
MOST_VERTICES = 6
"""Most parabolas of the second kind."""
SMALL_MOVE = 0.3
"""Move of a maximum, in distances of the points, after which no parabola follows."""

LARGEST = 1e300
"""Stands for infinity in searches for a minimum, which take differences."""


@dataclass(frozen=True)
class TurningPoints:
    """Maxima of the densities of some rows, by row and then by location.

    Attributes
    ----------
    row, mode, height : array (maximum,)
        Position of the row, location, and log density; infinite at the end of the support if the
        density has a pole there.
    gap, gap_height : array (maximum,)
        Location and log density of the minimum between this maximum and the next of the row;
        plus and minus infinity for the row's last.
    """

    row: np.ndarray
    mode: np.ndarray
    height: np.ndarray
    gap: np.ndarray
    gap_height: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """Whether each maximum (maximum,) is the last of its row."""
        return np.isinf(self.gap)

    @property
    def gap_before(self) -> np.ndarray:
        """Minimum before each maximum (maximum,); minus infinity for the first of a row."""
        before = np.concatenate([[-np.inf], self.gap[:-1]])
        return np.where(np.isposinf(before), -np.inf, before)

    def table(self, rows: int) -> np.ndarray:
        """Return mode, height, gap and its height (obs, maximum, 4), padded with NaN."""
        values = np.stack([self.mode, self.height, self.gap, self.gap_height], axis=-1)
        return padded(self.row, values, rows)

    @classmethod
    def of_table(cls, table: np.ndarray) -> TurningPoints:
        """Return the turning points of a table; see :meth:`table`."""
        row, at = np.nonzero(~np.isnan(table[..., 0]))
        return cls(row, *table[row, at].T)


def padded(row: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    """Return a table (obs, item, quantity) of values (item, quantity) by row, padded with NaN."""
    position = np.arange(row.size) - np.searchsorted(row, row)
    table = np.full((rows, int(position.max(initial=0)) + 1, values.shape[-1]), np.nan)
    table[row, position] = values
    return table


def log_density(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Return the log predictive density (obs,), of the average over draws; beside an atom there."""
    if mixture.measure.atoms:
        y = mixture.measure.beside_atoms(y)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        density = mixture.log_density(y)
    average: np.ndarray = NUMERIC.logsumexp(density, axis=0) - np.log(len(density))
    return average


def density_of_rows(mixture: Mixture, row: np.ndarray) -> Callable[..., np.ndarray]:
    """Return the log density as a function of points (n,) and the indices (n,) into ``row``."""
    whole = mixture.take_rows(row)

    def function(y: np.ndarray, index: np.ndarray) -> np.ndarray:
        index = index.astype(int)
        part = whole if index.size == row.size else whole.take_rows(index)
        return log_density(part, y)

    return function


def turning_points(mixture: Mixture) -> TurningPoints:
    """Return all maxima of the density of each row, and the minima between them."""
    points = search_points(mixture)  # (point, obs)
    height = np.stack([_height(mixture, y) for y in points])
    before = np.vstack([np.full_like(height[:1], -np.inf), height[:-1]])
    after = np.vstack([height[1:], np.full_like(height[:1], -np.inf)])
    # Of equal neighbours the first is a maximum.
    row, at = np.nonzero(((height > before) & (height >= after)).T)
    refine = _whole_maxima if mixture.measure.discrete else _real_maxima
    mode, top = refine(mixture, points, height, row, at)
    gap, gap_height = np.full(row.size, np.inf), np.full(row.size, -np.inf)
    between = np.flatnonzero(row[1:] == row[:-1])
    if between.size:
        lowest = np.array(
            [at[i] + np.argmin(height[at[i] : at[i + 1] + 1, row[i]]) for i in between]
        )
        refine_gap = _whole_minima if mixture.measure.discrete else _real_minima
        ends = mode[between], mode[between + 1]
        gap[between], gap_height[between] = refine_gap(mixture, points, row[between], lowest, ends)
    return TurningPoints(row, mode, top, gap, gap_height)


def refined(turning: TurningPoints, mixture: Mixture) -> TurningPoints:
    """Return the turning points of mixtures that differ little from those searched."""
    if not turning.row.size:
        return turning
    density = density_of_rows(mixture, turning.row)
    index = np.arange(turning.row.size)
    width = np.median(mixture.take_rows(turning.row).moments("scale"), axis=(0, 1))
    room = np.minimum(turning.gap - turning.mode, turning.mode - turning.gap_before)
    reach = np.minimum(2 * NEARBY[0] * width, 0.5 * room)
    low = np.maximum(turning.mode - reach, mixture.measure.lower)
    high = np.minimum(turning.mode + reach, mixture.measure.upper)
    if mixture.measure.discrete:
        low, high = np.floor(low), np.ceil(high)
        mode = least_whole(lambda y, i: density(y + 1, i) > density(y, i), low, high)
        top = density(mode, index)
    else:
        mode, top = _vertices(density, turning, width, reach, (low, high))
        for end, inwards in mixture.measure.ends:
            at_end = np.flatnonzero(turning.mode == end)
            mode[at_end] = end
            limit = density(np.full(at_end.size, inside_end(end, inwards)), at_end)
            top[at_end] = np.where(np.isinf(turning.height[at_end]), np.inf, limit)
    inner = np.flatnonzero(~turning.last)
    gap_height = turning.gap_height.copy()
    gap_height[inner] = density(turning.gap[inner], inner)
    return TurningPoints(turning.row, mode, top, turning.gap, gap_height)


def _vertices(
    density: Callable[..., np.ndarray],
    turning: TurningPoints,
    width: np.ndarray,
    reach: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return maxima and their heights from those searched, by parabolas through close points."""
    mode, top, local = turning.mode, turning.height, width
    moves = np.full(mode.size, True)
    for part in (NEARBY[0], *[NEARBY[1]] * MOST_VERTICES):
        step, before = np.minimum(part * local, 0.5 * reach), mode
        found = _vertex(density, mode, step, *ends)
        # What a row gets must not depend on the others.
        mode, top, local = (
            np.where(moves, new, old) for new, old in zip(found, (mode, top, local), strict=True)
        )
        if part == NEARBY[1]:
            moves &= np.abs(mode - before) > SMALL_MOVE * step
        if not moves.any():
            break
    return mode, top


def _vertex(
    density: Callable[..., np.ndarray],
    y: np.ndarray,
    step: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maxima of the parabolas through each point and two at a step from it.

    Besides, the distances at which these fall by a half, or the steps where they do not fall.
    """
    index = np.arange(y.size)
    before, here, after = (density(y + d, index) for d in (-step, 0.0, step))
    with np.errstate(all="ignore"):
        curvature, rise = before - 2 * here + after, 0.5 * (after - before)
        shift = np.clip(-rise / curvature, -2, 2)
        shift = np.where(curvature < 0, shift, np.sign(rise))
        top = here + shift * (rise + 0.5 * shift * curvature)
        local = step / np.sqrt(-curvature)
    good = np.isfinite(shift) & np.isfinite(top)
    moved = np.clip(np.where(good, y + step * shift, y), low, high)
    return moved, np.where(good, top, here), np.where(local > 0, local, step)


def _height(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Return the log density (obs,); minus infinity at missing points."""
    missing = np.isnan(y)
    inside = np.where(missing, 0.0, y)
    return np.where(missing, -np.inf, log_density(mixture, inside))


def _neighbours(points: np.ndarray, row: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the points before and after some points; beyond the ends, those twice as far."""
    here = points[at, row]
    before = points[np.maximum(at - 1, 0), row]
    after = points[np.minimum(at + 1, len(points) - 1), row]
    after = np.where(np.isnan(after) | (after == here), here + 1 + np.abs(here), after)
    return np.where(before == here, here - 1 - np.abs(here), before), here, after


def _real_maxima(
    mixture: Mixture, points: np.ndarray, height: np.ndarray, row: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return locations and log densities of maxima near points, by a search between neighbours."""
    measure = mixture.measure
    before, here, after = _neighbours(points, row, at)
    before, after = np.maximum(before, measure.lower), np.minimum(after, measure.upper)
    density = density_of_rows(mixture, row)
    mode, top = _minimum(lambda y, i: -density(y, i), before, here, after)
    mode, top = np.where(-top >= height[at, row], mode, here), np.maximum(-top, height[at, row])
    last = (~np.isnan(points)).sum(axis=0)[row] - 1
    for end, inwards in mixture.measure.ends:
        beside = np.flatnonzero(at == (0 if inwards > end else last))
        if beside.size:
            own = mode[beside], top[beside]
            mode[beside], top[beside] = _at_the_end(density, (end, inwards), *own, beside)
    return mode, top


def _at_the_end(
    density: Callable[..., np.ndarray],
    end: tuple[float, float],
    mode: np.ndarray,
    top: np.ndarray,
    index: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return maxima that may be at the end of the support, where the density may have a pole."""
    near, nearer = (
        density(np.full(index.size, inside_end(*end, d)), index) for d in (NEAR_END, NEARER_END)
    )
    at_end = nearer >= top
    pole = nearer > near + np.log(2)
    return np.where(at_end, end[0], mode), np.where(at_end, np.where(pole, np.inf, nearer), top)


def _real_minima(
    mixture: Mixture,
    points: np.ndarray,
    row: np.ndarray,
    at: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return locations and log densities of the minima about points, between two maxima."""
    before, here, after = _neighbours(points, row, at)
    density = density_of_rows(mixture, row)
    before, after = np.maximum(before, ends[0]), np.minimum(after, ends[1])
    here = np.where((here > before) & (here < after), here, 0.5 * (before + after))
    return _minimum(density, before, here, after)


def _minimum(
    function: Callable[..., np.ndarray],
    low: np.ndarray,
    middle: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return minima and values of functions, each near the middle of three points."""
    index = np.arange(low.size)

    def finite(y: np.ndarray, i: np.ndarray) -> np.ndarray:
        return np.clip(function(y, i), -LARGEST, LARGEST)

    values = [finite(y, index) for y in (low, middle, high)]
    lowest = np.argmin(values, axis=0)
    y = np.choose(lowest, [low, middle, high])
    value = np.min(values, axis=0)
    inner = np.flatnonzero((lowest == 1) & (low < middle) & (middle < high))
    if inner.size:
        with np.errstate(all="ignore"):
            found = elementwise.find_minimum(
                lambda y, i: finite(y, i.astype(int)),
                (low[inner], middle[inner], high[inner]),
                args=(inner,),
                maxiter=200,
            )
        y[inner], value[inner] = found.x, found.f_x
    return y, value


def _whole_maxima(
    mixture: Mixture, points: np.ndarray, height: np.ndarray, row: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers and log probabilities of maxima near points."""
    before, _, after = _neighbours(points, row, at)
    density = density_of_rows(mixture, row)
    mode = least_whole(
        lambda y, i: density(y + 1, i) > density(y, i),
        np.maximum(before, mixture.measure.lower - 1),
        after,
    )
    return mode, density(mode, np.arange(mode.size))


def _whole_minima(
    mixture: Mixture,
    points: np.ndarray,
    row: np.ndarray,
    at: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers and log probabilities of the minima about points."""
    before, _, after = _neighbours(points, row, at)
    density = density_of_rows(mixture, row)
    before, after = np.maximum(before, ends[0]), np.minimum(after, ends[1])
    gap = least_whole(lambda y, i: density(y + 1, i) < density(y, i), before, after)
    return gap, density(gap, np.arange(gap.size))


def least_whole(
    holds: Callable[[np.ndarray, np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the least whole number from ``low`` at which a condition does not hold."""
    low, high = low.copy(), high.copy()
    index = np.flatnonzero(low < high)
    while index.size:
        middle = np.floor(0.5 * (low[index] + high[index]))
        further = holds(middle, index)
        low[index[further]] = middle[further] + 1
        high[index[~further]] = middle[~further]
        index = index[low[index] < high[index]]
    return low

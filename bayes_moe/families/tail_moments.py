"""Mean and variance of a distribution between two ends, by integrals or sums of its tails.

With ``m`` inside, ``E[(Y - m)+]`` is the integral of the upper tail from ``m`` to the upper end,
and ``E[(Y - m)+^2]`` that of twice the distance from ``m`` times the upper tail; the lower side is
alike. Tails are bounded and decrease, also where a density has a pole or the distribution has
atoms at the ends. The integrals are by Gauss-Legendre rules on intervals whose lengths double, from
the distance at which the tail has fallen by some part; far out they are in the log of the distance,
so that tails by powers need few intervals. Sums of counts are by rules of the same kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

Tail = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Probability beyond points (..., number), of the distributions at some positions (number,)."""

NODES, END_NODES = 16, 32
"""Numbers of nodes; the second of an interval that ends where the tail may be like a power of the
distance to its end."""

END_POWER = 4
CLOSE, SHRINK = 1e-8, 4.0
"""Difference of two rules for an interval that ends with the distribution, above which it is
divided, and the ratio of the parts."""

DOUBLED = 9
"""Intervals whose lengths double, before those in the log of the distance."""

GROWTH = 1.2
"""Ratio of the lengths of neighbouring intervals in the log of the distance."""

LEAST_SHARE, MOST_SHARE = 0.4, 0.9
"""Part of the tail that is left at the first distance."""

MOST_STEPS = 500
FEW = 16
"""Terms of a sum that are added one by one, before groups of them."""

LARGEST_WHOLE = 2.0**53
"""Not every larger whole number is a double."""

NEGLIGIBLE = 1e-16
"""Part of the integral that an interval adds, below which farther ones are left out."""

BLOCK = 2**13
"""Distributions that are integrated at once."""


def _edges() -> np.ndarray:
    """Ends of the intervals, in first distances: 0, 1, 2, 4, ... and beyond."""
    doubled = np.exp2(np.arange(DOUBLED))
    lengths = np.log(2.0) * GROWTH ** np.arange(1, 40)
    far = np.log(doubled[-1]) + np.cumsum(lengths)
    return np.concatenate([[0.0], doubled, np.exp(far[far < 700.0])])


EDGES = _edges()


@dataclass(frozen=True)
class Distributions:
    """Distributions (number,) with ends, a point inside and a width of each.

    ``below(y, which)`` are the probabilities up to ``y`` of those at positions ``which``,
    ``above`` those of larger responses. All are of a response that is between the ends.
    """

    below: Tail
    above: Tail
    low: np.ndarray
    high: np.ndarray
    inside: np.ndarray
    width: np.ndarray

    def moments(self, discrete: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (number,), which must be finite."""
        mean, variance = np.empty(self.low.shape), np.empty(self.low.shape)
        for start in range(0, self.low.size, BLOCK):
            which = np.arange(start, min(start + BLOCK, self.low.size))
            upper, lower = self._side(which, 1.0), self._side(which, -1.0)
            m = self.inside[which]
            lengths = self.high[which] - m, m - self.low[which]
            if discrete:
                up, down = _sums(upper, lengths[0], 0.0), _sums(lower, lengths[1], 1.0)
            else:
                up, down = (
                    _integrals(tail, length, self.width[which])
                    for tail, length in zip((upper, lower), lengths, strict=True)
                )
            shift = up[0] - down[0]
            mean[which] = m + shift
            variance[which] = np.maximum(up[1] + down[1] - shift**2, 0.0)
        return mean, variance

    def _side(self, which: np.ndarray, sign: float) -> Tail:
        """Tail of those at some positions by the distance from the point inside."""
        own, side = self.inside[which], self.above if sign > 0 else self.below
        return lambda r, at: side(own[at] + sign * r, which[at])


@cache
def rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (node, 1) of Gauss and Legendre on the interval from 0 to 1."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return 0.5 * (1 + x[:, None]), 0.5 * w[:, None]


def _sums(tail: Tail, length: np.ndarray, first: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of a tail at whole distances from ``first``, and of its increments of squares.

    Of the upper side the distances are 0, 1, ..., length - 1, of the lower one 1, ..., length.
    """
    length = np.minimum(length, LARGEST_WHOLE)
    one, two, place = np.zeros(length.shape), np.zeros(length.shape), np.zeros(length.shape)

    def add(which: np.ndarray, size: int) -> np.ndarray:
        """Add so many terms from the place of each, and return which parts count."""
        nodes, weights = whole_rule(size)
        r = place[which] + nodes
        value = tail(r + first, which) * weights
        more = ((2 * r + 1) * value).sum(axis=0)
        one[which] += value.sum(axis=0)
        two[which] += more
        place[which] += size
        counts: np.ndarray = more > NEGLIGIBLE * two[which]
        return counts

    active, size, rest = np.flatnonzero(length > 0), FEW, []
    while active.size:
        whole = place[active] + size <= length[active]
        rest.append(active[~whole])
        active = active[whole]
        active = active[add(active, size)]
        size = size if place[active].max(initial=0) <= FEW else 2 * size
    left = np.concatenate([np.zeros(0, dtype=int), *rest])
    while size >= 1:  # what remains is less than the last size
        which = left[length[left] - place[left] >= size]
        if which.size:
            add(which, size)
        size //= 2
    return one, two


@cache
def whole_rule(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers and weights (node, 1) for sums over 0, 1, ..., size - 1.

    Of more than a few, the rule is exact for polynomials up to a degree.
    """
    if size <= 2 * FEW:
        return np.arange(float(size))[:, None], np.ones((size, 1))
    legendre = np.polynomial.legendre
    step = 2.0 / (size - 1)
    nodes = np.round(0.5 * (size - 1) * (1 - np.cos(np.linspace(0, np.pi, NODES))))
    if size <= 2**12:
        sums = legendre.legvander(step * np.arange(size) - 1, NODES - 1).sum(axis=0)
    else:  # Euler and Maclaurin; the next term is beyond rounding
        order = np.arange(NODES)
        even = order % 2 == 0
        sums = np.where(even, 1.0 + step / 12 * order * (order + 1), 0.0)
        sums[0] += 2.0 / step
    weights = np.linalg.solve(legendre.legvander(step * nodes - 1, NODES - 1).T, sums)
    return nodes[:, None], weights[:, None]


def _integrals(tail: Tail, length: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integrals of a tail over distances up to ``length``, and of twice the distance times it."""
    one, two = np.zeros(length.shape), np.zeros(length.shape)
    unit, active = first_distance(tail, length, width)
    for j, (a, b) in enumerate(itertools.pairwise(EDGES)):
        if not active.size:
            break
        near, far = a * unit[active], np.minimum(b * unit[active], length[active])
        last = far >= length[active]
        added = np.zeros((2, active.size))
        for which, over in ((np.flatnonzero(~last), _inner), (np.flatnonzero(last), _up_to_end)):
            if which.size:
                added[:, which] = over(tail, active[which], near[which], far[which], j)
        one[active] += added[0]
        two[active] += added[1]
        active = active[~last & (added[1] > NEGLIGIBLE * two[active]) & np.isfinite(far)]
    return one, two


def _inner(tail: Tail, which: np.ndarray, near: np.ndarray, far: np.ndarray, j: int) -> np.ndarray:
    """Integrals (2, number) between two distances, of the interval at position ``j``."""
    v, w = rule(NODES)
    if j <= DOUBLED:
        return _over(tail, which, near + v * (far - near), w * (far - near))
    r = near * (far / near) ** v
    return _over(tail, which, r, w * r * np.log(far / near))


def _up_to_end(
    tail: Tail, which: np.ndarray, near: np.ndarray, far: np.ndarray, j: int
) -> np.ndarray:
    """As :func:`_inner`, of an interval that ends with the distribution.

    A tail may be like a power of the distance to the end, or change at any scale of it: where two
    rules differ, intervals become shorter by a ratio towards the end.
    """
    if j > DOUBLED:
        return _inner(tail, which, near, far, j)
    found, rough = (
        _over(
            tail,
            which,
            far - (far - near) * v**END_POWER,
            END_POWER * w * v ** (END_POWER - 1) * (far - near),
        )
        for v, w in (rule(END_NODES), rule(NODES))
    )
    unsure = np.flatnonzero((np.abs(found - rough) > CLOSE * found).any(axis=0))
    if not unsure.size:
        return found
    found[:, unsure], v_w = 0.0, rule(NODES)
    left = far - near
    while unsure.size:
        length = (1 - 1 / SHRINK) * left[unsure]
        r = far[unsure] - left[unsure] + v_w[0] * length
        added = _over(tail, which[unsure], r, v_w[1] * length)
        found[:, unsure] += added
        left[unsure] /= SHRINK
        unsure = unsure[(added > NEGLIGIBLE * found[:, unsure]).any(axis=0)]
    return found


def _over(tail: Tail, which: np.ndarray, r: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sums (2, number) over nodes (node, number) of a tail, and of twice the distance times it."""
    value = tail(r, which) * weight
    found: np.ndarray = np.stack([value.sum(axis=0), (2 * r * value).sum(axis=0)])
    return found


def first_distance(
    tail: Tail, length: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A distance (number,) at which each tail has fallen by some part, and which have a tail."""
    unit = np.minimum(width, length)
    start = np.zeros(length.shape)
    active = np.flatnonzero(length > 0)
    start[active] = tail(np.zeros(active.size), active)
    active = np.flatnonzero(start > 0)
    for shrink in (True, False):
        moving = active
        for _ in range(MOST_STEPS):
            share = tail(unit[moving], moving) / start[moving]
            if shrink:
                moving = moving[share < LEAST_SHARE]
                unit[moving] /= 2.0
            else:
                moving = moving[(share > MOST_SHARE) & (unit[moving] < length[moving])]
                unit[moving] = np.minimum(2.0 * unit[moving], length[moving])
            if not moving.size:
                break
    return unit, active

"""Modes of the predictive density of each row, and the probability about each.

A mode is a local maximum of sufficient prominence: the minimum of the density between it and a
higher maximum is lower than it by a share of its height. The minimum between two neighbouring modes
divides their probability. The probability of a mode that has too little is added to that of the
neighbour from which the higher minimum divides it. An atom is a mode with its own probability.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import concatenated
from bayes_moe.prediction.quantiles import density_cdf
from bayes_moe.prediction.turning_points import TurningPoints, refined, turning_points

PILOT_DRAWS = 100
"""Draws whose density is searched for maxima; these are then refined with all draws."""

MOST_ROWS = 1024
"""Rows that are searched together: bounds memory where there are few draws."""

LEAST_PROMINENCE = 1e-9
"""Prominence that rounding may give to a point of a plateau."""


def searched_turning_points(mixture: Mixture) -> np.ndarray:
    """Return the turning points (obs, maximum, 4) of at most ``PILOT_DRAWS`` draws, as a table.

    Those of a mixture with atoms are of its part with a density.
    """
    rows = mixture.log_weights.shape[-1]
    return turning_points(mixture.density_part).table(rows) if rows else np.zeros((0, 1, 4))


def predictive_turning_points(mixture: Mixture, searched: np.ndarray) -> TurningPoints:
    """Return all maxima of each row's density over all draws, and the minima between them.

    ``searched`` are those of some draws, or of all if there are so few.
    """
    found = TurningPoints.of_table(searched)
    return found if len(mixture.log_weights) <= PILOT_DRAWS else refined(found, mixture)


def by_rows(
    function: Callable[..., np.ndarray], mixture: Mixture, *beside: np.ndarray
) -> np.ndarray:
    """Return a function's values (obs, item, ...), found for some rows at a time.

    Its arguments are a mixture and, for its rows, each array (obs, ...).
    """
    rows = mixture.log_weights.shape[-1]
    starts = range(0, max(rows, 1), MOST_ROWS)
    index = [np.arange(start, min(start + MOST_ROWS, rows)) for start in starts]
    return concatenated([function(mixture.take_rows(i), *(a[i] for a in beside)) for i in index])


def density_modes(
    mixture: Mixture,
    searched: np.ndarray,
    prominence: float,
    most: int,
    min_probability: float,
) -> np.ndarray:
    """Return location, density and probability (obs, mode, 3) of at most ``most`` modes a row.

    The most probable is first; where there are fewer, the others are NaN. ``searched`` are turning
    points of some draws. Atoms are modes if they have at least ``min_probability``; their density
    is their probability.
    """
    if not mixture.log_weights.shape[-1]:
        return np.zeros((0, most, 3))
    found = _of_density(mixture.density_part, searched, prominence, most, min_probability)
    if not mixture.measure.atoms:
        return found
    mass = mixture.atom_masses.T
    values = np.stack(np.broadcast_arrays(np.array(mixture.measure.atoms), mass, mass), axis=-1)
    atoms = np.where(mass[..., None] >= min_probability, values, np.nan)
    every = np.concatenate([atoms, found], axis=1)
    order = np.argsort(-every[..., 2], axis=1, kind="stable")[:, :most]
    return np.take_along_axis(every, order[..., None], axis=1)


def _of_density(
    mixture: Mixture,
    searched: np.ndarray,
    prominence: float,
    most: int,
    min_probability: float,
) -> np.ndarray:
    """Return the modes (obs, mode, 3) of a mixture's density; see :func:`density_modes`."""
    turning = predictive_turning_points(mixture, searched)
    prominence = max(prominence, LEAST_PROMINENCE)
    below = np.ones(turning.row.size)
    inner = np.flatnonzero(~turning.last)
    below[inner] = density_cdf(mixture.take_rows(turning.row[inner]), turning.gap[inner])
    total = mixture.weights.sum(axis=1).mean(axis=0) - mixture.atom_masses.sum(axis=0)
    height, gap_height = turning.height, turning.gap_height
    modes = np.full((mixture.log_weights.shape[-1], most, 3), np.nan)
    ends = np.flatnonzero(turning.last) + 1
    for start, end in itertools.pairwise([0, *ends]):
        row, where = turning.row[start], slice(start, end)
        kept, gaps = _prominent(height[where], gap_height[where][:-1], prominence)
        edges = np.concatenate([[0.0], below[where][gaps], total[row : row + 1]])
        kept, edges = _probable(kept, edges, gap_height[where][gaps], min_probability)
        probability = np.diff(edges)
        order = np.argsort(-probability, kind="stable")[:most]
        with np.errstate(over="ignore"):
            density = np.exp(height[where][kept])
        found = np.stack([turning.mode[where][kept], density, probability], axis=-1)
        modes[row, : len(order)] = found[order]
    return modes


def _prominent(
    height: np.ndarray, gap_height: np.ndarray, prominence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of the prominent ones of a row's maxima, and of the minima between these.

    Arguments are log densities. Of equal maxima the first counts as higher.
    """
    kept = []
    for j, own in enumerate(height):
        left = np.flatnonzero(height[:j] >= own)
        right = np.flatnonzero(height[j + 1 :] > own)
        sides = [gap_height[left[-1] : j]] if left.size else []
        sides += [gap_height[j : j + 1 + right[0]]] if right.size else []
        base = max((side.min() for side in sides), default=-np.inf)
        if -np.expm1(base - own) >= prominence:
            kept.append(j)
    gaps = [int(a + np.argmin(gap_height[a:b])) for a, b in itertools.pairwise(kept)]
    return np.array(kept, dtype=int), np.array(gaps, dtype=int)


def _probable(
    kept: np.ndarray, edges: np.ndarray, gap_height: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a row's modes of at least some probability, and the cdf at the ends of each."""
    while len(kept) > 1:
        probability = np.diff(edges)
        j = int(np.argmin(probability))
        if probability[j] >= least:
            break
        is_last = j == len(gap_height)
        gap = j if j == 0 or (not is_last and gap_height[j] > gap_height[j - 1]) else j - 1
        kept = np.delete(kept, j)
        edges, gap_height = np.delete(edges, gap + 1), np.delete(gap_height, gap)
    return kept, edges

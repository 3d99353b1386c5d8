"""Modes of the predictive density of each row, and the probability about each.

The density is read on a grid between extreme quantiles of the row. A mode is a local maximum that
stands out: the least density between it and a higher one is lower than it by more than a part of
it. Between neighbouring modes the least density divides them; what lies between two such divides is
a mode's probability.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bayes_moe.model.evaluation import Mixture
from bayes_moe.prediction.quantiles import cdf, quantiles

POINTS = 400
TAIL = 1e-3
MOST_DRAWS = 200
MOST_WHOLE = 2000
"""Longest grid of whole numbers."""


@dataclass(frozen=True)
class Peaks:
    """Modes of some rows, each array (obs, mode), the most probable first; NaN where are fewer."""

    location: np.ndarray
    density: np.ndarray
    probability: np.ndarray


def peaks(mixture: Mixture, prominence: float, most: int) -> Peaks:
    """Modes of the predictive density of each row of a mixture of many draws."""
    samples = len(mixture.log_weights)
    few = np.unique(np.linspace(0, samples - 1, min(MOST_DRAWS, samples)).astype(int))
    mixture = mixture.take_samples(few)
    grid = _grid(mixture)  # (point, obs)
    density = np.stack([_density(mixture, y) for y in grid])
    found = np.full((3, grid.shape[1], most), np.nan)
    for i in range(grid.shape[1]):
        at, divides = _stand_out(density[:, i], prominence)
        edges = np.concatenate([[-np.inf], grid[divides, i], [np.inf]])
        one = mixture.take_rows(np.array([i]))
        below = np.array([_below(one, edge) for edge in edges])
        shares = np.diff(below)
        tops = [_top(grid[:, i], density[:, i], j, whole=mixture.discrete) for j in at]
        order = np.argsort(-shares, kind="stable")[:most]
        for place, values in enumerate((*np.array(tops).T, shares)):
            found[place, i, : len(order)] = values[order]
    return Peaks(*found)


def _grid(mixture: Mixture) -> np.ndarray:
    """Points (point, obs) at which the density is read."""
    ends = quantiles(mixture, np.array([TAIL, 1 - TAIL]))  # (obs, 2)
    if not mixture.discrete:
        margin = 0.05 * (ends[:, 1] - ends[:, 0])
        found: np.ndarray = np.linspace(ends[:, 0] - margin, ends[:, 1] + margin, POINTS)
        return found
    low = np.maximum(ends[:, 0] - 1, 0)
    length = int(min(np.max(ends[:, 1] - low) + 2, MOST_WHOLE))
    return low + np.arange(length)[:, None]


def _density(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Predictive density (obs,)."""
    found: np.ndarray = np.exp(mixture.log_density(y)).mean(axis=0)
    return found


def _below(one: Mixture, edge: float) -> float:
    """Probability of one row's response up to an edge."""
    if not np.isfinite(edge):
        return float(edge > 0)
    return float(cdf(one, np.array([edge]))[0])


def _stand_out(density: np.ndarray, prominence: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the modes of a density on a grid, and of the least density between neighbours."""
    from scipy.signal import find_peaks

    padded = np.concatenate([[0.0], density, [0.0]])
    at, kept = find_peaks(padded, prominence=0.0, plateau_size=1)
    at = at[kept["prominences"] >= prominence * padded[at]] - 1
    pairs = itertools.pairwise(at)
    divides = [int(a + density[a : b + 1].argmin()) for a, b in pairs]
    return at, np.array(divides, dtype=int)


def _top(y: np.ndarray, density: np.ndarray, j: int, *, whole: bool) -> tuple[float, float]:
    """Place and height of a maximum, of the parabola through it and its neighbours."""
    if whole or j in (0, len(y) - 1):
        return float(y[j]), float(density[j])
    left, here, right = np.log(np.maximum(density[j - 1 : j + 2], 1e-300))
    bend = left - 2 * here + right
    shift = 0.0 if bend >= 0 else 0.5 * (left - right) / bend
    shift = float(np.clip(shift, -0.5, 0.5))
    height = here - 0.25 * (left - right) * shift
    return float(y[j] + shift * (y[j + 1] - y[j])), float(np.exp(height))

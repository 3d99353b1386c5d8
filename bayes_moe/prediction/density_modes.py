"""Modes of the predictive density of each row, and the probability about each.

The density is evaluated on a grid between extreme quantiles of the row. A mode is a local maximum
of sufficient prominence: the minimum of the density between it and a higher maximum is lower than
it by a share of its height. The minimum between two neighbouring modes divides their probability.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bayes_moe.model.evaluation import Mixture
from bayes_moe.prediction.quantiles import cdf, quantiles

POINTS = 400
TAIL = 1e-3
MAX_DRAWS = 200
MAX_WHOLE_POINTS = 2000
"""Longest grid of whole numbers."""


@dataclass(frozen=True)
class DensityModes:
    """Modes of some rows (obs, mode), the most probable first, padded with NaN."""

    location: np.ndarray
    density: np.ndarray
    probability: np.ndarray


def density_modes(mixture: Mixture, prominence: float, most: int) -> DensityModes:
    """Return at most ``most`` modes of the predictive density of each row."""
    samples = len(mixture.log_weights)
    subset = np.unique(np.linspace(0, samples - 1, min(MAX_DRAWS, samples)).astype(int))
    mixture = mixture.take_samples(subset)
    grid = _grid(mixture)  # (point, obs)
    density = np.stack([_density(mixture, y) for y in grid])
    modes = np.full((3, grid.shape[1], most), np.nan)
    for i in range(grid.shape[1]):
        maxima, minima = _prominent_maxima(density[:, i], prominence)
        edges = np.concatenate([[-np.inf], grid[minima, i], [np.inf]])
        row = mixture.take_rows(np.array([i]))
        probability = np.diff(np.array([_probability_below(row, edge) for edge in edges]))
        peaks = [
            _refined_maximum(grid[:, i], density[:, i], j, whole=mixture.blocks[0].family.discrete)
            for j in maxima
        ]
        order = np.argsort(-probability, kind="stable")[:most]
        for quantity, values in enumerate((*np.array(peaks).T, probability)):
            modes[quantity, i, : len(order)] = values[order]
    return DensityModes(*modes)


def _grid(mixture: Mixture) -> np.ndarray:
    """Return the points (point, obs) at which the density is evaluated."""
    ends = quantiles(mixture, np.array([TAIL, 1 - TAIL]))  # (obs, 2)
    if not mixture.blocks[0].family.discrete:
        margin = 0.05 * (ends[:, 1] - ends[:, 0])
        grid: np.ndarray = np.linspace(ends[:, 0] - margin, ends[:, 1] + margin, POINTS)
        return grid
    low = np.maximum(ends[:, 0] - 1, 0)
    # Rows share the number of points, so that one array has all grids.
    length = int(min(np.max(ends[:, 1] - low) + 2, MAX_WHOLE_POINTS))
    return low + np.arange(length)[:, None]


def _density(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Predictive density (obs,)."""
    density: np.ndarray = np.exp(mixture.log_density(y)).mean(axis=0)
    return density


def _probability_below(row: Mixture, edge: float) -> float:
    """Probability of one row's response up to an edge, which may be infinite."""
    if not np.isfinite(edge):
        return float(edge > 0)
    return float(cdf(row, np.array([edge]))[0])


def _prominent_maxima(density: np.ndarray, prominence: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the modes of a density on a grid, and of the minima between neighbours."""
    from scipy.signal import find_peaks

    # find_peaks does not report a maximum at an end of its input.
    padded = np.concatenate([[0.0], density, [0.0]])
    maxima, properties = find_peaks(padded, prominence=0.0, plateau_size=1)
    maxima = maxima[properties["prominences"] >= prominence * padded[maxima]] - 1
    minima = [int(a + density[a : b + 1].argmin()) for a, b in itertools.pairwise(maxima)]
    return maxima, np.array(minima, dtype=int)


def _refined_maximum(
    y: np.ndarray, density: np.ndarray, j: int, *, whole: bool
) -> tuple[float, float]:
    """Location and height of the parabola through a maximum and its two neighbours."""
    if whole or j in (0, len(y) - 1):
        return float(y[j]), float(density[j])
    # The parabola of the log density is exact for a normal; the floor avoids log(0).
    left, centre, right = np.log(np.maximum(density[j - 1 : j + 2], 1e-300))
    curvature = left - 2 * centre + right
    shift = 0.0 if curvature >= 0 else 0.5 * (left - right) / curvature
    shift = float(np.clip(shift, -0.5, 0.5))
    height = centre - 0.25 * (left - right) * shift
    return float(y[j] + shift * (y[j + 1] - y[j])), float(np.exp(height))

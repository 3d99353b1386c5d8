"""Starts of models whose experts are a Markov chain: partitions into stretches of time.

Rows are in the order of time, one series after the other. Experts of a chain mostly stay for some
rows, so that partitions of rows one by one are joined by those of stretches:

``"segments"``
    Stretches of random lengths, each with a random expert.
``"windows"``
    Clusters of what moving averages say of each row's neighbourhood: of the residuals of one
    regression, their squares, and their products with the features.
``"stretches"``
    Each expert is fitted to one random stretch; a row is assigned to the expert of the least moving
    average of squared residuals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LEAST_LENGTH = 5
"""Least expected rows of a stretch."""


def _segments(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    length = _length(len(y), k, rng)
    changes = rng.random(len(y)) < 1 / length
    moves = np.where(changes, rng.integers(1, k, len(y)), 0)
    return (rng.integers(k) + np.cumsum(moves)) % k


def _windows(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.cluster.vq import kmeans2

    residual = y - _design(x) @ np.linalg.lstsq(_design(x), y, rcond=1e-8)[0]
    products = (residual[:, :, None] * x[:, None]).reshape(len(x), -1)
    parts = [residual, np.abs(residual), products]
    columns = _averages(np.column_stack(parts), _length(len(y), k, rng))
    sd = columns.std(axis=0)
    columns = (columns - columns.mean(axis=0))[:, sd > 0] / sd[sd > 0]
    columns *= np.exp(rng.uniform(-1.0, 1.0, columns.shape[1]))
    if columns.shape[1] == 0 or len(np.unique(columns, axis=0)) < k:
        return _segments(x, y, k, rng)
    label: np.ndarray = kmeans2(columns, k, minit="++", rng=rng, iter=10, missing="warn")[1]
    return label


def _stretches(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    length = _length(len(y), k, rng)
    size = min(len(y), max(int(length), _design(x).shape[1] + 3))
    square = np.empty((len(y), k))
    for j in range(k):
        first = rng.integers(len(y) - size + 1)
        at = slice(first, first + size)
        coef = np.linalg.lstsq(_design(x)[at], y[at], rcond=1e-8)[0]
        away = ((y - _design(x) @ coef) ** 2).sum(axis=1)
        width = away[at].mean() + 1e-6
        square[:, j] = away / width + y.shape[1] * np.log(width)
    return _averages(square, length).argmin(axis=1)


def _design(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])


def _length(rows: int, k: int, rng: np.random.Generator) -> float:
    """Random expected length of a stretch."""
    longest = max(rows / (4 * k), LEAST_LENGTH + 1)
    return float(np.exp(rng.uniform(np.log(LEAST_LENGTH), np.log(longest))))


def _averages(columns: np.ndarray, length: float) -> np.ndarray:
    """Moving averages (obs, column) over about so many rows about each."""
    half = max(1, int(length / 2))
    sums = np.concatenate([np.zeros((1, columns.shape[1])), np.cumsum(columns, axis=0)])
    rows = np.arange(len(columns))
    low, high = np.maximum(rows - half, 0), np.minimum(rows + half + 1, len(columns))
    averages: np.ndarray = (sums[high] - sums[low]) / (high - low)[:, None]
    return averages


STRETCHES: dict[str, Callable[..., np.ndarray]] = {
    "segments": _segments,
    "windows": _windows,
    "stretches": _stretches,
}

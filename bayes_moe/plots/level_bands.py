"""Highest-density sets along a feature as bands that begin, end, divide and join."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Pairs = list[tuple[int, int]]


def bands_of(bounds: np.ndarray) -> np.ndarray:
    """Return bands (band, point, 2) that cover intervals (point, interval, 2) along a grid.

    NaN is no interval. An interval continues the band whose interval at the point before overlaps
    it the most. A band that divides or joins others meets them at the point before or after.
    """
    pieces = [rows[np.isfinite(rows).all(axis=1)] for rows in bounds]
    bands: list[np.ndarray] = []
    current: list[int] = []
    for i, here in enumerate(pieces):
        before = pieces[i - 1] if i else here[:0]
        pairs = _pairs(before, here)
        follows = {b: a for a, b in pairs}
        owners = []
        for b in range(len(here)):
            if b not in follows:
                bands.append(np.full((len(pieces), 2), np.nan))
                _touch(bands[-1], i - 1, here[b], before, [(a, here[c]) for a, c in pairs])
            owners.append(current[follows[b]] if b in follows else len(bands) - 1)
            bands[owners[-1]][i] = here[b]
        for a in {*range(len(before))} - {a for a, _ in pairs}:
            _touch(bands[current[a]], i, before[a], here, [(b, before[c]) for c, b in pairs])
        current = owners
    return np.array(bands).reshape(-1, len(pieces), 2)


def by_interval(bounds: np.ndarray) -> np.ndarray:
    """Return bands (band, point, 2) of intervals (point, interval, 2) that have no order in x."""
    return np.moveaxis(bounds, 1, 0)


def _pairs(before: np.ndarray, here: np.ndarray) -> Pairs:
    """Return which intervals (interval, 2) continue which, those with the most in common first."""
    low = np.maximum(before[:, None, 0], here[None, :, 0])
    common = np.minimum(before[:, None, 1], here[None, :, 1]) - low
    width = np.maximum(np.diff(before, axis=1), np.diff(here, axis=1).T)
    pairs: Pairs = []
    for flat in np.argsort(-common, axis=None, kind="stable"):
        a, b = divmod(int(flat), len(here))
        # A narrow band that rises fast has no overlap, but is near.
        near = common[a, b] >= -width[a, b]
        if near and all(a != c and b != d for c, d in pairs):
            pairs.append((a, b))
    return pairs


def _touch(
    band: np.ndarray,
    point: int,
    own: np.ndarray,
    others: np.ndarray,
    taken: Sequence[tuple[int, np.ndarray]],
) -> None:
    """Let a band begin or end at the edge of an interval of ``others`` that goes on elsewhere.

    ``taken`` has the positions of such intervals, and the interval that each goes on to.
    """
    for j, partner in taken:
        if others[j, 0] <= own[1] and own[0] <= others[j, 1]:
            band[point] = others[j, 0] if own[0] < partner[0] else others[j, 1]
            return

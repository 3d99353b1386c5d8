"""Roots of many functions at once, each between two points where its sign differs.

Steps are of the secant method. Where such a step leaves the bracket, or the last one did not halve
the function, the bracket is divided: at its arithmetic middle and at the middle of the ordered
doubles in turn, so that a root is found whatever its size in comparison with the bracket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_STEPS = 300
STEP_GROWTH = 8.0
"""Factor of successive steps away from the known end of a bracket."""

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Values at points (n,), one for each of the functions with given indices (n,)."""


@dataclass
class Brackets:
    """Points (n,) where each function is negative, and where it is not; infinite if unknown.

    ``width`` (n,) are positive lengths of the first steps away from a known end.
    """

    negative: np.ndarray
    positive: np.ndarray
    width: np.ndarray


def find_roots(
    function: Function,
    brackets: Brackets,
    start: np.ndarray,
    slope: np.ndarray | None = None,
    tolerance: float = 1e-13,
) -> np.ndarray:
    """Return a root (n,) of each function, with ``|value| <= tolerance`` or exact to rounding.

    ``start`` (n,) are first points, strictly inside the brackets, and ``slope`` (n,) the
    derivatives there, if these are known. At a jump the point before it or after it is returned.
    """
    negative, positive = brackets.negative.copy(), brackets.positive.copy()
    width = brackets.width.copy()
    y = np.array(start, dtype=float)
    slope = np.full_like(y, np.nan) if slope is None else slope.copy()
    active = np.arange(y.size)
    value = np.asarray(function(y, active))
    _move_ends(negative, positive, y, value, active)
    stalled = np.zeros(y.size, dtype=bool)
    for step in range(MOST_STEPS):
        low, high = np.minimum(negative, positive), np.maximum(negative, positive)
        active = active[np.abs(value[active]) > tolerance]
        active = active[~_is_narrow(low[active], high[active])]
        if not active.size:
            break
        a, below, above = active, low[active], high[active]
        with np.errstate(all="ignore"):
            trial = y[a] - value[a] / slope[a]
        inside = (trial > below) & (trial < above) & ~stalled[a]
        trial = np.where(inside, trial, _middle(below, above, width[a], step % 2 == 0))
        width[a] = np.where(inside, width[a], STEP_GROWTH * width[a])
        found = np.asarray(function(trial, a))
        with np.errstate(all="ignore"):
            slope[a] = (found - value[a]) / (trial - y[a])
            stalled[a] = ~(np.abs(found) <= 0.5 * np.abs(value[a]))
        y[a], value[a] = trial, found
        _move_ends(negative, positive, y, value, a)
    return y


def _move_ends(
    negative: np.ndarray, positive: np.ndarray, y: np.ndarray, value: np.ndarray, at: np.ndarray
) -> None:
    """Replace the end of each bracket that has the sign of the new value."""
    is_negative = value[at] < 0
    negative[at[is_negative]] = y[at[is_negative]]
    positive[at[~is_negative]] = y[at[~is_negative]]


def _is_narrow(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether no double is between two ends, or they differ by rounding only."""
    return (high <= np.nextafter(low, np.inf)) | (
        high - low <= 2 * np.finfo(float).eps * np.minimum(np.abs(low), np.abs(high))
    )


def _middle(low: np.ndarray, high: np.ndarray, width: np.ndarray, arithmetic: bool) -> np.ndarray:
    """Return a point inside each bracket; beyond the known end, if the other is infinite."""
    largest = np.finfo(float).max
    with np.errstate(all="ignore"):
        if arithmetic:
            middle = low + 0.5 * (high - low)
        else:
            middle = _from_order(_to_order(low) // 2 + _to_order(high) // 2)
        middle = np.where(np.isinf(high), np.minimum(low + width, largest), middle)
        middle = np.where(np.isinf(low), np.maximum(high - width, -largest), middle)
    strictly = (middle > low) & (middle < high)
    return np.where(strictly, middle, np.nextafter(low, high))


def _to_order(x: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of doubles, neighbours for neighbours."""
    bits = np.ascontiguousarray(x).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _from_order(order: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_to_order`."""
    bits = np.where(order < 0, np.int64(-(2**63)) - order, order)
    return np.ascontiguousarray(bits).view(np.float64)

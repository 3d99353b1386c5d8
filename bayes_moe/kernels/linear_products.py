"""Products of features with coefficients, and of scores with features, for a chunk of rows."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED
from bayes_moe.kernels.mixture import row_of


@register_jitable(fastmath=REORDERED)
def fill(numbers: Any, value: float) -> None:
    """Set all numbers of an array to a value."""
    for i in range(numbers.size):
        numbers[i] = value


@register_jitable(fastmath=REORDERED)
def sum_of(numbers: Any) -> float:
    """Sum of an array, in any order."""
    total = 0.0
    for i in range(numbers.size):
        total += numbers[i]
    return total


@register_jitable(fastmath=REORDERED)
def predict_rows(
    eta: Any, coefs: Any, terms: int, rows: int, features: Any, width: int, stride: int
) -> None:
    """Add ``coefs . features`` to ``eta`` (row of predictors, obs), for a chunk of ``width`` rows.

    Features of one term are ``stride`` numbers apart. The loop takes two predictors and three
    features at a time, so that each number that is loaded serves several products; with more
    arrays LLVM drops its alias checks, and the loop no longer vectorises.
    """
    row = 0
    while row < rows:
        pair = row + 1 < rows
        e0, c0 = row_of(eta, row, width), coefs[row * terms : (row + 1) * terms]
        e1, c1 = e0, c0
        if pair:
            e1, c1 = row_of(eta, row + 1, width), coefs[(row + 1) * terms : (row + 2) * terms]
        t = 0
        while t < terms:
            f0 = features[t * stride : t * stride + width]
            if pair and t + 3 <= terms:
                f1 = features[(t + 1) * stride : (t + 1) * stride + width]
                f2 = features[(t + 2) * stride : (t + 2) * stride + width]
                a0, a1, a2, b0, b1, b2 = c0[t], c0[t + 1], c0[t + 2], c1[t], c1[t + 1], c1[t + 2]
                for i in range(width):
                    e0[i] += a0 * f0[i] + a1 * f1[i] + a2 * f2[i]
                    e1[i] += b0 * f0[i] + b1 * f1[i] + b2 * f2[i]
                t += 3
            else:
                a0, b0 = c0[t], c1[t]
                for i in range(width):
                    e0[i] += a0 * f0[i]
                if pair:
                    for i in range(width):
                        e1[i] += b0 * f0[i]
                t += 1
        row += 2 if pair else 1


@register_jitable(fastmath=REORDERED)
def gather_sums(
    score: Any, slopes: Any, terms: int, rows: int, features: Any, width: int, stride: int
) -> None:
    """Add ``features . score`` to ``slopes`` for a chunk of rows; see :func:`predict_rows`."""
    row = 0
    while row < rows:
        pair = row + 1 < rows
        g = row * terms
        s0 = row_of(score, row, width)
        s1 = row_of(score, row + 1, width) if pair else s0
        t = 0
        while t < terms:
            f0 = features[t * stride : t * stride + width]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
            if t + 4 <= terms:
                f1 = features[(t + 1) * stride : (t + 1) * stride + width]
                f2 = features[(t + 2) * stride : (t + 2) * stride + width]
                f3 = features[(t + 3) * stride : (t + 3) * stride + width]
                for i in range(width):
                    a0 += s0[i] * f0[i]
                    a1 += s0[i] * f1[i]
                    a2 += s0[i] * f2[i]
                    a3 += s0[i] * f3[i]
                    b0 += s1[i] * f0[i]
                    b1 += s1[i] * f1[i]
                    b2 += s1[i] * f2[i]
                    b3 += s1[i] * f3[i]
                slopes[g + t + 1] += a1
                slopes[g + t + 2] += a2
                slopes[g + t + 3] += a3
                if pair:
                    slopes[g + terms + t + 1] += b1
                    slopes[g + terms + t + 2] += b2
                    slopes[g + terms + t + 3] += b3
            else:
                for i in range(width):
                    a0 += s0[i] * f0[i]
                    b0 += s1[i] * f0[i]
            slopes[g + t] += a0
            if pair:
                slopes[g + terms + t] += b0
            t += 4 if t + 4 <= terms else 1
        row += 2 if pair else 1

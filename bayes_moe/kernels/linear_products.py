"""Products of features with coefficients, and of scores with features, for a chunk of rows."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.compile import DOUBLE_SIZE, REORDERED
from bayes_moe.kernels.family_rows import WIDTH
from bayes_moe.kernels.mixture import row_of
from bayes_moe.kernels.tiles import LANES, tile_1, tile_2, tile_3, tile_4


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

    Features of one term are ``stride`` numbers apart.
    """
    eta_at, coefs_at, features_at = eta.ctypes.data, coefs.ctypes.data, features.ctypes.data
    for row in range(0, rows, 4):
        outputs, out, by = min(4, rows - row), eta_at + row * WIDTH * DOUBLE_SIZE, coefs_at
        by += row * terms * DOUBLE_SIZE
        for i in range(0, width, LANES):
            to, of = out + i * DOUBLE_SIZE, features_at + i * DOUBLE_SIZE
            if outputs == 4:
                tile_4(to, by, of, terms, WIDTH, stride)
            elif outputs == 3:
                tile_3(to, by, of, terms, WIDTH, stride)
            elif outputs == 2:
                tile_2(to, by, of, terms, WIDTH, stride)
            else:
                tile_1(to, by, of, terms, WIDTH, stride)


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

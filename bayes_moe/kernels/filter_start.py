"""Stationary distributions of transition probabilities, and slopes through them, for filters."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

TINY = 1e-300
"""Least probability that a probability is divided by."""


@register_jitable
def stationary(moves: Any, row: int, reduced: Any, shares: Any) -> None:
    """Fill ``shares`` (expert,) with the stationary distribution of a row's transition matrix.

    ``reduced`` (from, to) is room.
    """
    experts = shares.size
    for j in range(experts):
        for k in range(experts):
            reduced[j, k] = moves[j * experts + k, row]
    for n in range(experts - 1, 0, -1):
        leaving = 0.0
        for k in range(n):
            leaving += reduced[n, k]
        leaving = max(leaving, TINY)
        for j in range(n):
            reduced[j, n] /= leaving
            for k in range(n):
                reduced[j, k] += reduced[j, n] * reduced[n, k]
    shares[0] = 1.0
    total = 1.0
    for n in range(1, experts):
        share = 0.0
        for j in range(n):
            share += shares[j] * reduced[j, n]
        shares[n] = share
        total += share
    for n in range(experts):
        shares[n] = max(shares[n] / total, TINY)


@register_jitable
def stationary_slopes(
    moves: Any, row: int, shares: Any, by_shares: Any, matrix: Any, slopes: Any
) -> None:
    """Fill ``slopes`` (from * to,), by the gate's outputs at a row, through its stationary shares.

    ``by_shares`` (expert,) are the derivatives by ``shares`` (expert,), and are overwritten;
    ``matrix`` (from, to) is room.
    """
    experts = shares.size
    for j in range(experts):
        for k in range(experts):
            unit = 1.0 if j == k else 0.0
            matrix[j, k] = unit - moves[j * experts + k, row] + shares[k]
    solve(matrix, by_shares)
    for j in range(experts):
        mean = 0.0
        for k in range(experts):
            mean += moves[j * experts + k, row] * by_shares[k]
        for k in range(experts):
            share = shares[j] * moves[j * experts + k, row]
            slopes[j * experts + k] = share * (by_shares[k] - mean)


@register_jitable
def solve(matrix: Any, b: Any) -> None:
    """Put the solution of ``matrix @ x = b`` in place of ``b``; ``matrix`` is overwritten."""
    size = b.size
    for c in range(size):
        pivot = c
        for j in range(c + 1, size):
            if abs(matrix[j, c]) > abs(matrix[pivot, c]):
                pivot = j
        for k in range(size):
            matrix[c, k], matrix[pivot, k] = matrix[pivot, k], matrix[c, k]
        b[c], b[pivot] = b[pivot], b[c]
        for j in range(c + 1, size):
            factor = matrix[j, c] / matrix[c, c]
            for k in range(c, size):
                matrix[j, k] -= factor * matrix[c, k]
            b[j] -= factor * b[c]
    for c in range(size - 1, -1, -1):
        for k in range(c + 1, size):
            b[c] -= matrix[c, k] * b[k]
        b[c] /= matrix[c, c]

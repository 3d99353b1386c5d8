"""Forward and backward steps of a hidden Markov chain, with derivatives by its transitions' logits.

Arrays are flat, rows in the order of time: ``e`` (row, expert) are densities divided by their
largest in a row, ``p`` (row, from, to) transition probabilities into a row, ``alpha`` (row, expert)
filtered probabilities, and ``total`` (row,) the sums by which these were divided. The backward
steps replace densities by smoothed probabilities, and transitions by derivatives by their logits:
the probability of a move minus that of its origin times the transition probability.

The functions ``log_...`` do the same with logarithms in place of densities and probabilities, whose
products do not underflow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED


@register_jitable(fastmath=REORDERED)
def log_sum(values: Any, first: int, step: int, count: int) -> float:
    """``log(sum(exp(v)))`` of ``count`` numbers, each ``step`` after the last."""
    largest = values[first]
    for j in range(1, count):
        value = values[first + j * step]
        largest = value if value > largest else largest
    total = 0.0
    for j in range(count):
        total += math.exp(values[first + j * step] - largest)
    return largest + math.log(total)


@register_jitable(fastmath=REORDERED)
def forward(e: Any, p: Any, alpha: Any, total: Any, span: tuple[int, int], still: int) -> None:
    """Filtered probabilities of one series; ``alpha`` of its first row holds the first ones.

    With ``still`` the transitions are the same at all rows.
    """
    begin, end = span
    experts = alpha.size // total.size
    for t in range(begin, end):
        at = t * experts
        here = 0 if still else at * experts
        count = 0.0
        for k in range(experts):
            if t > begin:
                predicted = 0.0
                for j in range(experts):
                    predicted += alpha[at - experts + j] * p[here + j * experts + k]
            else:
                predicted = alpha[at + k]
            alpha[at + k] = predicted * e[at + k]
            count += alpha[at + k]
        for k in range(experts):
            alpha[at + k] /= count
        total[t] = count


@register_jitable(fastmath=REORDERED)
def backward(
    e: Any, p: Any, alpha: Any, total: Any, span: tuple[int, int], moves: Any, room: Any
) -> None:
    """Smoothed probabilities and derivatives of one series, after :func:`forward`.

    If ``moves`` (from, to) has elements, transitions are the same at all rows: the probabilities of
    moves are added there. ``room`` has space for two numbers an expert.
    """
    begin, end = span
    experts, still = alpha.size // total.size, moves.size > 0
    after, later = room[:experts], room[experts : 2 * experts]
    for k in range(experts):
        later[k] = 1.0
    for t in range(end - 1, begin - 1, -1):
        at = t * experts
        for k in range(experts):
            after[k] = e[at + k] * later[k] / total[t]
            e[at + k] = alpha[at + k] * later[k]
        if t == begin:
            break
        for j in range(experts):
            row = j * experts if still else (at + j) * experts
            from_here = 0.0
            for k in range(experts):
                from_here += p[row + k] * after[k]
            later[j] = from_here
            origin = alpha[at - experts + j]
            for k in range(experts):
                if still:
                    moves[row + k] += origin * p[row + k] * after[k]
                else:
                    p[row + k] *= origin * (after[k] - from_here)


@register_jitable(fastmath=REORDERED)
def log_forward(e: Any, p: Any, alpha: Any, total: Any, span: tuple[int, int], still: int) -> None:
    """As :func:`forward`, with logarithms; ``total`` are logarithms of sums."""
    begin, end = span
    experts = alpha.size // total.size
    terms = np.empty(experts)
    for t in range(begin, end):
        at = t * experts
        here = 0 if still else at * experts
        for k in range(experts):
            predicted = alpha[at + k]
            if t > begin:
                for j in range(experts):
                    terms[j] = alpha[at - experts + j] + p[here + j * experts + k]
                predicted = log_sum(terms, 0, 1, experts)
            alpha[at + k] = predicted + e[at + k]
        total[t] = log_sum(alpha, at, 1, experts)
        for k in range(experts):
            alpha[at + k] -= total[t]


@register_jitable(fastmath=REORDERED)
def log_backward(
    e: Any, p: Any, alpha: Any, total: Any, span: tuple[int, int], moves: Any, room: Any
) -> None:
    """As :func:`backward`, with logarithms; what it returns are none."""
    begin, end = span
    experts, still = alpha.size // total.size, moves.size > 0
    after, later, terms = room[:experts], room[experts : 2 * experts], np.empty(experts)
    for k in range(experts):
        later[k] = 0.0
    for t in range(end - 1, begin - 1, -1):
        at = t * experts
        for k in range(experts):
            after[k] = e[at + k] + later[k] - total[t]
            e[at + k] = math.exp(alpha[at + k] + later[k])
        if t == begin:
            break
        for j in range(experts):
            row = j * experts if still else (at + j) * experts
            for k in range(experts):
                terms[k] = p[row + k] + after[k]
            later[j] = log_sum(terms, 0, 1, experts)
            origin = alpha[at - experts + j]
            stay = math.exp(origin + later[j])
            for k in range(experts):
                move = math.exp(origin + terms[k])
                if still:
                    moves[row + k] += move
                else:
                    p[row + k] = move - math.exp(p[row + k]) * stay

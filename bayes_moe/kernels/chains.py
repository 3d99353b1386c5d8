"""The log likelihood of hidden Markov chains with its gradient, as one C function.

``log p(y) = log sum_z pi(z_1) f(y_1; z_1) prod_t P_t(z_t | z_{t-1}) f(y_t; z_t)``, the sum over all
paths of experts, by the forward recursion; its derivatives by the backward recursion: those by the
log densities are the smoothed probabilities of the experts, those by logits of transitions
``P(z_{t-1} = j, z_t = k | y) - P(z_{t-1} = j | y) P_t(k | j)``.

The recursions are those of :mod:`bayes_moe.kernels.markov`, which EM and predictions read, but in
place: rows are in memory one after the other, all exponentials are taken first, as vectors, and
derivatives by logits replace these, so that a gradient needs no array but its results. Those of
:mod:`bayes_moe.kernels.chain_adjoint` are of any function of the rows' densities.

References
----------
Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and the
business cycle. Econometrica, 57, 357-384.

Rabiner, L. R. (1989). A tutorial on hidden Markov models. Proceedings of the IEEE, 77, 257-286.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import float64, int64
from numba.extending import register_jitable

from bayes_moe.kernels.chain_steps import backward, forward, log_backward, log_forward, log_sum
from bayes_moe.kernels.compile import REORDERED, VERSION, c_function, doubles
from bayes_moe.kernels.elementary import exp
from bayes_moe.kernels.evaluation import whole_numbers
from bayes_moe.kernels.stationary import stationary, stationary_slopes

LEAST = -1e300
"""Log densities below are set to it: minus infinity minus itself is no number."""
STEEP = -300.0
"""Log transition probability, relative to the largest from an expert, down to which products of
probabilities do not underflow where they count: a predicted probability is at least the least
transition probability."""
STILL, STATIONARY = 1, 2
"""Whether transitions are the same at all rows, and whether the first probabilities are stationary;
added up."""


@register_jitable(fastmath=REORDERED)
def _relative(values: Any, width: int) -> bool:
    """Subtract the largest of each ``width`` numbers; whether any is then below ``STEEP``."""
    steep = False
    for first in range(0, values.size, width):
        largest = values[first]
        for k in range(1, width):
            value = values[first + k]
            largest = value if value > largest else largest
        for k in range(width):
            values[first + k] -= largest
            steep = steep or values[first + k] < STEEP
    return steep


@register_jitable(fastmath=REORDERED)
def _largest(e: Any, experts: int) -> float:
    """Subtract the largest log density of each row; return the sum of these."""
    value = 0.0
    for first in range(0, e.size, experts):
        largest = LEAST
        for k in range(experts):
            e[first + k] = LEAST if e[first + k] < LEAST else e[first + k]
            largest = e[first + k] if e[first + k] > largest else largest
        for k in range(experts):
            e[first + k] -= largest
        value += largest
    return value


@register_jitable(fastmath=REORDERED)
def _normalise(p: Any, experts: int, steep: bool) -> None:
    """Transition probabilities from logits whose largest is 0; their logarithms if ``steep``."""
    if steep:
        for first in range(0, p.size, experts):
            norm = log_sum(p, first, 1, experts)
            for k in range(experts):
                p[first + k] -= norm
        return
    for c in range(p.size):
        p[c] = exp(p[c])
    for first in range(0, p.size, experts):
        total = 0.0
        for k in range(experts):
            total += p[first + k]
        for k in range(experts):
            p[first + k] /= total


@register_jitable(fastmath=REORDERED)
def _first(p: Any, here: int, steps: Any, log_p: Any, steep: bool, kind: int) -> None:
    """Log probabilities of the experts at the first row of a series, whose transitions are here."""
    experts = log_p.size
    if kind & STATIONARY:
        last = (experts - 1) * experts * experts
        for c in range(experts * experts):
            steps[last + c] = p[here + c] if steep else math.log(p[here + c])
        stationary(steps, log_p, experts)
    else:
        for k in range(experts):
            log_p[k] = -math.log(experts)


@register_jitable(fastmath=REORDERED)
def _by_logits(p: Any, slopes: Any, first: int, experts: int, steep: bool) -> None:
    """Put derivatives by logits, of those by log probabilities (from, to), in place of ``p``."""
    for j in range(experts):
        total = 0.0
        for k in range(experts):
            total += slopes[j * experts + k]
        for k in range(experts):
            c = first + j * experts + k
            probability = math.exp(p[c]) if steep else p[c]
            p[c] = slopes[j * experts + k] - probability * total


@register_jitable(fastmath=REORDERED)
def _one_series(
    e: Any, p: Any, space: tuple[Any, Any, Any], span: tuple[int, int], moves: Any, steep: bool
) -> float:
    """Log likelihood of a series, less the largest log densities; ``space`` are work arrays."""
    alpha, total, room = space
    if steep:
        log_forward(e, p, alpha, total, span, moves.size)
        log_backward(e, p, alpha, total, span, moves, room)
    else:
        forward(e, p, alpha, total, span, moves.size)
        backward(e, p, alpha, total, span, moves, room)
    value = 0.0
    for t in range(span[0], span[1]):
        value += total[t] if steep else math.log(total[t])
    return value


@register_jitable(fastmath=REORDERED)
def _all_series(start: Any, e: Any, p: Any, kind: int, steep: bool) -> float:
    """Log likelihood of all series, less the largest log densities, with its derivatives."""
    rows = int(start[-1])
    experts = e.size // rows
    size, still = experts * experts, kind & STILL
    alpha, room, slopes = np.empty(e.size), np.empty(2 * experts), np.zeros(size)
    space = (alpha, np.empty(rows), room)
    steps, log_p = np.empty(experts * size), np.empty(experts)
    moves = np.zeros(size if still else 0)
    value = 0.0
    for s in range(start.size - 1):
        span = (int(start[s]), int(start[s + 1]))
        at = span[0] * experts
        here = 0 if still else at * experts
        if s == 0 or not still:
            _first(p, here, steps, log_p, steep, kind)
        for k in range(experts):
            alpha[at + k] = log_p[k] if steep else math.exp(log_p[k])
        value += _one_series(e, p, space, span, moves, steep)
        if kind & STATIONARY:
            for k in range(experts):
                room[k] = e[at + k]  # derivatives by the logarithms of the first probabilities
            stationary_slopes(steps, log_p, room, slopes, experts)
        if still:
            for c in range(size):
                moves[c] += slopes[c]
        else:
            _by_logits(p, slopes, here, experts, steep)
    if still:
        _by_logits(p, moves, 0, experts, steep)
    return value


def _chains() -> Any:
    version = VERSION

    def chains(sizes: int, starts: int, densities: int, logits: int) -> float:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        numbers = whole_numbers(sizes, 4)
        rows, experts, series, kind = numbers[0], numbers[1], numbers[2], numbers[3]
        start, e = doubles(starts, series + 1), doubles(densities, rows * experts)
        p = doubles(logits, experts * experts * (1 if kind & STILL else rows))
        steep = _relative(p, experts)
        value = _largest(e, experts)
        _normalise(p, experts, steep)
        if not steep:
            for c in range(e.size):
                e[c] = exp(e[c])
        return value + _all_series(start, e, p, kind, steep)

    return chains


@cache
def chains() -> Any:
    """The compiled ``(sizes, starts, densities, logits) -> log likelihood``, of addresses.

    ``sizes`` are the whole numbers of rows, experts and series, and the kind, a sum of
    ``STILL`` and ``STATIONARY``. The others are of the positions of the first rows of series
    and the number of rows (series + 1,), of log densities (row, expert), which smoothed
    probabilities replace, and of logits of transitions into each row (row, from, to), or (from,
    to) if they are the same at all rows, which derivatives replace. Rows are in the order of
    time, one series after the other. A stationary first distribution is that of the transitions
    at the first row of a series.
    """
    return c_function(float64(*[int64] * 4), _chains())

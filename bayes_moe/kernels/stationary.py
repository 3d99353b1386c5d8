"""The stationary distribution of a transition matrix, with its derivatives, in logarithms.

States are left out one after the other: a chain watched only while it is in the first states is a
Markov chain too. No number is subtracted from another, so that all probabilities have the accuracy
of the transitions', however rarely the chain moves; and logarithms do not underflow.

References
----------
Grassmann, W. K., Taksar, M. I., & Heyman, D. P. (1985). Regenerative analysis and steady state
distributions for Markov chains. Operations Research, 33, 1107-1116.
"""

from __future__ import annotations

import math
from typing import Any

from numba.extending import register_jitable

from bayes_moe.kernels.chain_steps import log_sum
from bayes_moe.kernels.compile import REORDERED


@register_jitable(fastmath=REORDERED)
def stationary(steps: Any, log_p: Any, experts: int) -> None:
    """Fill ``log_p`` (expert,) with the log stationary distribution.

    ``steps`` (state, from, to) has the log transition probabilities in its last matrix; the others
    are filled with those of the chain watched in fewer states, for :func:`stationary_slopes`. The
    diagonal element of the state that is left out next is the probability of all moves out of it.
    """
    size = experts * experts
    for n in range(experts - 1, 0, -1):
        now, less = steps[n * size : (n + 1) * size], steps[(n - 1) * size : n * size]
        out = log_sum(now, n * experts, 1, n)
        now[n * experts + n] = out
        for i in range(n):
            for j in range(n):
                old = now[i * experts + j]
                through = now[i * experts + n] - out + now[n * experts + j]
                above, below = max(old, through), min(old, through)
                less[i * experts + j] = above + math.log1p(math.exp(below - above))
    log_p[0] = 0.0
    for n in range(1, experts):
        now = steps[n * size : (n + 1) * size]
        largest = log_p[0] + now[n]
        for i in range(1, n):
            largest = max(largest, log_p[i] + now[i * experts + n])
        total = 0.0
        for i in range(n):
            total += math.exp(log_p[i] + now[i * experts + n] - largest)
        log_p[n] = largest + math.log(total) - now[n * experts + n]
    norm = log_sum(log_p, 0, 1, experts)
    for k in range(experts):
        log_p[k] -= norm


@register_jitable(fastmath=REORDERED)
def stationary_slopes(steps: Any, log_p: Any, by_log_p: Any, slopes: Any, experts: int) -> None:
    """Fill ``slopes`` (from, to) with derivatives by log transition probabilities.

    ``by_log_p`` (expert,) are those by ``log_p``; they are used up. Transitions are free numbers
    here, of which only those off the diagonal count.
    """
    size = experts * experts
    total = 0.0
    for k in range(experts):
        total += by_log_p[k]
    for k in range(experts):
        by_log_p[k] -= total * math.exp(log_p[k])
    for c in range(size):
        slopes[c] = 0.0
    for n in range(experts - 1, 0, -1):  # by moves into a state, relative to those out of it
        now = steps[n * size : (n + 1) * size]
        for i in range(n):
            move = now[i * experts + n] - now[n * experts + n]
            slopes[i * experts + n] = by_log_p[n] * math.exp(log_p[i] + move - log_p[n])
            by_log_p[i] += slopes[i * experts + n]
    for n in range(1, experts):
        now, less = steps[n * size : (n + 1) * size], steps[(n - 1) * size : n * size]
        _one_state_more(now, less, slopes, n, experts)


@register_jitable(fastmath=REORDERED)
def _one_state_more(now: Any, less: Any, slopes: Any, n: int, experts: int) -> None:
    """Derivatives by the transitions of states up to ``n``, from those of the states before it."""
    out = now[n * experts + n]
    for i in range(n):
        for j in range(n):
            if i != j:
                slope, new = slopes[i * experts + j], less[i * experts + j]
                through = now[i * experts + n] - out + now[n * experts + j]
                by_through = slope * math.exp(through - new)
                slopes[i * experts + j] = slope * math.exp(now[i * experts + j] - new)
                slopes[i * experts + n] += by_through
                slopes[n * experts + j] += by_through
    by_out = 0.0
    for i in range(n):
        by_out += slopes[i * experts + n]
    for j in range(n):
        slopes[n * experts + j] -= by_out * math.exp(now[n * experts + j] - out)

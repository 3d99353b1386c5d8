"""Hidden Markov chains of experts in compiled loops, for many points and several series.

The formulas are those of :mod:`bayes_moe.model.markov_chain`, which remains the reference. Here
probabilities are numbers, not logs, and are divided by their sum at every row, so that no series is
too long. Arrays of one point are (output, obs) as everywhere, with ``moves`` (from * to, obs) in
the order of a gate's outputs; ``rows`` are positions of the rows of one series in order, and the
move at a row is that from the row before it in its series.

With ``P_jk`` the probability of a move, ``f_k`` the densities of a row, and filtered probabilities
``a_j`` of the row before, a row's predicted probabilities are ``p_k = sum_j a_j P_jk``, and ``a_k =
p_k f_k / sum_l p_l f_l`` (Hamilton's filter). Probabilities given all rows follow backwards (Kim's
smoother): of the move from ``j`` to ``k``, ``xi_jk = a_j P_jk s_k / p_k``, and ``s_j = sum_k
xi_jk`` at the row before. No term is a ratio of numbers of which one may be far below the other.

The functions of one series are those of EM too (:mod:`bayes_moe.kernels.chain_points`);
:func:`filters` is a C function of numbers and addresses of contiguous arrays (sample, ..., obs),
without the lock.

References
----------
Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and the
business cycle. Econometrica, 57(2), 357-384.

Kim, C.-J. (1994). Dynamic linear models with Markov-switching. Journal of Econometrics, 60, 1-22.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED, VERSION, doubles
from bayes_moe.kernels.evaluation import lock_free, softmax, whole_numbers
from bayes_moe.kernels.stationary import stationary

EQUAL = 1
"""A series begins with equal probabilities, not with its stationary distribution."""

TINY = 1e-300
"""Least probability whose logarithm, or inverse, is taken."""


@register_jitable
def filter_series(
    rows: Any, first: Any, moves: Any, log_f: Any, log_density: Any, predicted: Any, filtered: Any
) -> None:
    """Fill in Hamilton's filter of one series.

    ``first`` (expert,) are the probabilities of the first row's expert, ``log_f`` (expert, obs) the
    log densities. ``log_density`` (obs,) are those of each row given the rows before, and
    ``predicted`` and ``filtered`` (expert, obs) probabilities.
    """
    experts = first.size
    for p in range(rows.size):
        i, h = rows[p], rows[max(p - 1, 0)]
        top, total = -math.inf, 0.0
        for k in range(experts):
            top = max(top, log_f[k, i])
        for k in range(experts):
            share = first[k]
            if p > 0:
                share = 0.0
                for j in range(experts):
                    share += filtered[j, h] * moves[j * experts + k, i]
            predicted[k, i] = share
            filtered[k, i] = share * math.exp(log_f[k, i] - top)
            total += filtered[k, i]
        if not TINY < total < math.inf:
            top, total = _in_logs(i, log_f, predicted, filtered)
        log_density[i] = top + math.log(total)
        for k in range(experts):
            filtered[k, i] /= total


@register_jitable
def _in_logs(i: int, log_f: Any, predicted: Any, filtered: Any) -> Any:
    """Fill in a row where products of probabilities and densities are no numbers, or underflow.

    Returned are the largest logarithm, and the sum of what is relative to it.
    """
    experts, top = predicted.shape[0], -math.inf
    for k in range(experts):
        share = predicted[k, i]
        filtered[k, i] = math.log(share) + log_f[k, i] if share > 0.0 else -math.inf
        top = max(top, filtered[k, i])
    if not top > -math.inf or top == math.inf:  # no expert can have the row
        for k in range(experts):
            filtered[k, i] = predicted[k, i]
        return top, 1.0
    total = 0.0
    for k in range(experts):
        filtered[k, i] = math.exp(filtered[k, i] - top)
        total += filtered[k, i]
    return top, total


@register_jitable
def smooth_series(
    rows: Any, moves: Any, predicted: Any, filtered: Any, future: Any, smoothed: Any, pairs: Any
) -> None:
    """Fill in Kim's smoother of one series, after :func:`filter_series`.

    ``future`` (expert, obs) is what the rows after each one say of its expert, as a factor:
    ``smoothed`` probabilities are ``filtered * future``. ``pairs`` (from * to, obs) are those of
    moves, zero at the first row, unless the array is empty.
    """
    experts, of_pairs = predicted.shape[0], pairs.size > 0
    ratio, last = np.empty(experts), rows[rows.size - 1]
    for k in range(experts):
        future[k, last] = 1.0
        smoothed[k, last] = filtered[k, last]
    for p in range(rows.size - 1, 0, -1):
        i, h = rows[p], rows[p - 1]
        for k in range(experts):
            ratio[k] = smoothed[k, i] / predicted[k, i] if predicted[k, i] > 0.0 else 0.0
        for j in range(experts):
            share, total = filtered[j, h], 0.0
            for k in range(experts):
                part = moves[j * experts + k, i] * ratio[k]
                total += part
                if of_pairs:
                    pairs[j * experts + k, i] = share * part
            future[j, h] = total
            smoothed[j, h] = share * total
    if of_pairs:
        for c in range(experts * experts):
            pairs[c, rows[0]] = 0.0


@register_jitable(fastmath=REORDERED)
def probabilities(
    eta: Any, sticky: float, experts: int, work: Any, shifted: Any, moves: Any
) -> None:
    """Fill ``moves`` (from * to * obs,) from outputs of the gate in the same order.

    ``work`` (2 * obs,) and ``shifted`` (expert * obs,) are room.
    """
    obs = work.size // 2
    for j in range(experts):
        here = slice(j * experts * obs, (j + 1) * experts * obs)
        row = eta[here]
        for i in range(row.size):
            shifted[i] = row[i]
        for i in range(obs):
            shifted[j * obs + i] += sticky
        softmax(shifted, experts, 0, work, moves[here])


@register_jitable
def begin(moves: Any, row: int, before: Any, initial: int, steps: Any, first: Any) -> None:
    """Fill ``first`` (expert,): probabilities of the expert of a series' first row.

    ``before`` (expert,) are the filtered probabilities of the row before, NaN if there is none.
    ``steps`` is the room of :func:`~bayes_moe.kernels.stationary.stationary`.
    """
    experts = first.size
    if before[0] == before[0]:
        for k in range(experts):
            first[k] = 0.0
            for j in range(experts):
                first[k] += before[j] * moves[j * experts + k, row]
    elif initial == EQUAL:
        for k in range(experts):
            first[k] = 1.0 / experts
    else:
        size = experts * experts
        for c in range(size):
            steps[steps.size - size + c] = math.log(max(moves[c, row], TINY))
        stationary(steps, first, experts)
        for k in range(experts):
            first[k] = max(math.exp(first[k]), TINY)


@register_jitable
def filter_point(
    eta: Any, log_f: Any, order: Any, starts: Any, before: Any, settings: Any, room: Any
) -> Any:
    """Filter all series of one point, and look back from their ends.

    ``eta`` (from * to * obs,) are outputs of the gate, ``log_f`` (expert, obs) log densities, and
    ``before`` (series, expert) as in :func:`begin`. ``order`` (obs,) are positions of the rows one
    series after the other and ``starts`` (series,) those of the first ones in that order;
    ``settings`` the preference for staying and :data:`EQUAL` or 0. ``room`` is made by
    :func:`rooms`, and has log densities (obs,), and predicted, filtered and future (expert, obs)
    afterwards, its first four.
    """
    log_density, predicted, filtered, future, smoothed, moves, none, work, shifted, steps, first = (
        room
    )
    experts, obs = predicted.shape
    probabilities(eta, settings[0], experts, work, shifted, moves.reshape(moves.size))
    for s in range(starts.size):
        end = starts[s + 1] if s + 1 < starts.size else obs
        rows = order[starts[s] : end]
        begin(moves, rows[0], before[s], int(settings[1]), steps, first)
        filter_series(rows, first, moves, log_f, log_density, predicted, filtered)
        smooth_series(rows, moves, predicted, filtered, future, smoothed, none)


@register_jitable
def rooms(experts: int, obs: int) -> Any:
    """Arrays of one point: see :func:`filter_point`."""
    return (
        np.empty(obs),
        np.empty((experts, obs)),
        np.empty((experts, obs)),
        np.empty((experts, obs)),
        np.empty((experts, obs)),
        np.empty((experts * experts, obs)),
        np.empty((0, obs)),
        np.empty(2 * obs),
        np.empty(experts * obs),
        np.empty(experts**3),
        np.empty(experts),
    )


@cache
def filters() -> Any:
    """The C function ``(read, written, sizes) -> 0``: filters of all points.

    ``read`` are addresses of outputs of the gate (sample, from * to, obs), log densities (sample,
    expert, obs), probabilities before (sample, series, expert), settings, and whole numbers order
    and starts: see :func:`filter_point`. ``written`` are those of log densities (sample, obs), log
    predicted probabilities and log factors of the future (sample, expert, obs), and log filtered
    probabilities of the last rows of series (sample, series, expert). ``sizes`` are samples,
    experts, rows and series.
    """
    version = VERSION

    def fill(read_: int, written_: int, sizes_: int) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        read, written, sizes = (
            whole_numbers(read_, 6),
            whole_numbers(written_, 4),
            whole_numbers(sizes_, 4),
        )
        samples, experts, obs, series = sizes[0], sizes[1], sizes[2], sizes[3]
        order, starts = whole_numbers(read[4], obs), whole_numbers(read[5], series)
        size, pairs, shares = experts * obs, experts * experts * obs, series * experts
        eta, log_f = doubles(read[0], samples * pairs), doubles(read[1], samples * size)
        before, settings = doubles(read[2], samples * shares), doubles(read[3], 2)
        log_density, predicted = (
            doubles(written[0], samples * obs),
            doubles(written[1], samples * size),
        )
        future, last = doubles(written[2], samples * size), doubles(written[3], samples * shares)
        room = rooms(experts, obs)
        for s in range(samples):
            filter_point(
                eta[s * pairs : (s + 1) * pairs],
                log_f[s * size : (s + 1) * size].reshape(experts, obs),
                order,
                starts,
                before[s * shares : (s + 1) * shares].reshape(series, experts),
                settings,
                room,
            )
            found = room[1].reshape(size), room[3].reshape(size)
            for i in range(size):
                predicted[s * size + i] = math.log(found[0][i])
                future[s * size + i] = math.log(found[1][i])
            for i in range(obs):
                log_density[s * obs + i] = room[0][i]
            for q in range(series):
                end = starts[q + 1] if q + 1 < series else obs
                for k in range(experts):
                    at = s * shares + q * experts + k
                    last[at] = math.log(room[2][k, order[end - 1]])
        return 0

    return lock_free(fill, 3)

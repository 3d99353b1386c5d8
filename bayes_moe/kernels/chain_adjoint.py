"""Log densities of rows whose experts are a Markov chain, and derivatives of functions of them.

``log p(y_t | y_<t)`` of each row, by the Hamilton filter in logarithms. With ``g_t`` the derivative
of a function by that of row ``t``, ``a_t`` the filtered probabilities and ``b_t(j | k)`` the
probability that the row before was in ``j`` where row ``t`` is in ``k``, given the rows so far, its
derivatives by the log densities are

``s_t(k) = m_t(k) + a_t(k) (g_t - sum_l m_t(l))``, ``m_{t-1}(j) = sum_k b_t(j | k) s_t(k)``,

from the last row of a series back, and ``b_t(j | k) s_t(k)`` are those by log transitions. For
``g = 1`` they are the smoothed probabilities of experts and moves, as Kim's smoother has them. All
are bounded, whatever the densities.

References
----------
Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and the
business cycle. Econometrica, 57, 357-384.

Kim, C.-J. (1994). Dynamic linear models with Markov-switching. Journal of Econometrics, 60, 1-22.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import int64
from numba.extending import register_jitable

from bayes_moe.kernels.chain_steps import log_sum
from bayes_moe.kernels.chains import LEAST
from bayes_moe.kernels.compile import VERSION, c_function, doubles
from bayes_moe.kernels.evaluation import whole_numbers
from bayes_moe.kernels.stationary import stationary, stationary_slopes


@register_jitable
def before_of(series: Any) -> Any:
    """Position (obs,) of the row before each row in its series (obs,), -1 at the first."""
    before = np.empty(series.size, dtype=np.int64)
    last = np.full(int(np.max(series)) + 1 if series.size else 0, -1)
    for t in range(series.size):
        code = int(series[t])
        before[t] = last[code]
        last[code] = t
    return before


@register_jitable
def _log_transitions(logits: Any, experts: int) -> Any:
    """Log transition probabilities (obs, from, to), flat, from logits (from and to, obs)."""
    size = experts * experts
    moves = np.empty(logits.shape[1] * size)
    for t in range(logits.shape[1]):
        for c in range(size):
            moves[t * size + c] = logits[c, t]
        for first in range(t * size, (t + 1) * size, experts):
            norm = log_sum(moves, first, 1, experts)
            for k in range(experts):
                moves[first + k] -= norm
    return moves


@register_jitable
def _begin(moves: Any, here: int, steps: Any, log_p: Any, is_stationary: int) -> None:
    """Log probabilities of the experts at the first row of a series."""
    experts = log_p.size
    if is_stationary:
        last = (experts - 1) * experts * experts
        for c in range(experts * experts):
            steps[last + c] = moves[here + c]
        stationary(steps, log_p, experts)
    else:
        for k in range(experts):
            log_p[k] = -math.log(experts)


@register_jitable
def filter_rows(
    densities: Any, moves: Any, before: Any, is_stationary: int, predicted: Any, filtered: Any
) -> Any:
    """Log densities (obs,) of rows; fills log predicted and filtered ones (obs, expert)."""
    experts, rows = densities.shape
    size = experts * experts
    still = moves.size == size
    value, terms = np.empty(rows), np.empty(experts)
    steps, log_p = np.empty(experts * size), np.empty(experts)
    for t in range(rows):
        here = 0 if still else t * size
        at, past = t * experts, before[t] * experts
        if past < 0:
            _begin(moves, here, steps, log_p, is_stationary)
        for k in range(experts):
            predicted[at + k] = log_p[k]
            if past >= 0:
                for j in range(experts):
                    terms[j] = filtered[past + j] + moves[here + j * experts + k]
                predicted[at + k] = log_sum(terms, 0, 1, experts)
            density = densities[k, t] if densities[k, t] >= LEAST else LEAST
            filtered[at + k] = predicted[at + k] + density
        value[t] = log_sum(filtered, at, 1, experts)
        for k in range(experts):
            filtered[at + k] -= value[t]
    return value


@register_jitable
def chain_values(densities: Any, logits: Any, series: Any, is_stationary: int) -> Any:
    """Log densities (obs,) of rows, and log predicted probabilities (expert, obs).

    From log densities (expert, obs) of the experts, and logits (from and to, obs) of the
    transitions into each row, or (from and to, 1) if they are the same at all rows. ``series``
    (obs,) is the number of each row's series, whose rows are in the order of time.
    """
    experts, rows = densities.shape
    moves = _log_transitions(logits, experts)
    predicted, filtered = np.empty(rows * experts), np.empty(rows * experts)
    value = filter_rows(densities, moves, before_of(series), is_stationary, predicted, filtered)
    return value, np.ascontiguousarray(predicted.reshape(rows, experts).T)


@register_jitable
def chain_slopes(
    densities: Any, logits: Any, series: Any, by_value: Any, is_stationary: int
) -> Any:
    """Derivatives by log densities (expert, obs), and by logits in their shape.

    They are those of a function with derivatives ``by_value`` (obs,) by the log densities of rows;
    see :func:`chain_values`.
    """
    experts, rows = densities.shape
    size = experts * experts
    before, moves = before_of(series), _log_transitions(logits, experts)
    predicted, filtered = np.empty(rows * experts), np.empty(rows * experts)
    filter_rows(densities, moves, before, is_stationary, predicted, filtered)
    still = moves.size == size
    by_density, by_logit = np.zeros(densities.shape), np.zeros(logits.shape)
    later, by_move = np.zeros(rows * experts), np.empty(size)
    steps, log_p, first = np.empty(experts * size), np.empty(experts), np.empty(experts)
    for t in range(rows - 1, -1, -1):
        here = 0 if still else t * size
        at, past, column = t * experts, before[t] * experts, 0 if still else t
        total = 0.0
        for k in range(experts):
            total += later[at + k]
        for k in range(experts):
            own = math.exp(filtered[at + k]) * (by_value[t] - total)
            by_density[k, t] = later[at + k] + own
        if past >= 0:
            for j in range(experts):
                for k in range(experts):
                    c = j * experts + k
                    back = filtered[past + j] + moves[here + c] - predicted[at + k]
                    by_move[c] = math.exp(back) * by_density[k, t]
                    later[past + j] += by_move[c]
        elif is_stationary:
            for k in range(experts):
                first[k] = by_density[k, t]
            _begin(moves, here, steps, log_p, is_stationary)
            stationary_slopes(steps, log_p, first, by_move, experts)
        else:
            by_move[:] = 0.0
        _add_by_logits(by_move, moves, here, by_logit, column, experts)
    return by_density, by_logit


@register_jitable
def chain_path(moves: Any, begins: Any, series: Any) -> Any:
    """Experts (obs,) from draws given each expert of the row before (obs, from), or at a begin."""
    path, before = np.empty(series.size, dtype=np.int64), before_of(series)
    for t in range(series.size):
        path[t] = begins[t] if before[t] < 0 else moves[t, path[before[t]]]
    return path


@register_jitable
def _add_by_logits(
    by_move: Any, moves: Any, here: int, by_logit: Any, column: int, experts: int
) -> None:
    """Add derivatives by logits of a row, from those by its log transitions (from, to)."""
    for j in range(experts):
        total = 0.0
        for k in range(experts):
            total += by_move[j * experts + k]
        for k in range(experts):
            c = j * experts + k
            by_logit[c, column] += by_move[c] - math.exp(moves[here + c]) * total


def _values() -> Any:
    version = VERSION

    def values(sizes: int, arrays: int) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        n, at = whole_numbers(sizes, 4), whole_numbers(arrays, 5)
        experts, rows, columns, kind = n[0], n[1], n[2], n[3]
        series, densities, logits, value, predicted = at[0], at[1], at[2], at[3], at[4]
        f = doubles(densities, experts * rows).reshape(experts, rows)
        eta = doubles(logits, experts * experts * columns).reshape(experts * experts, columns)
        found = chain_values(f, eta, doubles(series, rows), kind)
        doubles(value, rows)[:] = found[0]
        doubles(predicted, experts * rows)[:] = found[1].reshape(experts * rows)
        return 0

    return values


def _slopes() -> Any:
    version = VERSION

    def slopes(sizes: int, arrays: int) -> int:
        version  # noqa: B018
        n, at = whole_numbers(sizes, 4), whole_numbers(arrays, 6)
        experts, rows, columns, kind = n[0], n[1], n[2], n[3]
        series, densities, logits = at[0], at[1], at[2]
        by_value, by_density, by_logit = at[3], at[4], at[5]
        f = doubles(densities, experts * rows).reshape(experts, rows)
        eta = doubles(logits, experts * experts * columns).reshape(experts * experts, columns)
        found = chain_slopes(f, eta, doubles(series, rows), doubles(by_value, rows), kind)
        doubles(by_density, f.size)[:] = found[0].reshape(f.size)
        doubles(by_logit, eta.size)[:] = found[1].reshape(eta.size)
        return 0

    return slopes


@cache
def values() -> Any:
    """:func:`chain_values` as a C function of the addresses of sizes and of addresses."""
    return c_function(int64(int64, int64), _values())


@cache
def slopes() -> Any:
    """:func:`chain_slopes` as a C function of the addresses of sizes and of addresses."""
    return c_function(int64(int64, int64), _slopes())

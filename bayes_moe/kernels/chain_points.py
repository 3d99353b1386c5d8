"""Chains of experts at many points: probabilities of states given all rows, and sums of scores.

Arrays are (point, ..., obs), rows one series after the other. With ``P_jk`` the probability of a
move, ``b_k`` the densities of a row over their largest, and filtered probabilities ``a``, a row's
predicted probabilities are ``p_k = sum_j a_j P_jk``, and ``a_k = p_k b_k / sum_l p_l b_l`` at the
row itself (Hamilton's filter). Probabilities given all rows follow backwards (Kim's smoother): of
the move from ``j`` to ``k``, ``xi_jk = a_j P_jk s_k / p_k``, and ``s_j = sum_k xi_jk`` at the row
before. No term is a ratio of numbers of which one may be far below the other.

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

from bayes_moe.kernels.compile import VERSION, doubles
from bayes_moe.kernels.evaluation import lock_free, whole_numbers


@register_jitable
def filtered(move: Any, density: Any, initial: Any, share: Any, value: Any, ends: Any) -> None:
    """Filtered probabilities ``share`` (expert * obs) of a series, and log densities of its rows.

    ``ends`` are the number of experts, of all rows, and the first and last row of the series.
    """
    experts, rows, start, stop = ends
    ahead = np.empty(experts)
    for t in range(start, stop):
        top, total = -math.inf, 0.0
        for k in range(experts):
            top = max(top, density[k * rows + t])
        for k in range(experts):
            ahead[k] = initial[k]
            if t > start:
                ahead[k] = 0.0
                for j in range(experts):
                    ahead[k] += share[j * rows + t - 1] * move[(j * experts + k) * rows + t]
            if top > -math.inf:
                ahead[k] *= math.exp(density[k * rows + t] - top)
            total += ahead[k]
        value[t] = math.log(total) + top if total > 0.0 else -math.inf
        for k in range(experts):
            share[k * rows + t] = ahead[k] / total if total > 0.0 else math.nan


@register_jitable
def smoothed(move: Any, share: Any, pairs: Any, ends: Any) -> None:
    """Replace filtered by smoothed probabilities; ``pairs`` are those of moves.

    Arrays are those of :func:`filtered`; ``pairs`` (from * to * obs) are zero at the first row.
    """
    experts, rows, start, stop = ends
    for t in range(stop - 1, start, -1):
        for k in range(experts):
            ahead = 0.0
            for j in range(experts):
                ahead += share[j * rows + t - 1] * move[(j * experts + k) * rows + t]
            ratio = share[k * rows + t] / ahead if ahead > 0.0 else 0.0
            for j in range(experts):
                at = (j * experts + k) * rows + t
                pairs[at] = share[j * rows + t - 1] * move[at] * ratio
        for j in range(experts):
            total = 0.0
            for k in range(experts):
                total += pairs[(j * experts + k) * rows + t]
            share[j * rows + t - 1] = total
    for j in range(experts * experts):
        pairs[j * rows + start] = 0.0


@cache
def states() -> Any:
    """The C function ``(layout, initial, moves, densities, values, shares, pairs) -> 0``.

    ``layout`` are the numbers of points, experts, rows and series, and the first rows of series;
    ``initial`` (point, series, expert) and ``moves`` (point, from * to, obs) are probabilities,
    ``densities`` (point, expert, obs) logarithms. It fills the log density of each row given those
    before, ``values`` (point, obs), and the probabilities given all rows of states and moves.
    """
    version = VERSION

    def fill(
        layout_: int, initial_: int, move_: int, density_: int, value_: int, share_: int, pair_: int
    ) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        head = whole_numbers(layout_, 4)
        points, experts, rows, series = head[0], head[1], head[2], head[3]
        starts = whole_numbers(layout_, 4 + series)[4:]
        size, square = experts * rows, experts * experts * rows
        initial = doubles(initial_, points * series * experts)
        moves, densities = doubles(move_, points * square), doubles(density_, points * size)
        values, shares = doubles(value_, points * rows), doubles(share_, points * size)
        pairs = doubles(pair_, points * square)
        for b in range(points):
            move, pair = moves[b * square : (b + 1) * square], pairs[b * square : (b + 1) * square]
            density, share = densities[b * size : (b + 1) * size], shares[b * size : (b + 1) * size]
            value = values[b * rows : (b + 1) * rows]
            for s in range(series):
                stop = starts[s + 1] if s + 1 < series else rows
                ends = (experts, rows, starts[s], stop)
                first = (b * series + s) * experts
                filtered(move, density, initial[first : first + experts], share, value, ends)
                smoothed(move, share, pair, ends)
        return 0

    return lock_free(fill, 7)


@cache
def expected_sums() -> Any:
    """The C function ``(sizes, later, own, chance) -> 0``: expected sums of scores of later rows.

    ``sizes`` are the numbers of points, rows, experts and coefficients. ``own`` (point, obs,
    expert, coefficient) are the expected scores of a row, given the state before it; they are
    replaced by those of it and all later rows: ``own_j + sum_k chance_jk own_k`` of the next row.
    ``chance`` (point, obs, from, to) are probabilities of moves given the state before and all
    rows; ``later`` (point, expert, coefficient) is the sum after the last of these rows.
    """
    version = VERSION

    def fill(sizes_: int, later_: int, own_: int, chance_: int) -> int:
        version  # noqa: B018
        sizes = whole_numbers(sizes_, 4)
        points, rows, experts, coefs = sizes[0], sizes[1], sizes[2], sizes[3]
        width = experts * coefs
        later, chance = (
            doubles(later_, points * width),
            doubles(chance_, points * rows * experts**2),
        )
        own = doubles(own_, points * rows * width)
        for b in range(points):
            after = later[b * width : (b + 1) * width]
            for t in range(rows - 1, -1, -1):
                at = (b * rows + t) * width
                here = own[at : at + width]
                for j in range(experts):
                    to = here[j * coefs : (j + 1) * coefs]
                    for k in range(experts):
                        share = chance[((b * rows + t) * experts + j) * experts + k]
                        if share != 0.0:
                            for i in range(coefs):
                                to[i] += share * after[k * coefs + i]
                after = here
        return 0

    return lock_free(fill, 4)

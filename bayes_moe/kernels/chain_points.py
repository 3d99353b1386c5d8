"""Chains of experts at many points: probabilities of states given all rows, and sums of scores.

Arrays are (point, ..., obs), rows one series after the other. The recursions are those of
:mod:`bayes_moe.kernels.markov`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bayes_moe.kernels.compile import VERSION, doubles
from bayes_moe.kernels.evaluation import lock_free, whole_numbers
from bayes_moe.kernels.markov import filter_series, smooth_series


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
        order, future = np.arange(rows), np.empty((experts, rows))
        predicted, filtered = np.empty((experts, rows)), np.empty((experts, rows))
        for b in range(points):
            value = values[b * rows : (b + 1) * rows]
            density = densities[b * size : (b + 1) * size].reshape(experts, rows)
            share = shares[b * size : (b + 1) * size].reshape(experts, rows)
            move = moves[b * square : (b + 1) * square].reshape(experts * experts, rows)
            pair = pairs[b * square : (b + 1) * square].reshape(experts * experts, rows)
            for s in range(series):
                own = order[starts[s] : starts[s + 1] if s + 1 < series else rows]
                first = initial[(b * series + s) * experts : (b * series + s + 1) * experts]
                filter_series(own, first, move, density, value, predicted, filtered)
                smooth_series(own, move, predicted, filtered, future, share, pair)
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

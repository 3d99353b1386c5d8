"""Rows before a row in its series, and draws of predictors with memory a part at a time."""

from __future__ import annotations

from collections.abc import Callable
from os import cpu_count
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.core.errors import SpecError
from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.site import Binding

if TYPE_CHECKING:
    from bayes_moe.predictors.base import Predictor

PART = 2**22
"""Numbers of the arrays of some draws that are computed at once."""


def previous_rows(matrix: Matrix, predictor: Predictor) -> np.ndarray:
    """Return the position (obs,) of the row before each row in its series; -1 at first rows.

    Raises
    ------
    SpecError
        For rows that are no whole series, of which there is no state.
    """
    sequences = matrix.sequences
    if sequences is None:
        raise SpecError(
            f"{predictor!r} reads whole series of rows: give the model the column of times, "
            "`time=`, and no part of the rows."
        )
    size = len(sequences.code)
    order = np.arange(size) if sequences.order is None else sequences.order
    previous = np.full(size, -1, dtype=np.int64)
    previous[order[1:]] = order[:-1]
    previous[order[sequences.starts]] = -1
    return previous


def in_parts(
    evaluate: Callable[[Binding, Values], np.ndarray],
    b: Binding,
    draws: Values,
    names: tuple[str, ...],
    size: int,
) -> np.ndarray:
    """Return eta (sample, output, obs) of draws of ``names``, computed by threads.

    ``size`` are the numbers that a draw needs at once: those of all draws would take memory without
    bound, as rows of predictors with memory are evaluated together.
    """
    own = {name: np.asarray(draws[name]) for name in names}
    samples, step = len(own[names[0]]), max(1, PART // max(size, 1))
    starts = range(0, samples, step)
    parts = ({n: v[start : start + step] for n, v in own.items()} for start in starts)
    found = [*in_threads(lambda part: evaluate(b, part), parts, cpu_count() or 1)]
    return np.concatenate(found) if found else evaluate(b, own)

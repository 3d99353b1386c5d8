"""Rows before a row in its series, for predictors with memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix

if TYPE_CHECKING:
    from bayes_moe.predictors.base import Predictor


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

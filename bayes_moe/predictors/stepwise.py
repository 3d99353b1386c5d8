"""Predictors with memory step by step on paths, of which each has features of its own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.path_matrix import PathMatrix
from bayes_moe.predictors.site import Binding


class Steps(Protocol):
    """What a predictor with memory carries from step to step, of all draws and paths.

    It begins after the last rows of series. Rows of a step are (series, path).
    """

    def step(self, matrix: Matrix) -> np.ndarray:
        """Return eta (sample, output, series * path) of the next row, without the offset.

        ``matrix`` has the features of that row: those of each path, or of a
        :class:`bayes_moe.data.path_matrix.PathMatrix` of each path of each draw.
        """


@runtime_checkable
class Stepwise(Protocol):
    """A predictor with memory that can be evaluated row by row."""

    def steps(self, b: Binding, draws: Values, last: np.ndarray, paths: int) -> Steps:
        """Return what is carried after the rows ``last`` (series,), -1 before a first row.

        The binding has whole series of rows, and ``paths`` go on from each of these.
        """


def features_of(matrix: Matrix) -> np.ndarray:
    """Standardised features (sample or 1, path, term) of one step."""
    values = matrix.standardised
    found = matrix.by_sample(values) if isinstance(matrix, PathMatrix) else values[None]
    return np.asarray(found)


def rows_back(previous: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Positions (count, series) of the last rows of series, the latest first.

    They are -1 before the first row; ``previous`` (obs,) is the row before each row, ``last``
    (series,) the last row of each series.
    """
    found, at = np.full((count, len(last)), -1, dtype=np.int64), np.array(last, dtype=np.int64)
    for lag in range(count):
        found[lag] = at
        at = np.where(at >= 0, previous[at], -1)
    return found

"""Numeric columns of a formula, and their values on the range of the fitted rows."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Predictor


def numeric(predictor: Predictor, matrix: Matrix) -> list[int]:
    """Positions of the numeric columns of a formula with an intercept.

    Raises
    ------
    SpecError
        Without an intercept or a numeric column, and for categories and expanded terms.
    """
    columns = [j for j, term in enumerate(matrix.terms) if term != INTERCEPT]
    # Names of coded categories and of expanded terms end with a bracket.
    coded = [matrix.terms[j] for j in columns if matrix.terms[j].endswith("]")]
    if coded:
        raise SpecError(f"{predictor!r} takes numeric columns; {coded[0]!r} is none.")
    if matrix.intercept is None or not columns:
        raise SpecError(
            f"{predictor!r} needs a formula with an intercept and a numeric column; the terms are "
            f"{', '.join(matrix.terms)}."
        )
    return columns


def half_ranges(predictor: Predictor, matrix: Matrix) -> np.ndarray:
    """Half the range (column,) of the fitted rows' numeric columns, in standard deviations."""
    columns = numeric(predictor, matrix)
    least, largest = matrix.range
    half_range: np.ndarray = 0.5 * (largest - least)[columns] / matrix.scale[columns]
    return half_range


def boxed(predictor: Predictor, matrix: Matrix) -> np.ndarray:
    """Numeric columns (obs, column), scaled so that the fitted rows' range is -1 to 1."""
    columns = numeric(predictor, matrix)
    least, largest = (ends[columns] for ends in matrix.range)
    values: np.ndarray = (2 * matrix.values[:, columns] - least - largest) / (largest - least)
    return values

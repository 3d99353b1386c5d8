"""Numeric columns of a formula, and their positions in the range of the fitted rows."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Predictor


def basis_dim(stem: str) -> str:
    """Dimension over the features of an expansion, e.g. ``gate_basis``."""
    return f"{stem}_basis"


def column_dim(stem: str) -> str:
    """Dimension over the numeric columns that an expansion is made of, e.g. ``gate_column``."""
    return f"{stem}_column"


def numeric(predictor: Predictor, matrix: Matrix) -> list[int]:
    """Positions of the numeric columns of a formula with an intercept.

    Raises
    ------
    SpecError
        Without an intercept or a numeric column, and for categories and expanded terms.
    """
    columns = [j for j, term in enumerate(matrix.terms) if term != INTERCEPT]
    coded = [matrix.terms[j] for j in columns if matrix.terms[j].endswith("]")]
    if coded:
        raise SpecError(f"{predictor!r} takes numeric columns; {coded[0]!r} is none.")
    if matrix.intercept is None or not columns:
        raise SpecError(
            f"{predictor!r} needs a formula with an intercept and a numeric column; the terms are "
            f"{', '.join(matrix.terms)}."
        )
    return columns


def halves(predictor: Predictor, matrix: Matrix) -> np.ndarray:
    """Half the range (column,) of the fitted rows' numeric columns, in standard deviations."""
    columns = numeric(predictor, matrix)
    least, largest = matrix.range
    found: np.ndarray = 0.5 * (largest - least)[columns] / matrix.scale[columns]
    return found


def boxed(predictor: Predictor, matrix: Matrix) -> np.ndarray:
    """Numeric columns (obs, column), on a scale where the fitted rows lie between -1 and 1."""
    columns = numeric(predictor, matrix)
    least, largest = (ends[columns] for ends in matrix.range)
    found: np.ndarray = (2 * matrix.values[:, columns] - least - largest) / (largest - least)
    return found

"""Penalised spline: ``eta(x) = b_0 + b_1 z + sum_j coef_j psi_j(z)``, ``coef_j ~ Normal(0, s^2)``.

``z`` is the standardised column, and ``psi`` span the B-splines on equally spaced knots but for
straight lines: with second differences ``D``, ``psi = B D' (D D')^-1``, whose coefficients are the
second differences of those of ``B``. So ``s`` says how far the curve departs from a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from bayes_moe.arrays import Arrays
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError
from bayes_moe.formulas import INTERCEPT
from bayes_moe.predictors.expansion import (
    Expansion,
    check_box,
    check_count,
    check_positive,
    column_dim,
    numeric,
)
from bayes_moe.priors import Prior, Standard

GRID = 201


@dataclass(frozen=True)
class Spline(Expansion):
    """Penalised B-spline of one numeric column.

    The smoothing standard deviation ``gate_smoothing`` (``names.GATE`` being the stem) has a prior
    of its own, ``Gamma(2, 1)`` by default: at zero, where the curve is a line, its density falls to
    zero, so that a mode is not there. The part of the curve that is no line has about the standard
    deviation ``gate_smoothing`` in units of the predictor.

    Parameters
    ----------
    df : int
        Number of B-splines, at least ``degree + 2``.
    degree : int
        Degree of the pieces.
    reach : float
        The knots lie within so many standard deviations of the column's centre. Beyond, the curve
        goes on as the straight line plus a constant.

    References
    ----------
    Eilers, P. H. C., & Marx, B. D. (1996). Flexible smoothing with B-splines and penalties.
    Statistical Science, 11(2), 89-121.

    Chung, Y., Rabe-Hesketh, S., Dorie, V., Gelman, A., & Liu, J. (2013). A nondegenerate penalized
    likelihood estimator for variance parameters in multilevel models. Psychometrika, 78, 685-709.
    """

    df: int = 12
    degree: int = 3
    reach: float = 3.0

    kind: ClassVar[str] = "spline"

    def __post_init__(self) -> None:
        check_count("degree", self.degree, 1)
        check_count("df", self.df, self.degree + 2)
        check_positive("reach", self.reach)

    def labels(self, matrix: Matrix) -> list[str]:
        return [INTERCEPT, self._term(matrix), *(str(j) for j in range(self.df - 2))]

    def features(self, matrix: Matrix) -> np.ndarray:
        self._term(matrix)
        z = matrix.standardised[:, numeric(self, matrix)[0]]
        return np.column_stack([np.ones_like(z), z, self._bends(z)])

    def check(self, matrix: Matrix) -> None:
        self._term(matrix)
        check_box(self, matrix, self.reach)

    def spread(
        self, stem: str, own: Mapping[str, Any], units: Standard, matrix: Matrix, xp: Arrays
    ) -> Any:
        line, bends = np.zeros(self.df), np.ones((1, self.df))
        line[:2], bends[:, :2] = (units.intercept, units.slope), 0.0
        return line + xp.matmul(own[_smoothing(stem)], bends)

    def own_priors(
        self, stem: str, role: str, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        return {_smoothing(stem): Prior("Gamma", alpha=2.0, beta=1.0)}

    def own_dims(self, stem: str) -> dict[str, tuple[str, ...]]:
        return {_smoothing(stem): (column_dim(stem),)}

    def positive(self, stem: str) -> frozenset[str]:
        return frozenset({_smoothing(stem)})

    def coords(self, stem: str, matrix: Matrix) -> dict[str, list[Any]]:
        return super().coords(stem, matrix) | {column_dim(stem): [self._term(matrix)]}

    def usual(self, stem: str, matrix: Matrix, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {_smoothing(stem): np.ones(1)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "df": self.df, "degree": self.degree, "reach": self.reach}

    def _term(self, matrix: Matrix) -> str:
        columns = numeric(self, matrix)
        if len(columns) != 1:
            raise SpecError(
                f"{self!r} takes one numeric column; the terms are {', '.join(matrix.terms)}."
            )
        return matrix.terms[columns[0]]

    def _bends(self, z: np.ndarray) -> np.ndarray:
        """Features (obs, bend) that are no lines, scaled to a variance of 1 over the box."""
        reduction, line = _reduced(self.df, self.degree, self.reach)
        inside = np.clip(z, -self.reach, self.reach)
        bends = _b_splines(inside, self.df, self.degree, self.reach) @ reduction
        found: np.ndarray = bends - np.column_stack([np.ones_like(inside), inside]) @ line
        return found


def _smoothing(stem: str) -> str:
    return f"{stem}_smoothing"


def _b_splines(z: np.ndarray, df: int, degree: int, reach: float) -> np.ndarray:
    """B-splines (obs, spline) on equally spaced knots that go beyond the box."""
    from scipy.interpolate import BSpline

    step = 2 * reach / (df - degree)
    knots = -reach + step * np.arange(-degree, df + 1)
    inside = np.clip(z, knots[degree], np.nextafter(knots[df], -np.inf))
    found: np.ndarray = BSpline.design_matrix(inside, knots, degree).toarray()
    return found


@cache
def _reduced(df: int, degree: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (spline, bend) from B-splines to bends, and the lines (2, bend) taken off these."""
    differences = np.diff(np.eye(df), n=2, axis=0)
    reduction = differences.T @ np.linalg.inv(differences @ differences.T)
    grid = np.linspace(-reach, reach, GRID)
    bends = _b_splines(grid, df, degree, reach) @ reduction
    straight = np.column_stack([np.ones(GRID), grid])
    line = np.linalg.lstsq(straight, bends)[0]
    bends = bends - straight @ line
    size = float(np.sqrt((bends**2).sum(axis=1).mean()))
    return reduction / size, line / size

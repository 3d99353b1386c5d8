"""Penalised splines: ``eta(x) = b_0 + sum_c (b_c z_c + sum_j coef_cj psi_j(u_c))``.

``z_c`` are standardised columns, ``u_c`` columns in units of half their range, and ``psi`` span the
B-splines on equally spaced knots but for straight lines: with second differences ``D``,
``psi = B D' (D D')^-1``, whose coefficients are the second differences of those of ``B``. With
``coef_cj ~ Normal(0, s_c^2)``, ``s_c`` measures how far the curve departs from a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_whole
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis
from bayes_moe.predictors.columns import boxed, numeric
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

MOST_SPLINES, MOST_DEGREE = 1000, 25

GRID = 201
"""Points of the grid on which curves are made orthogonal to lines and scaled."""


@dataclass(frozen=True)
class Spline(Basis):
    """Penalised B-splines of numeric columns, one curve a column, added up.

    The smoothing standard deviations, ``mu_smoothing`` where the predictor is that of ``mu``, have
    the default prior ``Gamma(2, 1)``: its density is zero at zero, where the curve is a line, so
    that no mode is there. The part of a curve that is no line has
    about the standard deviation ``mu_smoothing`` in units of the predictor (of the response's
    standard deviation, for ``mu``).

    Parameters
    ----------
    df : int
        Number of B-splines a column, at least ``degree + 2``.
    degree : int
        Degree of the pieces.

    Notes
    -----
    The knots are between the least and the largest value of the fitted rows. Beyond, a curve is the
    straight line plus a constant.

    References
    ----------
    Eilers, P. H. C., & Marx, B. D. (1996). Flexible smoothing with B-splines and penalties.
    Statistical Science, 11(2), 89-121.

    Chung, Y., Rabe-Hesketh, S., Dorie, V., Gelman, A., & Liu, J. (2013). A nondegenerate penalized
    likelihood estimator for variance parameters in multilevel models. Psychometrika, 78, 685-709.
    """

    df: int = 12
    degree: int = 3

    kind: ClassVar[str] = "spline"

    def __post_init__(self) -> None:
        check_whole("degree", self.degree, 1, MOST_DEGREE)
        check_whole("df", self.df, self.degree + 2, MOST_SPLINES)

    @property
    def is_linear(self) -> bool:
        return True

    def labels(self, matrix: Matrix) -> list[str]:
        labels = [INTERCEPT]
        for j in numeric(self, matrix):
            term = matrix.terms[j]
            labels += [term, *(f"{term}.{k}" for k in range(self.df - 2))]
        return labels

    def features(self, matrix: Matrix) -> np.ndarray:
        columns = numeric(self, matrix)
        parts = [
            np.column_stack([matrix.standardised[:, j], self._bends(u)])
            for j, u in zip(columns, boxed(self, matrix).T, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        columns, width = len(numeric(self, b.matrix)), self.df - 1
        line, bends = np.zeros(1 + columns * width), np.zeros((columns, 1 + columns * width))
        line[0] = b.units.intercept
        for c in range(columns):
            first = 1 + c * width
            line[first] = b.units.slope
            bends[c, first + 1 : first + width] = 1.0
        return line + xp.matmul(values[names.part(b.site.stem, names.SMOOTHING)], bends)

    def variables(self, site: Site) -> Variables:
        smoothing = Variable(
            names.part(site.stem, names.SMOOTHING),
            (*site.lead, names.part(site.stem, names.COLUMN)),
            prior=lambda b: Prior("Gamma", alpha=2.0, beta=1.0),
            initial=lambda b, rng: np.ones((*b.site.lead_shape, len(numeric(self, b.matrix)))),
            positive=True,
        )
        return Variables([coefficients(site, names.part(site.stem, names.BASIS)), smoothing])

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        columns = [b.matrix.terms[j] for j in numeric(self, b.matrix)]
        return super().coords(b) | {names.part(b.site.stem, names.COLUMN): columns}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "df": self.df, "degree": self.degree}

    def _bends(self, u: np.ndarray) -> np.ndarray:
        """Features (obs, bend) orthogonal to lines, of total variance 1 over the box."""
        reduction, line = _reduced(self.df, self.degree)
        inside = np.clip(u, -1.0, 1.0)
        bends = _b_splines(inside, self.df, self.degree) @ reduction
        bends -= np.column_stack([np.ones_like(inside), inside]) @ line
        return bends


def _b_splines(u: np.ndarray, df: int, degree: int) -> np.ndarray:
    """B-splines (obs, spline) on equally spaced knots that extend beyond the box from -1 to 1."""
    from scipy.interpolate import BSpline

    step = 2 / (df - degree)
    knots = -1 + step * np.arange(-degree, df + 1)
    # The last interval is half-open: its right end would be outside.
    inside = np.clip(u, knots[degree], np.nextafter(knots[df], -np.inf))
    splines: np.ndarray = BSpline.design_matrix(inside, knots, degree).toarray()
    return splines


@cache
def _reduced(df: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (spline, bend) from B-splines to bends, and the lines (2, bend) taken off these."""
    differences = np.diff(np.eye(df), n=2, axis=0)
    reduction = differences.T @ np.linalg.inv(differences @ differences.T)
    grid = np.linspace(-1, 1, GRID)
    bends = _b_splines(grid, df, degree) @ reduction
    straight = np.column_stack([np.ones(GRID), grid])
    line = np.linalg.lstsq(straight, bends)[0]
    bends = bends - straight @ line
    size = float(np.sqrt((bends**2).sum(axis=1).mean()))
    return reduction / size, line / size

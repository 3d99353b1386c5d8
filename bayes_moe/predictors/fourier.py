"""Seasonal predictor: ``eta(x) = b_0 + sum_j a_j cos(2 pi j x / P) + b_j sin(2 pi j x / P)``.

Coefficients of the ``j``-th harmonic have the prior standard deviation ``s / j``, which prefers
smooth curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis
from bayes_moe.predictors.columns import numeric
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

MOST_HARMONICS = 1000


@dataclass(frozen=True)
class Fourier(Basis):
    """Periodic curve of one numeric column, as a sum of harmonics.

    The amplitude, ``mu_amplitude`` where the predictor is that of ``mu``, is the standard deviation
    of the first harmonic's coefficients in units of the predictor, with the default prior
    ``Gamma(2, 1)``.

    Parameters
    ----------
    period : float
        Length of a period, in units of the column (12 for months, 365.25 for days).
    order : int
        Number of harmonics.

    References
    ----------
    Harvey, A. C. (1989). Forecasting, structural time series models and the Kalman filter.
    Cambridge University Press.
    """

    period: float = 1.0
    order: int = 4

    kind: ClassVar[str] = "fourier"

    def __post_init__(self) -> None:
        check_positive("period", self.period)
        check_whole("order", self.order, 1, MOST_HARMONICS)

    @property
    def is_linear(self) -> bool:
        return True

    def labels(self, matrix: Matrix) -> list[str]:
        orders = range(1, self.order + 1)
        return [INTERCEPT, *(f"cos{j}" for j in orders), *(f"sin{j}" for j in orders)]

    def features(self, matrix: Matrix) -> np.ndarray:
        angle = 2 * np.pi * matrix.values[:, self._column(matrix)] / self.period
        angles = np.multiply.outer(angle, np.arange(1, self.order + 1))
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        falling = 1 / np.tile(np.arange(1, self.order + 1), 2)
        level = np.zeros(2 * self.order + 1)
        level[0] = b.units.intercept
        amplitude = values[names.part(b.site.stem, names.AMPLITUDE)]
        return level + xp.matmul(amplitude, np.concatenate([[0.0], falling])[None])

    def variables(self, site: Site) -> Variables:
        amplitude = Variable(
            names.part(site.stem, names.AMPLITUDE),
            (*site.lead, names.part(site.stem, names.COLUMN)),
            prior=lambda b: Prior("Gamma", alpha=2.0, beta=1.0),
            initial=lambda b, rng: np.ones((*b.site.lead_shape, 1)),
            positive=True,
        )
        return Variables([coefficients(site, names.part(site.stem, names.BASIS)), amplitude])

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        column = b.matrix.terms[self._column(b.matrix)]
        return super().coords(b) | {names.part(b.site.stem, names.COLUMN): [column]}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "period": self.period, "order": self.order}

    def _column(self, matrix: Matrix) -> int:
        columns = numeric(self, matrix)
        if len(columns) != 1:
            raise SpecError(
                f"{self!r} takes one numeric column; the terms are {', '.join(matrix.terms)}."
            )
        return columns[0]

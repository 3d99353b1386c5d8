"""Seasonal predictor: ``eta(x) = b_0 + sum_j a_j cos(2 pi j x / P) + b_j sin(2 pi j x / P)``.

Coefficients of the ``j``-th harmonic have the standard deviation ``s / j``: waves are the rougher
the less likely they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis
from bayes_moe.predictors.columns import column_dim, numeric
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import Units
from bayes_moe.priors.prior import Prior


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
        check_whole("order", self.order, 1)

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

    def check(self, matrix: Matrix) -> None:
        self._column(matrix)

    def spreads(
        self, place: Site, own: Mapping[str, Any], units: Units, matrix: Matrix, xp: Arrays
    ) -> Any:
        falling = 1 / np.tile(np.arange(1, self.order + 1), 2)
        level = np.zeros(2 * self.order + 1)
        level[0] = units.intercept
        return level + xp.matmul(own[_amplitude(place)], np.concatenate([[0.0], falling])[None])

    def hyperparameter_priors(
        self, place: Site, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        return {_amplitude(place): Prior("Gamma", alpha=2.0, beta=1.0)}

    def hyperparameter_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        return {_amplitude(place): (*self.lead(place), column_dim(place.stem))}

    def positive(self, place: Site) -> frozenset[str]:
        return frozenset({_amplitude(place)})

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        own = {column_dim(place.stem): [matrix.terms[self._column(matrix)]]}
        return super().coords(place, matrix) | own

    def initial_hyperparameters(
        self, place: Site, matrix: Matrix, rng: np.random.Generator
    ) -> dict[str, Any]:
        return {_amplitude(place): np.ones((*self.lead_shape(place), 1))}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "period": self.period, "order": self.order}

    def _column(self, matrix: Matrix) -> int:
        columns = numeric(self, matrix)
        if len(columns) != 1:
            raise SpecError(
                f"{self!r} takes one numeric column; the terms are {', '.join(matrix.terms)}."
            )
        return columns[0]


def _amplitude(place: Site) -> str:
    return f"{place.stem}_amplitude"

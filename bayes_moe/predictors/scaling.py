"""Map between internal and reported coefficients of a linear predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Predictor
from bayes_moe.predictors.site import Binding
from bayes_moe.priors.defaults import Units
from bayes_moe.priors.prior import Prior


def linear_eta(coef: Any, features: Any, xp: Arrays) -> Any:
    """``coef`` (..., output, term) and ``features`` (obs, term) -> eta (..., output, obs)."""
    return xp.matmul(coef, features.T)


@dataclass(frozen=True)
class Scaling:
    """The affine map between internal and reported coefficients, both (output, term)."""

    matrix: Matrix
    units: Units

    @property
    def offset(self) -> np.ndarray:
        """Reported coefficients (term,) where the internal ones are zero."""
        offset = np.zeros(len(self.matrix.terms))
        if self.matrix.intercept is not None:
            offset[self.matrix.intercept] = self.units.offset
        return offset

    @property
    def linear(self) -> np.ndarray:
        """Matrix (term, term) with ``beta = raw @ linear + offset``."""
        return self.units.unit * self.matrix.to_user

    def to_user(self, raw: np.ndarray) -> np.ndarray:
        """Return the reported coefficients of internal ones (..., term)."""
        matrix = self.matrix
        beta = raw * (self.units.unit / matrix.scale)
        if matrix.intercept is not None:
            beta[..., matrix.intercept] -= beta @ matrix.center
        return beta + self.offset

    def to_raw(self, beta: np.ndarray) -> np.ndarray:
        """Return the internal coefficients of reported ones (..., term)."""
        matrix, beta = self.matrix, beta - self.offset
        if matrix.intercept is not None:
            beta[..., matrix.intercept] += beta @ matrix.center
        raw: np.ndarray = beta * (matrix.scale / self.units.unit)
        return raw

    def variances(self, covariance: np.ndarray) -> np.ndarray:
        """Return the variances of reported coefficients of internal ones (..., term, term)."""
        matrix, factor = self.matrix, self.units.unit / self.matrix.scale
        found = np.einsum("...ii->...i", covariance) * factor**2
        if matrix.intercept is not None:
            to_intercept = -factor * matrix.center
            to_intercept[matrix.intercept] += factor[matrix.intercept]
            along = np.matmul(covariance, to_intercept)
            found[..., matrix.intercept] = along @ to_intercept
        return found

    def raw_prior(self, prior: Prior) -> Prior:
        """Return the prior of internal coefficients, from one in the user's units.

        The user's intercept prior refers to the centre of the features.
        """
        return prior.rescaled(self.offset, self.units.unit / self.matrix.scale)


def scaling_of(predictor: Predictor, b: Binding) -> Scaling:
    """Return the map between internal and reported coefficients of a predictor.

    Raises
    ------
    SpecError
        If the predictor is not linear in its coefficients, so that EM cannot treat it.
    """
    if not predictor.is_linear:
        raise SpecError(f"The predictor {predictor!r} is not linear: use method='map' or 'nuts'.")
    return Scaling(predictor.basis(b.matrix), b.units)

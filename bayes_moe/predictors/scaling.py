"""Map between internal and reported coefficients of a linear predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.data.matrix import Matrix
from bayes_moe.priors.defaults import Units
from bayes_moe.priors.prior import Prior


def linear_eta(coef: Any, features: Any, xp: Arrays) -> Any:
    """``coef`` (..., expert, term) and ``features`` (obs, term) -> eta (..., expert, obs)."""
    return xp.matmul(coef, features.T)


@dataclass(frozen=True)
class Scaling:
    """The affine map between internal and reported coefficients, both (expert, term)."""

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
        return raw @ self.linear + self.offset

    def to_raw(self, beta: np.ndarray) -> np.ndarray:
        """Return the internal coefficients of reported ones (..., term)."""
        return np.linalg.solve(self.linear.T, (beta - self.offset)[..., None])[..., 0]

    def raw_prior(self, prior: Prior) -> Prior:
        """Return the prior of internal coefficients, from one in the user's units.

        The user's intercept prior refers to the centre of the features.
        """
        return prior.rescaled(self.offset, self.units.unit / self.matrix.scale)

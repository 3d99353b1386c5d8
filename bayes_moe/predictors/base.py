"""What every predictor can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.design import Matrix
from bayes_moe.priors import Prior

if TYPE_CHECKING:
    from bayes_moe.predictors.linear import Scaling

Values = Mapping[str, np.ndarray]


class Predictor(ABC):
    """Features of a row -> predictor ``eta`` (expert, obs)."""

    @abstractmethod
    def default_prior(self, stem: str, role: str, matrix: Matrix, response: np.ndarray) -> Prior:
        """Return the data-scaled default prior of the coefficients, in the user's units."""

    @abstractmethod
    def scaling(self, role: str, matrix: Matrix, response: np.ndarray) -> Scaling:
        """Return the map between internal and reported coefficients.

        Raises
        ------
        SpecError
            If the predictor is not linear in its coefficients, so that EM cannot treat it.
        """

    @abstractmethod
    def build(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        expert_dim: str,
    ) -> Any:
        """Create the random variables in the current model and return eta (expert, obs)."""

    @abstractmethod
    def evaluate(self, stem: str, draws: Values, matrix: Matrix) -> np.ndarray:
        """Return eta (sample, expert, obs) of posterior draws on rows."""

    @abstractmethod
    def to_raw(
        self, stem: str, role: str, matrix: Matrix, response: np.ndarray, values: Values
    ) -> Values:
        """Return the sampler's variables from the reported ones."""

    @abstractmethod
    def variables(self, stem: str) -> tuple[str, ...]:
        """Names of the reported variables that :meth:`evaluate` reads."""

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
        mixing: np.ndarray | None = None,
        raw_dim: str | None = None,
    ) -> Any:
        """Create the random variables in the current model and return eta (expert, obs).

        With ``mixing`` (internal, expert), the random variables have the dimension ``raw_dim``
        instead of the experts', and the experts' are ``mixing.T @ internal``.
        """

    @abstractmethod
    def evaluate(self, stem: str, draws: Values, matrix: Matrix) -> np.ndarray:
        """Return eta (sample, expert, obs) of posterior draws on rows."""

    @abstractmethod
    def to_raw(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        values: Values,
        mixing: np.ndarray | None = None,
    ) -> Values:
        """Return the sampler's variables from the reported ones; see :meth:`build`."""

    @abstractmethod
    def variables(self, stem: str) -> tuple[str, ...]:
        """Names of the reported variables that :meth:`evaluate` reads."""

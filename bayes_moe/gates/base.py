"""What every gate can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_moe.design import Matrix
from bayes_moe.predictors import Predictor
from bayes_moe.priors import Prior


class Gate(ABC):
    """Features of a row -> log weights (expert, obs) whose exponentials sum to one.

    ``formulas`` names the designs that the gate reads, by predictor stem.
    """

    @property
    @abstractmethod
    def formulas(self) -> Mapping[str, str | None]:
        """Formulas by stem; None stands for the experts' right-hand side."""

    @property
    @abstractmethod
    def predictors(self) -> Mapping[str, Predictor]:
        """Predictors by stem."""

    @abstractmethod
    def build(
        self,
        experts: int,
        matrices: Mapping[str, Matrix],
        response: np.ndarray,
        priors: Mapping[str, Prior],
    ) -> Any:
        """Create the random variables in the current model; return logits (expert, obs).

        Logits are log weights up to a summand of the row.
        """

    @abstractmethod
    def evaluate(
        self, experts: int, draws: Mapping[str, np.ndarray], matrices: Mapping[str, Matrix]
    ) -> np.ndarray:
        """Return log weights (sample, expert, obs) of posterior draws on rows."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; its ``kind`` is the name in the registry."""

"""Softmax gate: ``log w_k(x) = eta_k(x) - log sum_j exp(eta_j(x))``, eta linear in the features.

The default prior is a zero-sum normal over the experts: it is the same for every labelling of
the experts, unlike a gate whose reference expert is pinned to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe import names
from bayes_moe.arrays import NUMERIC, log_softmax
from bayes_moe.design import Matrix
from bayes_moe.gates.base import Gate
from bayes_moe.predictors import Linear, Predictor
from bayes_moe.priors import Prior


@dataclass(frozen=True)
class Softmax(Gate):
    """Softmax gate over all experts.

    Parameters
    ----------
    formula : str, optional
        Features of the gate, e.g. ``"~ z"``; ``"~ 1"`` is a constant gate (an ordinary mixture).
        Left out, the gate uses the experts' right-hand side.

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J., & Hinton, G. E. (1991). Adaptive mixtures of
    local experts. Neural Computation, 3(1), 79-87.
    """

    formula: str | None = None

    kind: ClassVar[str] = "softmax"

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    @property
    def predictors(self) -> Mapping[str, Predictor]:
        return {names.GATE: Linear()}

    def build(
        self,
        experts: int,
        matrices: Mapping[str, Matrix],
        response: np.ndarray,
        priors: Mapping[str, Prior],
    ) -> Any:
        matrix = matrices[names.GATE]
        if experts == 1:
            import pytensor.tensor as pt

            return pt.zeros((1, 1))
        return self.predictors[names.GATE].build(
            names.GATE,
            names.GATE,
            matrix,
            response,
            priors[names.coef(names.GATE)],
            names.EXPERT,
        )

    def evaluate(
        self, experts: int, draws: Mapping[str, np.ndarray], matrices: Mapping[str, Matrix]
    ) -> np.ndarray:
        matrix = matrices[names.GATE]
        if experts == 1:
            samples = len(next(iter(draws.values())))
            return np.zeros((samples, 1, len(matrix.values)))
        eta = self.predictors[names.GATE].evaluate(names.GATE, draws, matrix)
        return log_softmax(eta, NUMERIC)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "formula": self.formula}

"""Stick-breaking gate: ``w_k(x) = v_k(x) prod_{j<k} (1 - v_j(x))``, ``logit v_k = eta_k(x)``.

Every stick is a split with two branches, its expert and all later ones. The number of experts is a
truncation: unlike a softmax, the prior puts less weight on later experts, and those that are not
needed get none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np

from bayes_moe import predictors
from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.gates.base import Gate
from bayes_moe.gates.splits import Split, SplitTree
from bayes_moe.gates.structure import Head
from bayes_moe.predictors import Linear, Predictor
from bayes_moe.priors.prior import Prior

SLOPE = 1.0


@dataclass(frozen=True)
class StickBreaking(Gate):
    """Stick-breaking gate with logit sticks, for an open number of experts.

    Parameters
    ----------
    formula : str, optional
        Features of every stick, e.g. ``"~ z"``; ``"~ 1"`` is a truncated stick-breaking mixture.
        Left out, the gate uses the experts' right-hand side.
    concentration : float
        Of the prior at the centre of the features: a stick's intercept is normal with the mean and
        variance of ``logit(v)``, ``v ~ Beta(1, concentration)``, the stick of a Dirichlet process.
        About ``concentration * log(n)`` experts are expected to be in use.
    predictor : Predictor or str, optional
        What makes the sticks' predictors of features, as in :class:`bayes_moe.gates.Softmax`. The
        prior of another than a linear one takes every stick for half.

    References
    ----------
    Ren, L., Du, L., Carin, L., & Dunson, D. (2011). Logistic stick-breaking process. Journal of
    Machine Learning Research, 12, 203-239.
    """

    formula: str | None = None
    concentration: float = 1.0
    predictor: Predictor | str | None = None

    kind: ClassVar[str] = "stickbreaking"

    def __post_init__(self) -> None:
        given = self.concentration
        number = isinstance(given, int | float | np.number) and not isinstance(given, bool)
        if not number or not np.isfinite(given) or given <= 0:
            raise SpecError(f"`concentration` must be a positive number; it is {given!r}.")
        made = predictors.made(self.predictor)
        object.__setattr__(self, "predictor", None if made == Linear() else made)

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    def heads(self, experts: int) -> tuple[Head, ...]:
        if experts == 1:
            return ()
        sticks, chosen = tuple(range(experts - 1)), predictors.made(self.predictor)
        return (
            Head(names.GATE, chosen, names.STICK, sticks, slice(0, experts - 1), zero_sum=False),
        )

    def default_priors(
        self, experts: int, matrices: Mapping[str, Matrix], response: np.ndarray
    ) -> dict[str, Prior]:
        from scipy.special import digamma, polygamma

        found = super().default_priors(experts, matrices, response)
        matrix = matrices[names.GATE]
        intercept = np.array([j == matrix.intercept for j in range(len(matrix.terms))])
        a = self.concentration
        level = float(digamma(1.0) - digamma(a))
        spread = float(np.sqrt(polygamma(1, 1.0) + polygamma(1, a)))
        if self.predictor is None:
            sigma = np.where(intercept, spread, SLOPE) / matrix.scale
            prior = Prior("Normal", mu=level * intercept, sigma=sigma)
            return {names.coef(names.GATE): prior}
        # Coefficients of other predictors are in units of their own spreads, and normal about 0.
        return found | {names.coef(names.GATE): Prior("Normal", mu=0.0, sigma=1.0)}

    def branching(self, experts: int) -> SplitTree:
        return _sticks(experts)

    def log_weights(self, experts: int, eta: Any, xp: Arrays) -> Any:
        return self.branching(experts).log_weights(eta, xp)

    def linear(self) -> Gate:
        return replace(self, predictor=None)

    def exchange_tree(self, experts: int) -> Any:
        return None

    def reordered(self, order: tuple[int, ...]) -> Gate:
        raise SpecError(
            "A stick-breaking gate takes experts in their order: put those of the same kind next "
            "to each other."
        )

    def to_dict(self) -> dict[str, Any]:
        found = {
            "kind": self.kind,
            "formula": self.formula,
            "concentration": self.concentration,
        }
        if self.predictor is None:
            return found
        return found | {"predictor": predictors.made(self.predictor).to_dict()}


@cache
def _sticks(experts: int) -> SplitTree:
    splits = []
    for k in range(experts - 1):
        leaves = ((k,), tuple(range(k + 1, experts)))
        name = "root" if k == 0 else ".".join("1" * k)
        labels = (str(k), f"after {k}")
        splits.append(Split(name, names.GATE, slice(k, k + 1), leaves, labels, k))
    return SplitTree(tuple(splits), experts)

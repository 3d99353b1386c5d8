"""Stick-breaking gate: ``w_k(x) = v_k(x) prod_{j<k} (1 - v_j(x))``, ``logit v_k = eta_k(x)``.

Every stick is a split with two branches, its expert and all later ones. The number of experts is a
truncation: unlike a softmax, the prior puts less weight on later experts, and those that are not
needed get none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bayes_moe import predictors
from bayes_moe.core import names
from bayes_moe.core.checks import check_positive
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.gates.base import Gate
from bayes_moe.gates.splits import Split, SplitTree
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.predictors import Linear, Predictor
from bayes_moe.priors.prior import Prior

SLOPE = 1.0


@dataclass(frozen=True, repr=False)
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
        check_positive("concentration", self.concentration)
        made = predictors.made(self.predictor)
        object.__setattr__(self, "predictor", None if made == Linear() else made)

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    def structure(self, n_experts: int) -> GateStructure:
        sticks = n_experts - 1
        heads: tuple[Head, ...] = ()
        if sticks:
            predictor, labels = predictors.made(self.predictor), tuple(range(sticks))
            head = Head(names.GATE, predictor, names.STICK, labels, slice(0, sticks))
            heads = (replace(head, zero_sum=False, default_prior=self._default_prior),)
        return GateStructure(
            n_experts,
            heads,
            _sticks(n_experts) if sticks else None,
            None,  # earlier experts have more weight under the prior: no two are exchangeable
            surrogate=None if self.predictor is None else replace(self, predictor=None),
        )

    def _default_prior(self, matrix: Matrix) -> Prior:
        """Prior of the coefficients: at the centre, sticks of a Dirichlet process."""
        from scipy.special import digamma, polygamma

        if self.predictor is not None:
            # Coefficients of these are in units of their own spreads, and normal about 0.
            return Prior("Normal", mu=0.0, sigma=1.0)
        intercept = np.array([j == matrix.intercept for j in range(len(matrix.terms))])
        a = self.concentration
        level = float(digamma(1.0) - digamma(a))
        spread = float(np.sqrt(polygamma(1, 1.0) + polygamma(1, a)))
        sigma = np.where(intercept, spread, SLOPE) / matrix.scale
        return Prior("Normal", mu=level * intercept, sigma=sigma)

    def reordered(self, order: tuple[int, ...]) -> Gate:
        raise SpecError(
            "A stick-breaking gate takes experts in their order: put those of the same kind next "
            "to each other."
        )

    def to_dict(self) -> dict[str, Any]:
        record = {
            "kind": self.kind,
            "formula": self.formula,
            "concentration": self.concentration,
        }
        if self.predictor is None:
            return record
        return record | {"predictor": predictors.made(self.predictor).to_dict()}


def _sticks(n_experts: int) -> SplitTree:
    """One split a stick: its expert, and all later ones."""
    splits = []
    for k in range(n_experts - 1):
        leaves = ((k,), tuple(range(k + 1, n_experts)))
        name = "root" if k == 0 else ".".join("1" * k)
        labels = (str(k), f"after {k}")
        splits.append(Split(name, names.GATE, slice(k, k + 1), leaves, labels, k))
    return SplitTree(tuple(splits), n_experts)

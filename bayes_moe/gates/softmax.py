"""Softmax gate: ``log w_k(x) = eta_k(x) / T - log sum_j exp(eta_j(x) / T)``.

The default prior is a zero-sum normal over the experts: it is the same for every labelling of
the experts, unlike a gate whose reference expert is pinned to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from bayes_moe import predictors
from bayes_moe.core import names
from bayes_moe.core.checks import check_positive
from bayes_moe.gates.base import Gate
from bayes_moe.gates.splits import Split, SplitTree
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.predictors import Linear, Predictor


@dataclass(frozen=True, repr=False)
class Softmax(Gate):
    """Softmax gate over all experts.

    Parameters
    ----------
    formula : str, optional
        Features of the gate, e.g. ``"~ z"``; ``"~ 1"`` is a constant gate (an ordinary mixture).
        Left out, the gate uses the experts' right-hand side.
    temperature : float
        What the predictors are divided by before they become weights: below 1 the gate is sharper
        than its coefficients say, above 1 softer. Priors and coefficients are those of the
        predictors before.
    predictor : Predictor or str, optional
        What makes predictors of features: ``"linear"`` (the default), ``"spline"``,
        ``"fourier"``, ``"hsgp"``, a linear one under a shrinkage prior, ``"horseshoe"``, ``"r2d2"``
        or ``"normalgamma"``, all of which every method fits; ``"mlp"`` or ``"softtree"``, which EM
        does not; or one with settings, such as ``bm.predictors.HSGP(m=20)``. A prior of
        ``gate_coef`` then is in units of the predictor's own spreads.

    References
    ----------
    Jacobs, R. A., Jordan, M. I., Nowlan, S. J., & Hinton, G. E. (1991). Adaptive mixtures of
    local experts. Neural Computation, 3(1), 79-87.
    """

    formula: str | None = None
    temperature: float = 1.0
    predictor: Predictor | str | None = None

    kind: ClassVar[str] = "softmax"

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)
        made = predictors.made(self.predictor)
        object.__setattr__(self, "predictor", None if made == Linear() else made)

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    def structure(self, n_experts: int) -> GateStructure:
        heads: tuple[Head, ...] = ()
        if n_experts > 1:
            predictor, outputs = predictors.made(self.predictor), slice(0, n_experts)
            heads = (Head(names.GATE, predictor, names.EXPERT, None, outputs),)
        return GateStructure(
            n_experts,
            heads,
            single_softmax(n_experts) if n_experts > 1 else None,
            (names.GATE, tuple(range(n_experts))),
            temperature=float(self.temperature),
            surrogate=None if self.predictor is None else replace(self, predictor=None),
        )

    def to_dict(self) -> dict[str, Any]:
        record = {"kind": self.kind, "formula": self.formula, "temperature": self.temperature}
        if self.predictor is None:
            return record
        return record | {"predictor": predictors.made(self.predictor).to_dict()}


def single_softmax(n_experts: int) -> SplitTree:
    """One split, with an expert under each of its branches."""
    leaves = tuple((k,) for k in range(n_experts))
    labels = tuple(map(str, range(n_experts)))
    split = Split("root", names.GATE, slice(0, n_experts), leaves, labels, 0)
    return SplitTree((split,), n_experts)

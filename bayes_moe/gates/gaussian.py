"""Localised gate: ``w_k(x) = pi_k N(x | m_k, S_k) / sum_j pi_j N(x | m_j, S_j)``.

The features are modelled too: the density is that of features and response,
``p(x, y) = sum_k pi_k N(x | m_k, S_k) f_k(y | x)``, of which the gate's weights are a part. So
every M-step of EM has its optimum in closed form, and none needs a step size.

``N(x | m, S)`` is the product of the normal regressions of each feature on those before it, which
is the Cholesky factor of ``S`` in other words: its means are linear in its coefficients, and its
standard deviations are the factor's diagonal. These are the parameters that are fitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import check_right_hand_side, parse_formula
from bayes_moe.gates.base import Gate
from bayes_moe.gates.feature_model import FeatureDensity, FeatureModel
from bayes_moe.gates.softmax import Softmax
from bayes_moe.gates.structure import GateStructure

COVARIANCES = ("full", "diag")
FEATURES = f"{names.GATE}_features"


@dataclass(frozen=True, repr=False)
class Gaussian(Gate):
    r"""Gate by a normal density of the features for each expert.

    Parameters
    ----------
    formula : str
        Features that the gate models, e.g. ``"~ x1 + x2"``: columns of numbers, or functions of
        them with one column each. Categories have no normal density.
    covariance : {"full", "diag"}
        Whether the features of an expert are correlated.

    Notes
    -----
    The posterior has ``gate_coef`` (logits of :math:`\pi`) and, for each feature ``x``,
    ``gate_x_mu_coef`` and ``gate_x_sigma`` of its regression on the features before it. Derived
    from them, ``gate_weight`` (expert), ``gate_mean`` (expert, gate_feature) and ``gate_cov``
    (expert, gate_feature, gate_feature_bis) are there too. Under a full covariance the default
    priors of the regressions depend slightly on the order of the features; the likelihood does not.

    The log likelihood that a mode reports is that of features and response; ``log_density``,
    ``az.loo`` and predictions are of the response given the features, as with any gate.

    References
    ----------
    Xu, L., Jordan, M. I., & Hinton, G. E. (1995). An alternative model for mixtures of experts.
    Advances in Neural Information Processing Systems, 7, 633-640.
    """

    formula: str | None = None
    covariance: str = "full"

    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        if not isinstance(self.formula, str):
            raise SpecError(
                f"A Gaussian gate needs a formula of its features, such as '~ x'; it is "
                f"{self.formula!r}."
            )
        check_right_hand_side("The formula of 'gate'", self.formula)
        check_one_of("covariance", self.covariance, COVARIANCES)
        if not self.terms:
            raise SpecError(f"A Gaussian gate needs features; {self.formula!r} has none.")

    @property
    def terms(self) -> tuple[str, ...]:
        """The features, in their order."""
        return tuple(_texts(str(self.formula)))

    @property
    def formulas(self) -> Mapping[str, str | None]:
        regressions = {f"{density.name}_mu": density.formula for density in self._densities()}
        every = " + ".join(_texts(str(self.formula)).values())
        return {names.GATE: "~ 1", FEATURES: f"~ 0 + {every}", **regressions}

    def structure(self, n_experts: int) -> GateStructure:
        softmax = Softmax("~ 1").structure(n_experts)
        features = FeatureModel(self._densities(), n_experts) if n_experts > 1 else None
        return replace(softmax, features=features)

    def _densities(self) -> tuple[FeatureDensity, ...]:
        texts = _texts(str(self.formula))
        stems = [f"{names.GATE}_{re.sub(r'\W+', '_', term).strip('_')}" for term in texts]
        densities = []
        for j, (term, stem) in enumerate(zip(texts, stems, strict=True)):
            name = stem if stems.count(stem) == 1 else f"{stem}_{j}"
            before = list(texts.values())[:j] if self.covariance == "full" else []
            formula = "~ " + " + ".join(["1", *before])
            densities.append(FeatureDensity(name, term, FEATURES, j, formula))
        return tuple(densities)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "formula": self.formula, "covariance": self.covariance}


@lru_cache(maxsize=64)
def _texts(formula: str) -> dict[str, str]:
    """Terms of a formula by name, as they are written in one."""
    texts = {}
    for term in parse_formula(formula):
        if str(term) not in ("0", "1"):
            factors = [
                f"`{f.expr}`" if f.eval_method.value == "lookup" else f.expr for f in term.factors
            ]
            texts[str(term)] = ":".join(factors)
    return texts

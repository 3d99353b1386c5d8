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
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, log_softmax
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.formulas import check_right_hand_side, parse_formula
from bayes_moe.data.matrix import Matrix
from bayes_moe.families.location_scale import Normal
from bayes_moe.gates.base import Gate, Values
from bayes_moe.gates.softmax import Softmax
from bayes_moe.gates.structure import FeatureDensity, Head
from bayes_moe.predictors import Linear, Site

COVARIANCES = ("full", "diag")
FEATURES = f"{names.GATE}_features"


@dataclass(frozen=True)
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
        if self.covariance not in COVARIANCES:
            raise SpecError(unknown("covariance", self.covariance, COVARIANCES))
        if not self.terms:
            raise SpecError(f"A Gaussian gate needs features; {self.formula!r} has none.")

    @property
    def terms(self) -> tuple[str, ...]:
        """The features, in their order."""
        return tuple(_texts(self.formula))

    @property
    def feature_densities(self) -> tuple[FeatureDensity, ...]:
        return _modelled(self)

    @property
    def formulas(self) -> Mapping[str, str | None]:
        regressions = {f"{m.name}_mu": m.formula for m in self.feature_densities}
        every = " + ".join(_texts(self.formula).values())
        return {names.GATE: "~ 1", FEATURES: f"~ 0 + {every}", **regressions}

    def heads(self, experts: int) -> tuple[Head, ...]:
        return Softmax("~ 1").heads(experts)

    def branching(self, experts: int) -> Any:
        return Softmax("~ 1").branching(experts)

    def log_weights(self, experts: int, eta: Any, xp: Arrays) -> Any:
        return log_softmax(eta, xp)

    def evaluate(self, experts: int, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        if experts == 1:
            return super().evaluate(experts, draws, matrices)
        found: np.ndarray = log_softmax(self._joint(experts, draws, matrices), NUMERIC)
        return found

    def log_features(
        self, experts: int, draws: Values, matrices: Mapping[str, Matrix]
    ) -> np.ndarray | float:
        if experts == 1:
            return 0.0
        found: np.ndarray = NUMERIC.logsumexp(self._joint(experts, draws, matrices), axis=-2)
        return found

    def _joint(self, experts: int, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Log weight of every expert and density of its features (sample, expert, obs)."""
        joint: np.ndarray = log_softmax(draws[names.coef(names.GATE)], NUMERIC)
        for m in self.feature_densities:
            place = Site(f"{m.name}_mu", "location", names.EXPERT, experts, each=True)
            mu = Linear().evaluate(place, draws, matrices[place.stem])
            params = {"mu": mu, "sigma": draws[f"{m.name}_sigma"][..., None]}
            x = matrices[m.stem].values[:, m.column]
            joint = joint + Normal().log_density(x, params, NUMERIC)
        return joint

    def derived(self, experts: int, draws: Values) -> dict[str, np.ndarray]:
        if experts == 1:
            return {}
        logits = draws[names.coef(names.GATE)][..., 0]
        level = np.stack(
            [draws[names.coef(f"{m.name}_mu")][..., 0] for m in self.feature_densities], -1
        )
        sd = np.stack([draws[f"{m.name}_sigma"] for m in self.feature_densities], axis=-1)
        size = len(self.feature_densities)
        rest = np.tile(np.eye(size), (*logits.shape, 1, 1))
        if self.covariance == "full":
            for j, m in enumerate(self.feature_densities):
                rest[..., j, :j] = -draws[names.coef(f"{m.name}_mu")][..., 1:]
        root = np.linalg.inv(rest)
        weight = np.exp(log_softmax(logits[..., None], NUMERIC))[..., 0]
        half = root * sd[..., None, :]
        return {
            f"{names.GATE}_weight": weight,
            f"{names.GATE}_mean": np.einsum("...ij,...j->...i", root, level),
            f"{names.GATE}_cov": np.einsum("...ij,...kj->...ik", half, half),
        }

    def derived_dims(self, experts: int) -> dict[str, tuple[str, ...]]:
        if experts == 1:
            return {}
        feature = f"{names.GATE}_feature"
        return {
            f"{names.GATE}_weight": (names.EXPERT,),
            f"{names.GATE}_mean": (names.EXPERT, feature),
            f"{names.GATE}_cov": (names.EXPERT, feature, f"{feature}_bis"),
        }

    def derived_coords(self) -> dict[str, list[Any]]:
        feature = f"{names.GATE}_feature"
        return {feature: list(self.terms), f"{feature}_bis": list(self.terms)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "formula": self.formula, "covariance": self.covariance}


@cache
def _modelled(gate: Gaussian) -> tuple[FeatureDensity, ...]:
    texts = _texts(gate.formula)
    stems = [f"{names.GATE}_{re.sub(r'\W+', '_', t).strip('_')}" for t in texts]
    found = []
    for j, (term, stem) in enumerate(zip(texts, stems, strict=True)):
        name = stem if stems.count(stem) == 1 else f"{stem}_{j}"
        before = list(texts.values())[:j] if gate.covariance == "full" else []
        found.append(FeatureDensity(name, term, FEATURES, j, "~ " + " + ".join(["1", *before])))
    return tuple(found)


@cache
def _texts(formula: str) -> dict[str, str]:
    """Terms of a formula by name, as they are written in one."""
    found = {}
    for term in parse_formula(formula):
        if str(term) not in ("0", "1"):
            factors = [
                f"`{f.expr}`" if f.eval_method.value == "lookup" else f.expr for f in term.factors
            ]
            found[str(term)] = ":".join(factors)
    return found

"""Normal densities of a gate's features under each expert, factors of the joint density.

``N(x | m_k, S_k)`` is written as normal regressions of each feature on those before it, which is
the Cholesky factor of ``S_k``: the means are linear in the coefficients, and the standard
deviations are the factor's diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Values, log_softmax
from bayes_moe.data.matrix import Matrix
from bayes_moe.families.location_scale import Normal
from bayes_moe.predictors import Linear, Site

WEIGHT, MEAN, COVARIANCE = (f"{names.GATE}_{word}" for word in ("weight", "mean", "cov"))
FEATURE = f"{names.GATE}_feature"
OTHER_FEATURE = f"{FEATURE}_bis"
"""Second dimension of a covariance: dimensions of one variable need different names."""


@dataclass(frozen=True)
class FeatureDensity:
    """A feature whose normal density is a factor of every expert's.

    ``name`` is the prefix of its variables, ``term`` the feature, which is the column ``column`` of
    the matrix ``stem``; ``formula`` names the features that its mean depends on.
    """

    name: str
    term: str
    stem: str
    column: int
    formula: str


@dataclass(frozen=True)
class FeatureModel:
    """The features' normal densities under each of some experts."""

    densities: tuple[FeatureDensity, ...]
    n_experts: int

    def log_joint(self, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Log share of every expert plus log density of its features (sample, expert, obs)."""
        joint: np.ndarray = log_softmax(draws[names.coef(names.GATE)], NUMERIC)
        for density in self.densities:
            site = Site(f"{density.name}_mu", "location", names.EXPERT, self.n_experts, each=True)
            mu = Linear().evaluate(site.bind(matrices[site.stem]), draws)
            params = {"mu": mu, "sigma": draws[f"{density.name}_sigma"][..., None]}
            x = matrices[density.stem].column(density.column)
            joint = joint + Normal().log_density(x, params, NUMERIC)
        return joint

    def log_density(self, draws: Values, matrices: Mapping[str, Matrix]) -> np.ndarray:
        """Log density (sample, obs) of the features, experts summed out."""
        density: np.ndarray = NUMERIC.logsumexp(self.log_joint(draws, matrices), axis=-2)
        return density

    def moments(self, draws: Values) -> tuple[np.ndarray, np.ndarray]:
        """Means (sample, expert, feature) and lower roots of the covariances of the features.

        With ``R x = level + sd z``, ``R`` lower triangular with a diagonal of ones, the mean is
        ``R^-1 level`` and a root of the covariance ``R^-1 diag(sd)``.
        """
        coefs = [draws[names.coef(f"{density.name}_mu")] for density in self.densities]
        sd = np.stack([draws[f"{density.name}_sigma"] for density in self.densities], axis=-1)
        regressions = np.tile(np.eye(len(coefs)), (*sd.shape[:-1], 1, 1))
        for j, coef in enumerate(coefs):
            regressions[..., j, : coef.shape[-1] - 1] = -coef[..., 1:]
        root = np.linalg.inv(regressions)
        level = np.stack([coef[..., 0] for coef in coefs], axis=-1)
        return np.einsum("...ij,...j->...i", root, level), root * sd[..., None, :]

    def derived(self, draws: Values) -> dict[str, np.ndarray]:
        """Weights, means and covariances of the features (sample, expert, ...) by name."""
        logits = draws[names.coef(names.GATE)][..., 0]
        mean, root = self.moments(draws)
        return {
            WEIGHT: np.exp(log_softmax(logits[..., None], NUMERIC))[..., 0],
            MEAN: mean,
            COVARIANCE: np.einsum("...ij,...kj->...ik", root, root),
        }

    @property
    def derived_dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of :meth:`derived`."""
        return {
            WEIGHT: (names.EXPERT,),
            MEAN: (names.EXPERT, FEATURE),
            COVARIANCE: (names.EXPERT, FEATURE, OTHER_FEATURE),
        }

    @property
    def derived_coords(self) -> dict[str, list[Any]]:
        """Labels along the dimensions of :meth:`derived` that no variable has."""
        terms = [density.term for density in self.densities]
        return {FEATURE: terms, OTHER_FEATURE: list(terms)}

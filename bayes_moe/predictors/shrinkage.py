"""Linear predictors with shrinkage priors: slopes whose spreads are learned, feature by feature.

The standardised slopes of feature ``j`` are normal with standard deviation ``s_j`` over the
experts, so that the slopes of an irrelevant feature shrink for all of them at once. With a global
``tau`` and a local ``l_j`` for each feature:

===============  ============================  ==============================================
name             priors                        spread
===============  ============================  ==============================================
``horseshoe``    ``l_j ~ HalfCauchy(1)``       ``t_j / sqrt(1 + t_j^2 / c^2)``,
                                               ``t_j = tau l_j``, ``c = 2.5``
``r2d2``         ``l_j ~ Gamma(a, 1)``         ``tau sqrt(l_j / sum l)``
``normalgamma``  ``l_j ~ Gamma(a, a)``         ``tau sqrt(l_j)``
===============  ============================  ==============================================
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, Values
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.checks import check_positive
from bayes_moe.core.errors import SpecError
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Target
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import (
    Variable,
    Variables,
    coefficients,
    hyperparameter_rvs,
    unit_prior,
)
from bayes_moe.priors.prior import Prior

SLAB = 2.5
"""Standard deviation of slopes under the horseshoe that are not shrunk."""


@dataclass(frozen=True)
class Shrinkage(Linear):
    """A linear predictor whose slopes share learned spreads over the experts."""

    @abstractmethod
    def local_prior(self) -> Prior:
        """Return the prior of each feature's local parameter."""

    def global_scale(self, features: int, rows: float) -> float:
        """Return the scale of the half-Cauchy prior of the global parameter."""
        return 1.0

    @abstractmethod
    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
        """Return standard deviations (..., slope) from global and local parameters (..., slope)."""

    def default_prior(self, b: Binding) -> Prior:
        return unit_prior(b.site.role)

    def variables(self, site: Site) -> Variables:
        stem = site.stem
        return Variables(
            [
                coefficients(site, names.term(stem), zero_mean=True),
                Variable(
                    names.part(stem, names.GLOBAL),
                    (names.part(stem, names.SHRINKAGE),),
                    prior=self._global_prior,
                    initial=lambda b, rng: np.ones(1),
                    positive=True,
                ),
                Variable(
                    names.part(stem, names.LOCAL),
                    (names.part(stem, names.SLOPE),),
                    prior=lambda b: self.local_prior(),
                    initial=lambda b, rng: np.ones(len(_slopes(b.matrix))),
                    positive=True,
                ),
            ]
        )

    def _global_prior(self, b: Binding) -> Prior:
        slopes = len(_slopes(b.matrix))
        if not slopes:
            raise SpecError(f"{self!r} needs a feature to shrink; the formula has none.")
        return Prior("HalfCauchy", beta=self.global_scale(slopes, b.response.count))

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        stem, slopes = b.site.stem, [b.matrix.terms[j] for j in _slopes(b.matrix)]
        return super().coords(b) | {
            names.part(stem, names.SHRINKAGE): [self.kind],
            names.part(stem, names.SLOPE): slopes,
        }

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        """Return prior standard deviations (..., term) of the internal coefficients."""
        stem, intercept = b.site.stem, b.matrix.intercept
        total, local = (values[names.part(stem, name)] for name in (names.GLOBAL, names.LOCAL))
        level = xp.matmul(total, np.ones((1, len(_slopes(b.matrix)))))
        slopes = self.slopes(level, local, xp)
        if intercept is None:
            return slopes
        # The product with 0 gives the constant the leading dimensions of the draws.
        constant = 0.0 * total + b.units.intercept
        return xp.concatenate([slopes[..., :intercept], constant, slopes[..., intercept:]], axis=-1)

    def raw_sds(self, b: Binding, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {b.site.raw: self.spread(b, values, NUMERIC)[:, None]}

    def internal_prior(
        self, b: Binding, prior: Prior, priors: Mapping[str, Prior], context: GraphContext
    ) -> tuple[Prior, Any]:
        variables = self.variables(b.site)
        values = hyperparameter_rvs(variables, variables.priors(b) | dict(priors), context)
        unit_scale = prior.over_terms(b.site.coef, b.matrix.terms)
        return unit_scale, self.spread(b, values, symbolic_arrays())

    def to_raw(self, b: Binding, values: Values) -> Values:
        hyper = {v.name: np.asarray(values[v.name]) for v in self.variables(b.site).hyperparameters}
        spread = self.spread(b, hyper, NUMERIC)
        internal = super().to_raw(b, values)
        return hyper | {name: raw / spread[..., :, None] for name, raw in internal.items()}

    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        coef = super().project(b, target)
        return coef | self.variables(b.site).initial(b, target.rng)


@dataclass(frozen=True)
class Horseshoe(Shrinkage):
    r"""Linear predictor under the regularised horseshoe.

    ``gate_global`` has the prior ``HalfCauchy(tau_0)``, :math:`\tau_0 = \frac{p_0}{p - p_0}
    \frac{2}{\sqrt n}`, ``gate_local`` (slope,) ``HalfCauchy(1)``.

    Parameters
    ----------
    expected : float, optional
        How many of the ``p`` features are expected to matter, ``p_0``; by default the square root
        of ``p``, at most half of them.

    References
    ----------
    Piironen, J., & Vehtari, A. (2017). Sparsity information and regularization in the horseshoe and
    other shrinkage priors. Electronic Journal of Statistics, 11(2), 5018-5051.
    """

    expected: float | None = None

    kind: ClassVar[str] = "horseshoe"

    def __post_init__(self) -> None:
        if self.expected is not None:
            check_positive("expected", self.expected)

    def local_prior(self) -> Prior:
        return Prior("HalfCauchy", beta=1.0)

    def global_scale(self, features: int, rows: float) -> float:
        few = min(sqrt(features) if self.expected is None else self.expected, 0.5 * features)
        return few / (features - few) * 2.0 / sqrt(rows)

    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
        # exp(-log1p(t^2 / c^2) / 2) is 1 / sqrt(1 + t^2 / c^2).
        wide = level * local
        return wide * xp.exp(-0.5 * xp.log1p((wide / SLAB) * (wide / SLAB)))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "expected": self.expected}


@dataclass(frozen=True)
class R2D2(Shrinkage):
    r"""Linear predictor under the R2-induced Dirichlet decomposition.

    The total variance of the predictor, in units of the logistic distribution's
    :math:`\pi^2 / 3`, is :math:`R^2 / (1 - R^2)` with :math:`R^2 \sim Beta(1/2, 1/2)`: the square
    of ``gate_global ~ HalfCauchy``. Features share it by a Dirichlet distribution, whose gamma
    variables are ``gate_local`` (slope,).

    Parameters
    ----------
    concentration : float
        Of the Dirichlet distribution; below 1, few features have most of the variance.

    References
    ----------
    Zhang, Y. D., Naughton, B. P., Bondell, H. D., & Reich, B. J. (2022). Bayesian regression using
    a prior on the model fit: the R2-D2 shrinkage prior. Journal of the American Statistical
    Association, 117(538), 862-874.
    """

    concentration: float = 0.5

    kind: ClassVar[str] = "r2d2"

    def __post_init__(self) -> None:
        check_positive("concentration", self.concentration)

    def local_prior(self) -> Prior:
        return Prior("Gamma", alpha=self.concentration, beta=1.0)

    def global_scale(self, features: int, rows: float) -> float:
        return float(np.pi / sqrt(3.0))

    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
        # Shares in logs: gamma variables of small shape underflow.
        log_local = xp.log(local)
        return level * xp.exp(0.5 * (log_local - xp.logsumexp(log_local, axis=-1, keepdims=True)))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "concentration": self.concentration}


@dataclass(frozen=True)
class NormalGamma(Shrinkage):
    """Linear predictor under the normal-gamma prior.

    ``gate_global ~ HalfCauchy(1)``; the variances of slopes in its units, ``gate_local`` (slope,),
    are ``Gamma(shape, shape)``, of mean 1.

    Parameters
    ----------
    shape : float
        Below 1 many slopes are nearly zero and few are large; 1 is the Bayesian lasso.

    References
    ----------
    Griffin, J. E., & Brown, P. J. (2010). Inference with normal-gamma prior distributions in
    regression problems. Bayesian Analysis, 5(1), 171-188.
    """

    shape: float = 0.5

    kind: ClassVar[str] = "normalgamma"

    def __post_init__(self) -> None:
        check_positive("shape", self.shape)

    def local_prior(self) -> Prior:
        return Prior("Gamma", alpha=self.shape, beta=self.shape)

    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
        return level * xp.exp(0.5 * xp.log(local))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": self.shape}


def _slopes(matrix: Matrix) -> list[int]:
    """Positions of the terms but the intercept."""
    return [j for j in range(len(matrix.terms)) if j != matrix.intercept]

"""Linear predictors with shrinkage priors: slopes whose spreads are learned, feature by feature.

The standardised slopes of feature ``j`` are normal with standard deviation ``s_j`` over the
experts, so a feature that decides nothing fades for all of them at once. With a global ``tau`` and
a local ``l_j`` for each feature:

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
from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.checks import check_positive
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import NOTHING, Values
from bayes_moe.predictors.basis import about_zero, unit_prior
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import standard
from bayes_moe.priors.prior import Prior

SLAB = 2.5


@dataclass(frozen=True)
class Shrinkage(Linear):
    """A linear predictor whose slopes share learned spreads over the experts."""

    @abstractmethod
    def local_prior(self) -> Prior:
        """Prior of each feature's local parameter."""

    def global_scale(self, features: int, rows: int) -> float:
        """Scale of the half-Cauchy prior of the global parameter."""
        return 1.0

    @abstractmethod
    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
        """Spreads (..., slope) given global and local parameters (..., slope)."""

    def default_prior(self, place: Site, matrix: Matrix, response: np.ndarray) -> Prior:
        return unit_prior(place.role)

    def check_prior(self, name: str, prior: Prior) -> None:
        if not about_zero(prior):
            raise SpecError(
                f"Under {self!r} the prior of {name!r} must be ZeroSumNormal or Normal about 0, in "
                f"units of the learned spreads; it is {prior!r}."
            )

    def hyperparameter_priors(
        self, place: Site, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        slopes = len(self._slope_places(matrix))
        if not slopes:
            raise SpecError(f"{self!r} needs a feature to shrink; the formula has none.")
        scale = self.global_scale(slopes, len(response))
        return {
            f"{place.stem}_global": Prior("HalfCauchy", beta=scale),
            f"{place.stem}_local": self.local_prior(),
        }

    def hyperparameter_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        stem = place.stem
        return {
            f"{stem}_global": (f"{stem}_shrinkage",),
            f"{stem}_local": (f"{stem}_slope",),
        }

    def positive(self, place: Site) -> frozenset[str]:
        return frozenset(self.hyperparameter_dims(place))

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        slopes = [matrix.terms[j] for j in self._slope_places(matrix)]
        own = {f"{place.stem}_shrinkage": [self.kind], f"{place.stem}_slope": slopes}
        return super().coords(place, matrix) | own

    def initial_hyperparameters(
        self, place: Site, matrix: Matrix, rng: np.random.Generator
    ) -> dict[str, Any]:
        slopes = len(self._slope_places(matrix))
        return {f"{place.stem}_global": np.ones(1), f"{place.stem}_local": np.ones(slopes)}

    def spread(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray, xp: Arrays
    ) -> Any:
        """Spreads (..., term) of the internal coefficients, that of the intercept too."""
        count = len(self._slope_places(matrix))
        level = xp.matmul(own[f"{place.stem}_global"], np.ones((1, count)))
        slopes = self.slopes(level, own[f"{place.stem}_local"], xp)
        if matrix.intercept is None:
            return slopes
        units = standard(place.role, response, True)
        constant = 0.0 * own[f"{place.stem}_global"] + units.intercept
        at = matrix.intercept
        return xp.concatenate([slopes[..., :at], constant, slopes[..., at:]], axis=-1)

    def scales(self, place: Site) -> frozenset[str]:
        return frozenset(self.hyperparameter_dims(place))

    def raw_sds(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray
    ) -> dict[str, np.ndarray]:
        return {place.raw: self.spread(place, own, matrix, response, NUMERIC)[:, None]}

    def raw_rv(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior],
    ) -> Any:
        found = {name: own[name].rv(name, d) for name, d in self.hyperparameter_dims(place).items()}
        spread = self.spread(place, found, matrix, response, symbolic_arrays())
        given = prior.over_terms(place.coef, matrix.terms)
        dims = (names.term(place.stem), place.inner_dim)
        return given.rv(place.raw, dims, column=True) * spread[:, None]

    def to_raw(self, place: Site, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        own = {name: np.asarray(values[name]) for name in self.hyperparameter_dims(place)}
        found = super().to_raw(place, matrix, response, values)
        spread = self.spread(place, own, matrix, response, NUMERIC)
        return own | {name: raw / spread[..., :, None] for name, raw in found.items()}

    def project(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        target: np.ndarray,
        rng: np.random.Generator,
        *,
        ridge: float = 1e-8,
        weights: np.ndarray | None = None,
        known: Values = NOTHING,
    ) -> dict[str, np.ndarray]:
        found = super().project(
            place, matrix, response, target, rng, ridge=ridge, weights=weights, known=known
        )
        return found | self.initial_hyperparameters(place, matrix, rng)

    def _slope_places(self, matrix: Matrix) -> list[int]:
        return [j for j in range(len(matrix.terms)) if j != matrix.intercept]


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

    def global_scale(self, features: int, rows: int) -> float:
        few = min(sqrt(features) if self.expected is None else self.expected, 0.5 * features)
        return few / (features - few) * 2.0 / sqrt(rows)

    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
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

    def global_scale(self, features: int, rows: int) -> float:
        return float(np.pi / sqrt(3.0))

    def slopes(self, level: Any, local: Any, xp: Arrays) -> Any:
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

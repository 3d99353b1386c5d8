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

from bayes_moe import names
from bayes_moe.arrays import NUMERIC, Arrays
from bayes_moe.arrays import symbolic as symbolic_arrays
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError
from bayes_moe.predictors.base import Values
from bayes_moe.predictors.expansion import check_positive
from bayes_moe.predictors.linear import Linear, Scaling
from bayes_moe.priors import Prior, standard

SLAB = 2.5


@dataclass(frozen=True)
class Shrunk(Linear):
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

    def default_prior(self, stem: str, role: str, matrix: Matrix, response: np.ndarray) -> Prior:
        if role == names.GATE:
            return Prior("ZeroSumNormal", sigma=1.0)
        return Prior("Normal", mu=0.0, sigma=1.0)

    def check_prior(self, name: str, prior: Prior) -> None:
        normal = prior.distribution in ("Normal", "ZeroSumNormal")
        if not normal or np.any(np.asarray(prior.arguments.get("mu", 0.0)) != 0):
            raise SpecError(
                f"Under {self!r} the prior of {name!r} must be ZeroSumNormal or Normal about 0, in "
                f"units of the learned spreads; it is {prior!r}."
            )

    def own_priors(
        self, stem: str, role: str, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        slopes = len(self._slope_places(matrix))
        if not slopes:
            raise SpecError(f"{self!r} needs a feature to shrink; the formula has none.")
        scale = self.global_scale(slopes, len(response))
        return {
            f"{stem}_global": Prior("HalfCauchy", beta=scale),
            f"{stem}_local": self.local_prior(),
        }

    def own_dims(self, stem: str) -> dict[str, tuple[str, ...]]:
        return {
            f"{stem}_global": (f"{stem}_shrinkage",),
            f"{stem}_local": (f"{stem}_slope",),
        }

    def positive(self, stem: str) -> frozenset[str]:
        return frozenset(self.own_dims(stem))

    def dims(self, stem: str, row_dim: str) -> dict[str, tuple[str, ...]]:
        return super().dims(stem, row_dim) | self.own_dims(stem)

    def coords(self, stem: str, matrix: Matrix) -> dict[str, list[Any]]:
        slopes = [matrix.terms[j] for j in self._slope_places(matrix)]
        own = {f"{stem}_shrinkage": [self.kind], f"{stem}_slope": slopes}
        return super().coords(stem, matrix) | own

    def usual(self, stem: str, matrix: Matrix) -> dict[str, np.ndarray]:
        slopes = len(self._slope_places(matrix))
        return {f"{stem}_global": np.ones(1), f"{stem}_local": np.ones(slopes)}

    def spread(
        self, stem: str, role: str, own: Mapping[str, Any], matrix: Matrix, xp: Arrays
    ) -> Any:
        """Spreads (..., term) of the internal coefficients, that of the intercept too."""
        count = len(self._slope_places(matrix))
        level = xp.matmul(own[f"{stem}_global"], np.ones((1, count)))
        slopes = self.slopes(level, own[f"{stem}_local"], xp)
        if matrix.intercept is None:
            return slopes
        units = standard(role, np.ones(1), True)
        constant = 0.0 * own[f"{stem}_global"] + units.intercept
        at = matrix.intercept
        return xp.concatenate([slopes[..., :at], constant, slopes[..., at:]], axis=-1)

    def internal_prior(
        self, stem: str, role: str, prior: Prior, scaling: Scaling, own: Values
    ) -> Prior:
        spread = self.spread(stem, role, own, scaling.matrix, NUMERIC)
        return prior.over_terms(names.coef(stem), scaling.matrix.terms).rescaled(
            np.zeros(len(spread)), 1.0 / spread
        )

    def stretch(self, stem: str, role: str, matrix: Matrix, own: Values) -> np.ndarray | None:
        found: np.ndarray = self.spread(stem, role, own, matrix, NUMERIC)
        return found

    def raw_rv(
        self,
        stem: str,
        role: str,
        prior: Prior,
        scaling: Scaling,
        dims: tuple[str, str],
        own: Mapping[str, Prior],
    ) -> Any:
        found = {name: own[name].rv(name, d) for name, d in self.own_dims(stem).items()}
        spread = self.spread(stem, role, found, scaling.matrix, symbolic_arrays())
        given = prior.over_terms(names.coef(stem), scaling.matrix.terms)
        return given.rv(names.raw(stem), dims, column=True) * spread[:, None]

    def to_raw(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        values: Values,
        mixing: np.ndarray | None = None,
    ) -> Values:
        own = {name: np.asarray(values[name]) for name in self.own_dims(stem)}
        found = super().to_raw(stem, role, matrix, response, values, mixing)
        spread = self.spread(stem, role, own, matrix, NUMERIC)
        return own | {name: raw / spread[..., :, None] for name, raw in found.items()}

    def project(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        eta: np.ndarray,
        rng: np.random.Generator,
        ridge: float = 1e-8,
    ) -> dict[str, np.ndarray]:
        found = super().project(stem, role, matrix, response, eta, rng, ridge)
        return found | self.usual(stem, matrix)

    def _slope_places(self, matrix: Matrix) -> list[int]:
        return [j for j in range(len(matrix.terms)) if j != matrix.intercept]


@dataclass(frozen=True)
class Horseshoe(Shrunk):
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
class R2D2(Shrunk):
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
class NormalGamma(Shrunk):
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

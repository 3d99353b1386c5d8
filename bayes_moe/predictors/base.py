"""What every predictor of the registry can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays, Values
from bayes_moe.core.errors import SpecError
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.linalg import least_squares
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variables, about_zero, coefficients
from bayes_moe.priors.prior import Prior

NO_PRIORS: Mapping[str, Prior] = {}


@dataclass(frozen=True, eq=False)
class Target:
    """Values of a linear predictor that starting values of its variables are to approximate.

    Attributes
    ----------
    eta : array (output, obs)
        The values.
    rng : numpy.random.Generator
        For what is drawn, such as hidden weights.
    ridge : float
        Factor of the squares of the internal coefficients, which are added to the squared errors.
    weights : array (output, obs) or None
        Weights of the squared errors.
    known : mapping
        Hyperparameters that are known by name, since other predictors have them too.
    """

    eta: np.ndarray
    rng: np.random.Generator
    ridge: float = 1e-8
    weights: np.ndarray | None = None
    known: Values = field(default_factory=dict)

    def least_squares(
        self, features: np.ndarray, values: np.ndarray, outputs: slice = slice(None)
    ) -> np.ndarray:
        """Coefficients (output, feature) of ``values`` (output, obs) on features (obs, feature).

        ``outputs`` are the positions of the values among the target's.
        """
        weights = None if self.weights is None else self.weights[outputs]
        return least_squares(features, values, self.ridge, weights)


class Predictor(ABC):
    """Features of a row -> predictor ``eta`` (output, obs).

    Its coefficients ``names.coef(stem)`` have one row an output: an expert, or a branch of a gate.
    Hyperparameters, such as length scales, are one for each expert, or the same for all outputs.
    """

    kind: ClassVar[str]
    gradient: ClassVar[bool] = True
    """Whether the log density has a gradient by all its parameters."""
    on_paths: ClassVar[bool] = False
    """Whether :meth:`evaluate` knows a :class:`bayes_moe.data.path_matrix.PathMatrix`, and returns
    (sample, output, path) of it; otherwise one draw is evaluated after the other."""
    portable: ClassVar[bool] = False
    """Whether reported variables mean the same on every table, if the formula's columns do."""
    has_memory: ClassVar[bool] = False
    """Whether eta of a row depends on rows before it in its series, so that ``time`` is needed."""
    whole_series: ClassVar[bool] = False
    """Whether eta of a part of a series' rows can only be computed with the rows before these."""
    compiled: ClassVar[bool] = False
    """Whether eta is computed by loops that numba compiles, which JAX does not have."""

    @property
    def is_linear(self) -> bool:
        """Whether eta is a sum of fixed features times normal coefficients, as EM needs it.

        Scales of these coefficients may be hyperparameters.
        """
        return False

    @abstractmethod
    def default_prior(self, b: Binding) -> Prior:
        """Return the data-scaled default prior of the coefficients, in the user's units.

        Where coefficients are not on the user's scale, it is the prior of internal ones.
        """

    @abstractmethod
    def build(
        self,
        b: Binding,
        prior: Prior,
        priors: Mapping[str, Prior] = NO_PRIORS,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        """Create the random variables in the current PyMC model and return eta (output, obs).

        ``prior`` is that of the internal outputs' coefficients; ``priors`` are those of the
        hyperparameters by name, by default :meth:`Variables.priors`.
        """

    @abstractmethod
    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        """Return eta (sample, output, obs) of posterior draws on the rows of a binding."""

    @abstractmethod
    def to_raw(self, b: Binding, values: Values) -> Values:
        """Return the sampler's variables from the reported ones; see :meth:`build`."""

    @abstractmethod
    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        """Return reported variables whose eta approximates a target.

        Hyperparameters are those that the target knows, or initial values.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; its ``kind`` is the name in the registry."""

    def variables(self, site: Site) -> Variables:
        """Return the reported variables: coefficients, then hyperparameters."""
        return Variables([coefficients(site, names.term(site.stem))])

    def internal_dims(self, site: Site) -> dict[str, tuple[str, ...]]:
        """Return the dimensions of the sampler's variables that are not reported."""
        return {site.raw: (names.term(site.stem), site.internal_dim)}

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        """Return labels along the predictor's dimensions but that over its outputs."""
        return {names.term(b.site.stem): list(b.matrix.terms)}

    def shapes(self, b: Binding) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the reported variables."""
        sizes = {dim: len(labels) for dim, labels in self.coords(b).items()}
        return {
            name: tuple(sizes.get(dim, b.site.outputs) for dim in dims)
            for name, dims in self.variables(b.site).dims.items()
        }

    def free(self, b: Binding, idle: int) -> int:
        """Return the number of parameters of the likelihood.

        ``idle`` is the number of outputs that follow from the others, where only differences
        count. Scales of coefficients are no parameters of the likelihood.
        """
        shapes, variables = self.shapes(b), self.variables(b.site)
        inner = sum(int(np.prod(shapes[n])) for n in variables.basis - variables.shared)
        return inner + (b.site.outputs - idle) * shapes[b.site.coef][-1]

    def basis(self, matrix: Matrix) -> Matrix:
        """Return the features that the coefficients refer to."""
        return matrix

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        """Return prior standard deviations (..., term) or (..., output, term) of coefficients.

        They are those of internal coefficients in units of the sampler's, at ``values`` of the
        hyperparameters; None if both are the same.
        """
        return None

    def raw_sds(self, b: Binding, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return what learned scales multiply the sampler's variables by, by their names.

        The factors broadcast against the sampler's variable, whose prior has unit scale.
        """
        return {}


def check_coefficient_prior(predictor: Predictor, site: Site, prior: Prior) -> None:
    """Check a user's prior of the coefficients of a predictor.

    Raises
    ------
    SpecError
        For a prior that they cannot have.
    """
    if any(v.zero_mean for v in predictor.variables(site)):
        if not about_zero(prior):
            raise SpecError(
                f"Under {predictor!r} the prior of {site.coef!r} must be ZeroSumNormal or Normal "
                f"about 0, in units of the learned spreads; it is {prior!r}."
            )
    elif prior.kind.support == "positive":
        raise SpecError(f"The prior of {site.coef!r} must have real support; it is {prior!r}.")

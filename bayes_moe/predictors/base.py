"""What every predictor can do, and the place in a model where it does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.site import Site
from bayes_moe.priors.prior import Prior

if TYPE_CHECKING:
    from bayes_moe.predictors.scaling import Scaling

Values = Mapping[str, np.ndarray]
NOTHING: Values = {}


class Predictor(ABC):
    """Features of a row -> predictor ``eta`` (row of the place, obs).

    Its coefficients ``names.coef(stem)`` have one row an expert (or a branch of a gate). What else
    it has, such as a length scale, is its own: one for each expert, or the same for all of them.
    """

    kind: ClassVar[str]
    gradient: ClassVar[bool] = True
    """Whether the log density has a gradient by all its parameters."""

    @property
    def is_linear(self) -> bool:
        """Whether eta is a sum of fixed features times normal coefficients, as EM needs it.

        Spreads of these coefficients may be parameters of the predictor's own.
        """
        return False

    @abstractmethod
    def default_prior(self, place: Site, matrix: Matrix, response: np.ndarray) -> Prior:
        """Return the data-scaled default prior of the coefficients, in the user's units.

        Where coefficients are not on the user's scale, the prior is that of internal ones.
        """

    @abstractmethod
    def build(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        """Create the random variables in the current model and return eta (row, obs).

        ``prior`` is that of the internal rows; ``own`` are the priors of
        :meth:`hyperparameter_priors`, by default those.
        """

    @abstractmethod
    def evaluate(self, place: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        """Return eta (sample, row, obs) of posterior draws on rows of a table."""

    @abstractmethod
    def to_raw(self, place: Site, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        """Return the sampler's variables from the reported ones; see :meth:`build`."""

    @abstractmethod
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
        """Return reported variables whose predictor comes near ``target`` (row, obs).

        Internal coefficients are those of least squares with ``weights`` (row, obs), plus ``ridge``
        times their own squares; what else the predictor has is in ``known``, or is set to usual
        values, drawn where they are weights.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; its ``kind`` is the name in the registry."""

    # --- parameters of its own ----------------------------------------------------------------

    def hyperparameter_priors(
        self, place: Site, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        """Return the default priors of what the predictor has besides coefficients."""
        return {}

    def hyperparameter_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        """Dimensions of what the predictor has besides coefficients."""
        return {}

    def positive(self, place: Site) -> frozenset[str]:
        """Names of reported variables that are positive."""
        return frozenset()

    def basis_parameters(self, place: Site) -> frozenset[str]:
        """Names of its own variables on which its features depend, such as hidden weights."""
        return frozenset()

    def unidentified(self, place: Site) -> frozenset[str]:
        """Names of reported variables that are no quantities: their means say nothing.

        Chains need not agree about them. Summaries and verdicts leave them out.
        """
        return frozenset()

    def scales(self, place: Site) -> frozenset[str]:
        """Names of its own variables that are scales of others, and have no mode with them."""
        return frozenset()

    def raw_sds(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Standard deviations that :meth:`scales` give to what the sampler moves, by its name.

        They broadcast against the sampler's variable, whose prior has unit scale.
        """
        return {}

    def shared_variables(self, place: Site) -> frozenset[str]:
        """Names of its own variables that other predictors of the model may have too."""
        return frozenset()

    # --- what EM asks of predictors that are linear -----------------------------------------------

    def basis(self, matrix: Matrix) -> Matrix:
        """Return the features that coefficients refer to."""
        return matrix

    def scaling(self, place: Site, matrix: Matrix, response: np.ndarray) -> Scaling:
        """Return the map between internal and reported coefficients.

        Raises
        ------
        SpecError
            If the predictor is not linear in its coefficients, so that EM cannot treat it.
        """
        raise SpecError(f"The predictor {self!r} is not linear: use method='map' or 'nuts'.")

    def spread(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray, xp: Arrays
    ) -> Any:
        """Spreads (..., term) or (..., row, term) of internal coefficients in the sampler's units.

        None if internal coefficients are the sampler's.
        """
        return None

    def initial_hyperparameters(
        self, place: Site, matrix: Matrix, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Usual values of the predictor's own parameters; weights are drawn."""
        return {}

    # --- names and shapes ---------------------------------------------------------------------

    def check_prior(self, name: str, prior: Prior) -> None:
        """Raise :class:`SpecError` for a prior that the coefficients cannot have."""
        if prior.kind.support == "positive":
            raise SpecError(f"The prior of {name!r} must have real support; it is {prior!r}.")

    def dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        """Dimensions of the reported variables."""
        return {place.coef: (place.dim, names.term(place.stem))} | self.hyperparameter_dims(place)

    def internal_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        """Dimensions of the sampler's variables that are not reported."""
        return {place.raw: (names.term(place.stem), place.inner_dim)}

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        """Labels along the predictor's own dimensions."""
        return {names.term(place.stem): list(matrix.terms)}

    def shapes(self, place: Site, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        """Shapes of the reported variables."""
        sizes = {dim: len(found) for dim, found in self.coords(place, matrix).items()}
        return {
            name: tuple(sizes.get(dim, place.rows) for dim in dims)
            for name, dims in self.dims(place).items()
        }

    def free(self, place: Site, matrix: Matrix, idle: int) -> int:
        """Number of parameters of the likelihood.

        ``idle`` is how many rows are known from the others, where only differences count. Spreads
        of coefficients are no parameters of the likelihood.
        """
        shapes = self.shapes(place, matrix)
        inner = sum(
            int(np.prod(shapes[n]))
            for n in self.basis_parameters(place) - self.shared_variables(place)
        )
        return inner + (place.rows - idle) * shapes[place.coef][-1]

    def variables(self, place: Site) -> tuple[str, ...]:
        """Names of the reported variables."""
        return tuple(self.dims(place))

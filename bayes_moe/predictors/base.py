"""What every predictor can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bayes_moe import names
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError
from bayes_moe.priors import Prior

if TYPE_CHECKING:
    from bayes_moe.predictors.linear import Scaling

Values = Mapping[str, np.ndarray]


class Predictor(ABC):
    """Features of a row -> predictor ``eta`` (expert, obs).

    Its coefficients ``names.coef(stem)`` have one row an expert (or a branch of a gate); what else
    it has, such as a length scale, is its own, and the same for all experts.
    """

    kind: ClassVar[str]

    @abstractmethod
    def default_prior(self, stem: str, role: str, matrix: Matrix, response: np.ndarray) -> Prior:
        """Return the data-scaled default prior of the coefficients, in the user's units.

        Where coefficients are not on the user's scale, the prior is that of internal ones.
        """

    def scaling(self, role: str, matrix: Matrix, response: np.ndarray) -> Scaling:
        """Return the map between internal and reported coefficients.

        Raises
        ------
        SpecError
            If the predictor is not linear in its coefficients, so that EM cannot treat it.
        """
        raise SpecError(f"The predictor {self!r} is not linear: use method='map' or 'nuts'.")

    @abstractmethod
    def build(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        expert_dim: str,
        mixing: np.ndarray | None = None,
        raw_dim: str | None = None,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        """Create the random variables in the current model and return eta (expert, obs).

        ``own`` are the priors of :meth:`own_priors`, by default those. With ``mixing``
        (internal, expert), the random variables have the dimension ``raw_dim`` instead of the
        experts', and the experts' are ``mixing.T @ internal``.
        """

    @abstractmethod
    def evaluate(self, stem: str, draws: Values, matrix: Matrix) -> np.ndarray:
        """Return eta (sample, expert, obs) of posterior draws on rows."""

    @abstractmethod
    def to_raw(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        values: Values,
        mixing: np.ndarray | None = None,
    ) -> Values:
        """Return the sampler's variables from the reported ones; see :meth:`build`."""

    @abstractmethod
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
        """Return reported variables whose predictor comes near ``eta`` (expert, obs).

        Internal coefficients are those of least squares, plus ``ridge`` times their own squares;
        what else the predictor has is set to usual values, drawn where they are weights.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description; its ``kind`` is the name in the registry."""

    def own_priors(
        self, stem: str, role: str, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        """Return the default priors of what the predictor has besides coefficients."""
        return {}

    def check_prior(self, name: str, prior: Prior) -> None:
        """Raise :class:`SpecError` for a prior that the coefficients cannot have."""
        if prior.kind.support == "positive":
            raise SpecError(f"The prior of {name!r} must have real support; it is {prior!r}.")

    def positive(self, stem: str) -> frozenset[str]:
        """Names of reported variables that are positive."""
        return frozenset()

    def dims(self, stem: str, row_dim: str) -> dict[str, tuple[str, ...]]:
        """Dimensions of the reported variables, in which ``row_dim`` is that over experts."""
        return {names.coef(stem): (row_dim, names.term(stem))}

    def internal_dims(self, stem: str, raw_dim: str) -> dict[str, tuple[str, ...]]:
        """Dimensions of the sampler's variables that are not reported."""
        return {names.raw(stem): (names.term(stem), raw_dim)}

    def coords(self, stem: str, matrix: Matrix) -> dict[str, list[Any]]:
        """Labels along the predictor's own dimensions."""
        return {names.term(stem): list(matrix.terms)}

    def shapes(self, stem: str, rows: int, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        """Shapes of the reported variables for so many experts."""
        sizes = {dim: len(found) for dim, found in self.coords(stem, matrix).items()}
        return {
            name: tuple(sizes.get(dim, rows) for dim in dims)
            for name, dims in self.dims(stem, "").items()
        }

    def free(self, stem: str, rows: int, matrix: Matrix, zero_sum: bool) -> int:
        """Number of parameters of the likelihood for so many experts.

        ``zero_sum`` says whether only differences between experts count.
        """
        return (rows - zero_sum) * self.shapes(stem, rows, matrix)[names.coef(stem)][-1]

    def variables(self, stem: str) -> tuple[str, ...]:
        """Names of the reported variables."""
        return tuple(self.dims(stem, ""))

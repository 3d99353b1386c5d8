"""Predictors that are sums of features of their own: ``eta = offset + unit sum_j coef_j phi_j(x)``.

The sampler moves ``raw`` (feature, expert) with a prior of unit scale, and ``coef_j = s_j raw_j``,
where the spreads ``s_j`` may depend on parameters of the predictor's own, such as a length scale.
The first feature is 1 and carries the intercept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_moe import names
from bayes_moe.arrays import NUMERIC, Arrays, held
from bayes_moe.arrays import symbolic as symbolic_arrays
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError
from bayes_moe.formulas import INTERCEPT
from bayes_moe.predictors.base import Predictor, Values
from bayes_moe.predictors.linear import least_squares, linear_eta, unmixed
from bayes_moe.priors import Prior, Standard, standard

MOST_OUTSIDE = 0.1
"""Largest share of the fitted rows that may lie outside of a box."""


def basis_dim(stem: str) -> str:
    """Dimension over the features of an expansion, e.g. ``gate_basis``."""
    return f"{stem}_basis"


def column_dim(stem: str) -> str:
    """Dimension over the numeric columns that an expansion is made of, e.g. ``gate_column``."""
    return f"{stem}_column"


class Expansion(Predictor):
    """A predictor that is linear in features which it makes itself.

    Coefficients refer to these features, and their prior to ``raw``: its scale is a factor of the
    predictor's own spreads.
    """

    @abstractmethod
    def labels(self, matrix: Matrix) -> list[str]:
        """Names of the features."""

    @abstractmethod
    def features(self, matrix: Matrix) -> np.ndarray:
        """What the features are made of (obs, input); the features themselves, if they are fixed.

        Raises
        ------
        SpecError
            If the formula's columns do not serve.
        """

    @abstractmethod
    def spread(
        self, stem: str, own: Mapping[str, Any], units: Standard, matrix: Matrix, xp: Arrays
    ) -> Any:
        """Spreads (..., feature) of the coefficients, given the predictor's own parameters."""

    @abstractmethod
    def own_dims(self, stem: str) -> dict[str, tuple[str, ...]]:
        """Dimensions of the predictor's own parameters."""

    @abstractmethod
    def usual(self, stem: str, matrix: Matrix, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Usual values of the predictor's own parameters; weights are drawn."""

    def eta(self, stem: str, coef: Any, own: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        """Sum (..., expert, obs) of coefficients (..., expert, feature) times features."""
        return linear_eta(coef, features, xp)

    def check(self, matrix: Matrix) -> None:
        """Raise :class:`SpecError` if the fitted rows do not serve."""

    def basis_dim(self, stem: str) -> str:
        """Dimension over the features."""
        return basis_dim(stem)

    def default_prior(self, stem: str, role: str, matrix: Matrix, response: np.ndarray) -> Prior:
        if role == names.GATE:
            return Prior("ZeroSumNormal", sigma=1.0)
        return Prior("Normal", mu=0.0, sigma=1.0)

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
        import pymc as pm

        self.check(matrix)
        xp, units = symbolic_arrays(), standard(role, response, True)
        priors = self.own_priors(stem, role, matrix, response)
        priors = {name: (own or priors).get(name, default) for name, default in priors.items()}
        found = {name: priors[name].rv(name, dims) for name, dims in self.own_dims(stem).items()}
        basis = self.basis_dim(stem)
        spread_prior = prior.over_terms(names.coef(stem), tuple(self.labels(matrix)))
        raw = spread_prior.rv(names.raw(stem), (basis, raw_dim or expert_dim), column=True)
        raw = raw if mixing is None else raw @ mixing
        coef = raw.T * self.spread(stem, found, units, matrix, xp)
        level, unit = held(f"{stem}_level", units.offset), held(f"{stem}_unit", units.unit)
        coef = unit * coef + level * held(f"{stem}_first", self._first(matrix))
        coef = pm.Deterministic(names.coef(stem), coef, dims=(expert_dim, basis))
        features = pm.Data(names.features(stem), self.features(matrix))
        return self.eta(stem, coef, found, features, xp)

    def evaluate(self, stem: str, draws: Values, matrix: Matrix) -> np.ndarray:
        found: np.ndarray = self.eta(
            stem, draws[names.coef(stem)], draws, self.features(matrix), NUMERIC
        )
        return found

    def to_raw(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        values: Values,
        mixing: np.ndarray | None = None,
    ) -> Values:
        units = standard(role, response, True)
        own = {name: np.asarray(values[name]) for name in self.own_dims(stem)}
        spread = self.spread(stem, own, units, matrix, NUMERIC)
        level = units.offset * self._first(matrix)
        raw = (values[names.coef(stem)] - level) / (units.unit * spread[..., None, :])
        free = raw if mixing is None else unmixed(mixing, raw)
        return own | {names.raw(stem): np.swapaxes(free, -1, -2)}

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
        units = standard(role, response, True)
        own = self.usual(stem, matrix, rng)
        spread = self.spread(stem, own, units, matrix, NUMERIC)
        unit_coefs = np.diag(np.broadcast_to(spread, (len(self.labels(matrix)),)))
        features = self.eta(stem, unit_coefs, own, self.features(matrix), NUMERIC)
        raw = least_squares(features.T, (eta - units.offset) / units.unit, ridge)
        level = units.offset * self._first(matrix)
        return own | {names.coef(stem): units.unit * spread * raw + level}

    def dims(self, stem: str, row_dim: str) -> dict[str, tuple[str, ...]]:
        return {names.coef(stem): (row_dim, self.basis_dim(stem))} | self.own_dims(stem)

    def internal_dims(self, stem: str, raw_dim: str) -> dict[str, tuple[str, ...]]:
        return {names.raw(stem): (self.basis_dim(stem), raw_dim)}

    def coords(self, stem: str, matrix: Matrix) -> dict[str, list[Any]]:
        return {self.basis_dim(stem): self.labels(matrix)}

    def _first(self, matrix: Matrix) -> np.ndarray:
        """1 for the intercept and 0 for other features (feature,)."""
        return np.array([float(label == INTERCEPT) for label in self.labels(matrix)])


def numeric(predictor: Predictor, matrix: Matrix) -> list[int]:
    """Positions of the numeric columns of a formula with an intercept.

    Raises
    ------
    SpecError
        Without an intercept or a numeric column, and for categories and expanded terms.
    """
    columns = [j for j, term in enumerate(matrix.terms) if term != INTERCEPT]
    coded = [matrix.terms[j] for j in columns if matrix.terms[j].endswith("]")]
    if coded:
        raise SpecError(f"{predictor!r} takes numeric columns; {coded[0]!r} is none.")
    if matrix.intercept is None or not columns:
        raise SpecError(
            f"{predictor!r} needs a formula with an intercept and a numeric column; the terms are "
            f"{', '.join(matrix.terms)}."
        )
    return columns


def check_box(predictor: Predictor, matrix: Matrix, reach: float) -> None:
    """Raise :class:`SpecError` if many fitted rows are farther than ``reach`` from the centre."""
    for j in numeric(predictor, matrix):
        outside = float(np.mean(np.abs(matrix.standardised[:, j]) > reach))
        if outside > MOST_OUTSIDE:
            raise SpecError(
                f"{outside:.0%} of the rows of {matrix.terms[j]!r} lie more than {reach:g} "
                f"standard deviations from its centre, outside of {predictor!r}: raise `reach`, "
                "transform the column, or use center=True."
            )


def check_positive(name: str, value: Any) -> None:
    """Raise :class:`SpecError` unless a setting is a positive number."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or value <= 0:
        raise SpecError(f"`{name}` must be a positive number; it is {value!r}.")


def check_count(name: str, value: Any, least: int) -> None:
    """Raise :class:`SpecError` unless a setting is a whole number of at least ``least``."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise SpecError(f"`{name}` must be a whole number >= {least}; it is {value!r}.")

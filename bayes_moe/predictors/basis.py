"""Predictors that are sums of features of their own: ``eta = offset + unit sum_j coef_j phi_j(x)``.

The sampler moves ``raw`` (feature, row) with a prior of unit scale, and ``coef_j = s_j raw_j``,
where the spreads ``s_j`` may depend on parameters of the predictor's own, such as a length scale.
The first feature is 1 and carries the intercept. Features themselves may depend on parameters too,
such as the weights of a hidden layer: those are the predictor's ``basis_parameters`` ones.

As experts' predictors, every expert has parameters of its own; rows of a gate share them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import held, row_data
from bayes_moe.core.linalg import least_squares, unmixed
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import NOTHING, Predictor, Values
from bayes_moe.predictors.columns import basis_dim
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import Units, standard
from bayes_moe.priors.prior import Prior


class Basis(Predictor):
    """A predictor that is linear in features which it makes itself.

    Coefficients refer to these features, and their prior to ``raw``: its scale is a factor of the
    predictor's own spreads.
    """

    @abstractmethod
    def labels(self, matrix: Matrix) -> list[str]:
        """Names of the features; the first is the intercept."""

    @abstractmethod
    def features(self, matrix: Matrix) -> np.ndarray:
        """What the features but the intercept are made of (obs, input); themselves, if fixed.

        Raises
        ------
        SpecError
            If the formula's columns do not serve.
        """

    @abstractmethod
    def spreads(
        self, place: Site, own: Mapping[str, Any], units: Units, matrix: Matrix, xp: Arrays
    ) -> Any:
        """Spreads (..., feature) of the coefficients, given the predictor's own parameters.

        Where every row has parameters of its own, (..., row, feature).
        """

    def check(self, matrix: Matrix) -> None:
        """Raise :class:`SpecError` if the fitted rows do not serve."""

    def each(self, place: Site) -> bool:
        """Whether every row has parameters of its own."""
        return place.each

    def lead(self, place: Site) -> tuple[str, ...]:
        """First dimensions of the predictor's own parameters."""
        return (place.dim,) if self.each(place) else ()

    def lead_shape(self, place: Site) -> tuple[int, ...]:
        """Sizes of the first dimensions of the predictor's own parameters."""
        return (place.rows,) if self.each(place) else ()

    def data_stem(self, place: Site) -> str:
        """What the name of the features' data begins with."""
        return place.stem

    def phi(self, place: Site, own: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        """Features (..., feature, obs) but the intercept, from ``features`` (obs, input)."""
        return features.T

    def eta(self, place: Site, coef: Any, own: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        """Sum (..., row, obs) of coefficients (..., row, feature) times features."""
        phi, slopes = self.phi(place, own, features, xp), coef[..., 1:]
        if self.basis_parameters(place) and self.each(place):
            total = xp.matmul(slopes[..., None, :], phi)[..., 0, :]
        else:
            total = xp.matmul(slopes, phi)
        return total + coef[..., 0, None]

    def default_prior(self, place: Site, matrix: Matrix, response: np.ndarray) -> Prior:
        return unit_prior(place.role)

    def scales(self, place: Site) -> frozenset[str]:
        return frozenset(self.hyperparameter_dims(place)) - self.basis_parameters(place)

    def unidentified(self, place: Site) -> frozenset[str]:
        """Inner weights, which may trade places without any change, and their coefficients."""
        inner = self.basis_parameters(place)
        return inner | {place.coef} if inner else inner

    def raw_sds(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray
    ) -> dict[str, np.ndarray]:
        if not self.scales(place):
            return {}
        spread = self.spread(place, own, matrix, response, NUMERIC)
        return {place.raw: spread.T if self.each(place) else spread[:, None]}

    def spread(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray, xp: Arrays
    ) -> Any:
        return self.spreads(place, own, standard(place.role, response, True), matrix, xp)

    # --- the graph ----------------------------------------------------------------------------

    def hyperparameter_rvs(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        own: Mapping[str, Prior] | None,
    ) -> dict[str, Any]:
        """Create the predictor's own variables, but those that another predictor has created."""
        priors = self.hyperparameter_priors(place, matrix, response) | dict(own or {})
        found = {}
        for name, dims in self.hyperparameter_dims(place).items():
            found[name] = existing(name, partial(priors[name].rv, name, dims))
        return found

    def build(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        import pymc as pm

        self.check(matrix)
        xp, stem, units = symbolic_arrays(), place.stem, standard(place.role, response, True)
        found = self.hyperparameter_rvs(place, matrix, response, own)
        basis = self.basis_dim(place)
        spread_prior = prior.over_terms(place.coef, tuple(self.labels(matrix)))
        raw = spread_prior.rv(place.raw, (basis, place.inner_dim), column=True)
        raw = raw if place.mixing is None else raw @ place.mixing
        coef = raw.T * self.spreads(place, found, units, matrix, xp)
        level, unit = held(f"{stem}_level", units.offset), held(f"{stem}_unit", units.unit)
        coef = unit * coef + level * held(f"{stem}_first", self._first(matrix))
        coef = pm.Deterministic(place.coef, coef, dims=(place.dim, basis))
        data = names.features(self.data_stem(place))
        features = existing(data, partial(row_data, data, self.features(matrix)))
        return self.eta(place, coef, found, features, xp)

    def evaluate(self, place: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        found: np.ndarray = self.eta(
            place, draws[place.coef], draws, self.features(matrix), NUMERIC
        )
        return found

    def to_raw(self, place: Site, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        units = standard(place.role, response, True)
        own = {name: np.asarray(values[name]) for name in self.hyperparameter_dims(place)}
        spread = self.spreads(place, own, units, matrix, NUMERIC)
        spread = spread if self.each(place) else spread[..., None, :]
        level = units.offset * self._first(matrix)
        raw = (values[place.coef] - level) / (units.unit * spread)
        free = raw if place.mixing is None else unmixed(place.mixing, raw)
        return self.raw_hyperparameters(place, matrix, own) | {place.raw: np.swapaxes(free, -1, -2)}

    def raw_hyperparameters(
        self, place: Site, matrix: Matrix, own: Values
    ) -> dict[str, np.ndarray]:
        """Return the sampler's variables from the predictor's own reported ones."""
        return dict(own)

    # --- where climbs begin ---------------------------------------------------------------------

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
        units = standard(place.role, response, True)
        wanted = (target - units.offset) / units.unit
        own = self.initialise(place, matrix, wanted, rng, weights)
        own |= {name: known[name] for name in own if name in known}
        spread = self.spreads(place, own, units, matrix, NUMERIC)
        size = len(self.labels(matrix))
        spread = np.broadcast_to(spread, (place.rows, size))
        phi = self.phi(place, own, self.features(matrix), NUMERIC)
        phi = np.broadcast_to(phi, (place.rows, size - 1, target.shape[1]))
        raw = [
            least_squares(
                np.column_stack([np.ones(target.shape[1]), phi[k].T]) * spread[k],
                wanted[k : k + 1],
                ridge,
                None if weights is None else weights[k : k + 1],
            )
            for k in range(place.rows)
        ]
        level = units.offset * self._first(matrix)
        return own | {place.coef: units.unit * spread * np.concatenate(raw) + level}

    def initialise(
        self,
        place: Site,
        matrix: Matrix,
        target: np.ndarray,
        rng: np.random.Generator,
        weights: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Own parameters with which the features may come near ``target`` (row, obs)."""
        return self.initial_hyperparameters(place, matrix, rng)

    # --- what EM asks -------------------------------------------------------------------------

    def basis(self, matrix: Matrix) -> Matrix:
        labels = tuple(self.labels(matrix))
        features = self.features(matrix)
        values = np.column_stack([np.ones(len(features)), features])
        return Matrix(labels, values, np.zeros(len(labels)), np.ones(len(labels)))

    def scaling(self, place: Site, matrix: Matrix, response: np.ndarray) -> Scaling:
        if not self.is_linear:
            return super().scaling(place, matrix, response)
        self.check(matrix)
        return Scaling(self.basis(matrix), standard(place.role, response, True))

    # --- names and shapes ---------------------------------------------------------------------

    def basis_dim(self, place: Site) -> str:
        """Dimension over the features."""
        return basis_dim(place.stem)

    def dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        return {place.coef: (place.dim, self.basis_dim(place))} | self.hyperparameter_dims(place)

    def internal_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        return {place.raw: (self.basis_dim(place), place.inner_dim)}

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        return {self.basis_dim(place): self.labels(matrix)}

    def _first(self, matrix: Matrix) -> np.ndarray:
        """1 for the intercept and 0 for other features (feature,)."""
        return np.array([float(j == 0) for j in range(len(self.labels(matrix)))])


def existing(name: str, make: Callable[[], Any]) -> Any:
    """Return a variable of the current model; make it if there is none of that name."""
    import pymc as pm

    found = pm.modelcontext(None).named_vars.get(name)
    return make() if found is None else found


def unit_prior(role: str) -> Prior:
    """Prior of coefficients in units of a predictor's own spreads."""
    if role == names.GATE:
        return Prior("ZeroSumNormal", sigma=1.0)
    return Prior("Normal", mu=0.0, sigma=1.0)


def about_zero(prior: Prior) -> bool:
    """Whether a prior is normal about 0, as learned spreads need it."""
    normal = prior.distribution in ("Normal", "ZeroSumNormal")
    return normal and not np.any(np.asarray(prior.arguments.get("mu", 0.0)) != 0)

"""Linear predictor: ``eta = X beta``.

The sampler moves ``raw`` coefficients (term, expert) of the standardised features ``Z``; the
model reports ``beta`` on the user's scale. With centre ``c``, scale ``s``, and the units
``offset`` and ``unit`` of :func:`bayes_moe.priors.prior.standard`,

``beta_j = unit raw_j / s_j`` and ``beta_0 = offset + unit raw_0 - sum_j beta_j c_j``,

hence ``X beta = offset + unit Z raw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import held, row_data
from bayes_moe.core.linalg import least_squares, unmixed
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import NOTHING, Predictor, Values
from bayes_moe.predictors.scaling import Scaling, linear_eta
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import standard
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Linear(Predictor):
    """A linear predictor; its features are the columns of a formula's design."""

    kind: ClassVar[str] = "linear"

    @property
    def is_linear(self) -> bool:
        return True

    def scaling(self, place: Site, matrix: Matrix, response: np.ndarray) -> Scaling:
        return Scaling(matrix, standard(place.role, response, matrix.intercept is not None))

    def default_prior(self, place: Site, matrix: Matrix, response: np.ndarray) -> Prior:
        units = standard(place.role, response, matrix.intercept is not None)
        is_intercept = np.array([j == matrix.intercept for j in range(len(matrix.terms))])
        sigma = np.where(is_intercept, units.intercept, units.slope) * units.unit / matrix.scale
        if place.role == names.GATE:
            return Prior("ZeroSumNormal", sigma=sigma)
        return Prior("Normal", mu=np.where(is_intercept, units.offset, 0.0), sigma=sigma)

    def build(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        import pymc as pm

        stem, scaling = place.stem, self.scaling(place, matrix, response)
        priors = self.hyperparameter_priors(place, matrix, response) | dict(own or {})
        raw = self.raw_rv(place, matrix, response, prior, priors)
        raw = raw if place.mixing is None else raw @ place.mixing
        linear, offset = (
            held(f"{stem}_to_user", scaling.linear),
            held(f"{stem}_zero", scaling.offset),
        )
        beta = raw.T @ linear + offset
        pm.Deterministic(place.coef, beta, dims=(place.dim, names.term(stem)))
        features = row_data(
            names.features(stem), matrix.standardised, (names.OBS, names.term(stem))
        )
        level, unit = (
            held(f"{stem}_level", scaling.units.offset),
            held(f"{stem}_unit", scaling.units.unit),
        )
        return level + linear_eta(unit * raw.T, features, symbolic_arrays())

    def raw_rv(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior],
    ) -> Any:
        """Create the random variables of the current model; return internal coefficients."""
        over = prior.over_terms(place.coef, matrix.terms)
        given = self.scaling(place, matrix, response).raw_prior(over)
        return given.rv(place.raw, (names.term(place.stem), place.inner_dim), column=True)

    def evaluate(self, place: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        coef = draws[place.coef]  # (sample, row, term)
        flat = linear_eta(coef.reshape(-1, coef.shape[-1]), matrix.values, NUMERIC)
        return flat.reshape(*coef.shape[:-1], -1)

    def to_raw(self, place: Site, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        raw = self.scaling(place, matrix, response).to_raw(values[place.coef])
        free = raw if place.mixing is None else unmixed(place.mixing, raw)
        return {place.raw: np.swapaxes(free, -1, -2)}

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
        scaling = self.scaling(place, matrix, response)
        wanted = (target - scaling.units.offset) / scaling.units.unit
        raw = least_squares(matrix.standardised, wanted, ridge, weights)
        return {place.coef: scaling.to_user(raw)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}

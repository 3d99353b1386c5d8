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
from bayes_moe.core.arrays import NUMERIC, Arrays, held, row_data
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.data.design import Matrix
from bayes_moe.predictors.base import NOTHING, Place, Predictor, Values
from bayes_moe.priors.prior import Prior, Standard, standard


def linear_eta(coef: Any, features: Any, xp: Arrays) -> Any:
    """``coef`` (..., expert, term) and ``features`` (obs, term) -> eta (..., expert, obs)."""
    return xp.matmul(coef, features.T)


def unmixed(mixing: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Internal rows (..., internal, term) of ``rows = mixing.T @ internal`` (..., row, term).

    Rows of ``mixing`` are orthogonal.
    """
    found: np.ndarray = np.matmul(mixing / (mixing**2).sum(axis=1, keepdims=True), rows)
    return found


def least_squares(
    features: np.ndarray, target: np.ndarray, ridge: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients (row, feature) of least ``w |target - coef features'|^2 + ridge |coef|^2``.

    ``features`` are (obs, feature), ``target`` and ``weights`` (row, obs).
    """
    if weights is not None:
        roots = np.sqrt(weights)
        rows = [
            least_squares(root[:, None] * features, (root * wanted)[None], ridge)
            for root, wanted in zip(roots, target, strict=True)
        ]
        return np.concatenate(rows)
    size = features.shape[1]
    whole = np.concatenate([features, np.sqrt(ridge) * np.eye(size)])
    wanted = np.concatenate([target.T, np.zeros((size, len(target)))])
    found: np.ndarray = np.linalg.lstsq(whole, wanted)[0].T
    return found


@dataclass(frozen=True)
class Scaling:
    """The affine map between internal and reported coefficients, both (expert, term)."""

    matrix: Matrix
    units: Standard

    @property
    def offset(self) -> np.ndarray:
        """Reported coefficients (term,) where the internal ones are zero."""
        offset = np.zeros(len(self.matrix.terms))
        if self.matrix.intercept is not None:
            offset[self.matrix.intercept] = self.units.offset
        return offset

    @property
    def linear(self) -> np.ndarray:
        """Matrix (term, term) with ``beta = raw @ linear + offset``."""
        return self.units.unit * self.matrix.to_user

    def to_user(self, raw: np.ndarray) -> np.ndarray:
        """Return the reported coefficients of internal ones (..., term)."""
        return raw @ self.linear + self.offset

    def to_raw(self, beta: np.ndarray) -> np.ndarray:
        """Return the internal coefficients of reported ones (..., term)."""
        return np.linalg.solve(self.linear.T, (beta - self.offset)[..., None])[..., 0]

    def raw_prior(self, prior: Prior) -> Prior:
        """Return the prior of internal coefficients, from one in the user's units.

        The user's intercept prior refers to the centre of the features.
        """
        return prior.rescaled(self.offset, self.units.unit / self.matrix.scale)


@dataclass(frozen=True)
class Linear(Predictor):
    """A linear predictor; its features are the columns of a formula's design."""

    kind: ClassVar[str] = "linear"

    @property
    def is_linear(self) -> bool:
        return True

    def scaling(self, place: Place, matrix: Matrix, response: np.ndarray) -> Scaling:
        return Scaling(matrix, standard(place.role, response, matrix.intercept is not None))

    def default_prior(self, place: Place, matrix: Matrix, response: np.ndarray) -> Prior:
        units = standard(place.role, response, matrix.intercept is not None)
        is_intercept = np.array([j == matrix.intercept for j in range(len(matrix.terms))])
        sigma = np.where(is_intercept, units.intercept, units.slope) * units.unit / matrix.scale
        if place.role == names.GATE:
            return Prior("ZeroSumNormal", sigma=sigma)
        return Prior("Normal", mu=np.where(is_intercept, units.offset, 0.0), sigma=sigma)

    def build(
        self,
        place: Place,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        import pymc as pm

        stem, scaling = place.stem, self.scaling(place, matrix, response)
        priors = self.own_priors(place, matrix, response) | dict(own or {})
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
        place: Place,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior],
    ) -> Any:
        """Create the random variables of the current model; return internal coefficients."""
        over = prior.over_terms(place.coef, matrix.terms)
        given = self.scaling(place, matrix, response).raw_prior(over)
        return given.rv(place.raw, (names.term(place.stem), place.inner_dim), column=True)

    def evaluate(self, place: Place, draws: Values, matrix: Matrix) -> np.ndarray:
        coef = draws[place.coef]  # (sample, row, term)
        flat = linear_eta(coef.reshape(-1, coef.shape[-1]), matrix.values, NUMERIC)
        return flat.reshape(*coef.shape[:-1], -1)

    def to_raw(self, place: Place, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        raw = self.scaling(place, matrix, response).to_raw(values[place.coef])
        free = raw if place.mixing is None else unmixed(place.mixing, raw)
        return {place.raw: np.swapaxes(free, -1, -2)}

    def project(
        self,
        place: Place,
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

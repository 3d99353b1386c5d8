"""Linear predictor: ``eta = X beta``.

The sampler moves ``raw`` coefficients (term, expert) of the standardised features ``Z``; the
model reports ``beta`` on the user's scale. With centre ``c``, scale ``s``, and the units
``offset`` and ``unit`` of :func:`bayes_moe.priors.standard`,

``beta_j = unit raw_j / s_j`` and ``beta_0 = offset + unit raw_0 - sum_j beta_j c_j``,

hence ``X beta = offset + unit Z raw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe import names
from bayes_moe.arrays import NUMERIC, Arrays, held
from bayes_moe.arrays import symbolic as symbolic_arrays
from bayes_moe.design import Matrix
from bayes_moe.predictors.base import Predictor, Values
from bayes_moe.priors import Prior, Standard, standard


def linear_eta(coef: Any, features: Any, xp: Arrays) -> Any:
    """``coef`` (..., expert, term) and ``features`` (obs, term) -> eta (..., expert, obs)."""
    return xp.matmul(coef, features.T)


def unmixed(mixing: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Internal rows (..., internal, term) of ``rows = mixing.T @ internal`` (..., row, term).

    Rows of ``mixing`` are orthogonal.
    """
    found: np.ndarray = np.matmul(mixing / (mixing**2).sum(axis=1, keepdims=True), rows)
    return found


def least_squares(features: np.ndarray, target: np.ndarray, ridge: float) -> np.ndarray:
    """Coefficients (row, feature) of least ``|target - coef features'|^2 + ridge |coef|^2``.

    ``features`` are (obs, feature), ``target`` (row, obs).
    """
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

    def scaling(self, role: str, matrix: Matrix, response: np.ndarray) -> Scaling:
        return Scaling(matrix, standard(role, response, matrix.intercept is not None))

    def default_prior(self, stem: str, role: str, matrix: Matrix, response: np.ndarray) -> Prior:
        units = standard(role, response, matrix.intercept is not None)
        is_intercept = np.array([j == matrix.intercept for j in range(len(matrix.terms))])
        sigma = np.where(is_intercept, units.intercept, units.slope) * units.unit / matrix.scale
        if role == "gate":
            return Prior("ZeroSumNormal", sigma=sigma)
        return Prior("Normal", mu=np.where(is_intercept, units.offset, 0.0), sigma=sigma)

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

        scaling = self.scaling(role, matrix, response)
        term_dim = names.term(stem)
        dims = (term_dim, raw_dim or expert_dim)
        defaults = self.own_priors(stem, role, matrix, response)
        chosen = {name: (own or defaults).get(name, p) for name, p in defaults.items()}
        raw = self.raw_rv(stem, role, prior, scaling, dims, chosen)
        raw = raw if mixing is None else raw @ mixing
        linear, offset = (
            held(f"{stem}_to_user", scaling.linear),
            held(f"{stem}_zero", scaling.offset),
        )
        beta = raw.T @ linear + offset
        pm.Deterministic(names.coef(stem), beta, dims=(expert_dim, term_dim))
        features = pm.Data(names.features(stem), matrix.standardised, dims=(names.OBS, term_dim))
        level, unit = (
            held(f"{stem}_level", scaling.units.offset),
            held(f"{stem}_unit", scaling.units.unit),
        )
        return level + linear_eta(unit * raw.T, features, symbolic_arrays())

    def internal_prior(
        self, stem: str, role: str, prior: Prior, scaling: Scaling, own: Values
    ) -> Prior:
        """Return the prior of internal coefficients, given the predictor's own parameters."""
        return scaling.raw_prior(prior.over_terms(names.coef(stem), scaling.matrix.terms))

    def stretch(self, stem: str, role: str, matrix: Matrix, own: Values) -> np.ndarray | None:
        """Factor (term,) from the sampler's to internal coefficients; None if they are the same."""
        return None

    def raw_rv(
        self,
        stem: str,
        role: str,
        prior: Prior,
        scaling: Scaling,
        dims: tuple[str, str],
        own: Mapping[str, Prior],
    ) -> Any:
        """Create the random variables of the current model; return internal coefficients."""
        given = self.internal_prior(stem, role, prior, scaling, {})
        return given.rv(names.raw(stem), dims, column=True)

    def evaluate(self, stem: str, draws: Values, matrix: Matrix) -> np.ndarray:
        coef = draws[names.coef(stem)]  # (sample, expert, term)
        flat = linear_eta(coef.reshape(-1, coef.shape[-1]), matrix.values, NUMERIC)
        return flat.reshape(*coef.shape[:-1], -1)

    def to_raw(
        self,
        stem: str,
        role: str,
        matrix: Matrix,
        response: np.ndarray,
        values: Values,
        mixing: np.ndarray | None = None,
    ) -> Values:
        raw = self.scaling(role, matrix, response).to_raw(values[names.coef(stem)])
        free = raw if mixing is None else unmixed(mixing, raw)
        return {names.raw(stem): np.swapaxes(free, -1, -2)}

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
        scaling = self.scaling(role, matrix, response)
        target = (eta - scaling.units.offset) / scaling.units.unit
        raw = least_squares(matrix.standardised, target, ridge)
        return {names.coef(stem): scaling.to_user(raw)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}

"""Bilinear predictor: ``eta_k(x) = q(x)' key_k / sqrt(size)`` with the query ``q(x) = W z``.

``z`` are the standardised features. Weights of the query have the spreads of a linear predictor's
coefficients, keys have spread 1, so that the effective coefficients ``C = K W / sqrt(size)`` have
the spreads of a linear predictor's. They are reported on the user's scale; ``W`` and ``K`` are
known up to a rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import held, row_data
from bayes_moe.core.linalg import least_squares
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import NOTHING, Predictor, Values
from bayes_moe.predictors.scaling import linear_eta
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import standard
from bayes_moe.priors.prior import Prior

NOISE = 0.3
"""Spread of coefficients by which heads begin to differ, in units of their prior's."""


@dataclass(frozen=True)
class Bilinear(Predictor):
    """Queries of the features times keys of the experts.

    With several heads, rows of the predictor are those of the first head, then of the second, ...

    Parameters
    ----------
    experts : int
        Number of experts.
    size : int, optional
        Length of queries and keys; ``min(experts - 1, terms)`` reaches every linear predictor.
    heads : int
        Number of pairs of queries and keys.
    """

    experts: int
    size: int | None = None
    heads: int = 1

    kind: ClassVar[str] = "bilinear"

    def length(self, matrix: Matrix) -> int:
        """Length of queries and keys."""
        return min(self.experts - 1, len(matrix.terms)) if self.size is None else self.size

    def default_prior(self, place: Site, matrix: Matrix, response: np.ndarray) -> Prior:
        return Prior("ZeroSumNormal", sigma=1.0)

    def build(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        xp, stem, inner = symbolic_arrays(), place.stem, self.internal_dims(place)
        query, key, term = _query(stem), _key(stem), names.term(stem)
        weights = pm.Normal(query, 0.0, 1.0, dims=inner[query])  # (head, size, term)
        keys = prior.rv(key, inner[key])  # (head, size, expert)
        spread = held(
            f"{stem}_spread", _spread(place.role, matrix, response) / np.sqrt(self.length(matrix))
        )
        pairs = [(keys, weights)] if self.heads == 1 else _each(self.heads, keys, weights)
        coefs = [xp.matmul(k.T, w * spread) for k, w in pairs]  # (expert, term)
        to_user = held(f"{stem}_to_user", matrix.to_user)
        reported = [xp.matmul(coef, to_user) for coef in coefs]
        pm.Deterministic(
            place.coef,
            reported[0] if self.heads == 1 else pt.stack(reported),
            dims=self._dims(place),
        )
        features = row_data(names.features(stem), matrix.standardised, (names.OBS, term))
        etas = [linear_eta(coef, features, xp) for coef in coefs]
        return etas[0] if self.heads == 1 else xp.concatenate(etas, axis=-2)

    def evaluate(self, place: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        coef = draws[place.coef]  # (sample, head, expert, term)
        flat = linear_eta(coef.reshape(-1, coef.shape[-1]), matrix.values, NUMERIC)
        return flat.reshape(len(coef), -1, flat.shape[-1])

    def to_raw(self, place: Site, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        coef = np.asarray(values[place.coef])
        internal = np.linalg.solve(matrix.to_user.T, np.swapaxes(coef, -1, -2))
        product = np.swapaxes(internal, -1, -2) / _spread(place.role, matrix, response)
        size = self.length(matrix)
        left, root, right = np.linalg.svd(np.sqrt(size) * product, full_matrices=False)
        root = np.sqrt(root)[..., :size]
        keys = left[..., :size] * root[..., None, :]
        weights = right[..., :size, :] * root[..., None]
        missing = size - root.shape[-1]
        wide = [(0, 0)] * (coef.ndim - 2)
        return {
            _query(place.stem): np.pad(weights, [*wide, (0, missing), (0, 0)]),
            _key(place.stem): np.pad(np.swapaxes(keys, -1, -2), [*wide, (0, missing), (0, 0)]),
        }

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
        spread = _spread(place.role, matrix, response)
        raw = least_squares(matrix.standardised * spread, target, ridge, weights)
        left, root, right = np.linalg.svd(raw, full_matrices=False)
        size = self.length(matrix)
        kept = (left[:, :size] * root[:size]) @ right[:size]
        if self.heads == 1:
            return {place.coef: (kept * spread) @ matrix.to_user}
        noise = NOISE * rng.standard_normal((self.heads, *kept.shape))
        several = kept + noise - noise.mean(axis=1, keepdims=True)
        return {place.coef: (several * spread) @ matrix.to_user}

    def dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        return {place.coef: self._dims(place)}

    def internal_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        stem, lead = place.stem, self._lead(place)
        return {
            _query(stem): (*lead, _size(stem), names.term(stem)),
            _key(stem): (*lead, _size(stem), place.inner_dim),
        }

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        own: dict[str, list[Any]] = {dim: list(range(self.heads)) for dim in self._lead(place)}
        own[_size(place.stem)] = list(range(self.length(matrix)))
        return super().coords(place, matrix) | own

    def shapes(self, place: Site, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        return super().shapes(replace(place, rows=place.rows // self.heads), matrix)

    def free(self, place: Site, matrix: Matrix, idle: int) -> int:
        across, along = place.rows // self.heads - idle, len(matrix.terms)
        rank = min(self.length(matrix), across, along)
        return self.heads * rank * (across + along - rank)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "experts": self.experts,
            "size": self.size,
            "heads": self.heads,
        }

    def _lead(self, place: Site) -> tuple[str, ...]:
        return () if self.heads == 1 else (f"{place.stem}_head",)

    def _dims(self, place: Site) -> tuple[str, ...]:
        return (*self._lead(place), place.dim, names.term(place.stem))


def _spread(role: str, matrix: Matrix, response: np.ndarray) -> np.ndarray:
    """Spreads (term,) of a linear predictor's internal coefficients."""
    units = standard(role, response, matrix.intercept is not None)
    return np.array(
        [
            units.intercept if j == matrix.intercept else units.slope
            for j in range(len(matrix.terms))
        ]
    )


def _each(heads: int, keys: Any, weights: Any) -> list[tuple[Any, Any]]:
    """Keys and weights of each head."""
    return [(keys[h], weights[h]) for h in range(heads)]


def _query(stem: str) -> str:
    return names.raw(f"{stem}_query")


def _key(stem: str) -> str:
    return names.raw(f"{stem}_key")


def _size(stem: str) -> str:
    return f"{stem}_size"

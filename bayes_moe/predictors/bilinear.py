"""Bilinear predictor: ``eta_k(x) = q(x)' key_k / sqrt(size)`` with the query ``q(x) = W z``.

``z`` are the standardised features. Weights of the query have the prior standard deviations of a
linear predictor's coefficients, keys 1, so that the effective coefficients ``C = K W / sqrt(size)``
have those of a linear predictor's. They are reported on the user's scale; ``W`` and ``K`` are known
up to a rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import NO_PRIORS, Predictor, Target
from bayes_moe.predictors.scaling import linear_eta
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variables, coefficients
from bayes_moe.priors.prior import Prior

NOISE = 0.3
"""Standard deviation, in units of the prior's, of the differences between initial heads."""


@dataclass(frozen=True)
class Bilinear(Predictor):
    """Queries of the features times keys of the experts.

    With several heads, outputs are those of the first head, then of the second, ...

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
    on_paths: ClassVar[bool] = True  # products of the matrix know the rows of each draw

    def length(self, matrix: Matrix) -> int:
        """Length of queries and keys."""
        return min(self.experts - 1, len(matrix.terms)) if self.size is None else self.size

    def default_prior(self, b: Binding) -> Prior:
        return Prior("ZeroSumNormal", sigma=1.0)

    def build(
        self,
        b: Binding,
        prior: Prior,
        priors: Mapping[str, Prior] = NO_PRIORS,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        xp, site, matrix, stem = symbolic_arrays(), b.site, b.matrix, b.site.stem
        if context.given:
            return self._given(b, context)
        dims, query, key = self.internal_dims(site), _query(stem), _key(stem)
        weights = pm.Normal(query, 0.0, 1.0, dims=dims[query])  # (head, size, term)
        keys = prior.rv(key, dims[key], context=context)  # (head, size, expert)
        spread = context.number(f"{stem}_spread", _spread(b) / np.sqrt(self.length(matrix)))
        pairs = [(keys, weights)]
        if self.heads > 1:
            pairs = [(keys[h], weights[h]) for h in range(self.heads)]
        coefs = [xp.matmul(k.T, w * spread) for k, w in pairs]  # (expert, term)
        to_user = context.number(f"{stem}_to_user", matrix.to_user)
        reported = [xp.matmul(coef, to_user) for coef in coefs]
        context.report(
            site.coef,
            reported[0] if self.heads == 1 else pt.stack(reported),
            self.variables(site).dims[site.coef],
        )
        features = context.data(
            names.features(stem), matrix.standardised, (names.OBS, names.term(stem))
        )
        etas = [linear_eta(coef, features, xp) for coef in coefs]
        return etas[0] if self.heads == 1 else xp.concatenate(etas, axis=-2)

    def _given(self, b: Binding, context: GraphContext) -> Any:
        """Return eta (output, obs) of given coefficients on the user's features."""
        site, xp = b.site, symbolic_arrays()
        coef = context.given_variable(site.coef, self.variables(site).dims[site.coef])
        dims = (names.OBS, names.term(site.stem))
        features = context.data(names.features(site.stem), b.matrix.values, dims)
        if self.heads == 1:
            return linear_eta(coef, features, xp)
        etas = [linear_eta(coef[h], features, xp) for h in range(self.heads)]
        return xp.concatenate(etas, axis=-2)

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        coef = draws[b.site.coef]  # (sample, head, expert, term)
        eta = b.matrix.product(coef.reshape(-1, coef.shape[-1]))
        return eta.reshape(len(coef), -1, eta.shape[-1])

    def to_raw(self, b: Binding, values: Values) -> Values:
        coef = np.asarray(values[b.site.coef])
        internal = np.linalg.solve(b.matrix.to_user.T, np.swapaxes(coef, -1, -2))
        product = np.swapaxes(internal, -1, -2) / _spread(b)
        size = self.length(b.matrix)
        # Of all factors with this product, those of the SVD with equal shares of its roots.
        left, root, right = np.linalg.svd(np.sqrt(size) * product, full_matrices=False)
        root = np.sqrt(root)[..., :size]
        keys = left[..., :size] * root[..., None, :]
        weights = right[..., :size, :] * root[..., None]
        missing = size - root.shape[-1]
        wide = [(0, 0)] * (coef.ndim - 2)
        return {
            _query(b.site.stem): np.pad(weights, [*wide, (0, missing), (0, 0)]),
            _key(b.site.stem): np.pad(np.swapaxes(keys, -1, -2), [*wide, (0, missing), (0, 0)]),
        }

    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        spread, matrix = _spread(b), b.matrix
        raw = target.least_squares(matrix.standardised * spread, target.eta)
        left, root, right = np.linalg.svd(raw, full_matrices=False)
        size = self.length(matrix)
        kept = (left[:, :size] * root[:size]) @ right[:size]
        if self.heads == 1:
            return {b.site.coef: (kept * spread) @ matrix.to_user}
        noise = NOISE * target.rng.standard_normal((self.heads, *kept.shape))
        # Keys are zero-sum over the experts, and so is the noise.
        several = kept + noise - noise.mean(axis=1, keepdims=True)
        return {b.site.coef: (several * spread) @ matrix.to_user}

    def variables(self, site: Site) -> Variables:
        coef = coefficients(site, names.term(site.stem))
        return Variables([replace(coef, dims=(*self._lead(site), *coef.dims))])

    def internal_dims(self, site: Site) -> dict[str, tuple[str, ...]]:
        stem, lead = site.stem, (*self._lead(site), names.part(site.stem, names.SIZE))
        return {
            _query(stem): (*lead, names.term(stem)),
            _key(stem): (*lead, site.internal_dim),
        }

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        heads: dict[str, list[Any]] = {dim: list(range(self.heads)) for dim in self._lead(b.site)}
        sizes = {names.part(b.site.stem, names.SIZE): list(range(self.length(b.matrix)))}
        return super().coords(b) | heads | sizes

    def shapes(self, b: Binding) -> dict[str, tuple[int, ...]]:
        site = replace(b.site, outputs=b.site.outputs // self.heads)
        return super().shapes(site.bind(b.matrix))

    def free(self, b: Binding, idle: int) -> int:
        across, along = b.site.outputs // self.heads - idle, len(b.matrix.terms)
        rank = min(self.length(b.matrix), across, along)
        return self.heads * rank * (across + along - rank)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "experts": self.experts,
            "size": self.size,
            "heads": self.heads,
        }

    def _lead(self, site: Site) -> tuple[str, ...]:
        """Dimension over the heads, if there are several."""
        return () if self.heads == 1 else (names.part(site.stem, names.HEAD),)


def _spread(b: Binding) -> np.ndarray:
    """Prior standard deviations (term,) of a linear predictor's internal coefficients."""
    return np.array(
        [
            b.units.intercept if j == b.matrix.intercept else b.units.slope
            for j in range(len(b.matrix.terms))
        ]
    )


def _query(stem: str) -> str:
    return names.raw(names.part(stem, names.QUERY))


def _key(stem: str) -> str:
    return names.raw(names.part(stem, names.KEY))

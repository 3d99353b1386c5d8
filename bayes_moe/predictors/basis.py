"""Sums of basis functions: ``eta = offset + unit sum_j coef_j phi_j(x)``.

The sampler's variables are ``raw`` (feature, output) with a prior of unit scale, and
``coef_j = s_j raw_j``, where the standard deviations ``s_j`` may depend on hyperparameters, such as
a length scale. The first feature is 1, and its coefficient the intercept. Features may depend on
hyperparameters too, such as the weights of a hidden layer.

As experts' predictors, every expert has hyperparameters of its own; outputs of a gate share them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, Values
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.linalg import unmixed
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.path_matrix import PathMatrix
from bayes_moe.predictors.base import NO_PRIORS, Predictor, Target
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import (
    existing,
    hyperparameter_rvs,
    raw_hyperparameters,
    unit_prior,
)
from bayes_moe.priors.prior import Prior


class Basis(Predictor):
    """A predictor that is linear in features which it makes itself.

    Coefficients refer to these features, and their prior to ``raw``: its scale is a factor of
    :meth:`spread`.
    """

    on_paths: ClassVar[bool] = True

    @abstractmethod
    def labels(self, matrix: Matrix) -> list[str]:
        """Return the names of the features; the first is the intercept.

        Raises
        ------
        SpecError
            For columns of a formula that the predictor cannot have.
        """

    @abstractmethod
    def features(self, matrix: Matrix) -> np.ndarray:
        """Return the features but the intercept (obs, feature), if they are fixed.

        Otherwise the inputs (obs, input) from which :meth:`phi` computes them.
        """

    @abstractmethod
    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        """Return prior standard deviations (..., feature) of the coefficients in internal units.

        Where every output has hyperparameters of its own, (..., output, feature).
        """

    def feature_site(self, site: Site) -> Site:
        """Return the site of features and hyperparameters, which several predictors may share."""
        return site

    def phi(self, site: Site, values: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        """Return the features (..., feature, obs) but the intercept from (..., obs, input)."""
        return turned(features)

    def initial_values(
        self, b: Binding, target: np.ndarray, rng: np.random.Generator, weights: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Return hyperparameters whose features can approximate ``target`` (output, obs)."""
        return self.variables(b.site).initial(b, rng)

    def default_prior(self, b: Binding) -> Prior:
        return unit_prior(b.site.role)

    def build(
        self,
        b: Binding,
        prior: Prior,
        priors: Mapping[str, Prior] = NO_PRIORS,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        site, xp, variables = b.site, symbolic_arrays(), self.variables(b.site)
        values = hyperparameter_rvs(variables, variables.priors(b) | dict(priors), context)
        if context.given:
            coef = context.given_variable(site.coef, variables.dims[site.coef])
        else:
            coef = _internal_coef(self, b, prior, values, context)
        # Predictors of one trunk have the same features: PyMC allows one data variable of a name.
        data = names.features(self.feature_site(site).stem)
        features = existing(data, partial(context.data, data, self.features(b.matrix)))
        return _eta(self, site, coef, values, features, xp)

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        coef, features = draws[b.site.coef], self.features(b.matrix)
        if isinstance(b.matrix, PathMatrix):
            features = b.matrix.by_sample(features)  # (sample, path, input)
            own = self.feature_site(b.site).each and self.variables(b.site).basis
            features = features[:, None] if own else features
        eta: np.ndarray = _eta(self, b.site, coef, draws, features, NUMERIC)
        return eta

    def to_raw(self, b: Binding, values: Values) -> Values:
        site, units, variables = b.site, b.units, self.variables(b.site)
        hyper = {v.name: np.asarray(values[v.name]) for v in variables.hyperparameters}
        spread = self.spread(b, hyper, NUMERIC)
        spread = spread if self.feature_site(site).each else spread[..., None, :]
        level = units.offset * _first(len(self.labels(b.matrix)))
        raw = (values[site.coef] - level) / (units.unit * spread)
        internal = raw if site.mixing is None else unmixed(site.mixing, raw)
        return raw_hyperparameters(variables, hyper) | {site.raw: np.swapaxes(internal, -1, -2)}

    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        site, units, outputs = b.site, b.units, range(b.site.outputs)
        internal_target = (target.eta - units.offset) / units.unit
        hyper = self.initial_values(b, internal_target, target.rng, target.weights)
        hyper |= {name: target.known[name] for name in hyper if name in target.known}
        size, obs = len(self.labels(b.matrix)), target.eta.shape[1]
        spread = np.broadcast_to(self.spread(b, hyper, NUMERIC), (site.outputs, size))
        phi = self.phi(site, hyper, self.features(b.matrix), NUMERIC)
        phi = np.broadcast_to(phi, (site.outputs, size - 1, obs))
        # Features and standard deviations may differ by output, so each has its own least squares.
        raw = [
            target.least_squares(
                np.column_stack([np.ones(obs), phi[k].T]) * spread[k],
                internal_target[k : k + 1],
                slice(k, k + 1),
            )
            for k in outputs
        ]
        level = units.offset * _first(size)
        return hyper | {site.coef: units.unit * spread * np.concatenate(raw) + level}

    def basis(self, matrix: Matrix) -> Matrix:
        labels = tuple(self.labels(matrix))
        features = self.features(matrix)
        values = np.column_stack([np.ones(len(features)), features])
        # Centre 0 and scale 1: features have their units already.
        return Matrix(labels, values, np.zeros(len(labels)), np.ones(len(labels)))

    def raw_sds(self, b: Binding, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        variables = self.variables(b.site)
        scaled = {v.name: v.scale for v in variables if v.scale is not None}
        sds = {
            names.raw(name): np.asarray(values[scale][position])
            for name, (scale, position) in scaled.items()
        }
        # Scales of hidden weights are no scales of the coefficients.
        if variables.scales - {scale for scale, _ in scaled.values()}:
            spread = self.spread(b, values, NUMERIC)
            sds[b.site.raw] = spread.T if self.feature_site(b.site).each else spread[:, None]
        return sds

    def internal_dims(self, site: Site) -> dict[str, tuple[str, ...]]:
        variables = self.variables(site)
        internal = {site.raw: (variables.dims[site.coef][-1], site.internal_dim)}
        return internal | {names.raw(v.name): v.dims for v in variables if v.scale is not None}

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        return {self.variables(b.site).dims[b.site.coef][-1]: self.labels(b.matrix)}


def _internal_coef(
    predictor: Basis, b: Binding, prior: Prior, values: Mapping[str, Any], context: GraphContext
) -> Any:
    """Create the internal coefficients; return the reported ones (output, feature)."""
    site, units, stem, labels = b.site, b.units, b.site.stem, predictor.labels(b.matrix)
    dim = predictor.variables(site).dims[site.coef][-1]
    raw_prior = prior.over_terms(site.coef, tuple(labels))
    raw = raw_prior.rv(site.raw, (dim, site.internal_dim), column=True, context=context)
    raw = raw if site.mixing is None else raw @ site.mixing
    coef = raw.T * predictor.spread(b, values, symbolic_arrays())
    level = context.number(f"{stem}_level", units.offset)
    unit = context.number(f"{stem}_unit", units.unit)
    coef = unit * coef + level * context.number(f"{stem}_first", _first(len(labels)))
    return context.report(site.coef, coef, (site.dim, dim))


def _eta(
    predictor: Basis, site: Site, coef: Any, values: Mapping[str, Any], features: Any, xp: Arrays
) -> Any:
    """Sum (..., output, obs) of coefficients (..., output, feature) times features."""
    return summed(predictor, site, coef, predictor.phi(site, values, features, xp), xp)


def summed(predictor: Basis, site: Site, coef: Any, phi: Any, xp: Arrays) -> Any:
    """Sum (..., output, obs) of coefficients times the features but the intercept, ``phi``."""
    slopes = coef[..., 1:]
    # With hidden weights per expert, each output has features of its own: one product per output.
    if predictor.feature_site(site).each and predictor.variables(site).basis:
        total = xp.matmul(slopes[..., None, :], phi)[..., 0, :]
    else:
        total = xp.matmul(slopes, phi)
    return total + coef[..., 0, None]


def turned(features: Any) -> Any:
    """Features (..., input, obs) from (..., obs, input)."""
    return features.T if features.ndim == 2 else np.swapaxes(features, -1, -2)


def _first(size: int) -> np.ndarray:
    """1 for the intercept and 0 for other features (feature,)."""
    return np.array([float(j == 0) for j in range(size)])

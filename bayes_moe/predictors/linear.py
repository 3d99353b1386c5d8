"""Linear predictor: ``eta = X beta``.

The sampler's variables are ``raw`` coefficients (term, output) of the standardised features ``Z``;
the model reports ``beta`` on the user's scale. With centre ``c``, scale ``s``, and the units
``offset`` and ``unit`` of :func:`bayes_moe.priors.defaults.units_of`,

``beta_j = unit raw_j / s_j`` and ``beta_0 = offset + unit raw_0 - sum_j beta_j c_j``,

hence ``X beta = offset + unit Z raw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.linalg import unmixed
from bayes_moe.predictors.base import NO_PRIORS, Predictor, Target
from bayes_moe.predictors.scaling import Scaling, linear_eta
from bayes_moe.predictors.site import Binding
from bayes_moe.priors.defaults import role_of
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Linear(Predictor):
    """A linear predictor; its features are the columns of a formula's design."""

    kind: ClassVar[str] = "linear"
    on_paths: ClassVar[bool] = True  # products of the matrix know the rows of each draw
    portable: ClassVar[bool] = True

    @property
    def is_linear(self) -> bool:
        return True

    def default_prior(self, b: Binding) -> Prior:
        units, matrix = b.units, b.matrix
        is_intercept = np.array([j == matrix.intercept for j in range(len(matrix.terms))])
        sigma = np.where(is_intercept, units.intercept, units.slope) * units.unit / matrix.scale
        if role_of(b.site.role).zero_sum:
            return Prior("ZeroSumNormal", sigma=sigma)
        return Prior("Normal", mu=np.where(is_intercept, units.offset, 0.0), sigma=sigma)

    def build(
        self,
        b: Binding,
        prior: Prior,
        priors: Mapping[str, Prior] = NO_PRIORS,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        site, stem, term = b.site, b.site.stem, names.term(b.site.stem)
        if context.given or stem in context.reported:
            beta = self._reported_rv(b, prior, priors, context)
            # The features are the user's: draws of any fit go with any table.
            features = context.data(names.features(stem), b.matrix.values, (names.OBS, term))
            return linear_eta(beta, features, symbolic_arrays())
        scaling = Scaling(b.matrix, b.units)
        raw = context.made.get(site.raw)
        if raw is None:
            raw_prior, spread = self.internal_prior(b, prior, priors, context)
            raw = raw_prior.rv(site.raw, (term, site.internal_dim), column=True, context=context)
            raw = raw if spread is None else raw * spread[:, None]
        raw = raw if site.mixing is None else raw @ site.mixing
        linear = context.number(f"{stem}_to_user", scaling.linear)
        offset = context.number(f"{stem}_zero", scaling.offset)
        beta = raw.T @ linear + offset
        context.report(site.coef, beta, (site.dim, term))
        features = context.data(names.features(stem), b.matrix.standardised, (names.OBS, term))
        level = context.number(f"{stem}_level", scaling.units.offset)
        unit = context.number(f"{stem}_unit", scaling.units.unit)
        return level + linear_eta(unit * raw.T, features, symbolic_arrays())

    def internal_prior(
        self, b: Binding, prior: Prior, priors: Mapping[str, Prior], context: GraphContext
    ) -> tuple[Prior, Any]:
        """Return the prior of the internal coefficients, and their spreads (term,) or None.

        The prior is in units of the spreads, whose random variables are created in the current
        model.
        """
        over_terms = prior.over_terms(b.site.coef, b.matrix.terms)
        return Scaling(b.matrix, b.units).raw_prior(over_terms), None

    def _reported_rv(
        self, b: Binding, prior: Prior, priors: Mapping[str, Prior], context: GraphContext
    ) -> Any:
        """Create the reported coefficients as a free variable of the current model."""
        if context.given:
            return context.given_variable(b.site.coef, self.variables(b.site).dims[b.site.coef])
        from bayes_moe.predictors.reported import ReportedCoefficients

        internal, spread = self.internal_prior(b, prior, priors, context)
        scaling = Scaling(b.matrix, b.units)
        return ReportedCoefficients(b.site, scaling, internal, context.pairs).variable(
            spread, context
        )

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        # One product of two matrices is much faster than one for each sample.
        coef = draws[b.site.coef]  # (sample, output, term)
        eta = b.matrix.product(coef.reshape(-1, coef.shape[-1]))
        return eta.reshape(*coef.shape[:-1], -1)

    def to_raw(self, b: Binding, values: Values) -> Values:
        raw = Scaling(b.matrix, b.units).to_raw(values[b.site.coef])
        internal = raw if b.site.mixing is None else unmixed(b.site.mixing, raw)
        return {b.site.raw: np.swapaxes(internal, -1, -2)}

    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        scaling = Scaling(b.matrix, b.units)
        internal_target = (target.eta - scaling.units.offset) / scaling.units.unit
        raw = target.least_squares(b.matrix.standardised, internal_target)
        return {b.site.coef: scaling.to_user(raw)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}

r"""Random effects: ``eta = X beta + Z u``, where every group has coefficients ``u_g`` of its own.

The effects of a group are normal about 0, :math:`u_g \sim N(0, D R D)` with standard deviations
``D`` and correlations ``R`` that are learned: experts' predictors have their own, the outputs of a
gate share them. Samplers move ``u_g`` in units of these (non-centred). The design ``Z`` is not
centred, so that ``D`` and ``R`` are those of the effects of the user's columns.

Standard deviations have half-normal default priors, whose widths are those of the default priors
of an intercept and of slopes of the same predictor (:mod:`bayes_moe.priors.defaults`), for columns
in units of their root mean square: groups then differ about as much as the predictor itself could.
The default prior of ``R`` is ``LKJ(2)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.errors import SpecError
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.linalg import unmixed
from bayes_moe.data.group_terms import group_terms
from bayes_moe.predictors.base import NO_PRIORS, Predictor, Target
from bayes_moe.predictors.group_basis import GroupBasis
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables, hyperparameter_rvs
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class RandomEffects(GroupBasis):
    """A linear predictor with random effects of groups, from a formula with group terms."""

    kind: ClassVar[str] = "random effects"
    portable: ClassVar[bool] = False

    def __repr__(self) -> str:
        shown = " + ".join(f"({t.design[2:]} | {t.name})" for t in self.terms)
        return f"Linear() with {shown}"

    def variables(self, site: Site) -> Variables:
        groups = self.groups(site)
        effects = [Variable(e.effect, e.dims) for e in groups]
        scales = [variable for e in groups for variable in e.variables()]
        return Variables([*super().variables(site), *effects, *scales])

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        labels = super().coords(b)
        for e, columns in zip(self.groups(b.site), b.matrix.groups, strict=True):
            labels |= e.coords(columns)
        return labels

    def internal_dims(self, site: Site) -> dict[str, tuple[str, ...]]:
        dims = super().internal_dims(site)
        for e in self.groups(site):
            dims |= e.internal_dims
        return dims

    def free(self, b: Binding, idle: int) -> int:
        """Return the number of parameters of the marginal likelihood: effects are none."""
        shapes, variables = self.shapes(b), self.variables(b.site)
        scales = sum(int(np.prod(shapes[v.name])) for v in variables.hyperparameters)
        return super().free(b, idle) + scales

    def default_prior(self, b: Binding) -> Prior:
        prior = super().default_prior(b)
        if prior.kind.support == "zero-sum" and b.site.role != names.GATE:
            return Prior("Normal", mu=0.0, **prior.arguments)
        return prior

    def build(
        self,
        b: Binding,
        prior: Prior,
        priors: Mapping[str, Prior] = NO_PRIORS,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        eta = super().build(b, prior, priors, context)
        variables = self.variables(b.site)
        scales = hyperparameter_rvs(variables, variables.priors(b) | dict(priors), context)
        for e, columns in zip(self.groups(b.site), b.matrix.groups, strict=True):
            effects = e.variable(prior, scales, len(columns.terms), context)
            eta = eta + e.graph_eta(columns, effects, context)
        return eta

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        eta = super().evaluate(b, draws)
        for e, columns in zip(self.groups(b.site), b.matrix.groups, strict=True):
            eta = eta + e.eta(columns, np.asarray(draws[e.effect]))
        return eta

    def to_raw(self, b: Binding, values: Values) -> Values:
        site, internal = b.site, dict(super().to_raw(b, values))
        scales = self.variables(site).hyperparameters
        internal |= {v.name: np.asarray(values[v.name]) for v in scales}
        for e in self.groups(site):
            effects = np.swapaxes(np.asarray(values[e.effect]), -1, -2)
            raw = np.swapaxes(np.linalg.solve(e.factor(values), effects), -1, -2)
            if site.mixing is not None:
                flat = raw.reshape(*raw.shape[:-2], -1)
                raw = unmixed(site.mixing, flat).reshape(*raw.shape[:-3], -1, *raw.shape[-2:])
            internal |= dict.fromkeys(e.internal_dims, np.moveaxis(raw, -3, -1))
        return internal

    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        shapes = self.shapes(b)
        none = {e.effect: np.zeros(shapes[e.effect]) for e in self.groups(b.site)}
        initial = self.variables(b.site).initial(b, target.rng)
        return super().project(b, target) | none | initial

    def raw_sds(self, b: Binding, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for e in self.groups(b.site):
            sds = np.asarray(values[e.sd])
            wide = sds.T[None] if b.site.each else sds[None, :, None]
            found |= dict.fromkeys(e.internal_dims, wide)
        return found


def check_no_effects(predictor: Predictor, site: Site, name: str) -> None:
    """Raise :class:`SpecError` for a prior of a variable that is effects of groups."""
    for e in predictor.groups(site) if isinstance(predictor, RandomEffects) else ():
        if name == e.effect:
            raise SpecError(
                f"{name!r} are effects of groups, normal with the standard deviations {e.sd!r}: "
                "give a prior of these."
            )


def with_groups(predictor: Predictor, formula: str | None) -> Predictor:
    """Return a formula's predictor, with random effects if the formula has group terms.

    Raises
    ------
    SpecError
        For group terms in the formula of a predictor that is not linear.
    """
    terms = () if formula is None else group_terms(formula)
    if not terms:
        return predictor
    if type(predictor) is not Linear:
        raise SpecError(
            f"The formula {formula!r} has a group term, and {predictor!r} is not linear: random "
            "effects go with linear predictors."
        )
    return RandomEffects(terms)

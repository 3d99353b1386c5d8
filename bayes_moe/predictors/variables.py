"""Reported variables of a predictor: dimensions, default priors, initial values, and what they are.

Hyperparameters are those besides the coefficients: length scales, smoothing, hidden weights, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True, eq=False)
class Variable:
    """One reported variable of a predictor.

    Attributes
    ----------
    name : str
        Its name in the model.
    dims : tuple of str
        Its dimensions.
    prior : callable or None
        Default prior of a hyperparameter from a binding; None for coefficients.
    initial : callable or None
        Initial value of a hyperparameter from a binding and a random generator.
    positive : bool
        Whether it is positive.
    correlation : bool
        Whether it is a correlation, between -1 and 1.
    in_basis : bool
        Whether the features depend on it, as on hidden weights; other hyperparameters are scales.
    shared : bool
        Whether other predictors of the model may have it too.
    identified : bool
        Whether its posterior mean is meaningful, so that chains must agree about it.
    zero_mean : bool
        Whether its prior must be normal about 0, since its scales are learned.
    scale : tuple of (str, int) or None
        Name of the hyperparameter, and the position in it, that the sampler's variable
        ``names.raw(name)`` is multiplied by; None where the sampler's variable is this one.
    """

    name: str
    dims: tuple[str, ...]
    prior: Callable[[Binding], Prior] | None = None
    initial: Callable[[Binding, np.random.Generator], np.ndarray] | None = None
    positive: bool = False
    correlation: bool = False
    in_basis: bool = False
    shared: bool = False
    identified: bool = True
    zero_mean: bool = False
    scale: tuple[str, int] | None = None


class Variables(tuple[Variable, ...]):
    """Reported variables of a predictor at a site, coefficients first."""

    __slots__ = ()

    @property
    def hyperparameters(self) -> Variables:
        """What the predictor has besides coefficients."""
        return Variables(v for v in self if v.prior is not None)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions by name."""
        return {v.name: v.dims for v in self}

    @property
    def supports(self) -> dict[str, str]:
        """Supports by name of those variables that are not any real number."""
        found = {v.name: "positive" for v in self if v.positive}
        return found | {v.name: "correlation" for v in self if v.correlation}

    @property
    def basis(self) -> frozenset[str]:
        """Names of hyperparameters on which the features depend, such as hidden weights."""
        return frozenset(v.name for v in self if v.in_basis)

    @property
    def scales(self) -> frozenset[str]:
        """Names of hyperparameters that are scales of others, and have no joint mode with them."""
        return frozenset(v.name for v in self.hyperparameters if not v.in_basis)

    @property
    def shared(self) -> frozenset[str]:
        """Names of variables that other predictors of the model may have too."""
        return frozenset(v.name for v in self if v.shared)

    @property
    def unidentified(self) -> frozenset[str]:
        """Names of variables about which chains need not agree; summaries leave them out."""
        return frozenset(v.name for v in self if not v.identified)

    def priors(self, b: Binding) -> dict[str, Prior]:
        """Return the default priors of the hyperparameters by name."""
        return {v.name: v.prior(b) for v in self if v.prior is not None}

    def initial(self, b: Binding, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return initial values of the hyperparameters by name; weights are drawn."""
        return {v.name: v.initial(b, rng) for v in self if v.initial is not None}


def coefficients(site: Site, dim: str, **flags: Any) -> Variable:
    """Return the variable of the coefficients (output, feature) with ``dim`` over the features."""
    return Variable(site.coef, (site.dim, dim), **flags)


def hyperparameter_rvs(
    variables: Variables, priors: Mapping[str, Prior], context: GraphContext
) -> dict[str, Any]:
    """Return the hyperparameters in the current PyMC model by name; existing ones are reused."""
    values: dict[str, Any] = {}
    if context.given:  # scales of coefficients have no part in the predictor
        needed = Variables(v for v in variables.hyperparameters if v.in_basis)
        given = context.given_variable
        return {n: existing(n, partial(given, n, d)) for n, d in needed.dims.items()}
    # The sort is stable: scales are created before the weights that are products of them.
    for v in sorted(variables.hyperparameters, key=lambda v: v.scale is not None):
        values[v.name] = existing(v.name, partial(_rv, v, priors[v.name], values, context))
    return values


def _rv(v: Variable, prior: Prior, values: Mapping[str, Any], context: GraphContext) -> Any:
    """Create a hyperparameter in the current PyMC model."""
    if v.scale is None:
        return prior.rv(v.name, v.dims, context=context)
    scale, position = v.scale
    raw = prior.rv(names.raw(v.name), v.dims, context=context.without_pairs)
    return context.report(v.name, raw * values[scale][position], v.dims)


def raw_hyperparameters(variables: Variables, values: Values) -> dict[str, np.ndarray]:
    """Return the sampler's variables of hyperparameters from their reported values."""
    raw = {}
    for v in variables.hyperparameters:
        value = np.asarray(values[v.name])
        if v.scale is None:
            raw[v.name] = value
        else:
            raw[names.raw(v.name)] = value / _scale(v.scale, values, value.ndim)
    return raw


def reported_hyperparameters(variables: Variables, raw: Values) -> dict[str, np.ndarray]:
    """Return hyperparameters from the sampler's variables: see :func:`raw_hyperparameters`."""
    values = {v.name: np.asarray(raw[v.name]) for v in variables.hyperparameters if v.scale is None}
    for v in variables.hyperparameters:
        if v.scale is not None:
            value = np.asarray(raw[names.raw(v.name)])
            values[v.name] = value * _scale(v.scale, values, value.ndim)
    return values


def _scale(scale: tuple[str, int], values: Values, ndim: int) -> np.ndarray:
    """Scale at a position of a hyperparameter (..., position), to broadcast to ``ndim`` axes."""
    name, position = scale
    found = np.asarray(values[name])[..., position]
    return found.reshape(*found.shape, *[1] * (ndim - found.ndim))


def existing(name: str, make: Callable[[], Any]) -> Any:
    """Return the variable of that name in the current PyMC model, made if there is none."""
    import pymc as pm

    variable = pm.modelcontext(None).named_vars.get(name)
    return make() if variable is None else variable


def unit_prior(role: str) -> Prior:
    """Return the prior of coefficients in units of their learned or fixed standard deviations."""
    if role == names.GATE:
        return Prior("ZeroSumNormal", sigma=1.0)
    return Prior("Normal", mu=0.0, sigma=1.0)


def about_zero(prior: Prior) -> bool:
    """Whether a prior is normal about 0, as learned scales need it."""
    normal = prior.distribution in ("Normal", "ZeroSumNormal")
    return normal and not np.any(np.asarray(prior.arguments.get("mu", 0.0)) != 0)

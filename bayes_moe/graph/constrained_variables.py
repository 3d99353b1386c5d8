"""Variables of a PyMC model whose entries are shared or held, made from its free values.

Its free variables are those of :class:`bayes_moe.model.free_values.FreeValues`: ``sigma_free``,
``mu_coef_free``, ... The sampler's usual variables are functions of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.model.constrained_variables import ConstrainedVariable, HeldGate
from bayes_moe.model.free_values import FreeValues
from bayes_moe.predictors import Linear
from bayes_moe.priors.prior import Prior


def constrained_variables(
    free: FreeValues, priors: Mapping[str, Prior], context: GraphContext
) -> dict[str, Any]:
    """Constants (expert,) and internal coefficients (term, output) of the current PyMC model.

    They are by name, and deterministic functions of free variables that are created here.
    ``priors`` are the resolved ones of the model.
    """
    import pymc as pm

    made: dict[str, Any] = {}
    for gate in free.gates.values():
        made[gate.head.site.raw] = _gate(gate, priors[gate.head.site.coef], context)
    values = _free_values(free, context)
    for name, variable in free.variables.items():
        of = variable.site
        if variable.scaling is None:
            made[name] = context.report(name, _constants(free, variable, values), (of.dim,))
        else:
            dims = (names.term(of.stem), of.internal_dim)
            raw = _coefficients(free, variable, values, context)
            made[of.raw] = pm.Deterministic(of.raw, raw, dims=dims)
    return made


def _free_values(free: FreeValues, context: GraphContext) -> Any:
    """All free values (free,): of constants, and of internal coefficients."""
    import pytensor.tensor as pt

    parts, order = [], []
    for group in free.groups:
        variable = free.variables[group.variable]
        labels = []
        for j in group.which:
            _, output, term = free.owners[j]
            labels.append(f"{output}, {variable.terms[term]}" if variable.scaling else str(output))
        parts.append(_free_rv(group.name, group.prior, labels, context))
        order.append(group.which)
    if not parts:
        return np.zeros(0)
    return pt.concatenate(parts)[np.argsort(np.concatenate(order))]


def _free_rv(name: str, prior: Prior, labels: list[str], context: GraphContext) -> Any:
    import pymc as pm

    dim = f"{name}_entry"
    pm.modelcontext(None).add_coord(dim, labels)
    return prior.rv(name, (dim,), context=context)


def _constants(free: FreeValues, variable: ConstrainedVariable, values: Any) -> Any:
    """A constant of every expert: a free value, or the one at which it is held."""
    import pytensor.tensor as pt

    chosen = variable.free[:, 0]
    held = np.flatnonzero(chosen < 0)
    if len(held) == len(chosen):
        return pt.as_tensor_variable(variable.value[:, 0])
    if not held.size:
        return values[chosen]
    both = pt.concatenate([values, variable.value[held, 0]])
    index = chosen.copy()
    index[held] = len(free.owners) + np.arange(len(held))
    return both[index]


def _coefficients(
    free: FreeValues, variable: ConstrainedVariable, values: Any, context: GraphContext
) -> Any:
    """Internal coefficients (term, expert) of the free values."""
    import pytensor.tensor as pt

    stem, where = variable.of.site.stem, variable.places
    offset = context.number(f"{stem}_held", free.offset[where])
    flat = pt.as_tensor_variable(offset)
    if free.matrix[where].any():
        flat = context.number(f"{stem}_ties", free.matrix[where]) @ values + offset
    return flat.reshape(variable.value.shape).T


def _gate(gate: HeldGate, prior: Prior, context: GraphContext) -> Any:
    """Internal coefficients (term, internal output) of a gate."""
    import pymc as pm
    import pytensor.tensor as pt

    site, inner = gate.head.site_under(prior)
    raw = context.number(f"{site.stem}_held", gate.internal(site)[gate.held])
    dims = (names.term(site.stem), site.internal_dim)
    if gate.held.all():
        return pm.Deterministic(site.raw, pt.as_tensor_variable(raw), dims=dims)
    predictor, b = gate.head.predictor, site.bind(gate.binding.matrix, gate.binding.response)
    assert isinstance(predictor, Linear)  # others cannot be held
    by_term, _ = predictor.internal_prior(b, inner, {}, context)
    kept = {
        n: np.broadcast_to(v, gate.held.shape)[~gate.held] for n, v in by_term.arguments.items()
    }
    name = f"{site.coef}_free"
    dim = f"{name}_term"
    terms = np.array(gate.binding.matrix.terms, dtype=object)[~gate.held]
    pm.modelcontext(None).add_coord(dim, list(terms))
    prior = Prior(by_term.distribution, **kept)
    free = prior.rv(name, (dim, site.internal_dim), column=True, context=context)
    order = np.argsort(np.concatenate([np.flatnonzero(~gate.held), np.flatnonzero(gate.held)]))
    return pm.Deterministic(site.raw, pt.concatenate([free, raw])[order], dims=dims)

"""Parameter vector of a model: its blocks of parameters, their order and units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from scipy.linalg import helmert

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.families import Link
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.scaling import scaling_of
from bayes_moe.priors.defaults import role_of
from bayes_moe.priors.prior import Prior

SCALE_FLOOR = 1e-8
"""Least scale parameter in units of the response's sd, and least coefficient of variation."""
NARROW = 1e-3
"""The same, below which an expert with few rows has collapsed, where no prior prevents it.

An expert may be as narrow as this with many rows: its likelihood then has a maximum.
"""


def parameter_vector(
    spec: MixtureOfExperts,
    design: Design,
    *,
    likelihood: bool = False,
    jacobian: bool = False,
    hyperparameters: Mapping[str, np.ndarray] | None = None,
) -> ParameterVector:
    """Return the parameter vector of a model whose predictors are linear in their coefficients.

    Parameters
    ----------
    spec, design
        The model and its data.
    likelihood : bool
        Leave the priors out. Experts of few rows have then collapsed where they are narrower than
        ``NARROW``: the plain likelihood is unbounded there.
    jacobian : bool
        See :class:`ParameterVector`.
    hyperparameters : mapping of str to array, optional
        Values of the parameters of learned priors; initial ones by default.
    """
    if not spec.structure.is_linear:
        raise SpecError(_not_linear(spec))
    values = _initial_hyperparameters(spec, design)
    if hyperparameters is not None:
        values = {name: hyperparameters[name] for name in values}
    if values and likelihood:
        raise SpecError(
            "objective='likelihood' leaves priors out, and with them what smooths or shrinks the "
            f"predictors ({', '.join(values)}): use linear ones, or objective='posterior'."
        )
    blocks = [
        *_gate_blocks(spec, design, likelihood, values),
        *_expert_blocks(spec, design, likelihood, values),
    ]
    ends = accumulate((b.directions * b.terms for b in blocks), initial=0)
    placed = [replace(b, where=slice(*ab)) for b, ab in zip(blocks, pairwise(ends), strict=True)]
    return ParameterVector(spec, design, tuple(placed), jacobian, values)


def _not_linear(spec: MixtureOfExperts) -> str:
    """Error message: the predictor or gate that is not linear in its coefficients."""
    other = next((repr(p) for _, p in spec.structure.sites if not p.is_linear), repr(spec.gate))
    return (
        f"{other} is not linear in its coefficients, so EM cannot treat it: use method='map' or "
        "'nuts', or 'laplace' or 'advi'."
    )


def _initial_hyperparameters(spec: MixtureOfExperts, design: Design) -> dict[str, np.ndarray]:
    """Initial values of the parameters of learned priors."""
    rng = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for site, predictor in spec.structure.sites:
        b = site.bind(design.rows.matrices[site.stem])
        values |= predictor.variables(site).initial(b, rng)
    return values


def _gate_blocks(
    spec: MixtureOfExperts,
    design: Design,
    likelihood: bool,
    hyperparameters: Mapping[str, np.ndarray],
) -> Iterator[ParameterBlock]:
    priors = spec.resolve_priors(design)
    for head in spec.structure.gate.heads:
        coef_prior = priors[head.site.coef]
        if likelihood and head.zero_sum:
            coef_prior = Prior("ZeroSumNormal", sigma=1.0)
        placed, prior = head.site_under(coef_prior)
        basis = placed.mixing
        if basis is None and coef_prior.kind.support == "zero-sum":
            basis = helmert(head.n_outputs)
        site, predictor = head.site, head.predictor
        internal = _internal(predictor, site, design, design.response, prior, hyperparameters)
        yield ParameterBlock(
            site=site,
            predictor=predictor,
            variable=site.coef,
            factor=None,
            parameter=-1,
            experts=tuple(range(head.outputs.start, head.outputs.stop)),
            link=Link("identity"),
            basis=basis,
            layout=head.site_under(priors[site.coef])[0].mixing,
            gain=spec.structure.gate.gain,
            **(internal | ({"prior": None} if likelihood else {})),
        )


def _expert_blocks(
    spec: MixtureOfExperts,
    design: Design,
    likelihood: bool,
    hyperparameters: Mapping[str, np.ndarray],
) -> Iterator[ParameterBlock]:
    priors = spec.resolve_priors(design)
    for b, factor in enumerate(spec.structure.factors):
        response = factor.own_response(design.rows)
        slot = 0
        for c in factor.block.components:
            prior = priors[c.variable]
            if likelihood and c.zero_sum:
                prior = Prior("ZeroSumNormal", sigma=1.0)
            placed, inner = c.site_under(prior)
            assert inner is not None
            internal: dict[str, Any] = {"scaling": None, "prior": inner}
            if c.formula is not None:
                internal = _internal(c.predictor, c.site, design, response, inner, hyperparameters)
            yield ParameterBlock(
                site=c.site,
                predictor=c.predictor,
                variable=c.variable,
                factor=b,
                parameter=slot,
                experts=factor.block.positions * c.parameter.size,
                size=c.parameter.size,
                link=c.parameter.link,
                basis=placed.mixing,
                layout=placed.mixing,
                **_limits(c.parameter.role, response, likelihood),
                **(internal | ({"prior": None} if likelihood else {})),
            )
            slot += c.parameter.size


def _limits(role: str, response: np.ndarray, likelihood: bool) -> dict[str, Any]:
    """Limits of the spread of a parameter that collapses onto rows that an expert fits exactly."""
    row = role_of(role)
    if not row.collapses:
        return {}
    unit = row.log_spread_unit(response)
    narrow = unit + math.log(NARROW) if likelihood else -math.inf
    return {"floor": unit + math.log(SCALE_FLOOR), "narrow": narrow}


def _internal(
    predictor: Predictor,
    site: Site,
    design: Design,
    response: np.ndarray,
    prior: Prior,
    hyperparameters: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Scaling of internal to reported coefficients, their learned scales, and their prior."""
    b = site.bind(design.rows.matrices[site.stem], response)
    scaling = scaling_of(predictor, b)
    scales = predictor.spread(b, hyperparameters, NUMERIC)
    by_term = prior.over_terms(site.coef, scaling.matrix.terms)
    raw_prior = scaling.raw_prior(by_term) if scales is None else by_term
    return {"scaling": scaling, "prior_scale": scales, "prior": raw_prior}

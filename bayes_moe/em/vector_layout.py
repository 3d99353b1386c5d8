"""Parameter vector of a model: its blocks of parameters, their order and units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from scipy.linalg import helmert

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import SpecError
from bayes_moe.core.samples import Sample
from bayes_moe.core.zero_sum import ZeroSumBasis
from bayes_moe.data.design import Design
from bayes_moe.em.constraint import Constraint
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.em.prior_groups import PriorTerm
from bayes_moe.families import Link
from bayes_moe.model.constrained_variables import HeldGate
from bayes_moe.model.free_values import FreeValues, free_values
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.group_basis import GroupBasis
from bayes_moe.predictors.scaling import Scaling, scaling_of
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
    check_affordable(spec)
    blocks = [
        *gate_blocks(spec, design, likelihood, values),
        *_expert_blocks(spec, design, likelihood, values),
    ]
    ends = accumulate((b.directions * b.terms for b in blocks), initial=0)
    placed = [replace(b, where=slice(*ab)) for b, ab in zip(blocks, pairwise(ends), strict=True)]
    free = free_values(spec, design)
    if free is None:
        return ParameterVector(spec, design, tuple(placed), jacobian, values)
    constraint = constraint_of(free, placed, likelihood)
    limited = [_without_limits(block, constraint) for block in placed]
    return ParameterVector(spec, design, tuple(limited), jacobian, values, constraint)


def check_affordable(spec: MixtureOfExperts) -> None:
    """Raise :class:`SpecError` for more class coefficients than matrices are made of."""
    for basis in (basis for _, basis in spec.structure.bases.values()):
        if isinstance(basis, ZeroSumBasis):
            raise basis.too_large()


def gate_vector(spec: MixtureOfExperts, design: Design) -> ParameterVector:
    """The parameter vector of a gate alone, without experts."""
    blocks = list(gate_blocks(spec, design, False, {}))
    ends = accumulate((b.directions * b.terms for b in blocks), initial=0)
    placed = [replace(b, where=slice(*ab)) for b, ab in zip(blocks, pairwise(ends), strict=True)]
    return ParameterVector(spec, design, tuple(placed), False)


def _without_limits(block: ParameterBlock, constraint: Constraint) -> ParameterBlock:
    """The block without limits of its spread, if that is held."""
    if constraint.matrix[block.where].any():
        return block
    return replace(block, floor=-math.inf, narrow=-math.inf)


def constraint_of(
    free: FreeValues, blocks: Sequence[ParameterBlock], likelihood: bool
) -> Constraint:
    """The constraint of a parameter vector whose blocks are placed.

    Raises
    ------
    SpecError
        If everything is held.
    """
    size = blocks[-1].where.stop
    of_block = {block.variable: block for block in blocks}
    places = np.empty(len(free.offset), dtype=np.int64)  # of the constrained entries
    for name, variable in free.variables.items():
        places[variable.places] = np.r_[of_block[name].where]
    entries = {name: v.start for name, v in free.variables.items()}
    owned = np.array(
        [places[entries[n] + k * len(free.variables[n].terms) + t] for n, k, t in free.owners],
        dtype=np.int64,
    )
    held = np.zeros(size, dtype=bool)
    offset = np.zeros(size)
    terms = []
    for name, gate in free.gates.items():
        block = of_block[name]
        mask = np.broadcast_to(gate.held, (block.directions, block.terms)).ravel()
        values = np.where(mask, block.free(gate.raw[None])[0], 0.0)
        offset[block.where], held[block.where] = values, mask
        if block.prior is not None and not mask.all():
            terms.append(_gate_term(block, gate))
    if not likelihood:
        terms += [
            PriorTerm(
                group.prior,
                (1, len(group.which)),
                1.0,
                owned[group.which],
            )
            for group in free.groups
        ]
    tied = np.zeros(size, dtype=bool)
    tied[places] = True
    at = np.sort(np.concatenate([np.flatnonzero(~(held | tied)), owned]))
    if not at.size:
        raise SpecError("`fixed` holds all parameters: nothing is left to be fitted.")
    matrix = np.zeros((size, len(at)))
    matrix[at, np.arange(len(at))] = 1.0
    matrix[np.ix_(places, np.searchsorted(at, owned))] = free.matrix
    offset[places] = free.offset
    variables = frozenset((*free.variables, *free.gates))
    return Constraint(matrix, offset, at, variables, tuple(terms))


def _gate_term(block: ParameterBlock, gate: HeldGate) -> PriorTerm:
    """Prior of the coordinates of a gate that are not held."""
    assert block.prior is not None
    shape = (block.directions, block.terms)
    free = np.broadcast_to(~gate.held, shape).ravel()
    arguments = {
        name: np.broadcast_to(np.asarray(value), shape).ravel()[free]
        for name, value in block.prior.arguments.items()
    }
    where = np.r_[block.where][free]
    return PriorTerm(Prior(block.prior.distribution, **arguments), (1, len(where)), 1.0, where)


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
    for predictor, b in spec.structure.bound(design):
        values |= predictor.variables(b.site).initial(b, rng)
    return values


def gate_blocks(
    spec: MixtureOfExperts,
    design: Design,
    likelihood: bool,
    hyperparameters: Mapping[str, np.ndarray],
) -> Iterator[ParameterBlock]:
    """Blocks of a gate's coefficients, without their places in a vector."""
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
        internal = _internal(predictor, site, design, design.first_sample, prior, hyperparameters)
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
        responses = factor.own_response(design.rows)
        slot = 0
        for c in factor.block.components:
            response = c.parameter.own(responses)
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


def _limits(role: str, response: Sample, likelihood: bool) -> dict[str, Any]:
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
    response: Sample,
    prior: Prior,
    hyperparameters: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Scaling of internal to reported coefficients, their learned scales, and their prior."""
    b = site.bind(design.rows.matrices[site.stem], response)
    if isinstance(predictor, GroupBasis):  # without rows, of which each has all groups' features
        scaling = Scaling(predictor.basis(b.matrix.pick(slice(0))), b.units)
    else:
        scaling = scaling_of(predictor, b)
    scales = predictor.spread(b, hyperparameters, NUMERIC)
    if isinstance(predictor, GroupBasis):
        raw_prior = predictor.basis_prior(b, prior)
    else:
        by_term = prior.over_terms(site.coef, scaling.matrix.terms)
        raw_prior = scaling.raw_prior(by_term) if scales is None else by_term
    return {"scaling": scaling, "prior_scale": scales, "prior": raw_prior}

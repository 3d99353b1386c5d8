"""Parameter vector of a model: which variables it holds, in which order and units."""

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
from bayes_moe.priors.prior import Prior

LIKELIHOOD_FLOOR = 1e-3
"""Least scale parameter in units of the response's sd, where no prior keeps it from zero."""


POSTERIOR_FLOOR = 1e-8
"""The same under priors, which may let an expert that fits its rows exactly fall far."""


def coordinates(
    spec: MixtureOfExperts,
    design: Design,
    *,
    likelihood: bool = False,
    jacobian: bool = False,
    own: Mapping[str, np.ndarray] | None = None,
) -> ParameterVector:
    """Return the coordinates of a model whose predictors are linear in their coefficients.

    Parameters
    ----------
    spec, design
        The model and its data.
    likelihood : bool
        Leave the priors out, and keep scale parameters above ``LIKELIHOOD_FLOOR`` times the
        response's sd: the plain likelihood is unbounded at zero.
    jacobian : bool
        See :class:`ParameterVector`.
    own : mapping of str to array, optional
        Values of the parameters of learned priors; usual ones by default.
    """
    if not spec.is_linear:
        raise SpecError(_not_linear(spec))
    usual = _usual(spec, design)
    own = usual if own is None else {name: own[name] for name in usual}
    if own and likelihood:
        raise SpecError(
            "objective='likelihood' leaves priors out, and with them what smooths or shrinks the "
            f"predictors ({', '.join(own)}): use linear ones, or objective='posterior'."
        )
    slots = [
        *_gate_slots(spec, design, likelihood, own),
        *_expert_slots(spec, design, likelihood, own),
    ]
    ends = accumulate((s.directions * s.terms for s in slots), initial=0)
    placed = [replace(s, where=slice(*ab)) for s, ab in zip(slots, pairwise(ends), strict=True)]
    return ParameterVector(spec, design, tuple(placed), jacobian, own)


def _not_linear(spec: MixtureOfExperts) -> str:
    """What EM cannot treat."""
    other = next((repr(p) for _, p in spec.placed if not p.is_linear), repr(spec.gate))
    return (
        f"{other} is not linear in its coefficients, so EM cannot treat it: use method='map' or "
        "'nuts', or 'laplace' or 'advi'."
    )


def _usual(spec: MixtureOfExperts, design: Design) -> dict[str, np.ndarray]:
    """Usual values of the parameters of learned priors."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for place, predictor in spec.placed:
        found |= predictor.initial_hyperparameters(place, design.rows.matrices[place.stem], rng)
    return found


def _gate_slots(
    spec: MixtureOfExperts, design: Design, likelihood: bool, own: Mapping[str, np.ndarray]
) -> Iterator[ParameterBlock]:
    priors = spec.resolve_priors(design)
    for h in spec.gate.heads(spec.n_experts):
        given = priors[h.place.coef]
        if likelihood and h.zero_sum:
            given = Prior("ZeroSumNormal", sigma=1.0)
        place, prior = h.placed(given)
        basis = place.mixing
        if basis is None and given.kind.support == "zero-sum":
            basis = helmert(h.rows)
        yield ParameterBlock(
            place=h.place,
            predictor=h.predictor,
            variable=h.place.coef,
            block=None,
            parameter=-1,
            experts=tuple(range(h.places.start, h.places.stop)),
            link=Link("identity"),
            basis=basis,
            layout=h.placed(priors[h.place.coef])[0].mixing,
            gain=spec.gate.gain,
            **_internal(h.predictor, h.place, design, design.response, prior, likelihood, own),
        )


def _expert_slots(
    spec: MixtureOfExperts, design: Design, likelihood: bool, own: Mapping[str, np.ndarray]
) -> Iterator[ParameterBlock]:
    priors = spec.resolve_priors(design)
    floor = LIKELIHOOD_FLOOR if likelihood else POSTERIOR_FLOOR
    for b, part in enumerate(spec.parts):
        block, response = part.block, part.response(design.rows)
        for p, c in enumerate(block.components):
            role, prior = c.parameter.role, priors[c.variable]
            internal: dict[str, Any] = {"scaling": None, "prior": None if likelihood else prior}
            if c.formula is not None:
                given = (c.predictor, c.place, design, response, prior, likelihood, own)
                internal = _internal(*given)
            yield ParameterBlock(
                place=c.place,
                predictor=c.predictor,
                variable=c.variable,
                block=b,
                parameter=p,
                experts=block.positions,
                link=c.parameter.link,
                basis=None,
                floor=math.log(floor * float(np.std(response))) if role == "scale" else -math.inf,
                **internal,
            )


def _internal(
    predictor: Predictor,
    place: Site,
    design: Design,
    response: np.ndarray,
    prior: Prior,
    likelihood: bool,
    own: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """How internal coefficients stand to reported ones and to the sampler's, and their prior."""
    matrix = design.rows.matrices[place.stem]
    scaling = predictor.scaling(place, matrix, response)
    stretch = predictor.spread(place, own, matrix, response, NUMERIC)
    over = prior.over_terms(place.coef, scaling.matrix.terms)
    inner = scaling.raw_prior(over) if stretch is None else over
    return {
        "scaling": scaling,
        "stretch": stretch,
        "prior": None if likelihood else inner,
    }

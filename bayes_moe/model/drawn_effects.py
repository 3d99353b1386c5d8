"""Effects of groups drawn from their distribution, for parameters that lack them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.group_effects import GroupEffects
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.priors.prior import Prior


def with_drawn_effects(
    spec: MixtureOfExperts,
    design: Design,
    parameters: Mapping[str, Any],
    rng: np.random.Generator,
) -> Mapping[str, Any]:
    """Return parameters with effects of groups drawn where only their scales are given."""
    found = dict(parameters)
    pairs, dims = spec.structure.pairs, spec.structure.dims
    for effects, zero_sum in _groups(spec):
        if effects.effect in parameters or not {*effects.scales} <= {*parameters}:
            continue
        scales = {
            n: pairs.internal(np.asarray(parameters[n], dtype=float), dims[n])[None]
            for n in effects.scales
        }
        labels = design.rows.matrices[effects.site.stem].groups[effects.position].labels
        seeds = rng.integers(2**32, size=(len(labels), 1)).tolist()
        drawn = effects.new(scales, zero_sum, seeds)[0]
        found[effects.effect] = pairs.reported(drawn, dims[effects.effect])
    return found


def _groups(spec: MixtureOfExperts) -> Iterator[tuple[GroupEffects, bool]]:
    """Effects of all group terms, and whether those of the outputs sum to zero."""
    for h in spec.structure.gate.heads:
        default = Prior("ZeroSumNormal" if h.zero_sum else "Normal", sigma=1.0)
        site, prior = h.site_under(spec.priors.get(h.site.coef, default))
        if isinstance(h.predictor, RandomEffects):
            yield from ((e, prior.kind.support == "zero-sum") for e in h.predictor.groups(site))
    for c in spec.structure.components:
        if isinstance(c.predictor, RandomEffects):
            site = c.site_under(spec.priors.get(c.variable))[0]
            yield from ((e, False) for e in c.predictor.groups(site))

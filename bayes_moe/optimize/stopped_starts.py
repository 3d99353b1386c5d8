"""Starting points of runs that held-out rows stop, with wide priors of hidden weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.em.multistart import SUBSAMPLE
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.linear_surrogate import Values, first_values
from bayes_moe.predictors import MLP

WIDE = 4.0
"""Scale of hidden weights: held-out rows keep the weights small enough, so the prior need not."""


def has_trunk(spec: MixtureOfExperts) -> bool:
    """Whether predictors of a model share a network, as those of a mixture density network do."""
    return any(isinstance(p, MLP) and p.trunk is not None for _, p in spec.structure.sites)


def wide_starts(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Starting points as reported variables, from a subsample of long tables.

    Learned scales of hidden weights are ``WIDE``.
    """
    size = min(SUBSAMPLE, design.rows.size)
    positions = np.sort(rng.choice(design.rows.size, size, replace=False))
    part = replace(design, rows=design.rows.pick(positions))
    starts = first_values(spec, part, count, rng, searched=False)
    scales = _scales(spec)
    return [
        {name: np.full_like(v, WIDE) if name in scales else v for name, v in start.items()}
        for start in starts
    ]


def _scales(spec: MixtureOfExperts) -> set[str]:
    """Names of the learned scales of hidden weights."""
    return {
        v.scale[0]
        for site, predictor in spec.structure.sites
        for v in predictor.variables(site)
        if isinstance(predictor, MLP) and v.scale is not None
    }

"""Starting points of runs of Adam, which held-out rows stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.em.multistart import SUBSAMPLE
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize import linear_surrogate
from bayes_moe.optimize.linear_surrogate import Values, first_values
from bayes_moe.predictors import MLP

WIDE = 4.0
"""Scale of hidden weights of members of an ensemble: held-out rows keep the weights small enough,
so the prior need not."""
ROWS = 2000
"""Rows of the subsample in which modes of the linear surrogate are searched for."""
SEARCH = replace(linear_surrogate.SEARCH, restarts=10)
"""A short search: the runs from its modes are raced."""


def has_trunk(spec: MixtureOfExperts) -> bool:
    """Whether predictors of a model share a network, as those of a mixture density network do."""
    return any(isinstance(p, MLP) and p.trunk is not None for _, p in spec.structure.sites)


def wide_starts(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Starting points as reported variables, from partitions of a subsample of long tables.

    Learned scales of hidden weights are ``WIDE``.
    """
    starts = first_values(spec, _subsample(spec, design, SUBSAMPLE, rng), count, rng, search=None)
    scales = _scales(spec)
    return [
        {name: np.full_like(v, WIDE) if name in scales else v for name, v in start.items()}
        for start in starts
    ]


def raced_starts(
    spec: MixtureOfExperts, design: Design, count: int, rng: np.random.Generator
) -> list[Values]:
    """Starting points as reported variables, half of them from modes of a linear surrogate.

    These are searched for in a subsample of long tables.
    """
    return first_values(spec, _subsample(spec, design, ROWS, rng), count, rng, SEARCH)


def _subsample(
    spec: MixtureOfExperts, design: Design, most: int, rng: np.random.Generator
) -> Design:
    """A design with at most so many rows; all, where a row depends on those before."""
    if spec.structure.has_memory:
        return design
    size = design.rows.size
    positions = np.sort(rng.choice(size, min(most, size), replace=False))
    return replace(design, rows=design.rows.pick(positions))


def _scales(spec: MixtureOfExperts) -> set[str]:
    """Names of the learned scales of hidden weights."""
    return {
        v.scale[0]
        for site, predictor in spec.structure.sites
        for v in predictor.variables(site)
        if isinstance(predictor, MLP) and v.scale is not None
    }

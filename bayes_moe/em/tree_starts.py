"""Initial points of deep gates, from shallower trees.

A partition of the rows into as many groups as a tree has leaves does not decide which groups are
siblings. So a tree is grown: the tree of its first splits is fitted roughly, then the rows of each
leaf are partitioned as in :mod:`bayes_moe.em.partitions`, level by level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.matrix import Rows
from bayes_moe.em.climb import run_em
from bayes_moe.em.objective import Objective, responsibilities
from bayes_moe.em.parameter_vector import is_likelihood
from bayes_moe.em.partitions import initial_partitions, split, standardised, sweeps
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Gate
from bayes_moe.model.spec import MixtureOfExperts

ROUGH = (1, 3, 8, 25)
"""Iterations of a run before the next splits, by start in turn.

After a long run all starts have the same first splits, the best of a shallow tree, which need not
be the best of a deeper one; after a short one the first splits are as random as the start."""
FIXED_SWEEPS = 4
"""Sweeps with the allocation to new branches fixed."""


def tree_starts(objective: Objective, count: int, rng: np.random.Generator) -> np.ndarray:
    """Initial points (point, coordinate) for EM runs, ``count`` of them."""
    spec, rows = objective.vector.spec, objective.rows
    level, *deeper = [_level(spec, *step) for step in spec.structure.gate.coarser]
    shares, fixed = initial_partitions(level.spec, rows, count, rng), sweeps(count)
    for below in [*deeper, _Level(spec, tuple((k,) for k in range(spec.n_experts)))]:
        shares = _responsibilities(level, objective, shares, fixed)
        shares = np.stack([_split_experts(below, level, rows, s, rng) for s in shares])
        fixed = np.full(count, FIXED_SWEEPS)
        level = below
    return initial_points(objective, shares, fixed)


@dataclass(frozen=True)
class _Level:
    """A model with a shallower gate, and the final experts below each of its experts."""

    spec: MixtureOfExperts
    groups: tuple[tuple[int, ...], ...]


def _level(spec: MixtureOfExperts, gate: Gate, groups: tuple[tuple[int, ...], ...]) -> _Level:
    """The model with a shallower gate, whose predictors are a subset of the deep gate's."""
    coefficients = {names.coef(stem) for stem in gate.formulas}
    priors = {
        name: prior
        for name, prior in spec.priors.items()
        if name in coefficients or name not in spec.structure.gate_variables
    }
    experts = [spec.experts[0].kind] * len(groups)
    # A model with constraints of single experts, or of the gate, does not come here.
    given = (priors, spec.center, spec.functions, spec.shared, spec.fixed)
    return _Level(MixtureOfExperts(gate, experts, *given), groups)


def _responsibilities(
    level: _Level, objective: Objective, shares: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """Responsibilities (point, expert, obs) after short EM runs from shares of the rows."""
    final, rows = objective.vector, objective.rows
    vector = parameter_vector(
        level.spec, final.design, likelihood=is_likelihood(final), jacobian=final.jacobian
    )
    rough = Objective(vector, rows, objective.cores)
    theta = initial_points(rough, shares, fixed)
    for j, iterations in enumerate(ROUGH[: len(theta)]):
        theta[j :: len(ROUGH)] = run_em(rough, theta[j :: len(ROUGH)], max_iter=iterations).theta
    return responsibilities(rough, theta)


def _split_experts(
    below: _Level, above: _Level, rows: Rows, share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) of a deeper model from those of a shallower one."""
    shares, columns = np.empty((len(below.groups), rows.size)), standardised(below.spec, rows)
    for parent, leaves in zip(share, above.groups, strict=True):
        children = [j for j, group in enumerate(below.groups) if set(group) <= set(leaves)]
        shares[children] = parent * split(columns, parent, len(children), rng)
    return shares

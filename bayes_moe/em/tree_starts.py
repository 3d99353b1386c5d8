"""Starts of deep gates, grown from shallower ones.

A split of the rows into as many groups as a tree has leaves says nothing about which groups belong
together. So a tree is grown: the tree of its first splits is fitted roughly, then the rows of each
leaf are split in one of the ways of :mod:`bayes_moe.em.partitions`, and so on down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.matrix import Rows
from bayes_moe.em.climb import ascend, first_points
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions, split_rows, sweeps
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.gates import Gate
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts

ROUGH = (1, 3, 8, 25)
"""Iterations of a climb before the next splits, by start in turn.

After a long climb all starts have the same first splits, the best of a tree that ends there, which
need not be the best to grow from; after a short one the first splits are as random as the start."""
HELD = 4
"""Sweeps with the allocation to new branches held fixed."""


def can_grow(spec: MixtureOfExperts) -> bool:
    """Whether a model has a gate that grows, and experts that are all of one kind."""
    return len(spec.blocks) == 1 and bool(spec.gate.shallower(spec.n_experts))


def tree_starts(objective: Objective, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return so many points (point, coordinate) from which to climb an objective."""
    moving, rows = objective.coordinates, objective.rows
    spec = moving.spec
    small, *deeper = [_step(spec, *step) for step in spec.gate.shallower(spec.n_experts)]
    share, held = initial_partitions(small.spec, rows, count, rng), sweeps(count)
    for step in [*deeper, _Step(spec, tuple((k,) for k in range(spec.n_experts)))]:
        share = _refitted(small, objective, share, held)
        share = np.stack([_divided(step, small, rows, s, rng) for s in share])
        held = np.full(count, HELD)
        small = step
    return first_points(objective, share, held)


@dataclass(frozen=True)
class _Step:
    """A model on the way, and the final experts that come out of each of its own."""

    spec: MixtureOfExperts
    groups: tuple[tuple[int, ...], ...]


def _step(spec: MixtureOfExperts, gate: Gate, groups: tuple[tuple[int, ...], ...]) -> _Step:
    """The model with a smaller gate, whose predictors are among those of its own."""
    kept = {names.coef(stem) for stem in gate.formulas}
    priors = {
        name: prior
        for name, prior in spec.priors.items()
        if name in kept or name not in spec.gate_variables
    }
    experts = [spec.experts[0].kind] * len(groups)
    return _Step(MixtureOfExperts(gate, experts, priors, spec.center), groups)


def _refitted(step: _Step, objective: Objective, share: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Responsibilities (point, expert, obs) after a rough climb from shares of the rows."""
    final, rows = objective.coordinates, objective.rows
    likelihood = final.slots[-1].prior is None
    own = coordinates(step.spec, final.design, likelihood=likelihood, jacobian=final.jacobian)
    rough = Objective(own, rows, objective.cores)
    theta = first_points(rough, share, held)
    for j, most in enumerate(ROUGH[: len(theta)]):
        theta[j :: len(ROUGH)] = ascend(rough, theta[j :: len(ROUGH)], max_iter=most).theta
    values = own.variables(theta)
    found = chunks(step.spec, values, rows)
    return np.concatenate([m.responsibilities(some.observed) for _, some, m in found], axis=-1)


def _divided(
    step: _Step, above: _Step, rows: Rows, share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) of a deeper model from those of a shallower one."""
    found = np.empty((len(step.groups), rows.size))
    for parent, leaves in zip(share, above.groups, strict=True):
        children = [g for g, own in enumerate(step.groups) if set(own) <= set(leaves)]
        found[children] = parent * split_rows(step.spec, rows, parent, len(children), rng)
    return found

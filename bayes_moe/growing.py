"""Starts of deep gates, grown from shallower ones.

A split of the rows into as many groups as a tree has leaves says nothing about which groups belong
together. So a tree is grown: the tree of its first splits is fitted roughly, then the rows of each
leaf are split in one of the ways of :mod:`bayes_moe.splits`, and so on down.
"""

from __future__ import annotations

import numpy as np

from bayes_moe import names
from bayes_moe.ascent import ascend, first_points
from bayes_moe.coordinates import coordinates
from bayes_moe.gates import Gate
from bayes_moe.mixture import chunks
from bayes_moe.objective import Objective
from bayes_moe.spec import MixtureOfExperts
from bayes_moe.splits import allocations, divided, sweeps

ROUGH = 25
"""Iterations of a climb before the next splits."""


def can_grow(spec: MixtureOfExperts) -> bool:
    """Whether a model has a gate that grows, and experts that are all of one kind."""
    return len(spec.blocks) == 1 and bool(spec.gate.shallower(spec.n_experts))


def grown(objective: Objective, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return so many points (point, coordinate) from which to climb an objective."""
    moving, rows = objective.coordinates, objective.rows
    spec, whole = moving.spec, tuple((k,) for k in range(moving.spec.n_experts))
    steps = [*spec.gate.shallower(spec.n_experts), (spec.gate, whole)]
    likelihood = moving.slots[-1].prior is None
    share, above = np.empty(0), None
    for gate, groups in steps:
        part = _with_gate(spec, gate, len(groups))
        if above is None:
            share, held = allocations(part, rows, count, rng), sweeps(count)
        else:
            share = np.stack([_divided(part, objective, s, above, groups, rng) for s in share])
            held = np.full(count, 4)
        last = gate is spec.gate
        own = (
            moving
            if last
            else coordinates(part, moving.design, likelihood=likelihood, jacobian=moving.jacobian)
        )
        rough = objective if last else Objective(own, rows, objective.cores)
        theta = first_points(rough, share, held)
        if last:
            return theta
        theta = ascend(rough, theta, max_iter=ROUGH).theta
        share = np.concatenate(
            [
                mixture.responsibilities(some.observed)
                for _, some, mixture in chunks(part, own.variables(theta), rows)
            ],
            axis=-1,
        )
        above = groups
    raise AssertionError("a gate grows into itself")


def _with_gate(spec: MixtureOfExperts, gate: Gate, experts: int) -> MixtureOfExperts:
    """The model with another gate, whose predictors are among those of its own."""
    if gate is spec.gate:
        return spec
    kept = {names.coef(stem) for stem in gate.formulas}
    priors = {
        name: prior
        for name, prior in spec.priors.items()
        if name in kept or name not in spec.gate_variables
    }
    return MixtureOfExperts(gate, [spec.experts[0].kind] * experts, priors, spec.center)


def _divided(
    spec: MixtureOfExperts,
    objective: Objective,
    share: np.ndarray,
    above: tuple[tuple[int, ...], ...],
    groups: tuple[tuple[int, ...], ...],
    rng: np.random.Generator,
) -> np.ndarray:
    """Shares (group, obs) of a deeper gate from those of its parents (parent, obs).

    ``above`` and ``groups`` are the final gate's experts of each parent and of each group.
    """
    found = np.empty((len(groups), share.shape[1]))
    for parent, leaves in zip(share, above, strict=True):
        children = [g for g, own in enumerate(groups) if set(own) <= set(leaves)]
        parts = divided(spec, objective.rows, parent, len(children), rng)
        found[children] = parent * parts
    return found

"""Modes of a graph's log density from the ends of L-BFGS runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.em.modes import SAME_ROWS, SAME_VALUE, Modes
from bayes_moe.em.vector_layout import POSTERIOR_FLOOR
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.model import expert_order
from bayes_moe.model.evaluation import chunks, evaluate
from bayes_moe.model.likelihood import allocate
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.lbfgs import LBFGSResult, climb

RESPONSIBLE = 0.5
"""Responsibility from which a row is an expert's own."""


def ends(surface: GraphLogDensity, climbs: list[LBFGSResult]) -> Modes:
    """Where climbs ended, each as a mode of its own, the experts in order."""
    spec, design = surface.graph.spec, surface.graph.design
    points = [surface.variables(c.x) for c in climbs]
    values = {name: np.stack([p[name] for p in points]) for name in points[0]}
    orders = expert_order.order(spec, expert_order.levels(spec, values, design.rows))
    values = expert_order.permute(spec, values, orders)
    theta = []
    for j in range(len(climbs)):
        point = surface.graph.unconstrained({name: v[j] for name, v in values.items()})
        theta.append(np.concatenate([v.ravel() for v in point.values()]))
    log_likelihood, low = _on_rows(spec, design.rows, values)
    value = np.array([c.value for c in climbs])
    singular = low | _constants_at_floor(spec, design.rows, values)
    longest = max(len(c.path) for c in climbs)
    path = np.full((longest, len(climbs)), np.nan)
    for j, c in enumerate(climbs):
        path[: len(c.path), j] = c.path
    return Modes(
        spec,
        design,
        values,
        np.stack(theta),
        value,
        value - log_likelihood,
        np.array([c.gradient_norm for c in climbs]),
        np.array([c.iterations for c in climbs]),
        np.ones(len(climbs), dtype=int),
        np.array([c.converged for c in climbs]),
        singular,
        np.array([c.exhausted for c in climbs]),
        path,
        np.empty((len(climbs), 0)),
        np.empty(len(climbs)),
        len(climbs),
        {},
        None,
    )


def _on_rows(
    spec: MixtureOfExperts, rows: Rows, values: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of some points, and whether an expert's scale is at its floor (point,).

    An expert's scale counts at rows for which it is responsible.
    """
    floor = POSTERIOR_FLOOR * np.std(rows.observed)
    count = len(next(iter(values.values())))
    log_likelihood, low = np.zeros(count), np.zeros(count, dtype=bool)
    for _, part, mixture in chunks(spec, values, rows):
        features = spec.gate.log_features(spec.n_experts, values, part.matrices)
        with np.errstate(all="ignore"):
            joint = mixture.log_weights + mixture.log_components(part.observed)
            density, shares = allocate(joint)
        log_likelihood += (density + features).sum(axis=-1)
        for block, params in zip(mixture.blocks, mixture.params, strict=True):
            own = shares[:, list(block.positions)] > RESPONSIBLE
            for c in block.components:
                if c.formula is not None and c.parameter.role == "scale":
                    low |= (own & (params[c.parameter.name] <= floor)).any(axis=(1, 2))
    return log_likelihood, low


def _constants_at_floor(
    spec: MixtureOfExperts, rows: Rows, values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Whether a scale that is the same for all rows is at its floor (point,)."""
    low = np.zeros(len(next(iter(values.values()))), dtype=bool)
    for factor in spec.parts:
        floor = POSTERIOR_FLOOR * np.std(factor.response(rows))
        for c in factor.block.components:
            if c.formula is None and c.parameter.role == "scale":
                low |= (values[c.variable] <= floor).any(axis=1)
    return low


def uphill(surface: GraphLogDensity, found: Modes, points: np.ndarray, max_iter: int) -> np.ndarray:
    """Return which of some modes lies uphill of each point (point,); -1 for one not among them."""
    rows = expert_order.evenly_spaced_rows(surface.graph.design.rows)
    reached = ends(surface, [climb(surface, x, max_iter, newton_steps=0) for x in points])
    ours, theirs = _densities(found, rows), _densities(reached, rows)
    near = np.abs(reached.value[:, None] - found.value) <= 10 * SAME_VALUE * (
        1 + 1e-6 * np.abs(found.value)
    )
    same = near & (np.abs(theirs[:, None] - ours[None]).max(axis=-1) <= 5 * SAME_ROWS)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def _densities(found: Modes, rows: Rows) -> np.ndarray:
    """Log density (mode, obs) of rows, the same for any labels."""
    with np.errstate(all="ignore"):
        density = evaluate(found.spec, found.values, rows).log_density(rows.observed)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)

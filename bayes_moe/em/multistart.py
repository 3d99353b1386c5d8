"""The modes of a model's objective: found from many starts, told apart, and judged.

Two climbs ended in the same mode if the rows have the same log density there, whatever the labels
of the experts. A mode is

``singular``
    where a scale parameter is at its floor: the likelihood grows without bound there;
``separated``
    where a predictor runs away while nothing is left to gain: no finite maximum is there;
``empty``
    where an expert has less than one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bayes_moe.core.progress import Progress, silent
from bayes_moe.em.climb import (
    GRADIENT,
    ROWS_AT_FLOOR,
    ClimbResult,
    ascend,
    first_points,
)
from bayes_moe.em.modes import SAME_ROWS, SAME_VALUE, Modes, compared_density, merge_modes
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.partitions import initial_partitions, sweeps
from bayes_moe.em.tree_starts import can_grow, tree_starts
from bayes_moe.model import expert_order

RESTARTS = 30
"""Starts, if none is given."""
SUBSAMPLE = 5000
"""Rows from which climbs on longer tables begin."""
FINALISTS = 4
"""Modes of the subsample that are followed on all rows."""
RACE, LEAST_RACE = 30, 8
"""Iterations on the subsample after which half of the climbs are given up, if there are so many."""


def search(
    moving: ParameterVector,
    *,
    restarts: int,
    max_iter: int,
    rng: np.random.Generator,
    tol: float = GRADIENT,
    allocation: np.ndarray | None = None,
    theta: np.ndarray | None = None,
    cores: int = 1,
    progress: Progress = silent,
) -> Modes:
    """Climb from many starts and tell the modes apart.

    On a table of more than ``SUBSAMPLE`` rows, climbs from splits begin on as many rows taken at
    random. After ``RACE`` iterations the lower half of them is given up, and the best few of the
    modes that the others find are followed on all rows; iterations count all. A given start is
    climbed from on all rows.

    Parameters
    ----------
    moving : Coordinates
        What moves.
    restarts : int
        Number of starts; ignored if ``allocation`` or ``theta`` says where to start.
    max_iter : int
        Most iterations of a climb.
    rng : numpy.random.Generator
        Decides the splits, and the subsample of long tables.
    tol : float
        See :func:`bayes_moe.em.climb.ascend`.
    allocation : array (start, expert, obs), optional
        Responsibilities to start from.
    theta : array (start, coordinate), optional
        Points to start from.
    cores : int
        Threads.
    progress : callable
        Told how many climbs have ended, and of how many.
    """
    objective = Objective(moving, cores=cores)
    rows = moving.design.rows
    climb = partial(ascend, max_iter=max_iter, tol=tol, progress=progress)
    if theta is None and allocation is not None:
        theta = first_points(objective, allocation, sweeps=1 if rows.size > SUBSAMPLE else 2)
    if theta is None and rows.size <= SUBSAMPLE:
        theta = _first(objective, restarts, rng)
    if theta is not None:
        return merge_modes(_ends(objective, climb(objective, theta), max_iter), rows)
    picked = np.sort(rng.choice(rows.size, SUBSAMPLE, replace=False))
    part = Objective(moving, rows.pick(picked), cores=cores)
    found = _race(part, climb, _first(part, restarts, rng), max_iter)
    rough = merge_modes(_ends(part, found, max_iter), part.rows)
    follow = np.argsort(rough.singular, kind="stable")[:FINALISTS]
    found = climb(objective, rough.theta[follow], newton_first=True)
    ends = replace(
        _ends(objective, found, max_iter),
        hits=rough.hits[follow],
        iterations=found.iterations + rough.iterations[follow],
        restarts=restarts,
    )
    return merge_modes(ends, rows)


def _race(
    objective: Objective, climb: Callable[..., ClimbResult], theta: np.ndarray, max_iter: int
) -> ClimbResult:
    """Climb for a while from all starts, and to the end from the better half."""
    if len(theta) < LEAST_RACE or max_iter <= RACE:
        return climb(objective, theta)
    first = climb(objective, theta, max_iter=RACE)
    best = np.sort(np.argsort(-first.value, kind="stable")[: (len(theta) + 1) // 2])
    rest = climb(objective, first.theta[best], max_iter=max_iter - RACE, newton_first=True)
    return replace(rest, iterations=rest.iterations + first.iterations[best])


def _first(objective: Objective, restarts: int, rng: np.random.Generator) -> np.ndarray:
    """Points from splits of the objective's rows."""
    grow = restarts // 2 if can_grow(objective.coordinates.spec) else 0
    split = initial_partitions(objective.coordinates.spec, objective.rows, restarts - grow, rng)
    found = first_points(objective, split, sweeps(len(split)))
    return np.concatenate([tree_starts(objective, grow, rng), found]) if grow else found


def _ends(objective: Objective, found: ClimbResult, max_iter: int) -> Modes:
    """Where climbs ended, each as a mode of its own."""
    moving = objective.coordinates
    values = moving.variables(found.theta)
    theta = found.theta
    if not moving.tied:
        orders = expert_order.order(
            moving.spec, expert_order.levels(moving.spec, values, moving.design.rows)
        )
        theta = moving.permute(theta, orders)
    return Modes(
        moving.spec,
        moving.design,
        moving.variables(theta),
        theta,
        np.where(np.isfinite(found.value), found.value, -np.inf),
        moving.log_prior(theta)[0],
        found.gradient_norm,
        found.iterations,
        np.ones(len(theta), dtype=int),
        found.converged,
        found.floored | _at_floor(objective, theta),
        found.iterations >= max_iter,
        found.path,
        np.empty((len(theta), 0)),
        np.empty(len(theta)),
        len(theta),
        {slot.variable: found.running[:, j] for j, slot in enumerate(moving.slots)},
        objective,
    )


def _at_floor(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Whether the scale parameter of some rows is at its floor (point,)."""
    scales = [s for s in objective.coordinates.slots if s.role == "scale"]
    constant = all(s.scaling is None for s in scales)
    if constant and not any((theta[:, s.where] <= s.floor).any() for s in scales):
        return np.zeros(len(theta), dtype=bool)
    low: np.ndarray = objective.evaluate(theta, Curvature.COMPLETE).at_floor > ROWS_AT_FLOOR
    return low


def nearest_mode(
    found: Modes, objective: Objective, theta: np.ndarray, max_iter: int
) -> np.ndarray:
    """Return which of the modes lies uphill of each point (point,); -1 for one not among them."""
    ends = _ends(objective, ascend(objective, theta, max_iter=max_iter), max_iter)
    rows = objective.rows
    ours, known = compared_density(found, rows), compared_density(ends, rows)
    near = np.abs(ends.value[:, None] - found.value) <= 10 * SAME_VALUE * (
        1 + 1e-6 * np.abs(found.value)
    )
    same = near & (np.abs(known[:, None] - ours[None]).max(axis=-1) <= 5 * SAME_ROWS)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)

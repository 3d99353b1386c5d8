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
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bayes_moe.core.progress import Progress, silent
from bayes_moe.data.design import Design, Rows
from bayes_moe.em.climb import (
    GRADIENT,
    ROWS_AT_FLOOR,
    Ascent,
    ascend,
    first_points,
)
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.parameter_vector import Coordinates
from bayes_moe.em.partitions import allocations, sweeps
from bayes_moe.em.proximal_newton import at_rest
from bayes_moe.em.tree_starts import can_grow, grown
from bayes_moe.model import expert_order
from bayes_moe.model.evaluation import chunks, evaluate
from bayes_moe.model.spec import MixtureOfExperts

RESTARTS = 30
"""Starts, if none is given."""
SUBSAMPLE = 5000
"""Rows from which climbs on longer tables begin."""
FINALISTS = 4
"""Modes of the subsample that are followed on all rows."""
RACE, LEAST_RACE = 30, 8
"""Iterations on the subsample after which half of the climbs are given up, if there are so many."""
SAME_VALUE = 2e-3
SAME_ROWS = 2e-2
LEAST_ROWS = 1.0

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Optima:
    """Modes, the highest first; the answer is ``best``.

    All arrays have the modes first, ``path`` (iteration, mode) second. ``values`` are the model's
    variables, ``theta`` the coordinates that moved, ``share`` (mode, expert) the experts' share of
    the rows, ``exhausted`` whether a climb used up its iterations, ``log_allocation`` the sum over
    rows of the largest log responsibility. ``running`` (mode,) says by variable whether it runs
    away; ``restarts`` is the number of climbs, ``objective`` what was climbed (None for a graph).
    """

    spec: MixtureOfExperts
    design: Design
    values: Values
    theta: np.ndarray
    value: np.ndarray
    log_prior: np.ndarray
    gradient_norm: np.ndarray
    iterations: np.ndarray
    hits: np.ndarray
    converged: np.ndarray
    singular: np.ndarray
    exhausted: np.ndarray
    path: np.ndarray
    share: np.ndarray
    log_allocation: np.ndarray
    restarts: int
    running: dict[str, np.ndarray]
    objective: Objective | None

    @property
    def best(self) -> int:
        """The mode of largest objective that is not singular, if there is one."""
        return int(np.argmin(self.singular))

    @property
    def separated(self) -> np.ndarray:
        """Whether a variable runs away (mode,)."""
        none = np.zeros(len(self.value), dtype=bool)
        return np.logical_or.reduce([none, *self.running.values()])

    @property
    def empty(self) -> np.ndarray:
        """Whether an expert has less than ``LEAST_ROWS`` rows (mode,)."""
        return (self.share * self.design.rows.size < LEAST_ROWS).any(axis=1)


def search(
    moving: Coordinates,
    *,
    restarts: int,
    max_iter: int,
    rng: np.random.Generator,
    tol: float = GRADIENT,
    allocation: np.ndarray | None = None,
    theta: np.ndarray | None = None,
    cores: int = 1,
    progress: Progress = silent,
) -> Optima:
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
        return distinct(_ends(objective, climb(objective, theta), max_iter), rows)
    picked = np.sort(rng.choice(rows.size, SUBSAMPLE, replace=False))
    part = Objective(moving, rows.pick(picked), cores=cores)
    found = _race(part, climb, _first(part, restarts, rng), max_iter)
    rough = distinct(_ends(part, found, max_iter), part.rows)
    follow = np.argsort(rough.singular, kind="stable")[:FINALISTS]
    found = climb(objective, rough.theta[follow], newton_first=True)
    ends = replace(
        _ends(objective, found, max_iter),
        hits=rough.hits[follow],
        iterations=found.iterations + rough.iterations[follow],
        restarts=restarts,
    )
    return distinct(ends, rows)


def _race(
    objective: Objective, climb: Callable[..., Ascent], theta: np.ndarray, max_iter: int
) -> Ascent:
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
    split = allocations(objective.coordinates.spec, objective.rows, restarts - grow, rng)
    found = first_points(objective, split, sweeps(len(split)))
    return np.concatenate([grown(objective, grow, rng), found]) if grow else found


def _ends(objective: Objective, found: Ascent, max_iter: int) -> Optima:
    """Where climbs ended, each as a mode of its own."""
    moving = objective.coordinates
    values = moving.variables(found.theta)
    theta = found.theta
    if not moving.tied:
        orders = expert_order.order(
            moving.spec, expert_order.levels(moving.spec, values, moving.design.rows)
        )
        theta = moving.permuted(theta, orders)
    return Optima(
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
    found: Optima, objective: Objective, theta: np.ndarray, max_iter: int
) -> np.ndarray:
    """Return which of the modes lies uphill of each point (point,); -1 for one not among them."""
    ends = _ends(objective, ascend(objective, theta, max_iter=max_iter), max_iter)
    rows = objective.rows
    ours, known = _compared(found, rows), _compared(ends, rows)
    near = np.abs(ends.value[:, None] - found.value) <= 10 * SAME_VALUE * (
        1 + 1e-6 * np.abs(found.value)
    )
    same = near & (np.abs(known[:, None] - ours[None]).max(axis=-1) <= 5 * SAME_ROWS)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def _compared(found: Optima, rows: Rows) -> np.ndarray:
    """Log density (point, obs) of rows spread over the table: the same for any labels."""
    some = expert_order.some(rows)
    with np.errstate(all="ignore"):
        density = evaluate(found.spec, found.values, some).log_density(some.observed)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)


def distinct(found: Optima, rows: Rows) -> Optima:
    """Sort ends of climbs, merge those in the same mode, and see how the experts share rows."""
    n = rows.size
    density = _compared(found, rows)
    kept: list[int] = []
    hits: list[int] = []
    for j in np.argsort(-found.value, kind="stable"):
        for m, k in enumerate(kept):
            near = found.value[k] - found.value[j] <= SAME_VALUE + 1e-9 * abs(found.value[k])
            if near and np.abs(density[k] - density[j]).max() <= SAME_ROWS:
                hits[m] += int(found.hits[j])
                break
        else:
            kept.append(int(j))
            hits.append(int(found.hits[j]))
    which = np.array(kept)
    values = {name: v[which] for name, v in found.values.items()}
    share = np.zeros((len(which), found.spec.n_experts))
    log_allocation = np.zeros(len(which))
    for _, part, mixture in chunks(found.spec, values, rows):
        with np.errstate(all="ignore"):
            r = mixture.responsibilities(part.observed)
            share += r.sum(axis=-1) / n
            log_allocation += np.log(r.max(axis=1)).sum(axis=-1)
    return replace(
        found,
        values=values,
        theta=found.theta[which],
        value=found.value[which],
        log_prior=found.log_prior[which],
        gradient_norm=found.gradient_norm[which],
        iterations=found.iterations[which],
        hits=np.array(hits),
        converged=found.converged[which],
        singular=found.singular[which],
        exhausted=found.exhausted[which],
        path=found.path[:, which],
        share=share,
        log_allocation=log_allocation,
        running={name: runs[which] for name, runs in found.running.items()},
    )


def covariance(objective: Objective, theta: np.ndarray) -> np.ndarray | None:
    """Inverse of the observed information at one point (coordinate,); None if it has none.

    Coordinates that rest at a kink of the prior are taken as known: their rows are zero.
    """
    found = objective.evaluate(theta[None], Curvature.OBSERVED)
    free = ~at_rest(objective.coordinates, theta[None], found)[0]
    spread = inverse(found.curvature[0][np.ix_(free, free)])
    if spread is None:
        return None
    whole = np.zeros_like(found.curvature[0])
    whole[np.ix_(free, free)] = spread
    return whole


def inverse(matrix: np.ndarray) -> np.ndarray | None:
    """Inverse of a positive definite matrix; None if it is not so to working precision."""
    if not np.isfinite(matrix).all():
        return None
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    values, vectors = np.linalg.eigh(matrix / np.multiply.outer(scale, scale))
    if not values.min() > 1e-12 * values.max():
        return None
    found: np.ndarray = (vectors / values) @ vectors.T / np.multiply.outer(scale, scale)
    return found

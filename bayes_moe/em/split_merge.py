"""Points near further modes, by moves of experts that EM cannot make.

EM cannot take an expert from one part of the data to another, since every point between has a lower
objective. A move does so at once. Two experts become one, which frees the second, and the free one
gets rows

* of a third, or of the merged one, which is split by a random partition of its rows; or
* that an expert of another mode has, so that what is good in two modes comes together.

All these experts are of one kind. Only the new partition of the rows is passed on, as an initial
partition is, so that a move is the same for every gate.

Moves are made from a pool of distinct points, at first the ends of short runs from the starts. Each
is followed by a short run of EM, whose end takes the place of the more similar of the points that
it comes from, if it is better. So the pool stays diverse while all its points improve, and none of
them is nearer to convergence than what is compared with it. Runs from the pool to the end are left
to the caller, and further moves from the best modes.

References
----------
Ueda, N., Nakano, R., Ghahramani, Z., & Hinton, G. E. (2000). SMEM algorithm for mixture models.
Neural Computation, 12(9), 2109-2128.

Mahfoud, S. W. (1995). Niching methods for genetic algorithms. PhD thesis, University of Illinois.

Pernkopf, F., & Bouchaffra, D. (2005). Genetic-based EM algorithm for learning Gaussian mixture
models. IEEE Transactions on Pattern Analysis and Machine Intelligence, 27(8), 1344-1348.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayes_moe.em.climb import ClimbResult, initial_points
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import split_rows
from bayes_moe.model import expert_order
from bayes_moe.model.evaluation import chunks, evaluate
from bayes_moe.model.spec import MixtureOfExperts

POOL, BATCH = 12, 16
"""Points in the pool, and moves at once."""
FIXED_SWEEPS, SHORT = 4, 10
"""Iterations after a move: sweeps with the allocation fixed, and of the short run."""
TRANSFERS = 0.7
"""Share of the moves that take an expert of another point of the pool."""
DISTANCE = 0.15
"""Mean absolute difference of the rows' log densities, in nats, above which points are distinct."""
SOFTNESS = 1e-3
"""Share of every row that is spread equally over the experts."""

Run = Callable[..., ClimbResult]


@dataclass(frozen=True)
class Pool:
    """Distinct points (point, coordinate), the best first, and their values (point,)."""

    theta: np.ndarray
    value: np.ndarray

    @classmethod
    def of_ends(cls, objective: Objective, ended: ClimbResult) -> Pool:
        """Return the best ``POOL`` of the ends of short runs; singular ones are left out."""
        value, density = end_values(ended), _row_densities(objective, ended.theta)
        kept: list[int] = []
        for j in np.argsort(-value, kind="stable"):
            if np.isfinite(value[j]) and (_distance(density[kept], density[j]) > DISTANCE).all():
                kept.append(int(j))
        return cls(ended.theta[kept[:POOL]], value[kept[:POOL]])

    def after_moves(
        self, objective: Objective, run: Run, moves: int, rng: np.random.Generator
    ) -> Pool:
        """Return the pool after a number of moves, each with a short run.

        ``run(objective, theta, max_iter=...)`` is some EM iterations from points. What is found
        takes the place of the more similar of the points that it comes from, if it is better: so
        the pool stays diverse.
        """
        pool = self
        if not movable(objective.vector.spec) or not len(pool.value):
            return pool
        for first in range(0, moves, BATCH):
            count = min(moves - first, BATCH)
            points, parents = moved_points(objective, pool.theta, count, rng)
            pool = pool._replaced(objective, run(objective, points, max_iter=SHORT), parents)
        return pool

    def _replaced(self, objective: Objective, ended: ClimbResult, parents: np.ndarray) -> Pool:
        """The pool with the ends of short runs in the places of worse parents (point, 2)."""
        theta, value, found = self.theta.copy(), self.value.copy(), end_values(ended)
        densities = _row_densities(objective, np.concatenate([theta, ended.theta]))
        density, others = densities[: len(theta)], densities[len(theta) :]
        for j in np.argsort(-found, kind="stable"):
            distance = _distance(density, others[j])
            place = parents[j][distance[parents[j]].argmin()]
            if found[j] > value[place] and (np.delete(distance, place) > DISTANCE).all():
                theta[place], value[place], density[place] = ended.theta[j], found[j], others[j]
        order = np.argsort(-value, kind="stable")
        return Pool(theta[order], value[order])


def end_values(ended: ClimbResult) -> np.ndarray:
    """Values (point,) at the ends of runs; -inf where one is singular."""
    return np.where(ended.floored | ~np.isfinite(ended.value), -np.inf, ended.value)


def _row_densities(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Log densities (point, obs) of evenly spaced rows, which labels do not change."""
    spec, rows = objective.vector.spec, expert_order.evenly_spaced_rows(objective.rows)
    with np.errstate(all="ignore"):
        mixture = evaluate(spec, objective.vector.variables(theta), rows)
        density = mixture.log_density(rows.observed)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)


def _distance(density: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference (point,) of log densities (point, obs) from those of another."""
    distance: np.ndarray = np.abs(density - other).mean(axis=1)
    return distance


def moved_points(
    objective: Objective, theta: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return initial points (point, coordinate) after moves from points, and from which (point, 2).

    One that comes from a single point names it twice.
    """
    spec, size = objective.vector.spec, len(theta)
    shares = responsibilities(objective, theta)
    moved = np.empty((count, *shares.shape[1:]))
    parents = np.empty((count, 2), dtype=int)
    for i in range(count):
        this = other = int(rng.integers(size))
        if size > 1 and rng.random() < TRANSFERS:
            other = (this + int(rng.integers(1, size))) % size
            moved[i] = _with_transfer(spec, shares[this], shares[other], rng)
        else:
            moved[i] = _merged_and_split(spec, objective, shares[this], rng)
        parents[i] = this, other
    moved = (1 - SOFTNESS) * moved + SOFTNESS / spec.n_experts
    return initial_points(objective, moved, FIXED_SWEEPS), parents


def movable(spec: MixtureOfExperts) -> list[tuple[int, ...]]:
    """Experts of each kind of which there are two or more."""
    return [b.positions for b in spec.structure.blocks if len(b.positions) > 1]


def _merged_and_split(
    spec: MixtureOfExperts, objective: Objective, share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) after two experts are merged, and a third or the merged one is split."""
    j, k, split = random_move(spec, rng)
    share = share.copy()
    share[j] += share[k]
    share[[split, k]] = share[split] * split_rows(spec, objective.rows, share[split], 2, rng)
    return share


def random_move(spec: MixtureOfExperts, rng: np.random.Generator) -> tuple[int, int, int]:
    """Experts ``(j, k, l)`` of one kind: ``k`` is merged into ``j``, and gets a part of ``l``.

    A kind is drawn in proportion to its experts.
    """
    kinds = movable(spec)
    sizes = np.array([len(positions) for positions in kinds])
    experts = kinds[rng.choice(len(kinds), p=sizes / sizes.sum())]
    j, k = rng.permutation(experts)[:2]
    split = rng.choice([expert for expert in experts if expert != k])
    return int(j), int(k), int(split)


def _with_transfer(
    spec: MixtureOfExperts, share: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) with those of an expert of another point in the place of a merged one.

    Half of the time the merged one is that of its kind which would lose the largest part of its
    rows.
    """
    j, k, taken = random_move(spec, rng)
    rows = other[taken]
    if rng.random() < 0.5:
        experts = next(list(e) for e in movable(spec) if k in e)
        lost = share[experts] @ rows / (share[experts].sum(axis=1) + 1e-9)
        k = experts[int(lost.argmax())]
        j = int(rng.choice([expert for expert in experts if expert != k]))
    share = share.copy()
    share[j] += share[k]
    share *= 1 - rows
    share[k] = rows
    return share


def responsibilities(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Responsibilities (point, expert, obs) at points (point, coordinate)."""
    vector, rows = objective.vector, objective.rows
    parts = chunks(vector.spec, vector.variables(theta), rows)
    with np.errstate(all="ignore"):
        shares = [m.responsibilities(part.observed) for _, part, m in parts]
    return np.nan_to_num(np.concatenate(shares, axis=-1))

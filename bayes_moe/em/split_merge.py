"""Further modes from known ones, by moves of experts that EM cannot make.

EM cannot take an expert from one part of the data to another, since every point between has a lower
objective. A move does so at once. Two experts become one, which frees the second, and the free one
gets rows

* of a third, or of the merged one, which is split by a random partition of its rows; or
* that an expert of another mode has, so that what is good in two modes comes together.

All these experts are of one kind. Only the new partition of the rows is passed on, as an initial
partition is, so that a move is the same for every gate.

A pool of distinct points is kept, the best of the known modes and of points after moves. In turn,
a few moves are made from points of the pool, each is followed by a short run of EM, and the best
points stay. Runs to the end from what is new in the pool are left to the caller.

References
----------
Ueda, N., Nakano, R., Ghahramani, Z., & Hinton, G. E. (2000). SMEM algorithm for mixture models.
Neural Computation, 12(9), 2109-2128.

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

POOL, BATCH = 8, 8
"""Points in the pool, and moves at once."""
FIXED_SWEEPS, SHORT = 4, 10
"""Iterations after a move: sweeps with the allocation fixed, and of the short run."""
TRANSFERS = 0.5
"""Share of the moves that take an expert of another point of the pool."""
DISTANCE = 0.2
"""Mean absolute difference of the rows' log densities, in nats, from which points are distinct."""
SOFTNESS = 1e-3
"""Share of every row that is spread equally over the experts."""

Run = Callable[..., ClimbResult]


@dataclass(frozen=True)
class Pool:
    """Distinct points (point, coordinate), the best first, their values, and which are no modes."""

    theta: np.ndarray
    value: np.ndarray
    new: np.ndarray

    def with_points(self, objective: Objective, theta: np.ndarray, value: np.ndarray) -> Pool:
        """Return the ``POOL`` best distinct points of these and others, of finite value."""
        theta = np.concatenate([self.theta, theta])
        value = np.concatenate([self.value, value])
        new = np.concatenate([self.new, np.ones(len(theta) - len(self.theta), dtype=bool)])
        spec, rows = objective.vector.spec, expert_order.evenly_spaced_rows(objective.rows)
        with np.errstate(all="ignore"):
            mixture = evaluate(spec, objective.vector.variables(theta), rows)
            density = np.nan_to_num(mixture.log_density(rows.observed), neginf=-1e300, posinf=1e300)
        kept: list[int] = []
        for j in np.argsort(-value, kind="stable"):
            distance = np.abs(density[kept] - density[j]).mean(axis=1)
            if np.isfinite(value[j]) and (distance > DISTANCE).all():
                kept.append(int(j))
            if len(kept) == POOL:
                break
        return Pool(theta[kept], value[kept], new[kept])


def evolved_points(
    objective: Objective,
    run: Run,
    theta: np.ndarray,
    value: np.ndarray,
    moves: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return new points (point, coordinate) near modes, from known modes by a number of moves.

    Parameters
    ----------
    objective : Objective
        What is maximised.
    run : callable
        ``run(objective, theta, max_iter=...)`` is some EM iterations.
    theta, value : array (mode, coordinate), array (mode,)
        Known modes that are not singular, the best first.
    moves : int
        How many moves.
    rng : numpy.random.Generator
        Of the moves.
    """
    pool = Pool(theta[:0], value[:0], np.zeros(0, dtype=bool))
    pool = pool.with_points(objective, theta[:POOL], value[:POOL])
    pool = Pool(pool.theta, pool.value, np.zeros(len(pool.value), dtype=bool))
    if not _movable(objective.vector.spec) or not len(pool.value):
        return pool.theta[:0]
    while moves > 0:
        points = moved_points(objective, pool.theta, min(moves, BATCH), rng)
        ended = run(objective, points, max_iter=SHORT)
        found = np.where(ended.floored | ~np.isfinite(ended.value), -np.inf, ended.value)
        pool = pool.with_points(objective, ended.theta, found)
        moves -= BATCH
    return pool.theta[pool.new]


def moved_points(
    objective: Objective, theta: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return initial points (point, coordinate) after moves from points, the best first."""
    spec, size = objective.vector.spec, len(theta)
    shares = responsibilities(objective, theta)
    moved = np.empty((count, *shares.shape[1:]))
    for i in range(count):
        this, other = np.sort(rng.integers(size, size=2))  # the better ones more often
        if rng.random() < TRANSFERS:
            other = (this + rng.integers(1, size)) % size if size > 1 else this
            moved[i] = _with_transfer(spec, shares[this], shares[other], rng)
        else:
            moved[i] = _merged_and_split(spec, objective, shares[this], rng)
    moved = (1 - SOFTNESS) * moved + SOFTNESS / spec.n_experts
    return initial_points(objective, moved, FIXED_SWEEPS)


def _movable(spec: MixtureOfExperts) -> list[tuple[int, ...]]:
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
    kinds = _movable(spec)
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
        experts = next(list(e) for e in _movable(spec) if k in e)
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

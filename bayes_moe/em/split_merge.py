"""Partitions of the rows near further modes, by moves of experts that EM cannot make.

EM cannot take an expert from one part of the data to another, since every point between has a lower
objective. A move does so at once, in a partition of the rows that experts of one kind share:

``"merge"``
    Two experts become one. The other gets a part of the rows of a third, or of the merged one,
    which is split by a random partition.
``"transfer"``
    Two experts become one, and the other gets the rows that an expert of another partition has.
``"exchange"``
    Of the rows that an expert has here and another has in another partition, for some pairs of
    experts, the other gets them here too.
``"relocate"``
    An expert gets a part of the rows of another.

Where a table consists of groups of rows (the twelve shapes of a building of UCI energy), modes are
ways to give the groups to the experts. From a mode of UCI concrete, a relocation or an exchange led
to a better one in 5 to 60 of 100 trials, at half of the iterations of a merge, which did so in 3 to
15; merges and transfers reach what is farther.

Moves are made from a pool of distinct partitions. What is found takes the place of the more similar
of the partitions that it comes from, if it is better: so the pool stays diverse while all that is
in it improves.

References
----------
Ueda, N., Nakano, R., Ghahramani, Z., & Hinton, G. E. (2000). SMEM algorithm for mixture models.
Neural Computation, 12(9), 2109-2128.

Mahfoud, S. W. (1995). Niching methods for genetic algorithms. PhD thesis, University of Illinois.

Pernkopf, F., & Bouchaffra, D. (2005). Genetic-based EM algorithm for learning Gaussian mixture
models. IEEE Transactions on Pattern Analysis and Machine Intelligence, 27(8), 1344-1348.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.em.linear_mixtures import LinearMixtures, Partitions
from bayes_moe.em.partitions import initial_partitions, split, standardised
from bayes_moe.model.spec import MixtureOfExperts

POOL, BATCH = 12, 16
"""Partitions in the pool, and moves at once."""
FIRST, FIRST_SWEEPS = 40, 15
"""Random partitions that the pool is the best of, and sweeps from them."""
SWEEPS = 20
"""Sweeps after a move."""
DISTANCE = 0.05
"""Mean absolute difference of the rows' log densities, in nats, above which points are distinct."""
SOFTNESS = 1e-3
"""Share of every row that is spread equally over the experts."""

Columns = tuple[np.ndarray, np.ndarray]


def improved_partitions(
    spec: MixtureOfExperts, rows: Rows, moves: int, rng: np.random.Generator
) -> np.ndarray:
    """Return distinct partitions (partition, expert, obs), the best first, after some moves.

    They are compared by mixtures of linear regressions.
    """
    mixtures = LinearMixtures(spec, rows)
    pool = mixtures.fitted(initial_partitions(spec, rows, FIRST, rng), FIRST_SWEEPS)
    pool, columns = distinct(pool), standardised(spec, rows)
    for first in range(0, moves, BATCH):
        if not len(pool.value):
            break
        count = min(moves - first, BATCH)
        moved, parents = moved_shares(spec, columns, pool.shares, count, rng)
        pool = replaced(pool, mixtures.fitted(moved, SWEEPS), parents)
    return pool.shares[np.argsort(-pool.value, kind="stable")]


def distinct(found: Partitions) -> Partitions:
    """The best of them that are distinct, at most ``POOL``."""
    kept: list[int] = []
    for j in np.argsort(-found.value, kind="stable"):
        apart = distance(found.density[kept], found.density[j]) > DISTANCE
        if np.isfinite(found.value[j]) and apart.all():
            kept.append(int(j))
    return found.pick(kept[:POOL])


def replaced(pool: Partitions, found: Partitions, parents: np.ndarray) -> Partitions:
    """The pool, with what was found in the places of worse parents (found, 2)."""
    shares, value, density = pool.shares.copy(), pool.value.copy(), pool.density.copy()
    for j in np.argsort(-found.value, kind="stable"):
        away = distance(density, found.density[j])
        place = parents[j][away[parents[j]].argmin()]
        if found.value[j] > value[place] and (np.delete(away, place) > DISTANCE).all():
            shares[place], density[place] = found.shares[j], found.density[j]
            value[place] = found.value[j]
    return Partitions(shares, value, density)


def distance(density: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference (point,) of log densities (point, obs) from those of another."""
    away: np.ndarray = np.abs(density - other).mean(axis=1)
    return away


# --- moves ----------------------------------------------------------------------------------------


def moved_shares(
    spec: MixtureOfExperts,
    columns: Columns,
    shares: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return partitions (count, expert, obs) after one move from some of those given.

    Also from which (count, 2): the one that is changed, and the other that gives rows. Of a single
    partition it is twice the same. ``columns`` are what :func:`standardised` returns of the rows.
    """
    size = len(shares)
    moved = np.empty((count, *shares.shape[1:]))
    parents = np.empty((count, 2), dtype=int)
    for i in range(count):
        this = other = int(rng.integers(size))
        if size > 1:
            other = (this + int(rng.integers(1, size))) % size
        kind = rng.integers(0 if size > 1 else 2, 4)
        share = shares[this].astype(float)
        if kind == 0:
            moved[i] = _with_transfer(spec, share, shares[other], rng)
        elif kind == 1:
            moved[i] = _with_exchange(_some_kind(spec, rng), share, shares[other], rng)
        elif kind == 2:
            moved[i] = _merged_and_split(spec, columns, share, rng)
        else:
            moved[i] = _relocated(spec, columns, share, rng)
        parents[i] = this, other
    return (1 - SOFTNESS) * moved + SOFTNESS / spec.n_experts, parents


def movable(spec: MixtureOfExperts) -> list[tuple[int, ...]]:
    """Experts of each kind of which there are two or more."""
    return [b.positions for b in spec.structure.blocks if len(b.positions) > 1]


def _some_kind(spec: MixtureOfExperts, rng: np.random.Generator) -> list[int]:
    """Experts of a kind, drawn in proportion to their number."""
    kinds = movable(spec)
    sizes = np.array([len(positions) for positions in kinds])
    return list(kinds[rng.choice(len(kinds), p=sizes / sizes.sum())])


def random_move(spec: MixtureOfExperts, rng: np.random.Generator) -> tuple[int, int, int]:
    """Experts ``(j, k, l)`` of one kind: ``k`` is merged into ``j``, and gets a part of ``l``."""
    experts = _some_kind(spec, rng)
    j, k = rng.permutation(experts)[:2]
    third = rng.choice([expert for expert in experts if expert != k])
    return int(j), int(k), int(third)


def _merged_and_split(
    spec: MixtureOfExperts, columns: Columns, share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) after two experts are merged, and a third or the merged one is split."""
    j, k, third = random_move(spec, rng)
    share[j] += share[k]
    share[[third, k]] = share[third] * split(columns, share[third], 2, rng)
    return share


def _relocated(
    spec: MixtureOfExperts, columns: Columns, share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) after an expert gets one of two, or of about four, parts of another."""
    gains, loses = rng.permutation(_some_kind(spec, rng))[:2]
    part = split(columns, share[loses], 2, rng)[0]
    if rng.random() < 0.5:
        part *= split(columns, share[loses] * part, 2, rng)[0]
    given = share[loses] * part
    share[loses] -= given
    share[gains] += given
    return share


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
    share[j] += share[k]
    share *= 1 - rows
    share[k] = rows
    return share


def _with_exchange(
    experts: Sequence[int], share: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares (expert, obs) after one random pair or more of experts exchange rows.

    A row that expert ``a`` has here and ``b`` in the other partition goes from ``a`` to ``b``.
    """
    here, there = share[experts], other[experts]
    there = there[_counterparts(here @ there.T)]
    size = len(experts)
    chosen = rng.random((size, size)) < 0.5
    this = int(rng.integers(size))
    chosen[this, (this + int(rng.integers(1, size))) % size] = True
    np.fill_diagonal(chosen, False)
    share[experts] = here * (1 - chosen @ there) + (chosen.T @ here) * there
    return share


def _counterparts(common: np.ndarray) -> np.ndarray:
    """Of experts (expert, other) with so many rows in common the other's index (expert,).

    Pairs are made in the order of what they have in common.
    """
    left, index = common.copy(), np.empty(len(common), dtype=int)
    for _ in range(len(common)):
        here, there = np.unravel_index(left.argmax(), left.shape)
        index[here] = there
        left[here], left[:, there] = -np.inf, -np.inf
    return index

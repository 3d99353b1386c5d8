"""Initial partitions of the rows.

A mixture's objective has a saddle where all experts are equal, so an EM run starts from a partition
of the rows. No single kind of partition leads to the best mode of every table; several are mixed:

``"subsets"``
    Each expert is fitted to a few random rows; a row is assigned to the expert of least residual.
``"hyperplanes"``
    Slabs across a random direction in the space of the features.
``"residuals"``
    Slabs across the residuals of one regression for all rows, or their absolute values, tilted by
    a random direction.
``"random"``
    Every row at random.
``"regions"``
    As ``"hyperplanes"``, but sharp, and with enough sweeps for the gate to become sharp too: runs
    from a soft gate do not end at one that separates the rows.
``"clusters"``
    Clusters of features and response (k-means++), sharp as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.data.sparse_matrix import SparseMatrix
from bayes_moe.em.chain_starts import STRETCHES
from bayes_moe.em.sparse_features import projections
from bayes_moe.em.units import Units
from bayes_moe.model.allocation import Allocation
from bayes_moe.model.blocks import Block, initial_eta
from bayes_moe.model.spec import MixtureOfExperts

MIX = ("random", "hyperplanes", "subsets", "residuals", "regions", "clusters")
"""Default kinds: on the reference tables each is best on some, and none on all."""
CHAIN_MIX = ("windows", "subsets", "stretches", "residuals", "segments", "clusters")
"""Kinds where the experts are a Markov chain: those of :mod:`bayes_moe.em.chain_starts` in turn."""
SOFTNESS = 0.1
"""Share of every row that is spread equally over the experts."""
SHARP = ("regions", "clusters")
SHARP_SOFTNESS = 1e-3
SWEEPS, SHARP_SWEEPS = 2, 10
"""Sweeps with the allocation fixed."""
LEAST_TO_DIVIDE = 10
"""Least rows per part of an expert that is split."""


def initial_partitions(
    spec: MixtureOfExperts,
    rows: Rows,
    count: int,
    rng: np.random.Generator,
    mix: Sequence[str] | None = None,
) -> np.ndarray:
    """Soft partitions (partition, expert, obs) of the rows, the kinds of the mix in turn.

    By default it is :func:`mix_of` the model. Rows of a Markov chain are one series after the
    other.
    """
    k, n = spec.n_experts, rows.size
    mix = mix_of(spec) if mix is None else mix
    if k == 1:
        return np.ones((1, 1, n))
    units = Units.of(rows, standardised(spec, rows))
    support = Support.of(spec, rows).of_units(units.shared)
    kinds = KINDS | {"subsets": units.subsets} if units.grouped else KINDS
    partitions = np.empty((count, k, n))
    for j in range(count):
        kind = mix[j % len(mix)]
        free = _soft_partition(kind, *units.columns, support.spread.size, rng, kinds)
        limited = support.limited(free, rng)
        partitions[j] = units.spread(units.respecting(units.matched(limited)))
    return partitions


def mix_of(spec: MixtureOfExperts) -> Sequence[str]:
    """Kinds of partitions for a model."""
    return MIX if spec.structure.gate.chain is None else CHAIN_MIX


@dataclass(frozen=True)
class Support:
    """Which rows each expert can have.

    Attributes
    ----------
    spread : array (number,)
        Positions of the experts with more than one possible response, between which rows are
        divided.
    inside : array (expert, obs), or None
        Whether the expert can have the row's response; None if every expert can have all.
    """

    spread: np.ndarray
    inside: np.ndarray | None

    @classmethod
    def of(cls, spec: MixtureOfExperts, rows: Rows) -> Support:
        """The support of a model's experts on rows with responses."""
        inside = np.ones((spec.n_experts, rows.size), dtype=bool)
        spread = np.ones(spec.n_experts, dtype=bool)
        for block in spec.structure.blocks:
            where = list(block.positions)
            inside[where] = block.supports(rows.observed, block.known(rows.matrices))
            spread[where] = block.family.lower < block.family.upper
        return cls(np.flatnonzero(spread), None if inside.all() else inside)

    def of_units(self, shared: Allocation) -> Support:
        """Which units each expert can have, where some rows share an expert."""
        if self.inside is None or shared.leads is None:
            return self
        return replace(self, inside=shared.totals(1.0 - self.inside) == 0)

    def limited(self, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shares (expert, obs) of rows from those of the experts between which they are divided.

        An expert of one response has a random share of the rows with that response; no expert has
        a share of a row that it cannot have.
        """
        if self.inside is None:
            return shares
        limited = np.empty(self.inside.shape)
        limited[self.spread] = shares
        single = np.setdiff1d(np.arange(len(limited)), self.spread)
        limited[single] = rng.uniform(0.2, 2.0, (single.size, 1))
        limited *= self.inside
        total = limited.sum(axis=0)
        # A row that no expert of a positive share can have is shared by those that can.
        return np.where(total > 0, limited / np.where(total > 0, total, 1.0), self.inside)


def split(
    columns: tuple[np.ndarray, np.ndarray], share: np.ndarray, parts: int, rng: np.random.Generator
) -> np.ndarray:
    """Soft partition (part, obs) of an expert's rows, of which it has a share (obs,).

    Rows with a share of at most one half are shared equally. ``columns`` are what
    :func:`standardised` returns, once for many partitions of the rows.
    """
    features, response = columns
    partition = np.full((parts, len(response)), 1 / parts)
    members = np.flatnonzero(share > 0.5)
    if parts == 1 or members.size < LEAST_TO_DIVIDE * parts:
        return partition
    features, response = features[members], response[members]
    response = (response - response.mean(axis=0)) / (response.std(axis=0) + 1e-300)
    kind = MIX[rng.integers(1, len(MIX))]  # all but "random"
    partition[:, members] = _soft_partition(kind, features, response, parts, rng)
    return partition


def sweeps(count: int, mix: Sequence[str] = MIX) -> np.ndarray:
    """Number of sweeps (partition,) with the allocation fixed, of each of ``count`` partitions."""
    by_kind = [SHARP_SWEEPS if kind in SHARP else SWEEPS for kind in mix]
    return np.resize(by_kind, count)


def _soft_partition(
    kind: str,
    features: np.ndarray,
    response: np.ndarray,
    parts: int,
    rng: np.random.Generator,
    kinds: Mapping[str, Callable[..., np.ndarray]] | None = None,
) -> np.ndarray:
    """Shares (part, obs) of the rows."""
    if parts == 1:
        return np.ones((1, len(response)))
    label = (kinds or KINDS)[kind](features, response, parts, rng)
    softness = SHARP_SOFTNESS if kind in SHARP else SOFTNESS
    return (1 - softness) * np.equal.outer(np.arange(parts), label) + softness / parts


def gate_and_expert_features(
    spec: MixtureOfExperts, rows: Rows
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features (obs, feature) of gate and of experts, and the standardised response.

    The response is the first family's initial linear predictor (obs,), of several responses the
    first principal component of theirs.
    """
    _, responses = standardised(spec, rows)
    response = responses[:, 0]
    if responses.shape[1] > 1:
        response = responses @ np.linalg.svd(responses, full_matrices=False)[2][0]
        response = response / response.std()
    gate = _features(rows, [*spec.gate.formulas])
    return gate, _features(rows, _expert_stems(spec)), response


def standardised(spec: MixtureOfExperts, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features (obs, feature) and initial linear predictors (obs, response) of rows.

    The latter are of the responses, of which most families have one.
    """
    features = _features(rows, [*spec.gate.formulas, *_expert_stems(spec)])
    block = _main_block(spec, rows)
    levels = np.atleast_2d(initial_eta(block, rows))
    centred = levels - levels.mean(axis=1, keepdims=True)
    return features, (centred / (levels.std(axis=1, keepdims=True) + 1e-300)).T


def _main_block(spec: MixtureOfExperts, rows: Rows) -> Block:
    """The first block of those that can have most of the responses, and more than one."""

    def possible(block: Block) -> int:
        known = block.known(rows.matrices)
        return int(block.supports(rows.observed, known).sum())

    blocks = [b for b in spec.structure.blocks if b.family.lower < b.family.upper]
    return blocks[0] if len(blocks) == 1 else max(blocks, key=possible)


def _expert_stems(spec: MixtureOfExperts) -> list[str]:
    return [
        c.stem for block in spec.structure.blocks for c in block.components if c.formula is not None
    ]


def _features(rows: Rows, stems: Sequence[str]) -> np.ndarray:
    """Standardised features (obs, feature) of some predictors, each once.

    Of sparse ones there are few projections in their place.
    """
    columns: dict[str, np.ndarray] = {}
    for stem in stems:
        matrix = rows.matrices[stem]
        if isinstance(matrix, SparseMatrix):
            columns |= projections(matrix)
            continue
        scaled = matrix.standardised
        for j, term in enumerate(matrix.terms):
            if j != matrix.intercept:
                columns.setdefault(term, scaled[:, j])
    return np.column_stack([*columns.values()]) if columns else np.empty((rows.size, 0))


def _kmeans(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.cluster.vq import kmeans2

    weight = np.exp(rng.uniform(-1.0, 1.0)) * np.sqrt(max(1, x.shape[1]))  # of each response
    cloud = np.column_stack([x, weight * y])
    if len(np.unique(cloud, axis=0)) < k:
        return _random(x, y, k, rng)
    label: np.ndarray = kmeans2(cloud, k, minit="++", rng=rng, iter=10, missing="warn")[1]
    return label


def _subsets(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    n, p = x.shape
    design = np.column_stack([np.ones(n), x])
    size = min(n, max(p + 3, n // (4 * k)))
    distance = np.empty((k, n))
    for j in range(k):
        if x.shape[1] and rng.random() < 0.5:  # neighbours of a random row
            centre = x[rng.integers(n)]
            members = np.argsort(((x - centre) ** 2).sum(axis=1), kind="stable")[:size]
        else:
            members = rng.choice(n, size, replace=False)
        coef = np.linalg.lstsq(design[members], y[members], rcond=1e-8)[0]
        distance[j] = np.linalg.norm(y - design @ coef, axis=1)
    return distance.argmin(axis=0)


def _hyperplanes(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    return (
        _slabs(x @ rng.standard_normal(x.shape[1]), k, rng)
        if x.shape[1]
        else (_random(x, y, k, rng))
    )


def _residuals(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    design = np.column_stack([np.ones(len(x)), x])
    residual = y - design @ np.linalg.lstsq(design, y, rcond=1e-8)[0]
    residual = residual[:, 0] if y.shape[1] == 1 else residual @ _direction(y.shape[1], rng)
    if rng.random() < 0.3:
        residual = np.abs(residual)
    tilt = rng.standard_normal(x.shape[1]) * rng.exponential(0.5) * residual.std()
    return _slabs(residual + x @ tilt, k, rng)


def _direction(count: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vector (count,)."""
    direction = rng.standard_normal(count)
    return direction / np.linalg.norm(direction)


def _random(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(k, size=len(x))


def _slabs(score: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Cut rows, ordered by score, into ``k`` slabs of random sizes."""
    shares = np.cumsum(rng.dirichlet(np.full(k, 4.0)))[:-1]
    return np.searchsorted(np.quantile(score, shares), score, side="right")


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "random": _random,
    "hyperplanes": _hyperplanes,
    "subsets": _subsets,
    "residuals": _residuals,
    "regions": _hyperplanes,
    "clusters": _kmeans,
    **STRETCHES,
}

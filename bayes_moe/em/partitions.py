"""Splits of the rows into groups, from which experts begin to differ.

A mixture's objective has a saddle where all experts are equal, so a climb begins from a split of
the rows. No one way of splitting finds the best mode of every table; several are mixed:

``"subsets"``
    Each expert is fitted to a few rows taken at random; a row goes to the expert nearest to it.
``"hyperplanes"``
    Slabs across a random direction in the space of the features.
``"residuals"``
    Slabs across the residuals of one regression for all rows, or their absolute values, tilted by
    a random direction.
``"random"``
    Every row at random.
``"regions"``
    As ``"hyperplanes"``, but sharp, and with sweeps enough for the gate to become so: a gate that
    separates the rows is not found from a soft one.
``"clusters"``
    Clusters of features and response (k-means++), as sharp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.model.spec import MixtureOfExperts

MIX = ("random", "hyperplanes", "subsets", "residuals", "regions", "clusters")
"""The default: on the reference tables none finds every best mode, and each is best on some."""
SOFTNESS = 0.1
SHARP = ("regions", "clusters")
SHARP_SOFTNESS = 1e-3
SWEEPS, SHARP_SWEEPS = 2, 10
"""Sweeps with the allocation held fixed."""


def initial_partitions(
    spec: MixtureOfExperts,
    rows: Rows,
    count: int,
    rng: np.random.Generator,
    mix: Sequence[str] = MIX,
) -> np.ndarray:
    """Return soft splits (split, expert, obs) of rows, the ways of the mix in turn."""
    k, n = spec.n_experts, rows.size
    if k == 1:
        return np.ones((1, 1, n))
    features, response = _cloud(spec, rows)
    found = np.empty((count, k, n))
    for j in range(count):
        way = mix[j % len(mix)]
        label = WAYS[way](features, response, k, rng)
        softness = SHARP_SOFTNESS if way in SHARP else SOFTNESS
        found[j] = (1 - softness) * np.equal.outer(np.arange(k), label) + softness / k
    return found


LEAST_TO_DIVIDE = 10


def split_rows(
    spec: MixtureOfExperts, rows: Rows, share: np.ndarray, parts: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a soft split (part, obs) of the rows that belong to an expert with a share (obs,).

    Rows that hardly belong to it are shared equally.
    """
    found = np.full((parts, rows.size), 1 / parts)
    own = np.flatnonzero(share > 0.5)
    if parts == 1 or own.size < LEAST_TO_DIVIDE * parts:
        return found
    features, response = _cloud(spec, rows.pick(own))
    way = MIX[rng.integers(1, len(MIX))]  # not at random
    label = WAYS[way](features, response, parts, rng)
    softness = SHARP_SOFTNESS if way in SHARP else SOFTNESS
    found[:, own] = (1 - softness) * np.equal.outer(np.arange(parts), label) + softness / parts
    return found


def sweeps(count: int, mix: Sequence[str] = MIX) -> np.ndarray:
    """Return how many sweeps each of so many splits (split,) is to be held."""
    each = [SHARP_SWEEPS if way in SHARP else SWEEPS for way in mix]
    return np.resize(each, count)


def _cloud(spec: MixtureOfExperts, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features (obs, feature), and the predictor that each row suggests (obs,)."""
    columns: dict[str, np.ndarray] = {}
    stems = [c.stem for block in spec.blocks for c in block.components if c.formula is not None]
    for stem in (*spec.gate.formulas, *stems):
        matrix = rows.matrices[stem]
        standardised = matrix.standardised
        for j, term in enumerate(matrix.terms):
            if j != matrix.intercept:
                columns.setdefault(term, standardised[:, j])
    features = np.column_stack([*columns.values()]) if columns else np.empty((rows.size, 0))
    block = spec.blocks[0]
    level = block.family.initial_eta(rows.observed, block.known(rows.matrices))
    return features, (level - level.mean()) / (level.std() + 1e-300)


def _kmeans(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.cluster.vq import kmeans2

    weight = np.exp(rng.uniform(-1.0, 1.0)) * np.sqrt(max(1, x.shape[1]))
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
            picked = np.argsort(((x - centre) ** 2).sum(axis=1), kind="stable")[:size]
        else:
            picked = rng.choice(n, size, replace=False)
        coef = np.linalg.lstsq(design[picked], y[picked], rcond=1e-8)[0]
        distance[j] = np.abs(y - design @ coef)
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
    if rng.random() < 0.3:
        residual = np.abs(residual)
    tilt = rng.standard_normal(x.shape[1]) * rng.exponential(0.5) * residual.std()
    return _slabs(residual + x @ tilt, k, rng)


def _random(x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(k, size=len(x))


def _slabs(score: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Cut rows, ordered by score, into ``k`` slabs of random sizes."""
    shares = np.cumsum(rng.dirichlet(np.full(k, 4.0)))[:-1]
    return np.searchsorted(np.quantile(score, shares), score, side="right")


WAYS: dict[str, Callable[..., np.ndarray]] = {
    "random": _random,
    "hyperplanes": _hyperplanes,
    "subsets": _subsets,
    "residuals": _residuals,
    "regions": _hyperplanes,
    "clusters": _kmeans,
}

"""Alignment of expert labels, as permutations of plain arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayes_moe.gates.symmetry import Symmetry

MOST_ROUNDS = 50
LEAST_PROBABILITY = 1e-10

Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]


def scaled(values: np.ndarray) -> np.ndarray:
    """Values (sample, expert, quantity) in units of each quantity's standard deviation."""
    return values / (values.std(axis=(0, 1)) + 1e-300)


def kullback_leibler(features: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Stephens' cost (sample, label, expert) of allocations, up to a constant in the expert."""
    log_mean = np.log(np.maximum(aligned.mean(axis=0), LEAST_PROBABILITY))
    return -np.einsum("sjo,ko->skj", features, log_mean, optimize=True)


def normal_cost(features: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Negative normal log density (sample, label, expert) of an expert's parameters."""
    mean = aligned.mean(axis=0)
    scale = aligned.std(axis=0) + 1e-8
    z = (features[:, None] - mean[:, None]) / scale[:, None]  # (sample, label, expert, parameter)
    return (0.5 * z**2 + np.log(scale)[:, None]).sum(axis=-1)


def _distance(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Squared distance (sample, label, expert) of each draw's experts to each label's mean."""
    return np.stack([((features - m) ** 2).sum(axis=-1) for m in mean], axis=1)


def assign(symmetry: Symmetry, features: np.ndarray, cost: Cost) -> np.ndarray:
    """Best permutations (sample, expert) of features (sample, expert, ...)."""
    best = symmetry.assign(_distance(features, features[0]))
    for _ in range(MOST_ROUNDS):
        aligned = np.take_along_axis(features, best[..., None], axis=1)
        previous, best = best, symmetry.assign(cost(features, aligned))
        if np.array_equal(best, previous):
            break
    return best


def label_certainty(symmetry: Symmetry, allocations: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Certainty (sample,) of a draw's labels against the best exchange of two experts.

    It is ``d_exchanged / (d_exchanged + d)`` with ``d`` the squared distance of allocations.
    """
    aligned = np.take_along_axis(allocations, best[..., None], axis=1)
    distance = _distance(aligned, aligned.mean(axis=0))
    as_labelled = np.einsum("skk->sk", distance)
    certainty = np.ones(len(best))
    for one, other in symmetry.exchanges():
        kept = as_labelled[:, [*one.leaves, *other.leaves]].sum(axis=1)
        exchanged = symmetry.cost(distance, one, other) + symmetry.cost(distance, other, one)
        certainty = np.minimum(certainty, exchanged / (kept + exchanged + 1e-300))
    return certainty

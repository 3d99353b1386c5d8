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


def distance(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Squared distance (sample, label, expert) of each draw's experts to each label's mean."""
    return np.stack([((features - m) ** 2).sum(axis=-1) for m in mean], axis=1)


def relabelled(features: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Features (sample, expert, ...) with expert ``best[sample, k]`` as ``k``."""
    if (best == np.arange(best.shape[1])).all():
        return features  # a copy of all allocations takes longer than the costs
    return np.take_along_axis(features, best[..., None], axis=1)


def assign(
    symmetry: Symmetry, features: np.ndarray, cost: Cost, start: np.ndarray | None = None
) -> np.ndarray:
    """Best permutations (sample, expert) of features (sample, expert, ...).

    ``start`` are permutations to begin with; by default those nearest to the first sample.
    """
    best = symmetry.assign(distance(features, features[0])) if start is None else start
    for _ in range(MOST_ROUNDS):
        previous, best = best, symmetry.assign(cost(features, relabelled(features, best)))
        if np.array_equal(best, previous):
            break
    return best


def assign_like(
    symmetry: Symmetry, costs: np.ndarray, features: np.ndarray | None, cost: Cost
) -> np.ndarray:
    """Permutations (sample, expert) to the labels of another fit.

    ``costs`` (sample, label, expert) are those of an expert under a label of the other fit. Without
    ``features`` all samples get one permutation. With them, each sample gets its own by its
    distance to the mean of all, as in :func:`assign`, and then all together the labels of the
    other fit.
    """
    mean = costs.mean(axis=0, keepdims=True)
    if features is None:
        return np.repeat(symmetry.assign(mean), len(costs), axis=0)
    best = assign(symmetry, features, cost, start=symmetry.assign(costs))
    of_labels = np.take_along_axis(costs, best[:, None], axis=2).mean(axis=0, keepdims=True)
    return best[:, symmetry.assign(of_labels)[0]]


def label_certainty(
    symmetry: Symmetry, allocations: np.ndarray, best: np.ndarray, mean: np.ndarray | None = None
) -> np.ndarray:
    """Certainty (sample,) of a draw's labels against the best exchange of two experts.

    It is ``d_exchanged / (d_exchanged + d)`` with ``d`` the squared distance of allocations to
    their mean (expert, obs), by default that of the aligned draws.
    """
    aligned = relabelled(allocations, best)
    to_mean = distance(aligned, aligned.mean(axis=0) if mean is None else mean)
    as_labelled = np.einsum("skk->sk", to_mean)
    certainty = np.ones(len(best))
    for one, other in symmetry.exchanges():
        kept = as_labelled[:, [*one.leaves, *other.leaves]].sum(axis=1)
        exchanged = symmetry.cost(to_mean, one, other) + symmetry.cost(to_mean, other, one)
        certainty = np.minimum(certainty, exchanged / (kept + exchanged + 1e-300))
    return certainty

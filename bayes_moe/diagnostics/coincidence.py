"""Experts that predict the same: distances between their densities on the fitted rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.model.allocation import observed_responsibilities, some_rows
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import posterior_of

if TYPE_CHECKING:
    import xarray as xr

LARGEST_DISTANCE = 0.02
"""Jeffreys divergence a row, in nats, below which two experts count as one: that of normal
distributions whose means differ by a seventh of their standard deviation."""
ROUNDING = 1e-9
"""Divergence up to which they are called equal."""
LARGEST_EVIDENCE = 40.0
"""Sum of the divergence over the rows of two experts, in nats, above which the data tell them apart
however near they are: one expert in their place loses about an eighth of it."""
MOST_DRAWS = 50
"""Draws over which distances are averaged, evenly spaced."""
MOST_ROWS = 5000
"""Rows over which they are averaged, evenly spaced."""


@dataclass(frozen=True)
class Coincidence:
    """Experts that predict the same.

    ``labels`` are all experts', ``groups`` positions of experts that coincide with each other (two
    or more), ``distance`` the largest divergence within a group.
    """

    labels: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    distance: float

    @property
    def problems(self) -> list[str]:
        """A message for every group, with its remedy."""
        left = len(self.labels) - sum(len(group) - 1 for group in self.groups)
        remedy = (
            "Fit the model with experts=1."
            if left == 1
            else f"Use {left} experts instead of {len(self.labels)}."
        )
        differ = (
            "have the same density on the rows that they take"
            if self.distance < ROUNDING
            else f"hardly differ on the rows that they take (Jeffreys divergence "
            f"{self.distance:.2g} nats a row; below {LARGEST_DISTANCE} they count as one)"
        )
        return [
            f"{self.named(group)} coincide: they {differ}, which are split between them for no "
            f"reason. {remedy}"
            for group in self.groups
        ]

    def named(self, group: Sequence[int]) -> str:
        """Labels of some experts in words."""
        *first, last = (self.labels[k] for k in group)
        return f"Experts {', '.join(first)} and {last}"

    def merged(self, shares: xr.DataArray) -> xr.DataArray:
        """Shares (..., expert) with those of experts that coincide added to the first of them."""
        at = shares.get_axis_num(names.EXPERT)
        values = np.moveaxis(shares.values.copy(), at, -1)
        for first, *others in self.groups:
            values[..., first] += values[..., others].sum(axis=-1)
            values[..., others] = 0.0
        return shares.copy(data=np.moveaxis(values, -1, at))


def coincidence(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> Coincidence:
    """Experts of a fit's tree that predict the same.

    The distance of two experts is the Jeffreys divergence of their densities, averaged over draws
    and over the fitted rows, by their responsibility: with ``d`` the difference of their log
    densities of a row's response, ``2 d tanh(d / 2)`` has the mean ``sum (f - g) (log f - log g)``
    over responses of either.
    """
    labels = tuple(map(str, spec.expert_labels))
    divergence, evidence = distances(tree, spec, design)
    near = (divergence < LARGEST_DISTANCE) & (evidence < LARGEST_EVIDENCE)
    groups = _connected(near)
    within = [divergence[a, b] for g in groups for a, b in combinations(g, 2) if near[a, b]]
    return Coincidence(labels, groups, max(within, default=0.0))


def distances(
    tree: xr.DataTree, spec: MixtureOfExperts, design: Design
) -> tuple[np.ndarray, np.ndarray]:
    """Jeffreys divergence of pairs of experts (expert, expert): a row, and summed over rows."""
    count = spec.n_experts
    total, taken = np.zeros((count, count)), np.zeros((count, count))
    if count > 1:
        draws = stacked_draws(spec, posterior_of(tree))
        samples = len(next(iter(draws.values())))
        kept = evenly(samples, MOST_DRAWS)
        draws = {name: value[kept] for name, value in draws.items()}
        size = design.rows.size
        which = some_rows(design.rows, MOST_ROWS, evenly)
        rows = design.rows.pick(which) if len(which) < size else design.rows
        for _, part, mixture in chunks(spec, draws, rows):
            with np.errstate(all="ignore"):  # densities at a mode may be infinite
                density = mixture.log_components(part.observed)
                shares = observed_responsibilities(mixture, part)
                for a, b in combinations(range(count), 2):
                    d = density[:, a] - density[:, b]
                    weight = shares[:, a] + shares[:, b]
                    total[a, b] += (weight * 2 * d * np.tanh(d / 2)).sum()
                    taken[a, b] += weight.sum()
        taken, total = (v * size / (len(which) * len(kept)) for v in (taken, total))
    total, taken = total + total.T, taken + taken.T
    divergence = np.full((count, count), np.inf)
    np.divide(total, taken, out=divergence, where=(taken > 0) & np.isfinite(total))
    return divergence, total


def evenly(size: int, most: int) -> np.ndarray:
    """Up to ``most`` evenly spaced positions below ``size``."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(int))


def _connected(near: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more positions that are linked by pairs (position, position)."""
    group = np.arange(len(near))
    for a, b in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        group[group == group[b]] = group[a]
    members = (np.flatnonzero(group == g) for g in np.unique(group))
    return tuple(tuple(map(int, m)) for m in members if len(m) > 1)

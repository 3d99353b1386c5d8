"""Partitions of units: of the rows, or of groups of rows that share an expert.

A group is described by the means of its features and responses, and by the means of products of
residuals of one regression for all rows with the features that differ within it: groups whose
slopes differ have different ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import EACH_ROW, Allocation, allocation_of, can_have

MOST_COLUMNS = 12
"""Most products of residuals with features."""

SAME = 1e-9
"""Difference of standardised numbers that is rounding."""

Columns = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Units:
    """What has one expert each.

    Attributes
    ----------
    shared : Allocation
        How the rows share experts.
    rows : tuple of array
        Standardised features (obs, feature) and responses (obs, response).
    columns : tuple of array
        The same of units: features (unit, feature) and what is like a response (unit, response).
    known : array (unit,) or None
        Positions of the experts that are known, -1 where they are not.
    """

    shared: Allocation
    rows: Columns
    columns: Columns
    known: np.ndarray | None

    @classmethod
    def of(cls, rows: Rows, columns: Columns) -> Units:
        """Units of rows, of which ``columns`` are standardised features and responses."""
        shared = allocation_of(rows.observation)
        if shared is EACH_ROW:
            return cls(shared, columns, columns, None)
        known = shared.known
        if rows.observation.group is None:
            return cls(shared, columns, columns, known)
        if known is not None:
            least = np.where(known < 0, 0.0, known + 1.0)
            size = shared.totals((known >= 0).astype(float))
            known = np.rint(shared.totals(least) / np.maximum(size, 1.0)).astype(np.int64) - 1
        return cls(shared, columns, _of_groups(shared, columns), known)

    @property
    def grouped(self) -> bool:
        """Whether units are groups of rows."""
        return self.shared.leads is not None

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """Shares (..., expert, obs) of rows from those of units (..., expert, unit)."""
        return self.shared.spread(shares)

    def reduce(self, shares: np.ndarray) -> np.ndarray:
        """Shares (..., expert, unit) of units from those of rows, the same within each."""
        return shares[..., self.shared.first]

    def respecting(self, shares: np.ndarray) -> np.ndarray:
        """Shares (..., expert, unit), all of a unit its expert's where that is known."""
        if self.known is None:
            return shares
        limited = np.where(can_have(self.known, np.arange(shares.shape[-2])), shares, 0.0)
        total = limited.sum(axis=-2, keepdims=True)
        own = self.known == np.arange(shares.shape[-2])[:, None]
        return np.where(total > 0, limited / np.where(total > 0, total, 1.0), own)

    def matched(self, shares: np.ndarray) -> np.ndarray:
        """Shares (expert, unit) in the order in which most known experts have their units."""
        if self.known is None:
            return shares
        from scipy.optimize import linear_sum_assignment

        own = (self.known == np.arange(len(shares))[:, None]).astype(float)
        order = linear_sum_assignment(own @ shares.T, maximize=True)[1]
        return shares[order]

    def subsets(self, x: np.ndarray, y: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
        """Labels (unit,) of groups, by the residuals of regressions fitted to a few groups each."""
        features, response = self.rows
        design = np.column_stack([np.ones(len(features)), features])
        unit = self.shared.spread(np.arange(len(x)))
        wanted = min(len(design), max(design.shape[1] + 3, len(design) // (4 * k)))
        distance = np.empty((k, len(x)))
        for j in range(k):
            drawn = rng.permutation(len(x))
            size = np.cumsum(np.bincount(unit, minlength=len(x))[drawn])
            members = np.isin(unit, drawn[: np.searchsorted(size, wanted) + 1])
            coef = np.linalg.lstsq(design[members], response[members], rcond=1e-8)[0]
            square = ((response - design @ coef) ** 2).sum(axis=1)
            distance[j] = self.shared.totals(square)
        return distance.argmin(axis=0)


def _of_groups(shared: Allocation, columns: Columns) -> Columns:
    """Features (unit, feature) and what is like a response (unit, response) of groups."""
    features, responses = columns
    count = shared.totals(np.ones(len(features)))

    def means(values: np.ndarray) -> np.ndarray:
        return np.asarray(shared.totals(values.T) / count).T

    average = means(features)
    differs = (np.abs(features - shared.spread(average.T).T) > SAME).any(axis=0)
    design = np.column_stack([np.ones(len(features)), features])
    residual = responses - design @ np.linalg.lstsq(design, responses, rcond=1e-8)[0]
    products = (residual[:, :, None] * features[:, None, differs]).reshape(len(features), -1)
    like = np.column_stack([means(responses), means(products[:, :MOST_COLUMNS])])
    like = _standardised(like)
    return _standardised(average), like if like.shape[1] else np.zeros((len(like), 1))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Columns of values that differ between units, centred and scaled."""
    sd = values.std(axis=0)
    differs = sd > SAME
    return (values[:, differs] - values[:, differs].mean(axis=0)) / sd[differs]

"""Checks of an ensemble: of its members, their weights and their held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names

if TYPE_CHECKING:
    import xarray as xr

LEAST_CONVERGED = 0.5
"""Share of converged members below which an ensemble is not trusted."""


@dataclass(frozen=True)
class Members:
    """Figures of an ensemble.

    ``score`` is the mean held-out log density, ``effective`` the inverse of the sum of squared
    weights; ``limit`` is the setting that allows longer runs.
    """

    weights: np.ndarray
    converged: np.ndarray
    score: float
    singular: int
    limit: str

    @property
    def effective(self) -> float:
        """Number of members of equal weight that average as much."""
        return float(1 / (self.weights**2).sum())

    @property
    def problems(self) -> list[str]:
        """Failed checks, each with its remedy; empty if all pass."""
        problems = []
        if self.converged.mean() < LEAST_CONVERGED:
            problems.append(
                f"Only {self.converged.sum()} of {len(self.converged)} members have converged: "
                f"raise {self.limit}."
            )
        if not np.isfinite(self.score):
            problems.append(
                "Held-out rows have no finite log density: give tighter priors, or use fewer "
                "experts."
            )
        if self.singular:
            problems.append(
                f"{self.singular} modes of members are singular: an expert fits its rows exactly. "
                "Use fewer experts, or give tighter priors."
            )
        return problems

    @property
    def table(self) -> dict[str, Any]:
        """Figures by name."""
        return {
            "members": len(self.weights),
            names.CONVERGED: f"{self.converged.sum()} of {len(self.converged)}",
            "effective members": f"{self.effective:.1f}",
            "held-out log density": round(self.score, 4),
        }

    @property
    def trust(self) -> str:
        """Verdict on an ensemble that passes all checks."""
        return (
            f"{self.converged.sum()} of {len(self.converged)} members have converged; held-out "
            f"rows have a mean log density of {self.score:.3f}. Members are no posterior draws."
        )


def members(tree: xr.DataTree) -> Members:
    """Figures of the ensemble of a fit's tree."""
    fit, modes = tree[names.FIT].to_dataset(), tree[names.MODES].to_dataset()
    return Members(
        weights=fit[names.MEMBER_WEIGHT].values,
        converged=fit[names.MEMBER_CONVERGED].values.astype(bool),
        score=float(fit[names.HELD_OUT_SCORE]),
        singular=int(modes[names.SINGULAR].values.sum()),
        limit="epochs" if fit.attrs.get(names.OPTIMIZER) == "adam" else "max_iter",
    )

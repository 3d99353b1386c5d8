"""Checks of draws from a normal approximation fitted by its ELBO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.diagnostics.mode import LARGEST_PARETO_K

if TYPE_CHECKING:
    import xarray as xr

LEAST_ESS = 100


@dataclass(frozen=True)
class Approximation:
    """Figures of draws from an approximation.

    ``elbo`` is the mean of ``log p - log q`` over its draws, with ``elbo_error``; ``ess`` the
    effective number of draws after importance resampling (NaN without). ``advice`` is the method's
    remedy where it has not converged, ``better`` the one for a large Pareto k.
    """

    elbo: float
    elbo_error: float
    iterations: int
    converged: bool
    empty: bool
    pareto_k: float
    ess: float
    advice: str
    better: str

    @property
    def problems(self) -> list[str]:
        """Failed checks, each with its remedy; empty if all pass."""
        problems = []
        if not self.converged:
            problems.append(f"Not converged after {self.iterations} iterations: {self.advice}.")
        if self.empty:
            problems.append("An expert has less than one row: use fewer experts.")
        if self.pareto_k > LARGEST_PARETO_K:
            problems.append(
                f"Pareto k {self.pareto_k:.2f} (at most {LARGEST_PARETO_K} is good): the "
                f"approximation is not near the posterior. {self.better}."
            )
        if self.ess < LEAST_ESS:
            problems.append(
                f"Effective number of draws {self.ess:.0f} after importance resampling (at least "
                f"{LEAST_ESS} is good): raise paths or draws."
            )
        return problems

    @property
    def table(self) -> dict[str, Any]:
        """Figures by name."""
        figures: dict[str, Any] = {
            "ELBO": f"{self.elbo:.3f} (error {self.elbo_error:.3f})",
            "iterations": self.iterations,
            names.CONVERGED: self.converged,
            "empty expert": self.empty,
        }
        if not np.isnan(self.pareto_k):
            figures["Pareto k"] = round(self.pareto_k, 3)
        if not np.isnan(self.ess):
            figures["effective draws"] = round(self.ess)
        return figures

    @property
    def trust(self) -> str:
        """Verdict on draws that pass all checks."""
        return (
            f"The approximation has settled at an ELBO of {self.elbo:.2f}, and its draws are near "
            f"enough to the posterior (Pareto k {self.pareto_k:.2f})."
        )


def approximation(tree: xr.DataTree) -> Approximation:
    """Figures of the approximation of a fit's tree."""
    fit = tree[names.FIT].to_dataset()
    return Approximation(
        elbo=float(fit[names.ELBO]),
        elbo_error=float(fit[names.ELBO_ERROR]),
        iterations=int(fit[names.ITERATIONS]),
        converged=bool(fit[names.CONVERGED]),
        empty=bool(fit[names.EMPTY]),
        pareto_k=float(fit[names.PARETO_K]),
        ess=float(fit[names.ESS]) if names.ESS in fit else float("nan"),
        advice=str(fit.attrs[names.ADVICE]),
        better=str(fit.attrs[names.BETTER]),
    )

"""Whether a mode, and draws about it, can be trusted: figures, and what is wrong in sentences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names

if TYPE_CHECKING:
    import xarray as xr

LARGEST_PARETO_K = 0.7
LEAST_HITS = 2


@dataclass(frozen=True)
class Optimum:
    """Figures of a mode, and of draws from the normal approximation there.

    ``running`` names the variables that run away, ``exhausted`` says whether the climb used up its
    iterations, and ``limit`` which setting allows more; ``pareto_k`` is NaN without draws.
    """

    objective: str
    value: float
    gradient_norm: float
    iterations: int
    converged: bool
    singular: bool
    running: tuple[str, ...]
    exhausted: bool
    empty: bool
    experts: int
    hits: int
    restarts: int
    modes: int
    has_errors: bool
    pareto_k: float
    limit: str = "max_iter"

    @property
    def problems(self) -> list[str]:
        """What is wrong, each with what to do; empty if nothing is."""
        found = []
        likelihood = self.objective == "likelihood"
        priors = "use objective='posterior'" if likelihood else "give tighter priors"
        fewer = f"Use fewer experts, or {priors}" if self.experts > 1 else priors.capitalize()
        if self.singular and likelihood:
            found.append(
                "Singular: a scale parameter fell to its floor, where the likelihood grows without "
                f"bound. {fewer}."
            )
        elif self.singular:
            found.append(
                "Singular: an expert fits its rows exactly, and its scale parameter fell below "
                f"1e-8 of the response's. {fewer}."
            )
        elif self.running:
            found.append(
                f"Separated: {', '.join(self.running)} runs away while the {self.objective} gains "
                f"nothing, so that there is no finite maximum. To have one, {priors}."
            )
        elif self.exhausted:
            found.append(
                f"Not converged after {self.iterations} iterations (gradient norm "
                f"{self.gradient_norm:.2g}): raise {self.limit}."
            )
        elif not self.converged:
            found.append(
                f"Stopped where no step gains, at a point that is no sure maximum (gradient norm "
                f"{self.gradient_norm:.2g}), such as a saddle: use other starts (restarts, "
                "random_seed)."
            )
        elif not self.has_errors:
            found.append(
                "There are no standard errors: the objective is flat in some direction. Remove "
                f"collinear features, or {priors}."
            )
        if self.empty:
            found.append("An expert has less than one row: use fewer experts.")
        if self.restarts >= LEAST_HITS and self.hits < LEAST_HITS and self.modes > 1:
            found.append(
                f"Only {self.hits} of {self.restarts} starts found the best mode: there may be a "
                "better one. Raise restarts."
            )
        if self.pareto_k > LARGEST_PARETO_K:
            found.append(
                f"Pareto k {self.pareto_k:.2f} (at most {LARGEST_PARETO_K} is good): the posterior "
                "is not near normal. Use method='nuts'."
            )
        return found

    @property
    def table(self) -> dict[str, Any]:
        """The figures by name."""
        figures = {
            f"log {self.objective}": round(self.value, 4),
            "gradient norm": f"{self.gradient_norm:.1e}",
            "iterations": self.iterations,
            "converged": self.converged,
            "singular": self.singular,
            "separated": ", ".join(self.running) or False,
            "empty expert": self.empty,
            "starts that found it": f"{self.hits} of {self.restarts}",
            "modes found": self.modes,
        }
        if not np.isnan(self.pareto_k):
            figures["Pareto k"] = round(self.pareto_k, 3)
        return figures

    @property
    def trust(self) -> str:
        """Why a mode without problems can be trusted."""
        near = (
            ""
            if np.isnan(self.pareto_k)
            else (
                f", and draws about it are near enough to the posterior (Pareto k "
                f"{self.pareto_k:.2f})"
            )
        )
        return (
            f"This is a maximum of the {self.objective}: gradient norm {self.gradient_norm:.1e}, "
            f"found from {self.hits} of {self.restarts} starts{near}."
        )


def optimum(tree: xr.DataTree) -> Optimum:
    """Read the figures of a mode from a fit's tree."""
    fit = tree[names.FIT].to_dataset()
    modes = tree[names.MODES].to_dataset()
    errors = tree[names.STANDARD_ERROR].to_dataset()
    return Optimum(
        objective=str(fit.attrs["objective"]),
        value=float(fit["objective"]),
        gradient_norm=float(fit["gradient_norm"]),
        iterations=int(fit["iterations"]),
        converged=bool(fit["converged"]),
        singular=bool(fit["singular"]),
        running=tuple(json.loads(fit.attrs["running"])),
        exhausted=bool(fit["exhausted"]),
        experts=modes.sizes[names.EXPERT],
        empty=bool(fit["empty"]),
        hits=int(modes["hits"][int(modes.attrs["best"])]),
        restarts=int(fit["restarts"]),
        modes=modes.sizes[names.MODE],
        # learned spreads of priors have none, nor has a model too large for second derivatives
        has_errors=not fit.attrs.get("curvature", 1)
        or any(bool(np.isfinite(e.values).all()) for e in errors.data_vars.values()),
        pareto_k=float(fit["pareto_k"]) if "pareto_k" in fit else float("nan"),
        limit="epochs" if fit.attrs.get("optimizer") == "adam" else "max_iter",
    )

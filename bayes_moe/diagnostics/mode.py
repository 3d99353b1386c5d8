"""Checks of a mode, and of draws from the normal approximation there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.em.vector_layout import NARROW, SCALE_FLOOR

if TYPE_CHECKING:
    import xarray as xr

LARGEST_PARETO_K = 0.7
LEAST_HITS = 2
LARGE_CHANCE, LEAST_STARTS = 0.5, 8
"""Chance that one more start ends in a new mode, from which there may well be a better one, and the
starts from which it is known well enough to say so."""

UNAFFORDABLE = " Standard errors are left out: of so many coefficients they would take too long."


@dataclass(frozen=True)
class Optimum:
    """Figures of a mode, and of draws from the normal approximation there.

    ``running`` are the variables that diverge, ``exhausted`` says whether the optimiser used up its
    iterations, and ``limit`` is the setting that allows more; ``pareto_k`` is NaN without draws.
    ``finished`` starts ran to the end, and ``new_mode_chance``, that one more start ends in a new
    mode, is NaN where it is unknown. ``unaffordable`` is whether there are too many coefficients
    for standard errors.
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
    finished: int
    new_mode_chance: float
    has_errors: bool
    pareto_k: float
    limit: str = "max_iter"
    unaffordable: bool = False

    @property
    def problems(self) -> list[str]:
        """Failed checks, each with its remedy; empty if all pass."""
        problems = [message] if (message := self._no_maximum()) else []
        if self.empty:
            problems.append("An expert has less than one row: use fewer experts.")
        if message := self._ambiguous():
            problems.append(message)
        if self.pareto_k > LARGEST_PARETO_K:
            problems.append(
                f"Pareto k {self.pareto_k:.2f} (at most {LARGEST_PARETO_K} is good): the posterior "
                "is not near normal. Use method='nuts'."
            )
        return problems

    @property
    def _stopped(self) -> str:
        """How many of the starts were stopped before their end, in brackets; empty for none."""
        stopped = self.restarts - self.finished
        return f" ({stopped} stopped early)" if stopped > 0 else ""

    def _ambiguous(self) -> str:
        """Why there may be a better mode; empty if the starts agree."""
        few = self.restarts >= LEAST_HITS and self.hits < LEAST_HITS and self.modes > 1
        if self.hits and self.finished < self.restarts:
            few = False  # of a race few starts are left: the chance of a new mode tells more
        many = self.finished >= LEAST_STARTS and self.new_mode_chance >= LARGE_CHANCE
        if not few and not many:
            return ""
        count = f"{'Only ' if few else ''}{self.hits}" if self.hits else "None"
        message = f"{count} of {self.restarts} starts{self._stopped} found the best mode"
        message += "" if self.hits else ", a move did"
        if many:
            message += (
                f", and the chance that one more start ends in a new mode is "
                f"{self.new_mode_chance:.0%}"
            )
        return f"{message}: there may be a better one. Raise restarts."

    def _no_maximum(self) -> str:
        """Why the point is no maximum with standard errors; empty if it is one."""
        if self.singular:
            return self._singular()
        if self.running:
            return (
                f"Separated: {', '.join(self.running)} runs away while the {self.objective} gains "
                f"nothing, so that there is no finite maximum. To have one, {self._priors()}."
            )
        if self.exhausted:
            return (
                f"Not converged after {self.iterations} iterations (gradient norm "
                f"{self.gradient_norm:.2g}): raise {self.limit}."
            )
        if not self.converged:
            return (
                f"Stopped where no step gains, at a point that is no sure maximum (gradient norm "
                f"{self.gradient_norm:.2g}), such as a saddle: use other starts (restarts, "
                "random_seed)."
            )
        if not self.has_errors:
            return (
                "There are no standard errors: the objective is flat in some direction. Remove "
                f"collinear features, or {self._priors()}."
            )
        return ""

    def _singular(self) -> str:
        priors = self._priors()
        fewer = f"Use fewer experts, or {priors}" if self.experts > 1 else priors.capitalize()
        if self.objective == "likelihood":
            return (
                "Singular: an expert fits its rows exactly: its spread fell to the floor, or below "
                f"{NARROW:g} of the response's with few rows, where the likelihood grows without "
                f"bound. {fewer}."
            )
        return (
            "Singular: an expert fits its rows exactly, and its spread fell to the floor, "
            f"{SCALE_FLOOR:g} of the response's. {fewer}."
        )

    def _priors(self) -> str:
        likelihood = self.objective == "likelihood"
        return "use objective='posterior'" if likelihood else "give tighter priors"

    @property
    def table(self) -> dict[str, Any]:
        """Figures by name."""
        figures = {
            f"log {self.objective}": round(self.value, 4),
            "gradient norm": f"{self.gradient_norm:.1e}",
            "iterations": self.iterations,
            names.CONVERGED: self.converged,
            "singular": self.singular,
            "separated": ", ".join(self.running) or False,
            "empty expert": self.empty,
            "starts that found it": f"{self.hits} of {self.restarts}{self._stopped}",
            "modes found": self.modes,
        }
        if not np.isnan(self.new_mode_chance):
            figures["chance of a new mode"] = f"{self.new_mode_chance:.0%}"
        if not np.isnan(self.pareto_k):
            figures["Pareto k"] = round(self.pareto_k, 3)
        return figures

    @property
    def trust(self) -> str:
        """Verdict on a mode that passes all checks."""
        approximation = (
            ""
            if np.isnan(self.pareto_k)
            else (
                f", and draws about it are near enough to the posterior (Pareto k "
                f"{self.pareto_k:.2f})"
            )
        )
        return (
            f"This is a maximum of the {self.objective}: gradient norm {self.gradient_norm:.1e}, "
            f"found from {self.hits} of {self.restarts} starts{self._stopped}{approximation}."
            + (UNAFFORDABLE if self.unaffordable else "")
        )


def optimum(tree: xr.DataTree) -> Optimum:
    """Figures of the best mode of a fit's tree."""
    fit = tree[names.FIT].to_dataset()
    modes = tree[names.MODES].to_dataset()
    errors = tree[names.STANDARD_ERROR].to_dataset()
    adam = fit.attrs.get(names.OPTIMIZER) == "adam"
    return Optimum(
        objective=str(fit.attrs[names.OBJECTIVE]),
        value=float(fit[names.OBJECTIVE]),
        gradient_norm=float(fit[names.GRADIENT_NORM]),
        iterations=int(fit[names.ITERATIONS]),
        converged=bool(fit[names.CONVERGED]),
        singular=bool(fit[names.SINGULAR]),
        running=tuple(json.loads(fit.attrs[names.RUNNING])),
        exhausted=bool(fit[names.EXHAUSTED]),
        experts=modes.sizes[names.EXPERT],
        empty=bool(fit[names.EMPTY]),
        hits=int(modes[names.HITS][int(modes.attrs[names.BEST])]),
        restarts=int(fit[names.RESTARTS]),
        modes=modes.sizes[names.MODE],
        finished=int(modes.attrs.get(names.FINISHED, fit[names.RESTARTS])),
        new_mode_chance=float(modes.attrs.get(names.NEW_MODE_CHANCE, np.nan)),
        # Hyperparameters have no standard errors, nor has a model too large for second derivatives.
        has_errors=not fit.attrs.get(names.CURVATURE, 1)
        or any(bool(np.isfinite(e.values).all()) for e in errors.data_vars.values()),
        pareto_k=float(fit[names.PARETO_K]) if names.PARETO_K in fit else float("nan"),
        limit="epochs" if adam else "max_iter",
        unaffordable=not fit.attrs.get(names.CURVATURE, 1) and not adam,
    )

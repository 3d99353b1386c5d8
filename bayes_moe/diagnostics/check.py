"""Checks of a fit: by its kind (draws, mode or approximation), and of its experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.approximation import approximation
from bayes_moe.diagnostics.coincidence import Coincidence, coincidence
from bayes_moe.diagnostics.ensemble import members
from bayes_moe.diagnostics.mode import optimum
from bayes_moe.diagnostics.sampler import convergence
from bayes_moe.diagnostics.ties import ties
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import is_ensemble, kind_of, posterior_of
from bayes_moe.results.reported_shape import internal_arrays

if TYPE_CHECKING:
    import xarray as xr


class Figures(Protocol):
    """Interface of the figures of a fit, of any kind."""

    @property
    def problems(self) -> list[str]:
        """Failed checks, each with its remedy; empty if all pass."""

    @property
    def table(self) -> dict[str, Any]:
        """Figures by name."""

    @property
    def trust(self) -> str:
        """Verdict on a fit that passes all checks."""


@dataclass(frozen=True)
class Check:
    """Figures of a fit by its kind, and what is wrong with its experts whatever the kind."""

    figures: Figures
    experts: Coincidence
    ties: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """Failed checks, each with its remedy; empty if all pass."""
        return [*self.ties, *self.figures.problems, *self.experts.problems]


def check(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> Check:
    """Checks of a fit's tree."""
    figures = CHECKS[kind_of(tree)](tree, spec, design)
    return Check(figures, coincidence(tree, spec, design), tuple(_ties(tree, spec, design)))


def _ties(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> list[str]:
    """Messages for experts that collapse onto tied rows, in the result or where most starts end."""
    draws = stacked_draws(spec, posterior_of(tree))
    has_priors = True
    if names.FIT in tree.children:
        has_priors = tree[names.FIT].attrs[names.OBJECTIVE] != "likelihood"
    found = ties(spec, draws, design, has_priors=has_priors)
    if found or names.MODES not in tree.children:
        return [tie.message for tie in found]
    modes = tree[names.MODES].to_dataset()
    singular, hits = modes[names.SINGULAR].values, modes[names.HITS].values
    lost = int(hits[singular].sum())
    if lost <= hits.sum() / 2 or not {*spec.variables} <= {*modes.data_vars}:
        return []  # modes of a model without a gradient are those of a surrogate
    worst = [int(np.where(singular, hits, 0).argmax())]
    every = internal_arrays(spec, modes, (names.MODE,))
    mode = {name: values[worst] for name, values in every.items()}
    found = ties(spec, mode, design, has_priors=has_priors)
    ended = f"{lost} of {hits.sum()} starts ended there; the answer is the best of the others."
    return [f"{tie.message} {ended}" for tie in found]


def _mode(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> Figures:
    return optimum(tree)


def _approximation(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> Figures:
    if is_ensemble(tree):
        return members(tree)
    # Laplace's approximation has no ELBO; it is as good as the mode and its Pareto k.
    return approximation(tree) if names.ELBO in tree[names.FIT] else optimum(tree)


CHECKS: dict[str, Callable[[xr.DataTree, MixtureOfExperts, Design], Figures]] = {
    names.KIND_DRAWS: convergence,
    names.KIND_MODE: _mode,
    names.KIND_APPROXIMATION: _approximation,
}
"""Check by kind of a fit."""

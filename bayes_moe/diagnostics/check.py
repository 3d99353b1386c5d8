"""Checks of a fit by its kind: draws, mode or approximation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.approximation import approximation
from bayes_moe.diagnostics.mode import optimum
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr
from bayes_moe.diagnostics.sampler import convergence


class Figures(Protocol):
    """What a verdict needs of any kind of fit."""

    @property
    def problems(self) -> list[str]:
        """What is wrong, each with what to do; empty if nothing is."""

    @property
    def table(self) -> dict[str, Any]:
        """The figures by name."""

    @property
    def trust(self) -> str:
        """Why a fit without problems can be trusted."""


def check(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> Figures:
    """Compute the figures of a fit's tree."""
    if names.FIT in tree.children:
        return approximation(tree) if names.ELBO in tree[names.FIT] else optimum(tree)
    return convergence(tree, spec, design)

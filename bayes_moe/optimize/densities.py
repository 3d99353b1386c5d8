"""The log density that optimisers and samplers use for a model: compiled, or that of its graph."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.network_density import NetworkDensity, supports


def has_compiled_network(spec: MixtureOfExperts) -> bool:
    """Whether :func:`log_density` of a model is compiled: of none with constraints."""
    structure = spec.structure
    return not (structure.is_linear or structure.constraints) and supports(spec)


def log_density(spec: MixtureOfExperts, design: Design, *, jacobian: bool = False) -> LogDensity:
    """Return the log density of a model: compiled where it has networks and kernels."""
    if has_compiled_network(spec):
        return NetworkDensity(spec, design, jacobian=jacobian)
    return GraphLogDensity(build_design(spec, design, "fused"), jacobian=jacobian)


class OfRows(Protocol):
    """The log density of a part of the rows."""

    def weighted(self, x: np.ndarray, weight: float) -> tuple[float, float, np.ndarray]:
        """As :meth:`bayes_moe.model.log_density.LogDensity.weighted`."""


@dataclass(frozen=True)
class Shown:
    """The log density of some rows of a graph, which are shown before each use."""

    surface: LogDensity
    which: np.ndarray

    def weighted(self, x: np.ndarray, weight: float) -> tuple[float, float, np.ndarray]:
        """As :meth:`bayes_moe.model.log_density.LogDensity.weighted`."""
        self.surface.show(self.which)
        return self.surface.weighted(x, weight)


def of_rows(surface: LogDensity, which: np.ndarray) -> OfRows:
    """Return the log density of the rows at some positions.

    Under predictors that read whole series, rows elsewhere are read, but do not count.
    Parts of a compiled density are independent of each other; those of a graph share its data, and
    may not be used by several threads.
    """
    if not isinstance(surface, NetworkDensity):
        return Shown(surface, which)
    if surface.spec.structure.whole_series:
        return surface.counting(which)
    part = copy(surface)
    part.show(which)
    return part

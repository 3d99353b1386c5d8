"""The log density that optimisers and samplers use for a model: compiled, or that of its graph."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.graph.build import build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.network_density import NetworkDensity, supports

Weighted = Callable[[np.ndarray, float], tuple[float, float, np.ndarray]]


def has_compiled_network(spec: MixtureOfExperts) -> bool:
    """Whether :func:`log_density` of a model is compiled."""
    return not spec.structure.is_linear and supports(spec)


def log_density(spec: MixtureOfExperts, design: Design, *, jacobian: bool = False) -> LogDensity:
    """Return the log density of a model: compiled where it has networks and kernels."""
    if has_compiled_network(spec):
        return NetworkDensity(spec, design, jacobian=jacobian)
    return GraphLogDensity(build_design(spec, design, "fused"), jacobian=jacobian)


def of_rows(surface: LogDensity, which: np.ndarray) -> Weighted:
    """:meth:`LogDensity.weighted` of the rows at some positions, as a function.

    Functions of a compiled density are independent of each other; those of a graph share its data,
    and may not be called by several threads.
    """
    if isinstance(surface, NetworkDensity):
        surface = copy(surface)  # with rows of its own
        surface.show(which)
        return surface.weighted

    def weighted(x: np.ndarray, weight: float) -> tuple[float, float, np.ndarray]:
        surface.show(which)
        return surface.weighted(x, weight)

    return weighted

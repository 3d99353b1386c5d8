"""The compiled log density of a model of networks and linear predictors, without a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from os import cpu_count
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core.threads import in_threads
from bayes_moe.data.design import Design
from bayes_moe.model.log_density import LogDensity, has_kernels, learned_scales
from bayes_moe.model.memory_rules import check_whole_series
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.predictors import MLP, Linear
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.predictors.recurrent import Recurrent


class NetworkDensity(LogDensity):
    """The log density of a model for which :func:`supports` is true.

    Its coordinates are those of the model's graph.

    Attributes
    ----------
    free : FreeVariables
        The coordinates.
    compiled : CompiledDensity
        The log density of the current rows, whose gradient has learned scales too.
    """

    parallel: ClassVar[bool] = True

    def __init__(self, spec: MixtureOfExperts, design: Design, *, jacobian: bool = False) -> None:
        from bayes_moe.optimize.network_table import NetworkTable  # numba

        self.spec, self.design, self.jacobian = spec, design, jacobian
        self.priors = spec.resolve_priors(design)
        self.free = FreeVariables.of(spec, design, self.priors)
        self.free_coordinates = ~self.coordinates(learned_scales(self.spec))
        self._of_all_rows = NetworkTable(self.free, jacobian=jacobian).density()
        self.compiled = self._of_all_rows

    def weighted(self, x: np.ndarray, weight: float) -> tuple[Any, Any, np.ndarray]:
        if x.ndim == 2:
            parts = np.array_split(x, min(len(x), cpu_count() or 1))
            found = in_threads(lambda p: self.compiled.many(p, weight), parts, len(parts))
            values, gradient = (np.concatenate(part) for part in zip(*found, strict=True))
            prior, likelihood = values.T
        else:
            prior, likelihood, gradient = self.compiled.weighted(x, weight)
        gradient[..., ~self.free_coordinates] = 0.0
        return prior, likelihood, gradient

    def show(self, which: np.ndarray | slice) -> None:
        if not isinstance(which, slice) or which != slice(None):
            check_whole_series(self.spec.structure, "The log density of a part of the rows")
        self.compiled = self._of_all_rows.pick(which)

    def counting(self, which: np.ndarray) -> NetworkDensity:
        """Return the density in which the rows at some positions count, while all are read.

        The rows may be any but those of a Markov chain.
        """
        if self.spec.structure.gate.chain is not None:
            check_whole_series(self.spec.structure, "The log density of a part of the rows")
        part, rows = copy(self), self.design.rows
        weights = np.zeros(rows.size)
        weights[which] = 1.0 if rows.weights is None else rows.weights[which]
        part.compiled = self._of_all_rows.with_row_weights(weights)
        return part

    def lbfgs(
        self, start: np.ndarray, most: int, memory: int, limits: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray, list[float]]:
        run = self.compiled.lbfgs(start, self.free_coordinates, most, memory, limits)
        return run[0], run[1], run[2].tolist()

    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        if x.ndim == 2:
            return self.free.variables(x)
        return {name: value[0] for name, value in self.free.variables(x[None]).items()}

    def point(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        each = {name: np.asarray(values[name])[None] for name in self.spec.variables}
        point: np.ndarray = self.free.points(each)[0]
        return point

    def coordinates(self, names: Iterable[str]) -> np.ndarray:
        return self.free.coordinates(names)

    def determining_coordinates(self, names: Iterable[str]) -> np.ndarray:
        return self.coordinates(parent for name in names for parent in self.free.determining(name))

    def values(self, x: np.ndarray, name: str) -> np.ndarray:
        free = self.free[name]
        return x[free.where].reshape(free.free_shape)


def supports(spec: MixtureOfExperts) -> bool:
    """Whether a model has a :class:`NetworkDensity`.

    It needs a gate of softmaxes or a Markov chain, predictors that are networks, recurrent ones
    among them, or linear (random effects included), families with a kernel, and rows that have an
    expert each.
    """
    structure = spec.structure
    if spec.row_columns.group is not None:
        return False
    known = all(type(p) in (Linear, RandomEffects, MLP, Recurrent) for _, p in structure.sites)
    return known and structure.gate.features is None and has_kernels(spec)

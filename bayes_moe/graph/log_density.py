"""A graph's log density as a function of one vector, with its gradient and its curvature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import numpy as np

from bayes_moe.graph.build import Graph
from bayes_moe.model.log_density import LogDensity, learned_scales
from bayes_moe.model.memory_rules import check_whole_series


class GraphLogDensity(LogDensity):
    """The log density of a graph as a function of its unconstrained vector.

    Attributes
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph, *, jacobian: bool = False) -> None:
        import pytensor.tensor as pt

        from bayes_moe.graph.numpy_mode import compiled

        self.graph, self.jacobian = graph, jacobian
        self.spec, self.design, self.priors = graph.spec, graph.design, graph.priors
        self._one_at_a_time = Lock()
        model = graph.model
        inputs = model.value_vars
        self._shapes = [v.shape for v in model.initial_point().values()]
        self.free_coordinates = ~self.coordinates(learned_scales(self.spec))
        unknown = [*model.free_RVs, *model.potentials]
        factors = model.logp([*unknown, *model.observed_RVs], jacobian=jacobian, sum=False)
        prior = pt.add(*(f.sum() for f in factors[: len(unknown)]))
        likelihood = pt.add(*(f.sum() for f in factors[len(unknown) :]))
        weight = pt.dscalar("weight")  # of the rows: Adam scales a batch up to all
        slopes: Any = pt.grad(prior + weight * likelihood, inputs, disconnected_inputs="ignore")
        slope = pt.concatenate([g.ravel() for g in slopes])
        self._value = compiled(model, [*inputs, weight], [prior, likelihood, slope])
        data = [(v, v.get_value(borrow=True)) for v in model.data_vars]
        self._data = [(v, a) for v, a in data if a.shape[:1] == (self.design.rows.size,)]
        self._names = list(graph.spec.structure.dims)
        wanted = model.replace_rvs_by_values([model[name] for name in self._names])
        self._variables = compiled(model, inputs, wanted)

    def weighted(self, x: np.ndarray, weight: float) -> tuple[Any, Any, np.ndarray]:
        if x.ndim == 2:
            prior, likelihood, slopes = zip(*(self.weighted(p, weight) for p in x), strict=True)
            return np.array(prior), np.array(likelihood), np.array(slopes)
        with self._one_at_a_time:
            prior, likelihood, gradient = self._value(*self._split(x), weight)
        return float(prior), float(likelihood), np.where(self.free_coordinates, gradient, 0.0)

    def show(self, which: np.ndarray | slice) -> None:
        if not isinstance(which, slice) or which != slice(None):
            check_whole_series(self.spec.structure, "The log density of a part of the rows")
        for variable, values in self._data:
            variable.set_value(values[which], borrow=True)

    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        if x.ndim == 2:
            each = [self.variables(point) for point in x]
            return {name: np.stack([v[name] for v in each]) for name in self._names}
        with self._one_at_a_time:
            values = self._variables(*self._split(x))
        return dict(zip(self._names, map(np.asarray, values), strict=True))

    def point(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.graph.to_vector(values)

    def coordinates(self, names: Iterable[str]) -> np.ndarray:
        chosen = {*names}
        sizes = [int(np.prod(shape, dtype=int)) for shape in self._shapes]
        return np.repeat([rv.name in chosen for rv in self.graph.model.free_RVs], sizes)

    def determining_coordinates(self, names: Iterable[str]) -> np.ndarray:
        from pytensor.graph.traversal import ancestors

        model = self.graph.model
        inputs = {*ancestors([model[name] for name in names])}
        return self.coordinates(rv.name for rv in model.free_RVs if rv in inputs)

    def values(self, x: np.ndarray, name: str) -> np.ndarray:
        parts = zip(self.graph.model.free_RVs, self._split(x), strict=True)
        return next(part for rv, part in parts if rv.name == name)

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        """Unconstrained values of every free variable, in their shapes."""
        parts = []
        start = 0
        for shape in self._shapes:
            size = int(np.prod(shape, dtype=int))
            parts.append(x[start : start + size].reshape(shape))
            start += size
        return parts

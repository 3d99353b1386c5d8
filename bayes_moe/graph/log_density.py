"""A graph's log density as a function of one vector, with its gradient and its curvature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import numpy as np

from bayes_moe.core.linalg import differences, information_ratio, semi_inverse
from bayes_moe.graph.build import Graph

MOST_COORDINATES, MOST_ELEMENTS = 400, 2 * 10**7
"""Coordinates, and coordinates x rows x experts, up to which second derivatives are affordable."""
LEAST_CURVATURE = 0.05
"""Least curvature of :meth:`GraphLogDensity.rough_covariance`, where that of a prior is 1."""


class GraphLogDensity:
    """The log density of a graph as a function of its unconstrained vector.

    With ``jacobian`` it is that of the unconstrained values, which a sampler draws, else that of
    the natural variables. It is thread-safe.

    Attributes
    ----------
    graph : Graph
    jacobian : bool
    free_coordinates : array of bool (coordinate,)
        False for learned scales: these have no joint mode with the coefficients that they scale,
        so the gradient by them is set to zero.
    """

    def __init__(self, graph: Graph, *, jacobian: bool = False) -> None:
        import pytensor.tensor as pt

        from bayes_moe.graph.numpy_mode import compiled

        self.graph, self.jacobian = graph, jacobian
        gate, matrices = graph.spec.structure.gate, graph.design.rows.matrices
        self._flat_directions = gate.n_invariant_directions(matrices)
        self._one_at_a_time = Lock()
        model = graph.model
        inputs = model.value_vars
        self._shapes = [v.shape for v in model.initial_point().values()]
        sites = graph.spec.structure.sites
        scales = (name for site, p in sites for name in p.variables(site).scales)
        self.free_coordinates = ~self.coordinates(scales)
        unknown = [*model.free_RVs, *model.potentials]
        factors = model.logp([*unknown, *model.observed_RVs], jacobian=jacobian, sum=False)
        prior = pt.add(*(f.sum() for f in factors[: len(unknown)]))
        likelihood = pt.add(*(f.sum() for f in factors[len(unknown) :]))
        weight = pt.dscalar("weight")  # of the rows: Adam scales a batch up to all
        slopes: Any = pt.grad(prior + weight * likelihood, inputs, disconnected_inputs="ignore")
        slope = pt.concatenate([g.ravel() for g in slopes])
        self._value = compiled(model, [*inputs, weight], [prior, likelihood, slope])
        self._names = list(graph.spec.structure.dims)
        wanted = model.replace_rvs_by_values([model[name] for name in self._names])
        self._variables = compiled(model, inputs, wanted)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density, and its gradient (coordinate,)."""
        prior, likelihood, gradient = self.weighted(x, 1.0)
        value = prior + likelihood
        return (value if np.isfinite(value) else -np.inf), gradient

    def weighted(self, x: np.ndarray, weight: float) -> tuple[float, float, np.ndarray]:
        """Log prior, log likelihood, and the gradient of ``prior + weight * likelihood``.

        The rows are the current ones of the graph's data.
        """
        with self._one_at_a_time:
            prior, likelihood, gradient = self._value(*self._split(x), weight)
        return float(prior), float(likelihood), np.where(self.free_coordinates, gradient, 0.0)

    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The model's variables at a vector, by name."""
        with self._one_at_a_time:
            values = self._variables(*self._split(x))
        return dict(zip(self._names, map(np.asarray, values), strict=True))

    def point(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Vector at the model's reported variables."""
        return self.graph.to_vector(values)

    def coordinates(self, names: Iterable[str]) -> np.ndarray:
        """Whether each coordinate (coordinate,) belongs to one of the free variables ``names``."""
        chosen = {*names}
        sizes = [int(np.prod(shape, dtype=int)) for shape in self._shapes]
        return np.repeat([rv.name in chosen for rv in self.graph.model.free_RVs], sizes)

    def determining_coordinates(self, names: Iterable[str]) -> np.ndarray:
        """Whether a variable of ``names`` is a function of each coordinate (coordinate,)."""
        from pytensor.graph.traversal import ancestors

        model = self.graph.model
        inputs = {*ancestors([model[name] for name in names])}
        return self.coordinates(rv.name for rv in model.free_RVs if rv in inputs)

    def affordable(self, count: int, most: int | None = None) -> bool:
        """Whether second derivatives along ``count`` coordinates take seconds at most."""
        elements = self.graph.design.rows.size * self.graph.spec.n_experts
        most = MOST_COORDINATES if most is None else most
        return count <= most and count * elements <= MOST_ELEMENTS

    def information(
        self, x: np.ndarray, along: np.ndarray | None = None, weight: float = 1.0
    ) -> np.ndarray:
        """Minus the second derivatives, by central differences of the gradient.

        ``along`` (coordinate,) is a mask of coordinates; by default the free ones. With weight 0 it
        is that of the prior alone.
        """
        where = np.flatnonzero(self.free_coordinates if along is None else along)
        slopes = -differences(lambda point: self.weighted(point, weight)[2][where], x, where)
        return 0.5 * (slopes + slopes.T)  # symmetric but for the error of the differences

    def covariance(self, x: np.ndarray, along: np.ndarray | None = None) -> np.ndarray | None:
        """Inverse of the information; None where it is not positive definite.

        Directions of a continuous symmetry of the model, as the rotations of a query and its keys,
        have variance zero; so have coordinates that are not free or not in ``along``.
        """
        along = self.free_coordinates if along is None else along & self.free_coordinates
        inverse = semi_inverse(self.information(x, along), self._flat_directions)
        if inverse is None or along.all():
            return inverse
        covariance = np.zeros((x.size, x.size))
        covariance[np.ix_(along, along)] = inverse
        return covariance

    def effective_parameters(self, x: np.ndarray) -> float:
        """Trace of the likelihood's information by the covariance; NaN where that is unknown."""
        covariance = self.covariance(x) if self.affordable(x.size) else None
        if covariance is None:
            return float("nan")
        free = self.free_coordinates
        likelihood = self.information(x) - self.information(x, weight=0.0)
        return information_ratio(likelihood, covariance[np.ix_(free, free)])

    def rough_covariance(self, x: np.ndarray, along: np.ndarray | None = None) -> np.ndarray:
        """Covariance of a normal approximation at a point that need not be a maximum.

        L-BFGS runs of large networks end before the maximum in some directions. Directions with a
        curvature of at most ``LEAST_CURVATURE`` get the variance of their prior, about 1.
        """
        along = self.free_coordinates if along is None else along & self.free_coordinates
        information = np.nan_to_num(self.information(x, along))
        curvature, vectors = np.linalg.eigh(information)
        curvature = np.where(curvature > LEAST_CURVATURE, curvature, 1.0)
        covariance = np.zeros((x.size, x.size))
        covariance[np.ix_(along, along)] = (vectors / curvature) @ vectors.T
        return covariance

    def errors(
        self, x: np.ndarray, covariance: np.ndarray | None = None
    ) -> dict[str, np.ndarray] | None:
        """Standard errors of the reported variables, by the delta method; NaN for learned scales.

        Without a ``covariance``, it is :meth:`covariance`; the result is None if that is not
        :meth:`affordable`, or None itself.
        """
        if covariance is None:
            covariance = self.covariance(x) if self.affordable(x.size) else None
        if covariance is None:
            return None
        names = self.graph.spec.variables

        def reported(point: np.ndarray) -> np.ndarray:
            values = self.variables(point)
            return np.concatenate([values[name].ravel() for name in names])

        where = np.flatnonzero(np.diag(covariance))
        jacobian = differences(reported, x, where)  # (coordinate, value)
        covariance = covariance[np.ix_(where, where)]
        variances = np.einsum("ji,ji->i", jacobian, covariance @ jacobian)
        sds = np.sqrt(np.maximum(variances, 0.0))
        shapes = [self.variables(x)[name].shape for name in names]
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes])[:-1]
        parts = zip(names, np.split(sds, ends), shapes, strict=True)
        errors = {name: part.reshape(shape) for name, part, shape in parts}
        placed = self.graph.spec.structure.sites
        scales = {name for place, p in placed for name in p.variables(place).scales}
        return {n: np.full_like(sd, np.nan) if n in scales else sd for n, sd in errors.items()}

    def values(self, x: np.ndarray, name: str) -> np.ndarray:
        """Unconstrained values of a free variable at a vector, in their shape."""
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

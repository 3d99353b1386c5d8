"""A graph's log density as a function of one vector: its gradient, its curvature, climbs on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import numpy as np

from bayes_moe.core.linalg import differences, semi_inverse
from bayes_moe.graph.build import Graph

MOST_COORDINATES, MOST_ELEMENTS = 400, 2 * 10**7
"""Coordinates, and coordinates x rows x experts, up to which second derivatives are affordable."""
LEAST_CURVATURE = 0.05


class GraphLogDensity:
    """The log density of a graph as a function of its unconstrained vector.

    With ``jacobian`` it is that of the unconstrained values themselves, which a sampler sees, else
    that of the natural variables. Threads may call it at the same time. Learned scales
    (:meth:`bayes_moe.predictors.Predictor.scales`) have no mode together with what they scale: they
    rest, which is to say that their slope is given as zero.
    """

    def __init__(self, graph: Graph, *, jacobian: bool = False) -> None:
        import pytensor.tensor as pt

        from bayes_moe.graph.numpy_mode import compiled

        self.graph, self.jacobian = graph, jacobian
        self.flat = graph.spec.gate.flat(graph.spec.n_experts, graph.design.rows.matrices)
        self._one_at_a_time = Lock()
        model = graph.model
        inputs = model.value_vars
        self._shapes = [v.shape for v in model.initial_point().values()]
        scales = (name for place, p in graph.spec.placed for name in p.scales(place))
        self.moving = ~self.coordinates(scales)
        unknown = [*model.free_RVs, *model.potentials]
        factors = model.logp([*unknown, *model.observed_RVs], jacobian=jacobian, sum=False)
        prior = pt.add(*(f.sum() for f in factors[: len(unknown)]))
        likelihood = pt.add(*(f.sum() for f in factors[len(unknown) :]))
        weight = pt.dscalar("weight")
        slopes: Any = pt.grad(prior + weight * likelihood, inputs, disconnected_inputs="ignore")
        slope = pt.concatenate([g.ravel() for g in slopes])
        self._value = compiled(model, [*inputs, weight], [prior, likelihood, slope])
        self._names = list(graph.spec.dims)
        wanted = model.replace_rvs_by_values([model[name] for name in self._names])
        self._variables = compiled(model, inputs, wanted)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log density and its gradient."""
        prior, likelihood, gradient = self.weighted(x, 1.0)
        value = prior + likelihood
        return (value if np.isfinite(value) else -np.inf), gradient

    def weighted(self, x: np.ndarray, weight: float) -> tuple[float, float, np.ndarray]:
        """Return log prior, log likelihood, and the gradient of ``prior + weight * likelihood``.

        Rows are those that the graph's data hold at the time.
        """
        with self._one_at_a_time:
            prior, likelihood, gradient = self._value(*self._split(x), weight)
        return float(prior), float(likelihood), np.where(self.moving, gradient, 0.0)

    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the model's variables at a vector."""
        with self._one_at_a_time:
            found = self._variables(*self._split(x))
        return dict(zip(self._names, map(np.asarray, found), strict=True))

    def point(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vector at the model's reported variables."""
        return self.graph.flat(values)

    def coordinates(self, names: Iterable[str]) -> np.ndarray:
        """Whether each coordinate belongs to one of some free variables (coordinate,)."""
        chosen = {*names}
        sizes = [int(np.prod(shape, dtype=int)) for shape in self._shapes]
        return np.repeat([rv.name in chosen for rv in self.graph.model.free_RVs], sizes)

    def held(self, names: Iterable[str]) -> np.ndarray:
        """Whether each coordinate decides the value of one of some variables (coordinate,)."""
        from pytensor.graph.traversal import ancestors

        model = self.graph.model
        behind = {*ancestors([model[name] for name in names])}
        return self.coordinates(rv.name for rv in model.free_RVs if rv in behind)

    def affordable(self, moving: int, most: int | None = None) -> bool:
        """Whether second derivatives along so many coordinates take seconds at most."""
        elements = self.graph.design.rows.size * self.graph.spec.n_experts
        most = MOST_COORDINATES if most is None else most
        return moving <= most and moving * elements <= MOST_ELEMENTS

    def information(self, x: np.ndarray, moving: np.ndarray | None = None) -> np.ndarray:
        """Minus the second derivatives, by central differences of the gradient.

        ``moving`` says along which coordinates; by default all but those that rest.
        """
        where = np.flatnonzero(self.moving if moving is None else moving)
        slopes = -differences(lambda at: self(at)[1][where], x, where)
        return 0.5 * (slopes + slopes.T)

    def covariance(self, x: np.ndarray, moving: np.ndarray | None = None) -> np.ndarray | None:
        """Inverse of the information; None where it is not positive definite.

        Directions in which the density does not change by the model's own symmetry, as the
        rotations of a query and its keys, have variance zero; so have coordinates that do not move.
        """
        moving = self.moving if moving is None else moving & self.moving
        spread = semi_inverse(self.information(x, moving), self.flat)
        if spread is None or moving.all():
            return spread
        whole = np.zeros((x.size, x.size))
        whole[np.ix_(moving, moving)] = spread
        return whole

    def rough_covariance(self, x: np.ndarray, moving: np.ndarray | None = None) -> np.ndarray:
        """Covariance of a normal approximation where the density need not be at a maximum.

        Climbs of large networks end before they are at one in every direction. Directions with a
        curvature of at most ``LEAST_CURVATURE`` get the variance of their prior, about 1.
        """
        moving = self.moving if moving is None else moving & self.moving
        information = np.nan_to_num(self.information(x, moving))
        curvature, vectors = np.linalg.eigh(information)
        curvature = np.where(curvature > LEAST_CURVATURE, curvature, 1.0)
        whole = np.zeros((x.size, x.size))
        whole[np.ix_(moving, moving)] = (vectors / curvature) @ vectors.T
        return whole

    def errors(
        self, x: np.ndarray, spread: np.ndarray | None = None
    ) -> dict[str, np.ndarray] | None:
        """Standard errors of the reported variables, by delta method; NaN of scales, which rest.

        ``spread`` is the covariance, if it is known; without it there are none where it is not
        :meth:`affordable`.
        """
        if spread is None:
            spread = self.covariance(x) if self.affordable(x.size) else None
        if spread is None:
            return None
        names = self.graph.spec.variables

        def reported(at: np.ndarray) -> np.ndarray:
            found = self.variables(at)
            return np.concatenate([found[name].ravel() for name in names])

        where = np.flatnonzero(np.diag(spread))
        slope = differences(reported, x, where)  # (coordinate, value)
        spread = spread[np.ix_(where, where)]
        sds = np.sqrt(np.maximum(np.einsum("ji,ji->i", slope, spread @ slope), 0.0))
        shapes = [self.variables(x)[name].shape for name in names]
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes])[:-1]
        parts = zip(names, np.split(sds, ends), shapes, strict=True)
        found = {name: part.reshape(shape) for name, part, shape in parts}
        placed = self.graph.spec.placed
        scales = {name for place, p in placed for name in p.scales(place)}
        return {n: np.full_like(sd, np.nan) if n in scales else sd for n, sd in found.items()}

    def values(self, x: np.ndarray, name: str) -> np.ndarray:
        """Return the unconstrained values of a free variable at a vector, in their shape."""
        parts = zip(self.graph.model.free_RVs, self._split(x), strict=True)
        return next(part for rv, part in parts if rv.name == name)

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        parts = []
        at = 0
        for shape in self._shapes:
            size = int(np.prod(shape, dtype=int))
            parts.append(x[at : at + size].reshape(shape))
            at += size
        return parts

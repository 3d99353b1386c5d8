"""Where chains start: at modes, in proportion to the posterior mass about them.

A mixture's posterior can have several modes that a chain does not leave. Chains started in the best
one would hide the others; chains started at random end wherever they happen to. Here the modes are
found by EM, the mass of each is estimated by Laplace's method, and every chain draws its mode by
mass and its point from the normal approximation there. The modes of a model that is not linear are
found by climbing its graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.em.hyperparameters import optimise_hyperparameters
from bayes_moe.em.modes import Modes, covariance, merge_modes
from bayes_moe.em.multistart import RESTARTS, nearest_mode
from bayes_moe.em.objective import Objective
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.graph.build import build
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.graph_modes import ends, uphill
from bayes_moe.optimize.hyperparameters import MOST_COORDINATES
from bayes_moe.optimize.hyperparameters import (
    optimise_hyperparameters as optimise_graph_hyperparameters,
)
from bayes_moe.optimize.lbfgs import search
from bayes_moe.optimize.linear_surrogate import LinearSurrogate, first_values, near

MAX_ITER = 1000
TRIES = 10
JITTER = 0.01
"""Standard deviation of the start about a mode that has no normal approximation."""
FAR = 3.0
"""A start lies at most this many nats a coordinate below its mode."""


NO_VARIANCE = 1e-12
CLIMBS = 10
"""Climbs on a graph, whose modes are starts."""


@dataclass(frozen=True)
class Starts(ABC):
    """Modes of a posterior, and the mass about each.

    ``moving`` has the ``spec`` and the ``design``; ``found`` are the modes of the density of the
    unconstrained values, ``mass`` (mode,) sums to 1.
    """

    moving: Any
    found: Modes
    spreads: tuple[np.ndarray | None, ...]
    mass: np.ndarray

    @abstractmethod
    def value(self, point: np.ndarray) -> float:
        """Log density at a point (coordinate,)."""

    @abstractmethod
    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """The model's variables at a point (coordinate,)."""

    @abstractmethod
    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the modes that are uphill of some points (point, ...); -1 for one not known."""

    def draw(self, rng: np.random.Generator) -> tuple[int, dict[str, np.ndarray]]:
        """Draw a mode, and the reported variables at a point near it."""
        mode = int(rng.choice(len(self.mass), p=self.mass))
        centre, spread = self.found.theta[mode], self.spreads[mode]
        root = JITTER * np.eye(len(centre)) if spread is None else self.root(spread)
        least = self.found.value[mode] - FAR * len(centre)
        point = centre
        for _ in range(TRIES):
            candidate = centre + root @ rng.standard_normal(len(centre))
            if self.value(candidate) >= least:
                point = candidate
                break
        return mode, self.variables(point)

    def root(self, spread: np.ndarray) -> np.ndarray:
        """A matrix whose square is a covariance."""
        found: np.ndarray = np.linalg.cholesky(spread)
        return found


@dataclass(frozen=True)
class LinearStarts(Starts):
    """Starts of a model in its :class:`ParameterVector`."""

    @cached_property
    def objective(self) -> Objective:
        """The density of the unconstrained values."""
        return Objective(self.moving)

    def value(self, point: np.ndarray) -> float:
        return float(self.objective.value(point[None])[0])

    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        return {name: v[0] for name, v in self.moving.variables(point[None]).items()}

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return nearest_mode(self.found, self.objective, self.moving.points(values), MAX_ITER)


@dataclass(frozen=True)
class Posed:
    """A model and its data."""

    spec: MixtureOfExperts
    design: Design


@dataclass(frozen=True)
class NearStarts(Starts):
    """Starts of a model without a gradient: near those of its linear stand-in.

    ``found`` and ``mass`` are the stand-in's.
    """

    near: Starts
    simple: LinearSurrogate

    def value(self, point: np.ndarray) -> float:
        return self.near.value(point)

    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        spec, design = self.moving.spec, self.moving.design
        rng = np.random.default_rng(0)
        values = self.near.variables(point)
        return near(spec, self.simple, design, values, rng, by_rows=False)

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.full(len(next(iter(values.values()))), -1)


@dataclass(frozen=True)
class GraphStarts(Starts):
    """Starts of a model through its graph: ``moving`` is the graph."""

    surface: GraphLogDensity

    def value(self, point: np.ndarray) -> float:
        return self.surface(point)[0]

    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        return self.surface.variables(point)

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        size = len(next(iter(values.values())))
        if not self.surface.moving.all():  # modes are known under other scales than the chains'
            return np.full(size, -1)
        each = ({name: v[j] for name, v in values.items()} for j in range(size))
        points = np.array([self.surface.point(v) for v in each])
        return uphill(self.surface, self.found, points, MAX_ITER)

    def root(self, spread: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(spread)
        found: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
        return found


def starts(spec: MixtureOfExperts, design: Design, random_seed: int, cores: int = 1) -> Starts:
    """Find the modes of a posterior and the mass about each."""
    if not spec.has_gradient:
        simple = LinearSurrogate.of(spec)
        linear = starts(simple.spec, simple.seen(design), random_seed, cores)
        own = (linear.found, linear.spreads, linear.mass)
        return NearStarts(Posed(spec, design), *own, linear, simple)
    rng = np.random.default_rng([random_seed, 2])
    if not spec.is_linear:
        return _graph_starts(spec, design, rng)
    moving = coordinates(spec, design, jacobian=True)
    found = optimise_hyperparameters(
        moving, restarts=RESTARTS, max_iter=MAX_ITER, rng=rng, cores=cores
    )
    assert found.objective is not None
    moving = found.objective.coordinates
    objective = Objective(moving, cores=cores)
    spreads = tuple(
        None if bad else covariance(objective, t)
        for t, bad in zip(found.theta, found.singular, strict=True)
    )
    volumes = [-np.inf if s is None else np.linalg.slogdet(s)[1] for s in spreads]
    return LinearStarts(moving, found, spreads, _mass(found, volumes))


def _graph_starts(spec: MixtureOfExperts, design: Design, rng: np.random.Generator) -> GraphStarts:
    graph = build(spec, design)
    surface = GraphLogDensity(graph, jacobian=True)
    climbs = search(surface, first_values(spec, design, CLIMBS, rng), MAX_ITER)
    climbs = optimise_graph_hyperparameters(surface, climbs)
    found = merge_modes(ends(surface, climbs), design.rows)
    known = surface.affordable(int(surface.moving.sum()), MOST_COORDINATES)
    spreads = tuple(
        surface.rough_covariance(t) if known and not bad else None
        for t, bad in zip(found.theta, found.singular, strict=True)
    )
    volumes = [-np.inf if s is None else _log_volume(s) for s in spreads]
    return GraphStarts(graph, found, spreads, _mass(found, volumes), surface)


def _mass(found: Modes, log_volumes: list[float]) -> np.ndarray:
    """Share of each mode in the mass of all, by Laplace's method; of the best if none has any."""
    log_mass = found.value + 0.5 * np.array(log_volumes)
    if not np.isfinite(log_mass).any():
        log_mass = np.where(np.arange(len(log_mass)) == found.best, 0.0, -np.inf)
    mass = np.exp(log_mass - log_mass.max())
    shares: np.ndarray = mass / mass.sum()
    return shares


def _log_volume(spread: np.ndarray) -> float:
    """Log determinant of a covariance over the directions in which it has variance."""
    values = np.linalg.eigvalsh(spread)
    return float(np.log(values[values > NO_VARIANCE * values.max()]).sum())

"""Starting points of chains: near modes, in proportion to the posterior mass about them.

A mixture's posterior can have several modes that a chain does not leave. Chains that all start at
the best one would hide the others; random starts would reach modes by chance, not by mass. Here EM
finds the modes (L-BFGS on the graph for a model that is not linear), Laplace's method estimates the
mass of each, and every chain draws its mode by mass and its point from the normal approximation
there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.em import marginal_draws
from bayes_moe.em.constraint import of_free, root
from bayes_moe.em.hyperparameters import optimise_hyperparameters
from bayes_moe.em.modes import Modes, covariance, merge_modes
from bayes_moe.em.multistart import SearchSettings, nearest_mode
from bayes_moe.em.multistart import search as search_linear
from bayes_moe.em.objective import Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.random_effects import (
    UNCONSTRAINED,
    MarginalModes,
    has_random_effects,
    marginal_modes,
)
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.effect_checks import effects_outside
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.graph_modes import ends, uphill
from bayes_moe.optimize.hyperparameters import MOST_COORDINATES
from bayes_moe.optimize.hyperparameters import (
    optimise_hyperparameters as optimise_graph_hyperparameters,
)
from bayes_moe.optimize.lbfgs import search
from bayes_moe.optimize.linear_surrogate import LinearSurrogate, first_values, near
from bayes_moe.priors.defaults import role_of

MAX_ITER = 1000
TRIES = 10
JITTER = 0.01
"""Standard deviation of the starting point about a mode without a normal approximation."""
FAR = 3.0
"""Largest difference, in nats a coordinate, between the log density at a mode and at a start."""
NO_VARIANCE = 1e-12
"""Relative eigenvalue up to which a covariance has no variance in a direction."""
RUNS = 10
"""L-BFGS runs on a graph."""
LEAST_ROWS, ROWS_PER_COORDINATE = 600, 15
"""Rows of the subsample on which EM runs start where a table has more."""
ALL_MASS = 0.99
"""Share of the mass from which a mode counts as the only one."""
NORMAL_FALL = (1.0, 4.0)
"""Least and most that the log density falls two standard deviations from a mode where it is nearly
normal, in nats; that of a normal distribution falls by 2."""
ASCENT = 1e-6
"""Relative gradient norm that ends an ascent from a draw, which only has to tell its mode."""


@dataclass(frozen=True)
class Starts(ABC):
    """Modes of a posterior, and the mass about each.

    Attributes
    ----------
    spec, design
        The model, and its data.
    modes : Modes
        Modes of the density of the unconstrained values.
    covariances : tuple
        Covariance of the normal approximation at each mode; None where there is none.
    mass : array (mode,)
        Posterior mass about each mode; sums to 1.
    """

    spec: MixtureOfExperts
    design: Design
    modes: Modes
    covariances: tuple[np.ndarray | None, ...]
    mass: np.ndarray

    @abstractmethod
    def value(self, point: np.ndarray) -> float:
        """Log density at a point (coordinate,)."""

    @abstractmethod
    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Reported variables at a point (coordinate,)."""

    @abstractmethod
    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mode (point,) to which an ascent from each point (point, ...) leads; -1 if unknown."""

    @property
    def approximation(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean (coordinate,) and covariance of the normal approximation with the largest mass."""
        mode = int(self.mass.argmax())
        return self.modes.theta[mode], self.covariances[mode]

    @cached_property
    def near_normal(self) -> bool:
        """Whether the normal approximation is so good that a sampler has little left to adapt."""
        return False

    def draw(self, rng: np.random.Generator) -> tuple[int, dict[str, np.ndarray]]:
        """Random mode, and the reported variables at a random point near it."""
        mode = int(rng.choice(len(self.mass), p=self.mass))
        centre, covariance = self.modes.theta[mode], self.covariances[mode]
        root = self.jitter(len(centre)) if covariance is None else self.root(covariance)
        least = self.modes.value[mode] - FAR * len(centre)
        point = centre
        for _ in range(TRIES):
            candidate = centre + root @ rng.standard_normal(root.shape[1])
            if self.value(candidate) >= least:
                point = candidate
                break
        return mode, self.variables(point)

    def root(self, covariance: np.ndarray) -> np.ndarray:
        """Matrix ``A`` with ``A A'`` the covariance."""
        factor: np.ndarray = np.linalg.cholesky(covariance)
        return factor

    def jitter(self, size: int) -> np.ndarray:
        """Root of the covariance about a mode without a normal approximation."""
        return JITTER * np.eye(size)


@dataclass(frozen=True)
class LinearStarts(Starts):
    """Starts of a model with linear predictors, as points of its parameter vector."""

    parameters: ParameterVector

    def root(self, covariance: np.ndarray) -> np.ndarray:
        return root(self.parameters.constraint, covariance)

    def jitter(self, size: int) -> np.ndarray:
        constraint = self.parameters.constraint
        return super().jitter(size) if constraint is None else JITTER * constraint.matrix

    @cached_property
    def objective(self) -> Objective:
        """Log density of the unconstrained values."""
        return Objective(self.parameters)

    def value(self, point: np.ndarray) -> float:
        return float(self.objective.value(point[None])[0])

    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        return {name: v[0] for name, v in self.parameters.variables(point[None]).items()}

    @cached_property
    def near_normal(self) -> bool:
        """Whether one mode has all mass, and shape parameters are nearly normal.

        Between modes a sampler needs other scales than at any of them. Shape parameters such as
        degrees of freedom can have long tails, in which steps made for the mode diverge: so the
        log density must fall as that of a normal distribution along scale and shape parameters.
        """
        centre, covariance = self.approximation
        if covariance is None or self.mass.max() < ALL_MASS:
            return False
        blocks = self.parameters.blocks
        if not any(role_of(block.role).of_form for block in blocks):
            return True
        index = np.arange(len(centre))
        roles = ((block, role_of(block.role)) for block in blocks)
        free = [index[block.where] for block, role in roles if role.collapses or role.of_form]
        free = [j for j in np.concatenate(free) if covariance[j, j] > 0]  # others are held
        away = {j: 2 * covariance[:, j] / np.sqrt(covariance[j, j]) for j in free}
        points = [centre + sign * away[j] for j in free for sign in (-1, 1)]
        if not points:
            return True
        fall = self.objective.value(centre[None]) - self.objective.value(np.array(points))
        least, most = NORMAL_FALL
        return bool(((fall >= least) & (fall <= most)).all())

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        points = self.parameters.points(values)
        return nearest_mode(self.modes, self.objective, points, MAX_ITER, ASCENT)


@dataclass(frozen=True)
class GroupedStarts(LinearStarts):
    """Starts of a linear model with random effects, whose standard deviations have first values.

    Modes are those of all but the effects, which no ascent of the joint density leads to.
    """

    @property
    def near_normal(self) -> bool:
        """Never: standard deviations of effects are skewed."""
        return False

    def value(self, point: np.ndarray) -> float:
        return 0.0

    def draw(self, rng: np.random.Generator) -> tuple[int, dict[str, np.ndarray]]:
        mode = int(rng.choice(len(self.mass), p=self.mass))
        if self.covariances[mode] is not None:
            return super().draw(rng)
        centre = self.modes.theta[mode]
        return mode, self.variables(centre + JITTER * rng.standard_normal(len(centre)))

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.full(len(next(iter(values.values()))), -1)


@dataclass(frozen=True)
class SharedStarts(GroupedStarts):
    """Starts of a model whose groups share an expert and have effects: draws about its best mode.

    Without a normal approximation, and at other modes, they are near the mode.
    """

    found: MarginalModes

    def draw(self, rng: np.random.Generator) -> tuple[int, dict[str, np.ndarray]]:
        mode = int(rng.choice(len(self.mass), p=self.mass))
        if mode != self.found.modes.best or self.found.covariance is None:
            centre = self.modes.theta[mode]
            return mode, self.variables(centre + JITTER * rng.standard_normal(len(centre)))
        least = self.found.point.value - FAR * self.found.marginal.size
        z = rng.standard_normal((TRIES, marginal_draws.dimension(self.found)))
        values, log_p = marginal_draws.drawn(self.found, z, TRIES, rng)
        first = int(np.argmax(log_p >= least))
        return mode, {name: v[first] for name, v in values.items()}


@dataclass(frozen=True)
class SurrogateStarts(Starts):
    """Starts of a model without a gradient: near those of its linear surrogate.

    ``modes``, ``covariances`` and ``mass`` are the surrogate's.
    """

    linear: Starts
    surrogate: LinearSurrogate

    def value(self, point: np.ndarray) -> float:
        return self.linear.value(point)

    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)  # one point has the same variables in every call
        values = self.linear.variables(point)
        return near(self.spec, self.surrogate, self.design, values, rng, by_rows=False)

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.full(len(next(iter(values.values()))), -1)


@dataclass(frozen=True)
class GraphStarts(Starts):
    """Starts of any other model, as points of its log density's vector."""

    surface: LogDensity

    def value(self, point: np.ndarray) -> float:
        return self.surface(point)[0]

    def variables(self, point: np.ndarray) -> dict[str, np.ndarray]:
        return self.surface.variables(point)

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        size = len(next(iter(values.values())))
        # Learned scales are fixed at a mode, and differ from those of a chain: no mode compares.
        if not self.surface.free_coordinates.all():
            return np.full(size, -1)
        each = ({name: v[j] for name, v in values.items()} for j in range(size))
        points = np.array([self.surface.point(v) for v in each])
        return uphill(self.surface, self.modes, points, MAX_ITER)

    def root(self, covariance: np.ndarray) -> np.ndarray:
        # Singular, where coordinates are not free or the model has a continuous symmetry.
        values, vectors = np.linalg.eigh(covariance)
        factor: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
        return factor


def starts(spec: MixtureOfExperts, design: Design, random_seed: int, cores: int = 1) -> Starts:
    """Modes of a posterior, and the mass about each."""
    if not spec.structure.has_gradient:
        surrogate = LinearSurrogate.of(spec)
        linear = starts(surrogate.spec, surrogate.design(design), random_seed, cores)
        near_modes = (linear.modes, linear.covariances, linear.mass)
        return SurrogateStarts(spec, design, *near_modes, linear, surrogate)
    rng = np.random.default_rng([random_seed, 2])
    if not spec.structure.is_linear:
        return _graph_starts(spec, design, rng)
    if has_random_effects(spec):
        return _grouped_starts(spec, design, rng, cores)
    parameters = parameter_vector(spec, design, jacobian=True)
    find = optimise_hyperparameters if parameters.hyperparameters else search_linear
    few = max(LEAST_ROWS, ROWS_PER_COORDINATE * parameters.size)
    modes = find(parameters, SearchSettings(max_iter=MAX_ITER, cores=cores, subsample=few), rng)
    assert modes.objective is not None
    parameters = modes.objective.vector
    objective = Objective(parameters, cores=cores)
    covariances = tuple(
        None if bad else covariance(objective, t)
        for t, bad in zip(modes.theta, modes.singular, strict=True)
    )
    free = [None if c is None else of_free(parameters.constraint, c) for c in covariances]
    volumes = [-np.inf if c is None else np.linalg.slogdet(c)[1] for c in free]
    return LinearStarts(
        parameters.spec, parameters.design, modes, covariances, _mass(modes, volumes), parameters
    )


def _grouped_starts(
    spec: MixtureOfExperts, design: Design, rng: np.random.Generator, cores: int
) -> GroupedStarts:
    """Modes of a model with random effects, all but these at their marginal mode."""
    settings = SearchSettings(max_iter=MAX_ITER, cores=cores)
    if effects_outside(spec.structure, spec.row_columns):  # under their first scales
        first = parameter_vector(spec, design, jacobian=True)
        modes = search_linear(first, settings, rng)
        none = (None,) * len(modes.value)
        mass = _mass(modes, [0.0] * len(modes.value))
        return GroupedStarts(spec, first.design, modes, none, mass, first)
    found = marginal_modes(spec, design, settings, rng, density=UNCONSTRAINED, rough=True)
    modes, best = found.modes, found.modes.best
    first = found.marginal.vector
    parameters = first.with_hyperparameters(
        {n: modes.values[n][best] for n in first.hyperparameters}
    )
    mass = _mass(modes, [0.0] * len(modes.value))
    covariances: tuple[np.ndarray | None, ...] = (None,) * len(modes.value)
    if isinstance(found.marginal, SharedMarginal):
        given = (spec, parameters.design, modes, covariances, mass, parameters)
        return SharedStarts(*given, found)
    if parameters.size <= MOST_COORDINATES:
        objective = Objective(parameters, cores=cores)
        covariances = tuple(
            None if bad else covariance(objective, t)
            for t, bad in zip(modes.theta, modes.singular, strict=True)
        )
    joint = found.marginal.rows.value(*found.marginal.rows.parted(modes.theta))
    modes = replace(modes, value=joint + parameters.log_prior(modes.theta)[0])
    return GroupedStarts(spec, parameters.design, modes, covariances, mass, parameters)


def _graph_starts(spec: MixtureOfExperts, design: Design, rng: np.random.Generator) -> GraphStarts:
    """Modes of a model by L-BFGS, and the mass about each."""
    surface = log_density(spec, design, jacobian=True)
    runs = search(surface, first_values(spec, design, RUNS, rng), MAX_ITER)
    runs = optimise_graph_hyperparameters(surface, runs)
    modes = merge_modes(ends(surface, runs), design.rows)
    affordable = surface.affordable(int(surface.free_coordinates.sum()), MOST_COORDINATES)
    covariances = tuple(
        surface.rough_covariance(t) if affordable and not bad else None
        for t, bad in zip(modes.theta, modes.singular, strict=True)
    )
    volumes = [-np.inf if c is None else _log_volume(c) for c in covariances]
    return GraphStarts(spec, design, modes, covariances, _mass(modes, volumes), surface)


def _mass(modes: Modes, log_volumes: list[float]) -> np.ndarray:
    """Posterior mass (mode,) by Laplace's method; all at the best mode if none has a volume."""
    log_mass = modes.value + 0.5 * np.array(log_volumes)
    if not np.isfinite(log_mass).any():
        log_mass = np.where(np.arange(len(log_mass)) == modes.best, 0.0, -np.inf)
    mass = np.exp(log_mass - log_mass.max())
    shares: np.ndarray = mass / mass.sum()
    return shares


def _log_volume(covariance: np.ndarray) -> float:
    """Log determinant of a covariance over the directions in which it has variance."""
    values = np.linalg.eigvalsh(covariance)
    return float(np.log(values[values > NO_VARIANCE * values.max()]).sum())

"""Where chains start: at modes, in proportion to the posterior mass about them.

A mixture's posterior can have several modes that a chain does not leave. Chains started in the best
one would hide the others; chains started at random end wherever they happen to. Here the modes are
found by EM, the mass of each is estimated by Laplace's method, and every chain draws its mode by
mass and its point from the normal approximation there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayes_moe.coordinates import Coordinates, coordinates
from bayes_moe.design import Design
from bayes_moe.objective import Objective
from bayes_moe.optima import RESTARTS, Optima, covariance, nearest_mode, search
from bayes_moe.spec import MixtureOfExperts

MAX_ITER = 500
TRIES = 10
JITTER = 0.01
"""Standard deviation of the start about a mode that has no normal approximation."""
FAR = 3.0
"""A start lies at most this many nats a coordinate below its mode."""


@dataclass(frozen=True)
class Starts:
    """Modes of a posterior, and the mass about each.

    ``found`` are the modes of the density of the unconstrained values, ``mass`` (mode,) sums to 1.
    """

    moving: Coordinates
    found: Optima
    spreads: tuple[np.ndarray | None, ...]
    mass: np.ndarray

    @cached_property
    def objective(self) -> Objective:
        """The density of the unconstrained values."""
        return Objective(self.moving)

    def draw(self, rng: np.random.Generator) -> tuple[int, dict[str, np.ndarray]]:
        """Draw a mode, and the reported variables at a point near it."""
        mode = int(rng.choice(len(self.mass), p=self.mass))
        centre, spread = self.found.theta[mode], self.spreads[mode]
        root = JITTER * np.eye(len(centre)) if spread is None else np.linalg.cholesky(spread)
        least = self.found.value[mode] - FAR * len(centre)
        point = centre
        for _ in range(TRIES):
            candidate = centre + root @ rng.standard_normal(len(centre))
            if self.objective.value(candidate[None])[0] >= least:
                point = candidate
                break
        values = self.moving.variables(point[None])
        return mode, {name: v[0] for name, v in values.items()}

    def mode_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the modes that are uphill of some points (point, ...); -1 for one not known."""
        return nearest_mode(self.found, self.objective, self.moving.points(values), MAX_ITER)


def starts(spec: MixtureOfExperts, design: Design, random_seed: int, cores: int = 1) -> Starts:
    """Find the modes of a posterior and the mass about each."""
    moving = coordinates(spec, design, jacobian=True)
    found = search(
        moving,
        restarts=RESTARTS,
        max_iter=MAX_ITER,
        rng=np.random.default_rng([random_seed, 2]),
        cores=cores,
    )
    objective = Objective(moving, cores=cores)
    spreads = tuple(
        None if bad else covariance(objective, t)
        for t, bad in zip(found.theta, found.singular, strict=True)
    )
    log_mass = np.array(
        [
            -np.inf if s is None else v + 0.5 * np.linalg.slogdet(s)[1]
            for v, s in zip(found.value, spreads, strict=True)
        ]
    )
    if not np.isfinite(log_mass).any():
        log_mass = np.where(np.arange(len(log_mass)) == found.best, 0.0, -np.inf)
    mass = np.exp(log_mass - log_mass.max())
    return Starts(moving, found, spreads, mass / mass.sum())

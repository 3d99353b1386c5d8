"""A graph's log density as a function of one vector: its gradient, its curvature, climbs on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np

from bayes_moe import labels, optima
from bayes_moe.ascent import GRADIENT
from bayes_moe.coordinates import POSTERIOR_FLOOR
from bayes_moe.design import Rows
from bayes_moe.graph import Graph
from bayes_moe.mixture import chunks, evaluate
from bayes_moe.optima import SAME_ROWS, SAME_VALUE, Optima

NEWTON_STEPS = 5
MEMORY = 100
"""Steps that L-BFGS remembers: a gradient costs more than they do."""
SETTLED = 1e-2
"""Largest Newton step at a mode."""
DIFFERENCE = 1e-5
FLAT = 1e-5
"""Curvature below which a direction is flat, of the largest."""


class Surface:
    """The log density of a graph as a function of its unconstrained vector.

    With ``jacobian`` it is that of the unconstrained values themselves, which a sampler sees, else
    that of the natural variables. Threads may call it at the same time.
    """

    def __init__(self, graph: Graph, *, jacobian: bool = False) -> None:
        self.graph = graph
        self.flat = graph.spec.gate.flat(graph.spec.n_experts, graph.design.rows.matrices)
        self._one_at_a_time = Lock()
        model = graph.model
        inputs = model.value_vars
        self._shapes = [v.shape for v in model.initial_point().values()]
        self._value = model.compile_fn(
            [model.logp(jacobian=jacobian), model.dlogp(jacobian=jacobian)],
            inputs=inputs,
            mode="FAST_COMPILE",
            point_fn=False,
        )
        self._names = list(graph.spec.dims)
        wanted = model.replace_rvs_by_values([model[name] for name in self._names])
        self._variables = model.compile_fn(
            wanted, inputs=inputs, mode="FAST_COMPILE", point_fn=False, on_unused_input="ignore"
        )

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log density and its gradient."""
        with self._one_at_a_time:
            value, gradient = self._value(*self._split(x))
        return (float(value) if np.isfinite(value) else -np.inf), np.asarray(gradient)

    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the model's variables at a vector."""
        with self._one_at_a_time:
            found = self._variables(*self._split(x))
        return dict(zip(self._names, map(np.asarray, found), strict=True))

    def point(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vector at the model's reported variables."""
        return self.graph.flat(values)

    def information(self, x: np.ndarray) -> np.ndarray:
        """Minus the second derivatives, by central differences of the gradient."""
        return -_differences(lambda at: self(at)[1], x)

    def covariance(self, x: np.ndarray) -> np.ndarray | None:
        """Inverse of the information; None where it is not positive definite.

        Directions in which the density does not change by the model's own symmetry, as the
        rotations of a query and its keys, have variance zero.
        """
        information = self.information(x)
        return _semi_inverse(0.5 * (information + information.T), self.flat)

    def errors(self, x: np.ndarray) -> dict[str, np.ndarray] | None:
        """Standard errors of the reported variables, by delta method."""
        spread = self.covariance(x)
        if spread is None:
            return None
        names = self.graph.spec.variables

        def reported(at: np.ndarray) -> np.ndarray:
            found = self.variables(at)
            return np.concatenate([found[name].ravel() for name in names])

        slope = _differences(reported, x)  # (coordinate, value)
        sds = np.sqrt(np.maximum(np.einsum("ji,jk,ki->i", slope, spread, slope), 0.0))
        shapes = [self.variables(x)[name].shape for name in names]
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes])[:-1]
        parts = zip(names, np.split(sds, ends), shapes, strict=True)
        return {name: part.reshape(shape) for name, part, shape in parts}

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        parts = []
        at = 0
        for shape in self._shapes:
            size = int(np.prod(shape, dtype=int))
            parts.append(x[at : at + size].reshape(shape))
            at += size
        return parts


def _semi_inverse(matrix: np.ndarray, flat: int) -> np.ndarray | None:
    """Inverse of a matrix but for at most so many flat directions; None if it has others."""
    if flat == 0 or not np.isfinite(matrix).all():
        return optima.inverse(matrix)
    values, vectors = np.linalg.eigh(matrix)
    steep = values > FLAT * values.max()
    if (~steep).sum() > flat or values.min() < -FLAT * values.max():
        return None
    found: np.ndarray = (vectors[:, steep] / values[steep]) @ vectors[:, steep].T
    return found


def _differences(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Slopes (coordinate, value) by central differences."""
    rows = []
    for j in range(x.size):
        step = np.zeros_like(x)
        step[j] = DIFFERENCE * max(1.0, abs(x[j]))
        rows.append((function(x + step) - function(x - step)) / (2 * step[j]))
    return np.array(rows)


@dataclass(frozen=True)
class Climb:
    """Where one climb ended."""

    x: np.ndarray
    value: float
    gradient_norm: float
    iterations: int
    converged: bool
    exhausted: bool
    path: list[float]


def climb(
    surface: Surface, start: np.ndarray, max_iter: int, newton_steps: int = NEWTON_STEPS
) -> Climb:
    """Climb from a vector by L-BFGS, then by Newton steps while they gain."""
    from scipy.optimize import minimize

    path = [surface(start)[0]]

    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = surface(x)
        return -value, -np.nan_to_num(gradient)

    found = minimize(
        down,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda intermediate_result: path.append(-float(intermediate_result.fun)),
        options={
            "maxiter": max_iter,
            "maxfun": 20 * max_iter,
            "maxcor": MEMORY,
            "ftol": 0.0,
            "gtol": 1e-6,
        },
    )
    x = np.asarray(found.x)
    value, gradient = surface(x)
    iterations = int(found.nit)
    concave, size = False, np.inf
    for _ in range(newton_steps if iterations < max_iter else 0):
        spread = surface.covariance(x)
        concave = spread is not None
        if spread is None:
            break
        step = spread @ gradient
        size = float(np.abs(step).max())
        new, slope = surface(x + step)
        if not new >= value - 1e-12 * (1 + abs(value)):
            break
        gained, x, value, gradient = new - value, x + step, new, slope
        iterations += 1
        path.append(value)
        if gained <= 1e-12 * (1 + abs(value)):
            break
    norm = float(np.linalg.norm(gradient))
    flat = norm <= 1e3 * GRADIENT * (1 + abs(value))
    converged = flat and concave and size < SETTLED
    return Climb(x, value, norm, iterations, converged, int(found.nit) >= max_iter, path)


def ends(surface: Surface, climbs: list[Climb]) -> Optima:
    """Where climbs ended, each as a mode of its own, the experts in order."""
    spec, design = surface.graph.spec, surface.graph.design
    points = [surface.variables(c.x) for c in climbs]
    values = {name: np.stack([p[name] for p in points]) for name in points[0]}
    orders = labels.order(spec, labels.levels(spec, values, design.rows))
    values = labels.permuted(spec, values, orders)
    theta = []
    for j in range(len(climbs)):
        point = surface.graph.unconstrained({name: v[j] for name, v in values.items()})
        theta.append(np.concatenate([v.ravel() for v in point.values()]))
    log_likelihood = np.zeros(len(climbs))
    for _, part, mixture in chunks(spec, values, design.rows):
        features = spec.gate.log_features(spec.n_experts, values, part.matrices)
        log_likelihood += (mixture.log_density(part.observed) + features).sum(axis=-1)
    value = np.array([c.value for c in climbs])
    singular = np.zeros(len(climbs), dtype=bool)
    for factor in spec.parts:
        floor = POSTERIOR_FLOOR * np.std(factor.response(design.rows))
        for component in factor.block.components:
            if component.formula is None and component.parameter.role == "scale":
                singular |= (values[component.variable] <= floor).any(axis=1)
    longest = max(len(c.path) for c in climbs)
    path = np.full((longest, len(climbs)), np.nan)
    for j, c in enumerate(climbs):
        path[: len(c.path), j] = c.path
    return Optima(
        spec,
        design,
        values,
        np.stack(theta),
        value,
        value - log_likelihood,
        np.array([c.gradient_norm for c in climbs]),
        np.array([c.iterations for c in climbs]),
        np.ones(len(climbs), dtype=int),
        np.array([c.converged for c in climbs]),
        singular,
        np.array([c.exhausted for c in climbs]),
        path,
        np.empty((len(climbs), 0)),
        np.empty(len(climbs)),
        len(climbs),
        {},
        None,
    )


def uphill(surface: Surface, found: Optima, points: np.ndarray, max_iter: int) -> np.ndarray:
    """Return which of some modes lies uphill of each point (point,); -1 for one not among them."""
    rows = labels.some(surface.graph.design.rows)
    reached = ends(surface, [climb(surface, x, max_iter, newton_steps=0) for x in points])
    ours, theirs = _densities(found, rows), _densities(reached, rows)
    near = np.abs(reached.value[:, None] - found.value) <= 10 * SAME_VALUE * (
        1 + 1e-6 * np.abs(found.value)
    )
    same = near & (np.abs(theirs[:, None] - ours[None]).max(axis=-1) <= 5 * SAME_ROWS)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def _densities(found: Optima, rows: Rows) -> np.ndarray:
    """Log density (mode, obs) of rows, the same for any labels."""
    with np.errstate(all="ignore"):
        density = evaluate(found.spec, found.values, rows).log_density(rows.observed)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)

"""The mode of any model through its graph's gradient: quasi-Newton from many starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe import labels, optima
from bayes_moe.ascent import GRADIENT, first_points
from bayes_moe.coordinates import POSTERIOR_FLOOR, coordinates
from bayes_moe.design import Design
from bayes_moe.graph import Graph, build
from bayes_moe.inference.base import Method, check_whole
from bayes_moe.mixture import chunks
from bayes_moe.modal import point_tree
from bayes_moe.objective import Objective
from bayes_moe.optima import Optima, distinct
from bayes_moe.progress import progress
from bayes_moe.spec import MixtureOfExperts
from bayes_moe.splits import allocations

if TYPE_CHECKING:
    import xarray as xr

NEWTON_STEPS = 5
SETTLED = 1e-2
"""Largest Newton step at a mode."""
DIFFERENCE = 1e-5


@dataclass(frozen=True)
class MAP(Method):
    """Settings of maximisation through the graph.

    The objective is that of ``method="em"`` under the priors, the PyMC model's log density without
    Jacobian; it is climbed by L-BFGS with the graph's own gradient, then by Newton's method with a
    Hessian from differences of gradients. Where EM can treat a model, EM is faster: no graph is
    compiled.

    Parameters
    ----------
    restarts : int
        Number of starts.
    max_iter : int
        Most L-BFGS iterations of a climb.
    progressbar : bool
        Whether to show progress, if there is something to wait for.

    References
    ----------
    Byrd, R. H., Lu, P., Nocedal, J., & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing, 16(5), 1190-1208.
    """

    restarts: int = 10
    max_iter: int = 2000
    progressbar: bool = True

    def __post_init__(self) -> None:
        check_whole("restarts", self.restarts, 1)
        check_whole("max_iter", self.max_iter, 1)

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        graph = build(spec, design, likelihood="symbolic")
        surface = Surface(graph)
        with progress("MAP", shown=self.progressbar) as tell:
            climbs = []
            starts = self._starts(graph, random_seed)
            for start in starts:
                climbs.append(_climb(surface, start, self.max_iter))
                tell(len(climbs), len(starts))
        found = distinct(_ends(surface, climbs), design.rows)
        best = found.best
        errors = None if found.singular[best] else surface.errors(found.theta[best])
        return point_tree(found, "posterior", errors)

    def _starts(self, graph: Graph, random_seed: int) -> list[np.ndarray]:
        """Points of the graph's unconstrained values from splits of the rows."""
        rng = np.random.default_rng(random_seed)
        moving = coordinates(graph.spec, graph.design)
        rows = graph.design.rows
        if rows.size > optima.SUBSAMPLE:
            rows = rows.pick(np.sort(rng.choice(rows.size, optima.SUBSAMPLE, replace=False)))
        split = allocations(graph.spec, rows, self.restarts, rng)
        theta = first_points(Objective(moving, rows), split)
        values = moving.variables(theta)
        starts = []
        for j in range(len(theta)):
            point = graph.unconstrained({name: v[j] for name, v in values.items()})
            starts.append(np.concatenate([v.ravel() for v in point.values()]))
        return starts


class Surface:
    """The log density of a graph's natural variables as a function of its unconstrained vector."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        model = graph.model
        inputs = model.value_vars
        self._shapes = [v.shape for v in model.initial_point().values()]
        self._value = model.compile_fn(
            [model.logp(jacobian=False), model.dlogp(jacobian=False)],
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
        value, gradient = self._value(*self._split(x))
        return (float(value) if np.isfinite(value) else -np.inf), np.asarray(gradient)

    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the model's variables at a vector."""
        found = self._variables(*self._split(x))
        return dict(zip(self._names, map(np.asarray, found), strict=True))

    def information(self, x: np.ndarray) -> np.ndarray:
        """Minus the second derivatives, by central differences of the gradient."""
        return -_differences(lambda at: self(at)[1], x)

    def errors(self, x: np.ndarray) -> dict[str, np.ndarray] | None:
        """Standard errors of the reported variables, by delta method."""
        spread = optima.inverse(self.information(x))
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


def _climb(surface: Surface, start: np.ndarray, max_iter: int) -> Climb:
    """L-BFGS, then Newton steps while they gain."""
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
        options={"maxiter": max_iter, "maxfun": 20 * max_iter, "ftol": 0.0, "gtol": 1e-6},
    )
    x = np.asarray(found.x)
    value, gradient = surface(x)
    iterations = int(found.nit)
    concave, size = False, np.inf
    for _ in range(NEWTON_STEPS if iterations < max_iter else 0):
        spread = optima.inverse(surface.information(x))
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


def _ends(surface: Surface, climbs: list[Climb]) -> Optima:
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
        log_likelihood += mixture.log_density(part.observed).sum(axis=-1)
    value = np.array([c.value for c in climbs])
    floor = POSTERIOR_FLOOR * np.std(design.response)
    constants = [
        values[c.variable]
        for b in spec.blocks
        for c in b.components
        if c.formula is None and c.parameter.role == "scale"
    ]
    singular = np.zeros(len(climbs), dtype=bool)
    for constant in constants:
        singular |= (constant <= floor).any(axis=1)
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

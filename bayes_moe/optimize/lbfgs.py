"""L-BFGS from many starts on a graph's log density, finished by Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.progress import silent
from bayes_moe.em.climb import GRADIENT
from bayes_moe.graph.log_density import GraphLogDensity

NEWTON_STEPS = 5


MEMORY = 100
"""Steps that L-BFGS remembers: a gradient costs more than they do."""


GAIN = 1e-13
"""Gain of an L-BFGS iteration, relative to the value, below which a climb ends."""


RACE, LEAST_RACE = 100, 8
"""Iterations after which half of the climbs are given up, if there are so many."""


FINAL = 400
"""Further iterations after which the best few of these are followed to the end."""


POLISHED = 3
"""Climbs that end with Newton steps."""


SETTLED = 1e-2
"""Largest Newton step at a mode."""


MOST_STEPS, SMALL_GAIN = 20, 1e-9
"""Newton steps along some coordinates, and the gain that ends them."""


@dataclass(frozen=True)
class LBFGSResult:
    """Where one climb ended."""

    x: np.ndarray
    value: float
    gradient_norm: float
    iterations: int
    converged: bool
    exhausted: bool
    path: list[float]

    def after(self, first: LBFGSResult) -> LBFGSResult:
        """Return this climb as the second part of one."""
        return replace(
            self, iterations=first.iterations + self.iterations, path=first.path + self.path[1:]
        )


def search(
    surface: GraphLogDensity,
    starts: Sequence[Mapping[str, np.ndarray]],
    max_iter: int,
    progress: Callable[[int, int], None] = silent,
) -> list[LBFGSResult]:
    """Climb from reported variables, the highest end first.

    Of many climbs, the lower half is given up after ``RACE`` iterations. The best few end with
    Newton steps, where second derivatives are affordable.
    """
    points = [surface.point(values) for values in starts]
    raced = len(points) >= LEAST_RACE and max_iter > RACE
    climbs: list[LBFGSResult] = []
    for x in points:
        climbs.append(climb(surface, x, RACE if raced else max_iter, newton_steps=0))
        progress(len(climbs), 2 * len(points) if raced else len(points))
    climbs.sort(key=lambda c: -c.value)
    if raced:
        half = climbs[: (len(climbs) + 1) // 2]
        for at_most, left in ((min(FINAL, max_iter - RACE), half), (max_iter, None)):
            left = half[:POLISHED] if left is None else left
            for j, c in enumerate(left):
                more = at_most if left is half else max_iter - c.iterations
                if c.exhausted and more > 0:
                    half[j] = climb(surface, c.x, more, newton_steps=0).after(c)
                progress(len(climbs) + 2 * (j + 1), 2 * len(climbs))
            half.sort(key=lambda c: -c.value)
        climbs = half
    best = [polished(surface, c) for c in climbs[:POLISHED]]
    return sorted(best + climbs[POLISHED:], key=lambda c: -c.value)


def climb(
    surface: GraphLogDensity, start: np.ndarray, max_iter: int, newton_steps: int = NEWTON_STEPS
) -> LBFGSResult:
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
            "ftol": GAIN,
            "gtol": 1e-6,
        },
    )
    x = np.asarray(found.x)
    value, gradient = surface(x)
    norm = float(np.linalg.norm(gradient))
    flat, exhausted = _is_flat(value, norm), int(found.nit) >= max_iter
    ended = LBFGSResult(x, value, norm, int(found.nit), flat and not exhausted, exhausted, path)
    return ended if exhausted else polished(surface, ended, newton_steps)


def polished(
    surface: GraphLogDensity, ended: LBFGSResult, newton_steps: int = NEWTON_STEPS
) -> LBFGSResult:
    """Go on by Newton steps while they gain, and see whether the end is a maximum.

    Without steps, or where second derivatives are not affordable, the climb stays as it was.
    """
    if newton_steps == 0 or ended.exhausted or not surface.affordable(ended.x.size):
        return ended
    x, path, iterations = ended.x, list(ended.path), ended.iterations
    value, gradient = surface(x)
    concave, size = False, np.inf
    for _ in range(newton_steps):
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
    converged = _is_flat(value, norm) and concave and size < SETTLED
    return LBFGSResult(x, value, norm, iterations, converged, False, path)


def climbed_along(surface: GraphLogDensity, x: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Climb by Newton steps along some coordinates, while they gain; others stay as they are."""
    value, gradient = surface(x)
    for _ in range(MOST_STEPS):
        step = surface.rough_covariance(x, moving) @ gradient
        for part in (1.0, 0.3, 0.1, 0.03):
            new, slope = surface(x + part * step)
            if new > value:
                break
        else:
            break
        gained, x, value, gradient = new - value, x + part * step, new, slope
        if gained < SMALL_GAIN:
            break
    return x


def _is_flat(value: float, norm: float) -> bool:
    return norm <= 1e3 * GRADIENT * (1 + abs(value))

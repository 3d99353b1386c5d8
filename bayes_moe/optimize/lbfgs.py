"""L-BFGS from many starts on a log density, finished by Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import cpu_count

import numpy as np

from bayes_moe.core.progress import silent
from bayes_moe.core.threads import in_threads
from bayes_moe.em.climb import GRADIENT
from bayes_moe.model.log_density import LogDensity

NEWTON_STEPS = 5
MEMORY = 100
"""Steps in the memory of L-BFGS: cheap beside a gradient."""
GAIN = 1e-13
"""Relative gain of an iteration below which L-BFGS ends."""
LEAST_SLOPE = 1e-6
"""Largest derivative below which L-BFGS ends."""
RACE, LEAST_RACE = 100, 8
"""Iterations before the lower half of the runs is dropped, and the least number of such runs."""
FINAL = 400
"""Further iterations of the better half, before the best few are run to the end."""
POLISHED = 3
"""Runs that are finished by Newton steps."""
SETTLED = 1e-2
"""Largest coordinate of the Newton step at a mode."""
MOST_STEPS, SMALL_GAIN = 20, 1e-9
"""Most Newton steps along a subset of coordinates, and the gain below which they end."""


@dataclass(frozen=True)
class LBFGSResult:
    """Final point of an L-BFGS run.

    ``path`` are the log densities after each iteration; ``exhausted`` is whether the run ended at
    its largest number of iterations, ``converged`` whether at a stationary point.
    """

    x: np.ndarray
    value: float
    gradient_norm: float
    iterations: int
    converged: bool
    exhausted: bool
    path: list[float]

    def after(self, first: LBFGSResult) -> LBFGSResult:
        """Return this run as the continuation of an earlier one."""
        return replace(
            self, iterations=first.iterations + self.iterations, path=first.path + self.path[1:]
        )


def search(
    surface: LogDensity,
    starts: Sequence[Mapping[str, np.ndarray]],
    max_iter: int,
    progress: Callable[[int, int], None] = silent,
) -> list[LBFGSResult]:
    """Final points of L-BFGS runs from reported variables, in order of decreasing log density.

    The lower half of many runs is dropped after ``RACE`` iterations, and only the best of the rest
    use all of ``max_iter``. The best few runs are finished by Newton steps, where second
    derivatives are affordable.
    """
    points = [surface.point(values) for values in starts]
    if len(points) < LEAST_RACE or max_iter <= RACE:
        runs = _first_runs(surface, points, max_iter, lambda j: progress(j, len(points)))
    else:
        total = 2 * len(points)
        runs = _first_runs(surface, points, RACE, lambda j: progress(j, total))
        runs = runs[: (len(runs) + 1) // 2]

        def report(j: int) -> None:
            progress(len(points) + 2 * j, total)

        runs = _further_runs(surface, runs, min(FINAL, max_iter - RACE), report)
        runs = _final_runs(surface, runs, max_iter, report)
    best = [newton_polish(surface, run) for run in runs[:POLISHED]]
    return _sorted(best + runs[POLISHED:])


def _first_runs(
    surface: LogDensity,
    points: Sequence[np.ndarray],
    max_iter: int,
    report: Callable[[int], None],
) -> list[LBFGSResult]:
    """Runs from every point, of at most ``max_iter`` iterations."""
    return _sorted(
        _several(surface, lambda x: run_lbfgs(surface, x, max_iter, newton_steps=0), points, report)
    )


def _further_runs(
    surface: LogDensity,
    runs: Sequence[LBFGSResult],
    iterations: int,
    report: Callable[[int], None],
) -> list[LBFGSResult]:
    """All runs, continued for at most ``iterations`` more."""
    return _sorted(
        _several(surface, lambda run: _continued(surface, run, iterations), runs, report)
    )


def _final_runs(
    surface: LogDensity,
    runs: Sequence[LBFGSResult],
    max_iter: int,
    report: Callable[[int], None],
) -> list[LBFGSResult]:
    """The best few runs continued to ``max_iter`` iterations in all, and the others as they are."""

    def finished(run: LBFGSResult) -> LBFGSResult:
        return _continued(surface, run, max_iter - run.iterations)

    best = _several(surface, finished, runs[:POLISHED], report)
    return _sorted([*best, *runs[POLISHED:]])


def _several[Item](
    surface: LogDensity,
    function: Callable[[Item], LBFGSResult],
    items: Sequence[Item],
    report: Callable[[int], None],
) -> list[LBFGSResult]:
    """Runs from several points or runs, at the same time where the density allows it."""
    runs: list[LBFGSResult] = []
    for run in in_threads(function, items, (cpu_count() or 1) if surface.parallel else 1):
        runs.append(run)
        report(len(runs))
    return runs


def _continued(surface: LogDensity, run: LBFGSResult, iterations: int) -> LBFGSResult:
    """A run continued for at most so many iterations; one that has ended as it is."""
    if not run.exhausted or iterations <= 0:
        return run
    return run_lbfgs(surface, run.x, iterations, newton_steps=0).after(run)


def _sorted(runs: Sequence[LBFGSResult]) -> list[LBFGSResult]:
    """Runs in order of decreasing log density."""
    return sorted(runs, key=lambda run: -run.value)


def run_lbfgs(
    surface: LogDensity, start: np.ndarray, max_iter: int, newton_steps: int = NEWTON_STEPS
) -> LBFGSResult:
    """Final point of L-BFGS from a vector, then of Newton steps while they gain."""
    x, gradient, path = surface.lbfgs(start, max_iter, MEMORY, (GAIN, LEAST_SLOPE))
    value, iterations = path[-1], len(path) - 1
    norm = float(np.linalg.norm(gradient))
    flat, exhausted = _is_flat(value, norm), iterations >= max_iter
    run = LBFGSResult(x, value, norm, iterations, flat and not exhausted, exhausted, path)
    return run if exhausted else newton_polish(surface, run, newton_steps)


def newton_polish(
    surface: LogDensity, run: LBFGSResult, newton_steps: int = NEWTON_STEPS
) -> LBFGSResult:
    """A run continued by Newton steps while they gain; it has converged if at a maximum.

    Without steps, or where second derivatives are not affordable, the run as it is.
    """
    if newton_steps == 0 or run.exhausted or not surface.affordable(run.x.size):
        return run
    x, path, iterations = run.x, list(run.path), run.iterations
    value, gradient = surface(x)
    concave = settled = gains_nothing = False
    for _ in range(newton_steps):
        covariance = surface.covariance(x)
        concave = covariance is not None
        if covariance is None:
            break
        step = covariance @ gradient
        # Changes of the value of this size are rounding errors of sums over the rows.
        rounding = 1e-12 * (1 + abs(value))
        # A large curvature multiplies the rounding error of a coordinate: its gradient stays large
        # where the step gains nothing.
        gains_nothing = float(gradient @ step) <= 2 * rounding
        settled = gains_nothing or float(np.abs(step).max()) < SETTLED
        new, slope = surface(x + step)
        if not new >= value - rounding:
            break
        gained, x, value, gradient = new - value, x + step, new, slope
        iterations += 1
        path.append(value)
        if gained <= rounding:
            break
    norm = float(np.linalg.norm(gradient))
    converged = concave and settled and (gains_nothing or _is_flat(value, norm))
    return LBFGSResult(x, value, norm, iterations, converged, False, path)


def newton_along(surface: LogDensity, x: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Final point of Newton steps along the coordinates of a mask, while they gain."""
    value, gradient = surface(x)
    for _ in range(MOST_STEPS):
        step = surface.rough_covariance(x, along) @ gradient
        # Where the density is not yet quadratic, a full step can overshoot.
        for share in (1.0, 0.3, 0.1, 0.03):
            new, slope = surface(x + share * step)
            if new > value:
                break
        else:
            break
        gained, x, value, gradient = new - value, x + share * step, new, slope
        if gained < SMALL_GAIN:
            break
    return x


def _is_flat(value: float, norm: float) -> bool:
    """Whether a gradient of this norm is zero, relative to the log density."""
    return norm <= 1e3 * GRADIENT * (1 + abs(value))

"""Maxima of the marginal likelihood of groups that share an expert and have effects of their own.

Runs start at partitions of the groups, by the means of their responses and features and of products
of residuals with features (:mod:`bayes_moe.em.units`), and at modes of the model without effects.
After a few rounds the best go on to their ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.em.climb import ROWS_AT_FLOOR, run_em
from bayes_moe.em.effect_marginal import MarginalPoint
from bayes_moe.em.floors import few_rows
from bayes_moe.em.marginal_runs import GRADIENT, ROUGH, Run, evaluated, polished
from bayes_moe.em.multistart import SearchSettings, Start
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions, sweeps
from bayes_moe.em.shared_marginal import SharedMarginal
from bayes_moe.em.starting_points import initial_points

STARTS = 12
"""Default number of starts at partitions."""
PLAIN = 3
"""Most modes of the model without effects at which runs start as well."""
SHORT, LONG = 12, 300
"""Rounds after which runs are compared, and most rounds of those that go on."""
FINALISTS = 4
"""Runs that go on."""

LEAST = 1e-4
"""Gradient, in units of standard deviations of the coordinates, at which runs end: variances may
be largest at zero, to which the way is long and flat."""
SCALINGS = 3
"""How often a run goes on in new units, those of where it has come to."""
NEAR = 0.1
"""Difference from the best, in nats, up to which ends are made exact."""


@dataclass(frozen=True)
class SharedRuns:
    """Ends of runs, the number of starts, and whether an end is singular (run,)."""

    runs: list[Run]
    starts: int
    singular: np.ndarray


def runs_of_groups(
    marginal: SharedMarginal, settings: SearchSettings, rng: np.random.Generator, start: Start
) -> SharedRuns:
    """Runs from a given start, or from partitions and modes without effects."""
    points, effects = _starts(marginal, settings, rng, start)
    first = []
    for done, (at, guess) in enumerate(zip(points, effects, strict=True)):
        settings.progress(done, len(points) + FINALISTS)
        psi = marginal.point(at, marginal.vector.hyperparameters)
        point = evaluated(marginal, psi, guess)
        if point is not None:
            first.append(Run.of(marginal, point, SHORT))
    first.sort(key=lambda run: -run.point.value)
    ends = []
    for done, run in enumerate(first[:FINALISTS]):
        settings.progress(len(points) + done, len(points) + FINALISTS)
        for _ in range(SCALINGS):
            run = run.then(Run.of(marginal, run.point, min(LONG, settings.max_iter), LEAST))
            if run.gradient_norm < ROUGH:
                break
        ends.append(run)
    floored = np.array([_at_floor(marginal, run.point) > ROWS_AT_FLOOR for run in ends], dtype=bool)
    value = np.where(floored, -np.inf, [run.point.value for run in ends])
    for j in np.flatnonzero(value >= value.max(initial=-np.inf) - NEAR):  # perhaps the same mode
        for _ in range(SCALINGS):
            ends[j] = polished(marginal, ends[j])
            if ends[j].gradient_norm < GRADIENT:
                break
    return SharedRuns(ends, len(points), floored)


def _starts(
    marginal: SharedMarginal, settings: SearchSettings, rng: np.random.Generator, start: Start
) -> tuple[np.ndarray, np.ndarray]:
    """Fixed coordinates (start, coordinate) and effects (start, effect)."""
    if start.theta is not None:
        return marginal.rows.parted(start.theta)
    rows, order = marginal.rows.rows, marginal.order
    objective = Objective(marginal.rows.fixed, rows)
    if start.allocation is not None:
        shares = start.allocation if order is None else start.allocation[..., order]
        points = initial_points(objective, shares, sweeps(len(shares)))
    else:
        count = min(settings.starts, STARTS) if settings.restarts is None else settings.restarts
        shares = initial_partitions(marginal.vector.spec, rows, count, rng)
        points = initial_points(objective, shares, sweeps(len(shares)))
        if len(shares) > 1:
            ends = run_em(objective, points, max_iter=settings.max_iter, tol=settings.tol)
            value = np.where(ends.floored | ~np.isfinite(ends.value), -np.inf, ends.value)
            distinct = np.unique(np.round(value, 2), return_index=True)[1][::-1][:PLAIN]
            points = np.concatenate([points, ends.theta[distinct]])
    return points, np.zeros((len(points), marginal.rows.size))


def _at_floor(marginal: SharedMarginal, point: MarginalPoint) -> float:
    """Number of rows with a spread at its floor, or a narrow one of an expert of few rows."""
    chunk = marginal.integrated(point.psi[None], point.effects[None]).chunk
    with np.errstate(all="ignore"):
        r, at_floor, narrow, *_ = marginal.mixture.by_row(chunk, marginal.rows.complete, None)
    few = chunk.counted(r).sum(axis=-1) <= few_rows(marginal.rows.fixed)
    return float(at_floor[0] + np.where(few, narrow, 0.0).sum())

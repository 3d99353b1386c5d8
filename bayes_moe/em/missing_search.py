"""EM on rows with missing features, under a gate that models the features.

Under expert ``k``, what is missing of a row is normal given its observed features and its response.
All M-steps are of quadratic forms in it, so that a few points with the same mean and covariance
stand for it exactly: for ``m`` missing features ``2 m`` points, ``mean +- sqrt(m)`` times the
columns of a root of the covariance, each with a ``2 m``-th of the row's responsibility. A sweep of
EM is then that of :mod:`bayes_moe.em.climb` on more rows.

By Fisher's identity, the gradient of the observed objective is that of the expected one at the
current point. Differences of it are the observed information, by which Newton's method ends the
climbs and from which standard errors come.

References
----------
Ghahramani, Z., & Jordan, M. I. (1994). Supervised learning from incomplete data via an EM approach.
Advances in Neural Information Processing Systems, 6, 120-127.

Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. Journal of
the Royal Statistical Society B, 44(2), 226-233.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.linalg import inverse
from bayes_moe.core.progress import Progress, silent
from bayes_moe.data.design import Design
from bayes_moe.em.climb import HALVINGS, first_points
from bayes_moe.em.m_step import sweep_step
from bayes_moe.em.missing_e_step import Expected, State, imputed
from bayes_moe.em.modes import Modes, merge_modes
from bayes_moe.em.multistart import FINALISTS, search
from bayes_moe.em.newton import ACCEPTED_GRADIENT, newton_step
from bayes_moe.em.objective import Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.partitions import initial_partitions, sweeps
from bayes_moe.em.proximal_newton import at_kink, projected
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.model import expert_order
from bayes_moe.model.missing_features import (
    features,
    filled,
)

FILLINGS = 2
"""How often gaps are filled for starts."""
FOLLOWED = 4
"""Modes that are followed to the end."""
SPLITS = 8
"""Starts from splits, where all others are singular."""
BURN_IN = 15
"""Sweeps of every start before the best are followed."""
SMALL_GAIN = 1e-2
"""Rise of the objective in a sweep, in nats, below which Newton's method is tried."""
SWEEPS_BETWEEN = 20
"""Sweeps after Newton's method was tried where the objective is not concave."""
NO_GAIN = 1e-14
ROUNDING = 1e-13
"""What the objective may fall by in a Newton step, in units of ``1 + |f|``."""
LEAST_COMPLETE = 5
"""Complete rows an expert and feature without which they do not make starts of their own."""


# --- climbs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MissingClimb:
    """Where a climb ended, and how."""

    theta: np.ndarray
    state: State
    path: tuple[float, ...]
    converged: bool


def climb(
    expected: Expected, theta: np.ndarray, *, max_iter: int, tol: float, newton: bool = True
) -> MissingClimb:
    """Climb from a point (coordinate,) by sweeps of EM, then by Newton's method.

    No step is taken that lowers the observed objective by more than rounding. Without ``newton``
    there are sweeps only.
    """
    state = expected.state(theta)
    path, since, gain, sure = [state.value], 0, np.inf, False
    for _ in range(max_iter):
        size = 1 + abs(state.value)
        if not np.isfinite(state.value) or state.floored or state.norm <= tol * size:
            break
        step = None
        if newton and gain < SMALL_GAIN and since >= 0:
            step = _newton(expected, theta, state)
            since = 0 if step is not None else -SWEEPS_BETWEEN
        swept = step is None
        if step is None:
            step = sweep_step(state.objective, theta[None], state.found)[0]
            since += 1
        slack = 0.0 if swept else ROUNDING * size
        new = _along(expected, theta, step, state.value - slack)
        if new is None:
            break
        after = expected.state(new)
        gain = after.value - state.value
        ended = not newton or since < 0 if swept else after.norm > state.norm / 2
        if gain <= NO_GAIN * size and ended:
            break
        theta, state, sure = new, after, not swept
        path.append(state.value)
    converged = False
    if newton and not state.floored and state.norm <= ACCEPTED_GRADIENT * (1 + abs(state.value)):
        converged = sure or _concave(expected, theta, state)
    return MissingClimb(theta, state, tuple(path), converged)


def _concave(expected: Expected, theta: np.ndarray, state: State) -> bool:
    """Whether the observed objective has a maximum at a point, and not a saddle."""
    bend = replace(state.found, curvature=expected.information(theta)[None])
    return bool(newton_step(projected(expected.moving, theta[None], bend))[1][0])


def _newton(expected: Expected, theta: np.ndarray, state: State) -> np.ndarray | None:
    """Newton's step (coordinate,); None where the objective is not concave or has kinks."""
    if not np.isnan(expected.moving.kinks).all():
        return None
    rough = expected.information(theta, state.found.gradient[0])
    bend = replace(state.found, curvature=rough[None])
    step, concave, _ = newton_step(bend)
    return step[0] if concave[0] and np.isfinite(step).all() else None


def _along(
    expected: Expected, theta: np.ndarray, step: np.ndarray, least: float
) -> np.ndarray | None:
    """Go along a step, halved until the observed objective is not below ``least``."""
    length = 1.0
    for _ in range(HALVINGS if np.isfinite(step).all() else 0):
        new = theta + length * step
        if expected.value(new) >= least:
            return new
        length /= 2
    return None


# --- modes ----------------------------------------------------------------------------------------


def search_incomplete(
    moving: ParameterVector,
    design: Design,
    *,
    likelihood: bool,
    restarts: int,
    max_iter: int,
    tol: float,
    rng: np.random.Generator,
    allocation: np.ndarray | None = None,
    theta: np.ndarray | None = None,
    cores: int = 1,
    progress: Progress = silent,
) -> Modes:
    """Find modes on rows with missing features.

    Climbs begin at the modes of the complete rows, and at those of all rows with gaps filled at
    random about their regression. The best are followed.

    Parameters
    ----------
    moving : Coordinates
        What moves, from a design :func:`mean_imputed_design`.
    design : Design
        The data.
    likelihood : bool
        Whether ``moving`` has no priors.
    restarts, max_iter, tol, rng, allocation, theta, cores, progress
        As for :func:`bayes_moe.em.multistart.search`.
    """
    expected = Expected(moving, design.rows)
    designs = _without_gaps(moving, design, rng)
    hits = np.ones(1, dtype=int)
    if theta is None and allocation is not None:
        theta = first_points(Objective(moving, designs[0].rows), allocation)
    elif theta is None:
        each = -(-restarts // FILLINGS)
        found = [_starts(moving, part, likelihood, each, max_iter, rng, cores) for part in designs]
        theta = np.concatenate([points for points, _ in found])
        hits = np.concatenate([counts for _, counts in found])
        if not len(theta):
            split = initial_partitions(moving.spec, designs[0].rows, SPLITS, rng)
            theta = first_points(Objective(moving, designs[0].rows), split, sweeps(SPLITS))
            hits = np.ones(len(theta), dtype=int)
    ends = []
    for done, point in enumerate(theta):
        ends.append(climb(expected, point, max_iter=min(BURN_IN, max_iter), tol=tol, newton=False))
        progress(done + 1, len(theta) + FOLLOWED)
    rough = merge_modes(_optima(expected, design, ends, hits, max_iter), design.rows)
    follow = np.argsort(rough.singular, kind="stable")[:FOLLOWED]
    left = max(1, max_iter - BURN_IN)
    ends = []
    for point in rough.theta[follow]:
        ends.append(climb(expected, point, max_iter=left, tol=tol))
        progress(len(theta) + len(ends), len(theta) + FOLLOWED)
    final = _optima(expected, design, ends, rough.hits[follow], left)
    final = replace(
        final,
        restarts=int(hits.sum()),
        iterations=final.iterations + rough.iterations[follow],
        path=np.concatenate([rough.path[:-1, follow], final.path]),
    )
    return merge_modes(final, design.rows)


def standard_errors(
    found: Modes, moving: ParameterVector, design: Design
) -> Mapping[str, np.ndarray] | None:
    """Standard errors of the best mode's variables; None if the information has no inverse."""
    theta = found.theta[found.best]
    if found.singular[found.best]:
        return None
    expected = Expected(moving, design.rows)
    information = expected.information(theta)
    free = ~at_kink(moving, theta[None], expected.state(theta).found)[0]
    spread = inverse(information[np.ix_(free, free)])
    if spread is None:
        return None
    whole = np.zeros_like(information)
    whole[np.ix_(free, free)] = spread
    return moving.reported_sds(theta, whole)


def _without_gaps(
    moving: ParameterVector, design: Design, rng: np.random.Generator
) -> list[Design]:
    """All rows with gaps filled at random; the complete rows alone, if they are enough."""
    gate, experts = moving.spec.gate, moving.spec.n_experts
    found = []
    for _ in range(FILLINGS):
        x = imputed(moving.spec, design.rows, rng)
        found.append(replace(moving.design, rows=filled(design.rows, gate, x)))
    kept = np.flatnonzero(~np.isnan(features(gate, design.rows)).any(axis=1))
    if len(kept) >= LEAST_COMPLETE * experts * (1 + len(gate.feature_densities)):
        found.append(replace(moving.design, rows=design.rows.pick(kept)))
    return found


def _starts(
    moving: ParameterVector,
    design: Design,
    likelihood: bool,
    restarts: int,
    max_iter: int,
    rng: np.random.Generator,
    cores: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Modes on rows without gaps, as points of ``moving``, and how many climbs found each.

    Singular ones are left out.
    """
    own = coordinates(moving.spec, design, likelihood=likelihood)
    found = search(own, restarts=restarts, max_iter=max_iter, rng=rng, cores=cores)
    which = np.flatnonzero(~found.singular)[:FINALISTS]
    points = moving.points({name: v[which] for name, v in found.values.items()})
    return points, found.hits[which]


def _optima(
    expected: Expected, design: Design, ends: list[MissingClimb], hits: np.ndarray, max_iter: int
) -> Modes:
    """Where climbs ended, each as a mode of its own."""
    moving, spec = expected.moving, expected.moving.spec
    theta = np.stack([end.theta for end in ends])
    level = expert_order.levels(spec, moving.variables(theta), design.rows)
    theta = moving.permute(theta, expert_order.order(spec, level))
    longest = max(len(end.path) for end in ends)
    path = np.full((longest, len(ends)), np.nan)
    for j, end in enumerate(ends):
        path[: len(end.path), j] = end.path
    iterations = np.array([len(end.path) - 1 for end in ends])
    none = np.zeros(len(ends), dtype=bool)
    return Modes(
        spec,
        design,
        moving.variables(theta),
        theta,
        np.array([end.state.value for end in ends]),
        moving.log_prior(theta)[0],
        np.array([end.state.norm for end in ends]),
        iterations,
        np.broadcast_to(hits, len(ends)),
        np.array([end.converged for end in ends]),
        np.array([end.state.floored for end in ends]),
        iterations >= max_iter,
        path,
        np.empty((len(ends), 0)),
        np.empty(len(ends)),
        len(ends),
        {slot.variable: none for slot in moving.slots},
        None,
    )

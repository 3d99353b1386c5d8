"""EM on rows with missing features, under a gate that models the features.

Under expert ``k``, the missing features of a row are normal given its observed features and its
response. All M-steps are of quadratic forms in them, so that a few points with the same mean and
covariance replace them exactly: for ``m`` missing features ``2 m`` points, ``mean +- sqrt(m)``
times the columns of a root of the covariance, each with a ``2 m``-th of the row's responsibility. A
sweep of EM is then that of :mod:`bayes_moe.em.climb` on more rows.

By Fisher's identity, the gradient of the observed objective is that of the expected one at the
current point. Its finite differences are the observed information, for Newton's method at the end
of runs and for standard errors.

References
----------
Ghahramani, Z., & Jordan, M. I. (1994). Supervised learning from incomplete data via an EM approach.
Advances in Neural Information Processing Systems, 6, 120-127.

Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. Journal of
the Royal Statistical Society B, 44(2), 226-233.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bayes_moe.core.linalg import information_ratio
from bayes_moe.data.design import Design
from bayes_moe.em.climb import HALVINGS, ClimbResult
from bayes_moe.em.m_step import sweep_step
from bayes_moe.em.missing_e_step import EStep, ObservedObjective, imputed
from bayes_moe.em.modes import (
    Modes,
    canonical_order,
    inverse_of_free,
    merge_modes,
)
from bayes_moe.em.multistart import FINALISTS, NO_START, SearchSettings, Start, search
from bayes_moe.em.newton import ACCEPTED_GRADIENT, newton_step
from bayes_moe.em.objective import Objective
from bayes_moe.em.parameter_vector import ParameterVector, is_likelihood
from bayes_moe.em.partitions import initial_partitions, sweeps
from bayes_moe.em.proximal_newton import at_kink, projected
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.missing_features import feature_values, filled

FILLINGS = 2
"""Number of designs with gaps filled at random, for initial points."""
FOLLOWED = 4
"""Modes from which final runs start."""
PARTITIONS = 8
"""Initial points from partitions, where all others are singular."""
BURN_IN = 15
"""Sweeps from every initial point before the best are selected."""
SMALL_GAIN = 1e-2
"""Gain of a sweep, in nats, below which Newton's method is tried."""
SWEEPS_BETWEEN = 20
"""Sweeps between attempts of Newton's method where the objective is not concave."""
NO_GAIN = 1e-14
ROUNDING = 1e-13
"""Decrease of the objective that a Newton step may have, in units of ``1 + |f|``."""
LEAST_COMPLETE = 5
"""Complete rows per expert and feature from which these alone give initial points too."""


# --- one run --------------------------------------------------------------------------------------


def em_run(
    observed: ObservedObjective,
    theta: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    newton: bool = True,
) -> ClimbResult:
    """Return the end of a run from a point (coordinate,), by sweeps of EM, then Newton's method.

    No step lowers the observed objective by more than rounding. Without ``newton`` there are sweeps
    only.
    """
    state = observed.state(theta)
    path, since, gain, concave = [state.value], 0, np.inf, False
    for _ in range(max_iter):
        size = 1 + abs(state.value)
        if not np.isfinite(state.value) or state.floored or state.norm <= tol * size:
            break
        step = None
        if newton and gain < SMALL_GAIN and since >= 0:
            step = _newton(observed, theta, state)
            since = 0 if step is not None else -SWEEPS_BETWEEN
        swept = step is None
        if step is None:
            step = sweep_step(state.objective, theta[None], state.evaluation)[0]
            since += 1
        slack = 0.0 if swept else ROUNDING * size
        new = _halved(observed, theta, step, state.value - slack)
        if new is None:
            break
        after = observed.state(new)
        gain = after.value - state.value
        ended = not newton or since < 0 if swept else after.norm > state.norm / 2
        if gain <= NO_GAIN * size and ended:
            break
        theta, state, concave = new, after, not swept
        path.append(state.value)
    converged = False
    if newton and not state.floored and state.norm <= ACCEPTED_GRADIENT * (1 + abs(state.value)):
        converged = concave or _is_concave(observed, theta, state)
    return _result(observed.vector, theta, state, path, converged, max_iter)


def _result(
    vector: ParameterVector,
    theta: np.ndarray,
    state: EStep,
    path: list[float],
    converged: bool,
    max_iter: int,
) -> ClimbResult:
    iterations = len(path) - 1
    return ClimbResult(
        theta=theta[None],
        value=np.array([state.value]),
        gradient_norm=np.array([state.norm]),
        iterations=np.array([iterations]),
        converged=np.array([converged]),
        running=np.zeros((1, len(vector.blocks)), dtype=bool),
        floored=np.array([state.floored]),
        exhausted=np.array([iterations >= max_iter]),
        path=np.array(path)[:, None],
        variables=tuple(block.variable for block in vector.blocks),
    )


def _is_concave(observed: ObservedObjective, theta: np.ndarray, state: EStep) -> bool:
    """Whether the observed objective is concave at a point, and this no saddle."""
    with_information = replace(state.evaluation, curvature=observed.information(theta)[None])
    return bool(newton_step(projected(observed.vector, theta[None], with_information))[1][0])


def _newton(observed: ObservedObjective, theta: np.ndarray, state: EStep) -> np.ndarray | None:
    """Newton's step (coordinate,); None where the objective is not concave or has kinks."""
    if observed.vector.has_kinks:
        return None
    information = observed.information(theta, state.evaluation.gradient[0])
    step, concave, _ = newton_step(replace(state.evaluation, curvature=information[None]))
    return step[0] if concave[0] and np.isfinite(step).all() else None


def _halved(
    observed: ObservedObjective, theta: np.ndarray, step: np.ndarray, least: float
) -> np.ndarray | None:
    """The point after a step, halved until the observed objective is at least ``least``."""
    length = 1.0
    for _ in range(HALVINGS if np.isfinite(step).all() else 0):
        new = theta + length * step
        if observed.value(new) >= least:
            return new
        length /= 2
    return None


# --- modes ----------------------------------------------------------------------------------------


def search_incomplete(
    vector: ParameterVector,
    design: Design,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start = NO_START,
) -> Modes:
    """Return modes on rows with missing features.

    Runs start at the modes of the complete rows, and at those of all rows with gaps filled at
    random about their regression. Final runs start from the best.

    Parameters
    ----------
    vector : ParameterVector
        The free parameters, of the design :func:`mean_imputed_design`.
    design : Design
        The data.
    settings, rng, start
        As for :func:`bayes_moe.em.multistart.search`.
    """
    observed = ObservedObjective(vector, design.rows)
    theta, hits = _initial_points(vector, design, settings, rng, start)
    sweeps_only = min(BURN_IN, settings.max_iter)
    runs = []
    for point in theta:
        run = em_run(observed, point, max_iter=sweeps_only, tol=settings.tol, newton=False)
        runs.append(run)
        settings.progress(len(runs), len(theta) + FOLLOWED)
    rough = merge_modes(_ends(observed, design, runs, hits), design.rows)
    best = np.argsort(rough.singular, kind="stable")[:FOLLOWED]
    left = max(1, settings.max_iter - BURN_IN)
    runs = []
    for point in rough.theta[best]:
        runs.append(em_run(observed, point, max_iter=left, tol=settings.tol))
        settings.progress(len(theta) + len(runs), len(theta) + FOLLOWED)
    final = _ends(observed, design, runs, rough.hits[best])
    final = replace(
        final,
        restarts=int(hits.sum()),
        iterations=final.iterations + rough.iterations[best],
        path=np.concatenate([rough.path[:-1, best], final.path]),
    )
    return merge_modes(final, design.rows)


def curvature_figures(
    modes: Modes, vector: ParameterVector, design: Design
) -> tuple[Mapping[str, np.ndarray] | None, float]:
    """Standard errors of the best mode's variables, and its effective number of parameters.

    None and NaN if the information has no inverse.
    """
    theta = modes.theta[modes.best]
    if modes.singular[modes.best]:
        return None, float("nan")
    observed = ObservedObjective(vector, design.rows)
    information = observed.information(theta)
    free = ~at_kink(vector, theta[None], observed.state(theta).evaluation)[0]
    covariance = inverse_of_free(information, free)
    likelihood = information + np.diag(vector.log_prior(theta[None])[2][0])
    effective = information_ratio(likelihood, covariance)
    return None if covariance is None else vector.reported_sds(theta, covariance), effective


def _initial_points(
    vector: ParameterVector,
    design: Design,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start,
) -> tuple[np.ndarray, np.ndarray]:
    """Initial points (point, coordinate), and the number of runs that each is the end of."""
    designs = _complete_designs(vector, design, rng)
    if start.theta is not None:
        return start.theta, np.ones(1, dtype=int)
    if start.allocation is not None:
        objective = Objective(vector, designs[0].rows)
        return initial_points(objective, start.allocation), np.ones(1, dtype=int)
    each = -(-settings.starts // FILLINGS)
    rough = SearchSettings(each, settings.max_iter, cores=settings.cores, moves=settings.moves)
    modes = [_modes_without_gaps(vector, complete, rough, rng) for complete in designs]
    theta = np.concatenate([points for points, _ in modes])
    if len(theta):
        return theta, np.concatenate([hits for _, hits in modes])
    partitions = initial_partitions(vector.spec, designs[0].rows, PARTITIONS, rng)
    objective = Objective(vector, designs[0].rows)
    theta = initial_points(objective, partitions, sweeps(PARTITIONS))
    return theta, np.ones(len(theta), dtype=int)


def _complete_designs(
    vector: ParameterVector, design: Design, rng: np.random.Generator
) -> list[Design]:
    """All rows with gaps filled at random; the complete rows alone, if they are enough."""
    features, experts = vector.spec.structure.gate.features, vector.spec.n_experts
    assert features is not None
    designs = []
    for _ in range(FILLINGS):
        x = imputed(vector.spec, design.rows, rng)
        designs.append(replace(vector.design, rows=filled(design.rows, features, x)))
    complete = np.flatnonzero(~np.isnan(feature_values(features, design.rows)).any(axis=1))
    if len(complete) >= LEAST_COMPLETE * experts * (1 + len(features.densities)):
        designs.append(replace(vector.design, rows=design.rows.pick(complete)))
    return designs


def _modes_without_gaps(
    vector: ParameterVector, design: Design, settings: SearchSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Modes on rows without gaps that are not singular, as points of ``vector``, and their hits."""
    complete = parameter_vector(vector.spec, design, likelihood=is_likelihood(vector))
    modes = search(complete, settings, rng)
    which = np.flatnonzero(~modes.singular)[:FINALISTS]
    points = vector.points({name: v[which] for name, v in modes.values.items()})
    return points, modes.hits[which]


def _ends(
    observed: ObservedObjective, design: Design, runs: Sequence[ClimbResult], hits: np.ndarray
) -> Modes:
    """One mode per run, experts in canonical order."""
    vector, result = observed.vector, ClimbResult.concatenate(runs)
    theta = canonical_order(vector, result.theta, design.rows)
    modes = Modes.of_ends(
        vector.spec,
        design,
        replace(result, theta=theta),
        values=vector.variables(theta),
        log_prior=vector.log_prior(theta)[0],
    )
    return replace(modes, hits=np.broadcast_to(hits, len(runs)))

"""Modes of models with sparse features: L-BFGS from several starts, and truncated Newton steps.

The objective is that of EM, whose steps solve systems as large as the coefficients are many. Here
gradients and products with the information are sums over rows of products with the sparse table.
A start is a partition of the rows by a few projections of the features; each expert is fitted to
its part by a few iterations of conjugate gradients on the complete-data information, as in a sweep
of EM. Few iterations, since many coefficients could follow any partition.

References
----------
Liu, D. C., & Nocedal, J. (1989). On the limited memory BFGS method for large scale optimization.
Mathematical Programming, 45, 503-528.

Nash, S. G. (2000). A survey of truncated-Newton methods. Journal of Computational and Applied
Mathematics, 124(1-2), 45-59.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.em.chain_mixture import has_chain
from bayes_moe.em.climb import ROWS_AT_FLOOR, ClimbResult, padded_paths
from bayes_moe.em.constraint import feasible
from bayes_moe.em.curvature_products import CurvatureProducts, TruncatedStep, truncated_step
from bayes_moe.em.gradient_runs import Run, continued
from bayes_moe.em.m_step import capped
from bayes_moe.em.modes import Modes, merge_modes, new_mode_chance
from bayes_moe.em.multistart import NO_START, SearchSettings, Start, ends_of
from bayes_moe.em.newton import ACCEPTED_GRADIENT, LEAST_GAIN, reduced_gradient
from bayes_moe.em.objective import LARGEST_INFORMATION, Curvature, Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.starting_points import equal_experts
from bayes_moe.priors.defaults import role_of

STARTS, LEAST_RACE, RACE, FINISHED = 10, 6, 30, 3
"""Default number of starts, the least that race, the iterations after which the best of these are
chosen, and how many go on to the end."""
SWEEPS, SWEEP_ITERATIONS = 2, 4
"""Sweeps from a partition, and iterations of conjugate gradients in each."""
GAIN, ROUND = 1e-9, 200
"""Relative gain of an iteration of L-BFGS below which Newton steps follow, and the iterations after
which these follow anyway."""
NOT_CONCAVE = 10
"""Newton steps with a direction without positive curvature after which L-BFGS follows again."""
ITERATIONS = 400
"""Most iterations of conjugate gradients in a Newton step."""
RADIUS = 10.0
"""Initial radius of Newton steps, which is the root of twice the nats that they may promise."""
SHORTENINGS, LEAST_RATIO = 12, 1e-4
"""Most shortenings of a step, and the least share of its promise that it must gain."""
FORCING = 0.1
"""Largest residual of a Newton step, in units of the gradient."""
RUNNING = 0.05
"""Change of a predictor in a Newton step at a vanishing gradient from which it diverges."""


@dataclass
class _Run(Run):
    """One run, whose Newton steps are within a radius."""

    radius: float = RADIUS
    converged: bool = False
    running: np.ndarray | None = None


def sparse_search(
    vector: ParameterVector,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start = NO_START,
) -> Modes:
    """Return the modes that runs from several starts end in; see :func:`.multistart.search`.

    From six starts on they race, and the best three go on to the end.

    Raises
    ------
    SpecError
        For models whose objective has kinks, or too many coefficients for constraints.
    """
    check_smooth(vector)
    objective = Objective(vector, cores=settings.cores)
    points = _points(objective, settings.restarts, rng, start)
    all_finish = len(points) < LEAST_RACE
    runs = [_Run(x, v := float(objective.value(x[None])[0]), [v]) for x in points]
    total = len(runs)
    for j, run in enumerate(runs):
        if not all_finish:
            _lbfgs(objective, run, min(RACE, settings.max_iter))
            settings.progress(j + 1, 2 * total)
    if not all_finish:
        runs = sorted(runs, key=lambda run: -np.nan_to_num(run.value, nan=-np.inf))[:FINISHED]
    for j, run in enumerate(runs):
        _finish(objective, run, settings)
        settings.progress(j + 1, len(runs))
    ends = ends_of(objective, _result(objective, runs, settings.max_iter))
    modes = merge_modes(ends, vector.design.rows)
    modes = replace(modes, restarts=total, finished=len(runs))
    return replace(modes, new_mode_chance=new_mode_chance(modes))


def check_smooth(vector: ParameterVector) -> None:
    """Raise :class:`SpecError` for objectives that gradients and products do not suffice for."""
    advice = "give the sparse columns as arrays, .toarray(), if they are few"
    if has_chain(vector):
        raise SpecError(f"A Markov gate is for columns that are arrays: {advice}.")
    if vector.has_kinks:
        raise SpecError(
            f"A Laplace prior has a kink, which is for columns that are arrays: {advice}, or use a "
            "normal prior."
        )
    for factor in vector.spec.structure.factors:
        if factor.block.family.kink:
            raise SpecError(
                f"The density of {factor.block.family!r} has a kink, which is for columns that are "
                f"arrays: {advice}, or use another family."
            )
    if vector.constraint is not None and vector.size > LARGEST_INFORMATION:
        raise SpecError(
            f"`fixed` and `shared` take at most {LARGEST_INFORMATION} coefficients in all beside "
            f"sparse columns; there are {vector.size}. Leave them out, or give a narrow prior."
        )


def _points(
    objective: Objective, restarts: int | None, rng: np.random.Generator, start: Start
) -> np.ndarray:
    """Initial points (start, coordinate)."""
    if start.theta is not None:
        return start.theta
    shares = start.allocation
    if shares is None:
        count = STARTS if restarts is None else restarts
        shares = initial_partitions(objective.vector.spec, objective.rows, count, rng)
    elif objective.order is not None:
        shares = shares[..., objective.order]
    signed = any(role_of(block.role).signed for block in objective.vector.blocks)
    if signed and len(shares) == 1:
        shares = np.concatenate([shares, shares])
    signs = rng.choice([-1.0, 1.0], (len(shares), objective.vector.spec.n_experts))
    signs[:2, 0] = [-1.0, 1.0][: len(signs)]  # both, of a single expert
    points = zip(shares, signs, strict=True)
    return np.concatenate([_from_partition(objective, *point) for point in points])


def _from_partition(objective: Objective, allocation: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Initial point (1, coordinate) of a soft partition (expert, obs) of the rows.

    Asymmetries have the given signs (expert,): where all are 0 is a saddle.
    """
    theta = equal_experts(objective, 1)
    signed = [b for b in objective.vector.blocks if role_of(b.role).signed]
    shapes = [b for b in objective.vector.blocks if role_of(b.role).of_form]
    for block in signed:
        size = np.zeros((len(block.experts), block.terms))
        size[:, 0] = role_of(block.role).neutral * signs[list(block.experts)]
        theta[:, block.where] = block.free(size[None])
    theta = feasible(objective.vector.constraint, theta)
    for _ in range(SWEEPS):
        products = CurvatureProducts(objective, theta[0], Curvature.COMPLETE, allocation)
        found = truncated_step(products, 1e-3, SWEEP_ITERATIONS)
        step = products.expanded(found.step)[None]
        for block in shapes:  # residuals of a bad fit carry no information on the shape
            step[:, block.where] = 0.0
        theta = theta + capped(objective, theta, step)
    return feasible(objective.vector.constraint, theta)


def _lbfgs(objective: Objective, run: _Run, most: int, gain: float = GAIN) -> None:
    """Continue a run by L-BFGS in the free coordinates, up to a small relative gain."""
    constraint = objective.vector.constraint

    def full(x: np.ndarray) -> np.ndarray:
        if constraint is None:
            return x[None]
        return (x @ constraint.matrix.T + constraint.offset)[None]

    def minus(x: np.ndarray) -> tuple[float, np.ndarray]:
        slope = objective.slope(full(x))
        gradient = reduced_gradient(objective.vector, slope.gradient)[0]
        return -float(slope.value[0]), -np.nan_to_num(gradient)

    if not np.isfinite(run.value) or most < 1:
        return
    start = run.theta if constraint is None else run.theta[constraint.at]
    x, run.value = continued(run, minus, start, most, (gain, 0.0))
    run.theta = full(x)[0]


def _finish(objective: Objective, run: _Run, settings: SearchSettings) -> None:
    """Continue a run to its end, by L-BFGS and Newton steps in turn."""
    by_group = objective.rows.observation.group is not None
    if by_group or not np.isfinite(run.value):  # their information is no sum over rows
        _lbfgs(objective, run, settings.max_iter - run.iterations, LEAST_GAIN)
    else:
        while run.iterations < settings.max_iter:
            _lbfgs(objective, run, min(ROUND, settings.max_iter - run.iterations))
            if not _newton_steps(objective, run, settings):
                return
    slope = reduced_gradient(objective.vector, objective.slope(run.theta[None]).gradient)[0]
    run.gradient_norm = float(np.linalg.norm(slope))
    run.converged = run.gradient_norm <= ACCEPTED_GRADIENT * (1 + abs(run.value))


def _newton_steps(objective: Objective, run: _Run, settings: SearchSettings) -> bool:
    """Newton steps while the objective is concave, or some; whether more iterations may follow."""
    others = 0
    run.radius = RADIUS
    while run.iterations < settings.max_iter and others < NOT_CONCAVE:
        found = _newton(objective, run, settings.tol)
        if found is None:
            return False
        others += not found.concave
    return True


def _newton(objective: Objective, run: _Run, tol: float) -> TruncatedStep | None:
    """One truncated Newton step within the radius; None where the run ends."""
    products = CurvatureProducts(objective, run.theta, Curvature.OBSERVED)
    size = 1 + abs(run.value)
    norm = run.gradient_norm = float(np.linalg.norm(products.gradient))
    for _ in range(SHORTENINGS):
        found = truncated_step(products, min(FORCING, norm / size), ITERATIONS, run.radius)
        whole = products.expanded(found.step)
        if norm <= tol * size or (found.concave and found.gain <= LEAST_GAIN * size):
            if found.concave:  # values cannot tell whether so short a step gains
                run.theta = run.theta + whole
                run.value = float(objective.value(run.theta[None])[0])
            _end(objective, run, whole, found.concave)
            return None
        theta = run.theta + whole
        value = float(objective.value(theta[None])[0])
        ratio = (value - run.value) / found.gain if np.isfinite(value) else -1.0
        if ratio < 0.25:
            run.radius = 0.25 * found.norm
        elif ratio > 0.75 and found.bounded:
            run.radius *= 2
        if ratio > LEAST_RATIO:
            run.theta, run.value = theta, value
            run.path.append(value)
            run.iterations += 1
            return found
    if norm <= ACCEPTED_GRADIENT * size:
        _end(objective, run, whole, found.concave)
    return None


def _end(objective: Objective, run: _Run, step: np.ndarray, concave: bool) -> None:
    """End a run whose gradient vanishes; ``step`` (coordinate,) is that of Newton."""
    run.running = objective.eta_size(step[None])[0] > RUNNING
    run.converged = concave and not run.running.any()


def _result(objective: Objective, runs: list[_Run], max_iter: int) -> ClimbResult:
    """The final points of runs."""
    blocks = objective.vector.blocks
    theta = np.stack([run.theta for run in runs])
    floored = objective.slope(theta).at_floor > ROWS_AT_FLOOR
    for block in blocks:
        if block.floor > -np.inf and block.scaling is None:
            floored |= (block.log_spread(theta[:, block.where]) <= block.floor).any(axis=1)
    none = np.zeros(len(blocks), dtype=bool)
    return ClimbResult(
        theta=theta,
        value=np.array([run.value for run in runs]),
        gradient_norm=np.array([run.gradient_norm for run in runs]),
        iterations=np.array([run.iterations for run in runs]),
        converged=np.array([run.converged for run in runs]) & ~floored,
        running=np.stack([none if run.running is None else run.running for run in runs]),
        floored=floored,
        exhausted=np.array([run.iterations >= max_iter for run in runs]),
        path=padded_paths([run.path for run in runs]),
        variables=tuple(block.variable for block in blocks),
    )

"""Modes of an objective from EM runs with many initial points.

Two runs ended in the same mode if the rows have the same log density there, whatever the labels of
the experts. A mode is

``singular``
    where a scale parameter is at its floor, or, without priors, an expert of few rows has a
    narrow one: the likelihood is unbounded there;
``separated``
    where a predictor diverges while the objective gains nothing: there is no finite maximum;
``empty``
    where an expert has less than one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations

import numpy as np

from bayes_moe.core.progress import Progress, silent
from bayes_moe.em.chain_mixture import has_chain
from bayes_moe.em.climb import GRADIENT, ROWS_AT_FLOOR, ClimbResult, run_em
from bayes_moe.em.floors import within_floors, without_floors
from bayes_moe.em.modes import (
    Modes,
    canonical_order,
    compared_density,
    densities_at,
    joined,
    match_modes,
    merge_modes,
    new_mode_chance,
)
from bayes_moe.em.objective import Objective, responsibilities
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.partitions import initial_partitions, mix_of, standardised, sweeps
from bayes_moe.em.split_merge import (
    DISTANCE,
    distance,
    improved_partitions,
    movable,
    moved_shares,
)
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.subsample import finalists, some_rows
from bayes_moe.em.tree_starts import tree_starts
from bayes_moe.em.units import Units
from bayes_moe.model.offset_rules import tells_apart
from bayes_moe.model.spec import MixtureOfExperts

RESTARTS = 30
"""Default number of initial points."""
SUBSAMPLE = 5000
"""Rows of the subsample on which runs start where a table has more."""
FINALISTS = 4
"""Modes of the subsample from which runs on all rows start."""
RACE, FINISHED, RACED = 8, 8, 2
"""Iterations after which starts of a race stop, and the numbers of the first starts, which run to
the end without a race, and of the best of a race that go on."""
RACE_ABOVE = 10_000
"""Rows times coordinates from which only some starts run to the end; below, thirty runs cost little
more than one."""
MOVES = 256
"""Default number of moves: with them and eight starts, a search takes about the time of thirty."""
BY_EM, EM_BATCH = 1 / 16, 8
"""Share of the moves that runs of EM follow, and such moves at once. With 1/8 the time is a sixth
longer, and the modes are no better."""
CERTAIN = 0.25
"""Chance that one more start ends in a new mode, up to which there are no moves."""
FIXED_SWEEPS, SHORT = 2, 8
"""Iterations after a move: sweeps with the partition fixed, and of the short run."""
LABELS = 5
"""Most further orders of a partition's parts, where experts have values of their own."""
CANDIDATES, PARENTS, PROMISING = 5, 3, 3
"""Best partitions from which short runs start, best modes from which moves are made, and the best
ends of short runs that go on to the end."""


Run = Callable[..., ClimbResult]


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search for modes.

    Attributes
    ----------
    restarts : int, optional
        Number of initial points, all of which runs go from to the end; ignored where they are
        given. By default ``RESTARTS``, of which large problems leave some out.
    max_iter : int
        Most iterations of a run.
    tol : float
        A gradient norm below ``tol * (1 + |f|)`` ends a run.
    cores : int
        Threads.
    progress : callable
        Called with the number of runs that have ended, and of all runs.
    moves : int
        Most moves by which experts are merged and split; none where initial points are given.
    subsample : int, optional
        Rows of the subsample on which runs start where a table has more; ``SUBSAMPLE`` by default.
    """

    restarts: int | None = None
    max_iter: int = 1000
    tol: float = GRADIENT
    cores: int = 1
    progress: Progress = silent
    moves: int = MOVES
    subsample: int | None = None

    @property
    def starts(self) -> int:
        """Number of initial points."""
        return RESTARTS if self.restarts is None else self.restarts


@dataclass(frozen=True)
class Start:
    """Initial points: responsibilities (start, expert, obs) or points (start, coordinate)."""

    allocation: np.ndarray | None = None
    theta: np.ndarray | None = None


NO_START = Start()
"""Initial points are from partitions of the rows."""


def search(
    vector: ParameterVector,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start = NO_START,
) -> Modes:
    """Return the modes that EM runs from many initial points end in.

    Moves follow runs from partitions of the rows where these end in different modes. On a table of
    more rows than the subsample's all this is done on a random subsample; runs on all rows then
    start from the best modes, and iterations count all. Runs from a given start are on all rows,
    all to the end, without moves.

    Parameters
    ----------
    vector : ParameterVector
        The free parameters.
    settings : SearchSettings
        Number of initial points, and settings of the runs.
    rng : numpy.random.Generator
        Of the partitions, of the moves, and of the subsample.
    start : Start
        Initial points instead of partitions of the rows.
    """
    objective = Objective(vector, cores=settings.cores)
    rows, theta = vector.design.rows, start.theta
    most = SUBSAMPLE if settings.subsample is None else settings.subsample
    run = partial(run_em, max_iter=settings.max_iter, tol=settings.tol, progress=settings.progress)
    if theta is None and start.allocation is not None:
        count = 1 if rows.size > most else 2
        shares = (
            start.allocation if objective.order is None else start.allocation[..., objective.order]
        )
        theta = initial_points(objective, shares, sweeps=count)
    if theta is not None:
        return merge_modes(ends_of(objective, run(objective, theta)), rows)
    if rows.size <= most:
        return _search_from_partitions(objective, settings, run, rng)
    part = Objective(vector, some_rows(objective, most, rng), cores=settings.cores)
    rough = _search_from_partitions(part, settings, run, rng)
    best = finalists(rough, FINALISTS)
    ends = ends_of(objective, run(objective, rough.theta[best], newton_first=True))
    ends = replace(
        ends,
        hits=rough.hits[best],
        iterations=ends.iterations + rough.iterations[best],
        restarts=rough.restarts,
        finished=rough.finished,
        new_mode_chance=rough.new_mode_chance,
    )
    return merge_modes(ends, rows)


def _search_from_partitions(
    objective: Objective,
    settings: SearchSettings,
    run: Run,
    rng: np.random.Generator,
) -> Modes:
    """Modes by runs from partitions of the objective's rows, then by moves.

    On a large problem only some of the default starts are made where these disagree: their values
    after a few iterations say little about those at their ends, so that a race of all is no help,
    and moves find better modes in the time of the others.
    """
    spec, count = objective.vector.spec, settings.starts
    with_moves = settings.moves and movable(spec) and settings.max_iter > max(RACE, SHORT)
    large = objective.rows.size * objective.size >= RACE_ABOVE and settings.max_iter > RACE
    large = large and settings.restarts is None
    first = min(count, FINISHED) if large else count
    starts = run(objective, _initial_points(objective, first, rng))
    modes = _of_starts(objective, starts)
    certain = _is_certain(modes)
    others = not has_chain(objective.vector)  # whose runs take long
    if first < count and others and (certain or not with_moves):
        raced = run(objective, _initial_points(objective, count - first, rng), max_iter=RACE)
        raced = _continued(objective, run, raced, settings.max_iter - RACE)
        modes = _of_starts(objective, ClimbResult.concatenate([starts, raced]))
        modes = replace(modes, restarts=count)
        certain = _is_certain(modes)
    if certain or not with_moves:
        return modes
    return _with_moves(objective, run, modes, settings, rng)


def _of_starts(objective: Objective, starts: ClimbResult) -> Modes:
    """Modes that runs from starts end in."""
    modes = merge_modes(ends_of(objective, starts), objective.rows)
    return replace(modes, new_mode_chance=new_mode_chance(modes))


def _with_moves(
    objective: Objective,
    run: Run,
    modes: Modes,
    settings: SearchSettings,
    rng: np.random.Generator,
) -> Modes:
    """Modes, and those that moves find.

    Most moves are made in partitions that mixtures of linear regressions compare. Runs of EM follow
    from the best of these, and then from moves from the best modes, while they find better ones.
    """
    spec, rows = objective.vector.spec, objective.rows
    units = Units.of(rows, standardised(spec, rows))
    by_em = int(np.ceil(settings.moves * BY_EM))

    def further(modes: Modes, shares: np.ndarray, short: int, kept: int) -> Modes:
        shares = units.spread(units.respecting(shares))
        points = initial_points(objective, shares, FIXED_SWEEPS)
        tried = run(objective, points, max_iter=short)
        new = _is_new(objective, modes, tried)
        best = np.argsort(-_end_values(tried), kind="stable")
        best = np.sort(best[new[best]][:kept])
        if not len(best):
            return modes
        left = settings.max_iter - short
        result = run(objective, tried.theta[best], max_iter=left, newton_first=True)
        ends = ends_of(objective, replace(result, iterations=result.iterations + short))
        return merge_modes(joined(modes, ends), rows)

    # The mixtures of linear regressions have no groups and no chains.
    by_row = not (units.grouped or has_chain(objective.vector))
    if by_row:
        shares = improved_partitions(spec, rows, settings.moves - by_em, rng)
    if by_row and len(shares):
        modes = further(modes, shares[:CANDIDATES].astype(float), SHORT, PROMISING)
    for done in range(0, by_em, EM_BATCH):
        good = modes.theta[np.flatnonzero(~modes.singular)]
        if not len(good):
            break
        shares = units.reduce(responsibilities(objective, good[:PARENTS]))
        moved, _ = moved_shares(spec, units.columns, shares, min(by_em - done, EM_BATCH), rng)
        modes = further(modes, moved, SHORT, PROMISING)
    return modes


def _is_new(objective: Objective, modes: Modes, tried: ClimbResult) -> np.ndarray:
    """Whether the ends of short runs are singular nowhere, and at no mode that is better (run,)."""
    rows = objective.rows
    known, density = compared_density(modes, rows), densities_at(objective, tried.theta)
    value = _end_values(tried)
    near = np.array([distance(known, each) <= DISTANCE for each in density])
    new: np.ndarray = np.isfinite(value) & ~(near & (modes.value >= value[:, None])).any(axis=1)
    return new


def _is_certain(modes: Modes) -> bool:
    """Whether one more start would so rarely find a new mode that moves are left out."""
    assert modes.objective is not None
    likely = modes.new_mode_chance > CERTAIN  # not of a single start
    return modes.objective.vector.tied or not likely


def _end_values(ended: ClimbResult) -> np.ndarray:
    """Values (point,) at the ends of runs; -inf where one is singular."""
    return np.where(ended.floored | ~np.isfinite(ended.value), -np.inf, ended.value)


def _continued(objective: Objective, run: Run, first: ClimbResult, max_iter: int) -> ClimbResult:
    """Ends of the runs from the best of the first points."""
    best = np.sort(np.argsort(-_end_values(first), kind="stable")[:RACED])
    last = run(objective, first.theta[best], max_iter=max_iter, newton_first=True)
    return replace(
        last,
        iterations=first.iterations[best] + last.iterations,
        path=np.concatenate([first.path[:-1, best], last.path]),
    )


def _initial_points(objective: Objective, restarts: int, rng: np.random.Generator) -> np.ndarray:
    """Points (point, coordinate) from partitions of the objective's rows."""
    spec = objective.vector.spec
    from_trees = restarts // 2 if _can_grow(spec) else 0
    partitions = initial_partitions(spec, objective.rows, restarts - from_trees, rng)
    counts = sweeps(len(partitions), mix_of(spec))
    points = initial_points(objective, partitions, counts)
    if spec.structure.constraints.by_expert:
        points = _of_likeliest_labels(objective, partitions, points, rng)
    if not from_trees:
        return points
    return np.concatenate([tree_starts(objective, from_trees, rng), points])


def _of_likeliest_labels(
    objective: Objective, partitions: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Points (point, coordinate), each the best of several labels of a partition's parts.

    Where experts have values of their own, it matters which gets which part.
    """
    best, value = points, objective.value(points)
    experts = partitions.shape[1]
    orders: Sequence[Sequence[int]] = [*permutations(range(min(experts, 4)))][1:]
    if len(orders) > LABELS:
        orders = [rng.permutation(experts).tolist() for _ in range(LABELS)]
    for order in orders:
        counts = sweeps(len(partitions), mix_of(objective.vector.spec))
        relabelled = initial_points(objective, partitions[:, order], counts)
        reached = objective.value(relabelled)
        better = reached > value
        best = np.where(better[:, None], relabelled, best)
        value = np.where(better, reached, value)
    return best


def _can_grow(spec: MixtureOfExperts) -> bool:
    """Whether a model's gate has shallower ones, and its experts are exchangeable."""
    structure = spec.structure
    alike = len(structure.blocks) == 1 and not structure.constraints.by_expert
    by_row = not {"group", "expert"} & {*spec.row_columns.given}
    deep = by_row and bool(structure.gate.coarser)
    return alike and deep and not tells_apart(spec.gate)


def ends_of(objective: Objective, result: ClimbResult) -> Modes:
    """One mode per EM run, experts in canonical order."""
    vector, theta = objective.vector, within_floors(objective.vector, result.theta)
    if not vector.tied:
        theta = canonical_order(vector, theta, vector.design.rows)
    value = np.where(np.isfinite(result.value), result.value, -np.inf)
    floored = result.floored | _at_floor(objective, theta)
    if floored.any():  # the value of what is reported, as predictions compute it
        reported = objective.with_vector(without_floors(vector))
        value[floored] = reported.value(theta[floored])
    ends = replace(result, theta=theta, value=value, floored=floored)
    return Modes.of_ends(
        vector.spec,
        vector.design,
        ends,
        values=vector.variables(theta),
        log_prior=vector.log_prior(theta)[0],
        objective=objective,
    )


def _at_floor(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Whether the spread of some rows is at its floor, or of an expert with few rows (point,)."""
    scales = [block for block in objective.vector.blocks if block.floor > -np.inf]
    constant = all(block.scaling is None for block in scales)
    least = (b.log_spread(theta[:, b.where]) <= max(b.floor, b.narrow) for b in scales)
    if constant and not any(low.any() for low in least):
        return np.zeros(len(theta), dtype=bool)
    low: np.ndarray = objective.slope(theta).at_floor > ROWS_AT_FLOOR
    return low


def nearest_mode(
    modes: Modes, objective: Objective, theta: np.ndarray, max_iter: int, tol: float = GRADIENT
) -> np.ndarray:
    """Index of the mode that an EM run from each point ends in (point,); -1 for no known mode."""
    ends = ends_of(objective, run_em(objective, theta, max_iter=max_iter, tol=tol))
    return match_modes(modes, ends, objective.rows)

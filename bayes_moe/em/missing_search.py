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
from functools import cached_property

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.progress import Progress, silent
from bayes_moe.data.design import Design, Matrix, Rows
from bayes_moe.em.climb import (
    ACCEPTED_GRADIENT,
    HALVINGS,
    ROWS_AT_FLOOR,
    first_points,
    newton_step,
    sweep_step,
)
from bayes_moe.em.multistart import FINALISTS, Optima, distinct, inverse, search
from bayes_moe.em.objective import Curvature, Evaluation, Objective
from bayes_moe.em.parameter_vector import Coordinates, coordinates
from bayes_moe.em.partitions import allocations, sweeps
from bayes_moe.em.proximal_newton import at_rest, rested
from bayes_moe.model import expert_order
from bayes_moe.model.likelihood import allocate, log_components
from bayes_moe.model.missing_features import (
    Imputed,
    Pattern,
    Reading,
    features,
    filled,
    has_gaps,
    patterns,
    read,
)
from bayes_moe.model.spec import MixtureOfExperts

ROUNDS = 5
"""Rounds of regression by which gaps are filled for first starts."""
LEFT = 0.5
"""Standard deviation of what is added to filled gaps, in units of the feature's."""
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
STEP = 1e-4
"""Difference by which second derivatives are taken, in units of the coordinates."""
ROUGH_STEP = 1e-6
"""The same where they serve a step only."""
NO_GAIN = 1e-14
ROUNDING = 1e-13
"""What the objective may fall by in a Newton step, in units of ``1 + |f|``."""
LEAST_COMPLETE = 5
"""Complete rows an expert and feature without which they do not make starts of their own."""


def incomplete(spec: MixtureOfExperts, design: Design) -> bool:
    """Whether a model is to be fitted to rows with missing features."""
    return has_gaps(spec.gate, spec.n_experts, design.rows)


def standing_in(spec: MixtureOfExperts, design: Design) -> Design:
    """Return a design without gaps, with the averages and spreads of what was observed.

    Default priors, units and floors are made from it; its rows are not those of the data.
    """
    rows = filled(design.rows, spec.gate, imputed(spec, design.rows))
    matrices = dict(rows.matrices)
    for m in spec.gate.modelled:
        values = matrices[m.stem].values.copy()
        known = design.rows.matrices[m.stem].values[:, m.column]
        known = known[~np.isnan(known)]
        own = values[:, m.column]
        values[:, m.column] = known.mean() + (own - own.mean()) * (known.std() / own.std())
        matrices[m.stem] = replace(matrices[m.stem], values=values)
    return replace(design, rows=replace(rows, matrices=matrices))


def imputed(
    spec: MixtureOfExperts, rows: Rows, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Features (obs, feature) with gaps filled by regression on the observed ones.

    With a generator, what the regression leaves is drawn: else the filled rows would lie on a
    plane, to which an expert would fall.
    """
    x = features(spec.gate, rows)
    gone = np.isnan(x)
    centre, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    z = np.where(gone, 0.0, (x - centre) / scale)
    groups = patterns(x)
    for _ in range(ROUNDS):
        cov = np.cov(z, rowvar=False).reshape(z.shape[1], -1) + 1e-6 * np.eye(z.shape[1])
        for g in groups:
            within = cov[np.ix_(g.observed, g.observed)]
            across = np.linalg.solve(within, cov[np.ix_(g.observed, g.missing)])
            z[np.ix_(g.rows, g.missing)] = z[np.ix_(g.rows, g.observed)] @ across
    if rng is not None:
        z = z + gone * rng.normal(scale=LEFT, size=z.shape)
    return np.where(gone, z * scale + centre, x)


@dataclass(frozen=True)
class State:
    """What a point's E-step gives: the observed objective, and the complete-data derivatives."""

    value: float
    found: Evaluation
    objective: Objective
    norm: float
    floored: bool


@dataclass(frozen=True)
class Expected:
    """The observed objective of a model on rows with missing features."""

    moving: Coordinates
    rows: Rows

    @cached_property
    def _groups(self) -> list[Pattern]:
        return patterns(features(self.moving.spec.gate, self.rows))

    def value(self, theta: np.ndarray) -> float:
        """Observed objective at a point (coordinate,); minus infinity if it is not finite."""
        with np.errstate(all="ignore"):
            value = self._allocate(self._read(theta))[0].sum()
        value += self.moving.log_prior(theta[None])[0][0]
        return float(value) if np.isfinite(value) else -np.inf

    def state(self, theta: np.ndarray) -> State:
        """E-step at a point (coordinate,)."""
        reading = self._read(theta)
        value, r = self._allocate(reading)
        rows, allocation = self._augmented(reading, r[0])
        objective = Objective(self.moving, rows)
        found = objective.evaluate(theta[None], Curvature.COMPLETE, allocation[None])
        found = _with_gate(self.moving, theta[None], found, self.rows.size, rows.size)
        prior = self.moving.log_prior(theta[None])[0][0]
        norm = float(np.linalg.norm(rested(self.moving, theta[None], found).gradient))
        floored = bool(found.at_floor[0] > ROWS_AT_FLOOR)
        return State(float(value.sum() + prior), found, objective, norm, floored)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """Gradient (coordinate,) of the observed objective, by Fisher's identity."""
        found: np.ndarray = self.state(theta).found.gradient[0]
        return found

    def information(self, theta: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        """Minus the second derivatives of the observed objective, by central differences.

        With the gradient ``at`` the point, by forward differences, which is half the work.
        """
        columns = []
        length = STEP if at is None else ROUGH_STEP
        for step in length * np.eye(len(theta)):
            after = self.gradient(theta + step)
            gap = self.gradient(theta - step) - after if at is None else 2 * (at - after)
            columns.append(gap / (2 * length))
        matrix = np.column_stack(columns)
        found: np.ndarray = (matrix + matrix.T) / 2
        return found

    # --- the E-step -------------------------------------------------------------------------------

    def _read(self, theta: np.ndarray) -> Reading:
        spec = self.moving.spec
        draws = self.moving.variables(theta[None])
        return read(spec.gate, spec.n_experts, spec.blocks, draws, self.rows, self._groups)

    def _allocate(self, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
        density = log_components(
            self.rows.observed, self.moving.spec.blocks, reading.params, NUMERIC
        )
        return allocate(reading.log_joint + density)

    def _augmented(self, reading: Reading, r: np.ndarray) -> tuple[Rows, np.ndarray]:
        """Complete rows and points in the place of others; their allocation (expert, obs)."""
        x = features(self.moving.spec.gate, self.rows)
        whole = np.flatnonzero(~np.isnan(x).any(axis=1))
        sources, values, shares = [whole], [x[whole]], [r[:, whole]]
        for found in reading.imputed:
            mean, root = self._given_response(reading, found)
            where, missing = found.pattern.rows, found.pattern.missing
            experts, m, n = mean.shape
            signed = np.sqrt(m) * np.concatenate([root, -root], axis=2)  # (expert, m, 2 m, obs)
            points = mean[:, :, None] + np.broadcast_to(signed, (experts, m, 2 * m, n))
            source = np.broadcast_to(where, (experts, 2 * m, n)).ravel()
            own = x[source]
            own[:, missing] = np.moveaxis(points, 1, -1).reshape(-1, m)
            share = np.einsum("kj,jn->kjn", np.eye(experts), r[:, where])
            share = np.broadcast_to(share[:, :, None] / (2 * m), (experts, experts, 2 * m, n))
            sources.append(source)
            values.append(own)
            shares.append(share.reshape(experts, -1))
        rows = _picked(self.rows, np.concatenate(sources))
        return filled(rows, self.moving.spec.gate, np.concatenate(values)), np.hstack(shares)

    def _given_response(self, reading: Reading, found: Imputed) -> tuple[np.ndarray, np.ndarray]:
        """Mean (expert, missing, obs) and root (expert, missing, missing, obs) given all else."""
        where = found.pattern.rows
        mean, root = found.mean[0].copy(), found.root[0][..., None]
        root = np.array(np.broadcast_to(root, (*root.shape[:3], len(where))))
        y = self.rows.observed[where]
        for j, (block, slopes) in enumerate(
            zip(self.moving.spec.blocks, found.slopes, strict=True)
        ):
            if slopes is None:
                continue
            own = list(block.positions)
            mu, sigma = (reading.params[j][n][0][:, where] for n in ("mu", "sigma"))
            bare = np.broadcast_to(reading.bare[j]["sigma"][0], reading.params[j]["mu"][0].shape)
            along = np.einsum("kij,ki->kj", found.root[0][own], slopes[0])
            out = np.einsum("kij,kj->ki", found.root[0][own], along)
            mean[own] += out[..., None] * ((y - mu) / sigma**2)[:, None]
            shrink = 1 / (sigma**2 * (1 + bare[:, where] / sigma))
            root[own] -= np.einsum("ki,kj,kn->kijn", out, along, shrink)
        return mean, root


def _picked(rows: Rows, which: np.ndarray) -> Rows:
    """Rows by position, with repetition; their columns are not needed."""
    matrices: dict[str, Matrix] = {
        stem: replace(m, values=m.values[which]) for stem, m in rows.matrices.items()
    }
    return Rows(matrices, rows.obs_id[which], None, rows.observed[which])


def _with_gate(
    moving: Coordinates, theta: np.ndarray, found: Evaluation, size: int, points: int
) -> Evaluation:
    """Count rows for the gate once, and not once for each of their points."""
    slot = moving.slots[0]
    log_weights = moving.spec.gate.log_weights(
        moving.spec.n_experts, slot.unit * slot.raw(theta) + slot.offset, NUMERIC
    )
    slope = slot.unit * (found.rows - size * np.exp(log_weights[..., 0]))
    slope = slope if slot.basis is None else slope @ slot.basis.T
    own_gradient, gradient = found.own_gradient.copy(), found.gradient.copy()
    gradient[:, slot.where] += slope - own_gradient[:, slot.where]
    own_gradient[:, slot.where] = slope
    own_curvature, curvature = found.own_curvature.copy(), found.curvature.copy()
    surplus = (1 - size / points) * own_curvature[:, slot.where, slot.where]
    own_curvature[:, slot.where, slot.where] -= surplus
    curvature[:, slot.where, slot.where] -= surplus
    return replace(
        found,
        gradient=gradient,
        curvature=curvature,
        own_gradient=own_gradient,
        own_curvature=own_curvature,
    )


# --- climbs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Climb:
    """Where a climb ended, and how."""

    theta: np.ndarray
    state: State
    path: tuple[float, ...]
    converged: bool


def climb(
    expected: Expected, theta: np.ndarray, *, max_iter: int, tol: float, newton: bool = True
) -> Climb:
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
    return Climb(theta, state, tuple(path), converged)


def _concave(expected: Expected, theta: np.ndarray, state: State) -> bool:
    """Whether the observed objective has a maximum at a point, and not a saddle."""
    bend = replace(state.found, curvature=expected.information(theta)[None])
    return bool(newton_step(rested(expected.moving, theta[None], bend))[1][0])


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
    moving: Coordinates,
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
) -> Optima:
    """Find modes on rows with missing features.

    Climbs begin at the modes of the complete rows, and at those of all rows with gaps filled at
    random about their regression. The best are followed.

    Parameters
    ----------
    moving : Coordinates
        What moves, from a design :func:`standing_in`.
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
            split = allocations(moving.spec, designs[0].rows, SPLITS, rng)
            theta = first_points(Objective(moving, designs[0].rows), split, sweeps(SPLITS))
            hits = np.ones(len(theta), dtype=int)
    ends = []
    for done, point in enumerate(theta):
        ends.append(climb(expected, point, max_iter=min(BURN_IN, max_iter), tol=tol, newton=False))
        progress(done + 1, len(theta) + FOLLOWED)
    rough = distinct(_optima(expected, design, ends, hits, max_iter), design.rows)
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
    return distinct(final, design.rows)


def standard_errors(
    found: Optima, moving: Coordinates, design: Design
) -> Mapping[str, np.ndarray] | None:
    """Standard errors of the best mode's variables; None if the information has no inverse."""
    theta = found.theta[found.best]
    if found.singular[found.best]:
        return None
    expected = Expected(moving, design.rows)
    information = expected.information(theta)
    free = ~at_rest(moving, theta[None], expected.state(theta).found)[0]
    spread = inverse(information[np.ix_(free, free)])
    if spread is None:
        return None
    whole = np.zeros_like(information)
    whole[np.ix_(free, free)] = spread
    return moving.reported_sds(theta, whole)


def _without_gaps(moving: Coordinates, design: Design, rng: np.random.Generator) -> list[Design]:
    """All rows with gaps filled at random; the complete rows alone, if they are enough."""
    gate, experts = moving.spec.gate, moving.spec.n_experts
    found = []
    for _ in range(FILLINGS):
        x = imputed(moving.spec, design.rows, rng)
        found.append(replace(moving.design, rows=filled(design.rows, gate, x)))
    kept = np.flatnonzero(~np.isnan(features(gate, design.rows)).any(axis=1))
    if len(kept) >= LEAST_COMPLETE * experts * (1 + len(gate.modelled)):
        found.append(replace(moving.design, rows=design.rows.pick(kept)))
    return found


def _starts(
    moving: Coordinates,
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
    expected: Expected, design: Design, ends: list[Climb], hits: np.ndarray, max_iter: int
) -> Optima:
    """Where climbs ended, each as a mode of its own."""
    moving, spec = expected.moving, expected.moving.spec
    theta = np.stack([end.theta for end in ends])
    level = expert_order.levels(spec, moving.variables(theta), design.rows)
    theta = moving.permuted(theta, expert_order.order(spec, level))
    longest = max(len(end.path) for end in ends)
    path = np.full((longest, len(ends)), np.nan)
    for j, end in enumerate(ends):
        path[: len(end.path), j] = end.path
    iterations = np.array([len(end.path) - 1 for end in ends])
    none = np.zeros(len(ends), dtype=bool)
    return Optima(
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

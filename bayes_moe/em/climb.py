"""Climbing to modes from many starting points at once: EM sweeps, then Newton's method.

A sweep of EM solves every block of the complete-data information for its own gradient: weighted
least squares for locations, one step of iteratively reweighted least squares for other links, one
Newton step for the gate; the constant scale of a location-scale family then has its exact optimum
given the new location, and a constant gate has its own. Newton's method on the exact observed
information takes over where sweeps gain little. No step is taken that lowers the objective: steps
are halved until it rises.

A Laplace prior has a kink, where the mode may lie. Steps then are to the maximum of the quadratic
model with the kinks (proximal Newton), so that coordinates come to rest exactly there.

References
----------
Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm. Neural
Computation, 6(2), 181-214.

Meng, X.-L., & Rubin, D. B. (1993). Maximum likelihood estimation via the ECM algorithm. Biometrika,
80(2), 267-278.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.core.progress import Progress, silent
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.em.objective import Curvature, Evaluation, Objective
from bayes_moe.em.parameter_vector import Slot
from bayes_moe.em.proximal_newton import kinked, promised, rested
from bayes_moe.priors.densities import log_density, log_density_of_log

LEAST_SWEEPS = 5
SMALL_GAIN = 0.1
"""Rise of the objective in a sweep, in nats a thousand rows, below which Newton's takes over.

Where the objective is not concave, it goes on while it gains more than the last sweep did."""
MOST_SWEEPS = 100
SWEEPS_BETWEEN = 5
"""Sweeps after Newton's method was tried where the objective is not concave."""
LARGEST_CHANGE = 3.0
"""Largest root mean square change of a predictor on a log or logit scale in one step."""
RUNNING = 0.05
"""Change of a predictor in a Newton step, at a vanishing gradient, that tells a runaway."""
GRADIENT = 1e-9
ACCEPTED_GRADIENT = 1e-6
HALVINGS = 25
ROWS_AT_FLOOR = 0.5
"""Rows whose scale parameter is at its floor that make a point singular."""
PROMISE = 1e-12
"""Gain that a Newton step promises, in units of ``1 + |f|``, below which rounding decides."""
NULL = 1e-13
NEUTRAL_SHAPE = 2.0
"""Logarithm of a shape parameter to begin with."""
FLAT = 1e-6
"""Curvature, in nats a squared unit of the coordinates, that is as good as none."""


@dataclass(frozen=True)
class Ascent:
    """Where the climbs ended.

    Attributes
    ----------
    theta : array (point, coordinate)
    value : array (point,)
    gradient_norm : array (point,)
    iterations : array (point,)
        Sweeps and Newton steps.
    converged : array (point,)
        Whether the gradient vanishes at a maximum that is reached at finite coordinates.
    running : array (point, slot)
        Which predictors still run away where the gradient vanishes.
    floored : array (point,)
        Whether a scale parameter has fallen to its floor.
    path : array (iteration, point)
        The objective before every iteration and at the end; NaN after a climb's end.
    """

    theta: np.ndarray
    value: np.ndarray
    gradient_norm: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    running: np.ndarray
    floored: np.ndarray
    path: np.ndarray


def first_points(
    objective: Objective, allocation: np.ndarray, sweeps: int | np.ndarray = 2
) -> np.ndarray:
    """Return points (point, coordinate) from a split of the rows (point, expert, obs).

    ``sweeps``, one number or one a point, is how long the allocation is held.
    """
    theta = neutral(objective, len(allocation))
    left = np.broadcast_to(sweeps, len(allocation))
    for done in range(int(left.max())):
        which = np.flatnonzero(left > done)
        found = objective.evaluate(theta[which], Curvature.COMPLETE, allocation[which])
        step = sweep_step(objective, theta[which], found)
        for slot in objective.coordinates.slots:
            if slot.role == "shape":  # nothing to learn from residuals of a bad fit
                step[:, slot.where] = 0.0
        theta[which] += step
    return theta


def neutral(objective: Objective, points: int) -> np.ndarray:
    """Return the point where all experts are alike: no features, half the response's spread."""
    theta = np.zeros((points, objective.size))
    spread = float(np.std(objective.coordinates.design.response)) / 2
    for slot in objective.coordinates.slots:
        if slot.scaling is None:
            theta[:, slot.where] = np.log(spread) if slot.role == "scale" else NEUTRAL_SHAPE
    return theta


def ascend(
    objective: Objective,
    theta: np.ndarray,
    *,
    max_iter: int,
    tol: float = GRADIENT,
    newton_first: bool = False,
    progress: Progress = silent,
) -> Ascent:
    """Climb from points (point, coordinate).

    Parameters
    ----------
    objective : Objective
        What to climb.
    theta : array (point, coordinate)
        Where from.
    max_iter : int
        Most iterations of each climb.
    tol : float
        A gradient norm below ``tol * (1 + |f|)`` ends a climb.
    newton_first : bool
        Begin with Newton's method: for points that are nearly modes already.
    progress : callable
        Told how many climbs have ended, and of how many.
    """
    climb = _Climb(objective, theta.copy(), tol, newton_first)
    for _ in range(max_iter):
        active = np.flatnonzero(climb.active)
        if not active.size:
            break
        newton = climb.try_newton[active]
        for which, step in ((active[~newton], climb.sweep), (active[newton], climb.newton)):
            if which.size:
                step(which)
        climb.path.append(np.where(climb.counted, climb.value, np.nan))
        climb.counted = climb.active.copy()
        progress(int((~climb.active).sum()), len(theta))
    return climb.end()


class _Climb:
    """The state of several climbs."""

    def __init__(
        self, objective: Objective, theta: np.ndarray, tol: float, newton_first: bool
    ) -> None:
        points = len(theta)
        self.objective = objective
        kinks = objective.coordinates.kinks
        self.kinks = None if np.isnan(kinks).all() else kinks
        self.theta = theta
        self.tol = tol
        self.small_gain = SMALL_GAIN * max(1.0, objective.y.size / 1000)
        self.value = objective.value(theta)
        self.gradient_norm = np.full(points, np.inf)
        self.iterations = np.zeros(points, dtype=int)
        self.sweeps = np.zeros(points, dtype=int)
        self.next_try = np.full(points, 0 if newton_first else LEAST_SWEEPS)
        self.try_newton = np.full(points, newton_first)
        self.gain = np.full(points, np.inf)  # of the last sweep
        self.stuck = np.zeros(points, dtype=bool)  # no Newton step was uphill
        self.active = np.isfinite(self.value)
        self.counted = self.active.copy()
        self.converged = np.zeros(points, dtype=bool)
        self.running = np.zeros((points, len(objective.coordinates.slots)), dtype=bool)
        self.floored = np.zeros(points, dtype=bool)
        self.path = [self.value.copy()]

    def end(self) -> Ascent:
        return Ascent(
            self.theta,
            self.value,
            self.gradient_norm,
            self.iterations,
            self.converged,
            self.running,
            self.floored,
            np.array(self.path),
        )

    def sweep(self, which: np.ndarray) -> None:
        """One sweep of EM for some climbs."""
        theta = self.theta[which]
        found = self.objective.evaluate(theta, Curvature.COMPLETE)
        step = sweep_step(self.objective, theta, found)
        slope = promised(self.objective.coordinates, theta, found, step)
        settled = rested(self.objective.coordinates, theta, found)
        self.gradient_norm[which] = np.linalg.norm(settled.gradient, axis=1)
        gained = self._move(which, step, slope)
        self.sweeps[which] += 1
        slow = (gained < self.small_gain) | (self.sweeps[which] >= MOST_SWEEPS)
        self.try_newton[which] = (slow & (self.sweeps[which] >= self.next_try[which])) | (
            gained <= 0
        )
        self.gain[which] = gained
        self.active[which[(gained <= 0) & self.stuck[which]]] = False
        self.stuck[which] = False
        self._stop_floored(which, found.at_floor)

    def newton(self, which: np.ndarray) -> None:
        """One step of Newton's method; a sweep of EM where the objective is not concave."""
        coordinates, theta = self.objective.coordinates, self.theta[which]
        found = self.objective.evaluate(theta, Curvature.OBSERVED)
        rest = rested(coordinates, theta, found)
        step, concave, settled = newton_step(rest)
        if self.kinks is not None:
            step = kinked(coordinates, theta, found, modulus(rest.curvature))
        norm = np.linalg.norm(rest.gradient, axis=1)
        self.gradient_norm[which] = norm
        size = 1 + np.abs(self.value[which])
        flat = norm <= self.tol * size
        go = concave | flat | (self.gain[which] < self.small_gain)
        back = which[~go]
        if back.size:
            self.next_try[back] = self.sweeps[back] + SWEEPS_BETWEEN
            self.try_newton[back] = False
            self.sweep(back)
        if not go.any():
            return
        change = self.objective.eta_size(step)[go]
        step = capped(self.objective, theta, step)
        slope = promised(coordinates, theta, found, step)
        which, step, slope, norm, flat, concave, settled, size = (
            x[go] for x in (which, step, slope, norm, flat, concave, settled, size)
        )
        gained = self._move(which, step, slope)
        still = gained <= 0
        ended = (flat & concave) | (still & (settled | (norm <= ACCEPTED_GRADIENT * size)))
        runs = change > RUNNING
        self.running[which] = runs & ended[:, None]
        self.converged[which] = ended & concave & ~runs.any(axis=1)
        self.active[which[ended]] = False
        self.stuck[which] = still & ~ended
        back = which[~ended & (still | (~concave & (gained < self.gain[which])))]
        self.try_newton[back] = False
        self.next_try[back] = self.sweeps[back] + SWEEPS_BETWEEN
        self._stop_floored(which, found.at_floor[go])

    def _move(self, which: np.ndarray, step: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Go along steps, halved until the objective does not fall; return what was gained."""
        self.iterations[which] += 1
        gained = np.zeros(len(which))
        length = np.ones(len(which))
        left = np.flatnonzero(np.isfinite(step).all(axis=1))
        for _ in range(HALVINGS):
            if not left.size:
                break
            at = which[left]
            candidate = self.theta[at] + length[left, None] * step[left]
            if self.kinks is not None:
                near = 1e-13 * (1 + np.abs(self.theta[at]) + np.abs(self.kinks))
                there = np.abs(candidate - self.kinks) <= near
                candidate = np.where(there, self.kinks, candidate)
            value = self.objective.value(candidate)
            rounding = 1e-14 * (1 + np.abs(self.value[at]))
            wanted = np.maximum(1e-4 * length[left] * slope[left], 0.0)
            good = value - self.value[at] >= np.where(wanted < 10 * rounding, 0.0, wanted)
            taken = at[good]
            self.theta[taken] = candidate[good]
            gained[left[good]] = value[good] - self.value[taken]
            self.value[taken] = value[good]
            length[left] /= 2
            left = left[~good]
        return gained

    def _stop_floored(self, which: np.ndarray, rows: np.ndarray) -> None:
        """End climbs where a scale parameter has fallen to its floor: no maximum is there.

        ``rows`` (point,) is how many rows belonged to it before the step.
        """
        low = rows > ROWS_AT_FLOOR
        for slot in self.objective.coordinates.slots:
            if slot.floor > -np.inf and slot.scaling is None:
                low |= (self.theta[which, slot.where] <= slot.floor).any(axis=1)
        self.floored[which[low]] = True
        self.converged[which[low]] = False
        self.active[which[low]] = False


def sweep_step(objective: Objective, theta: np.ndarray, found: Evaluation) -> np.ndarray:
    """Return the step of one sweep of EM from the complete-data derivatives."""
    bend = np.einsum("bii->bi", found.curvature)
    ridge = 1e-10 * (1 + np.abs(bend))
    scale = 1 / np.sqrt(np.maximum(bend + ridge, 1e-300))
    matrix = found.curvature * scale[:, :, None] * scale[:, None, :]
    diagonal = np.arange(objective.size)
    matrix[:, diagonal, diagonal] += ridge * scale**2
    good = np.isfinite(matrix).all(axis=(1, 2))
    matrix[~good] = np.eye(objective.size)
    if np.isnan(objective.coordinates.kinks).all():
        step = np.linalg.solve(matrix, (found.gradient * scale)[..., None])[..., 0] * scale
    else:
        whole = matrix / scale[:, :, None] / scale[:, None, :]
        step = kinked(objective.coordinates, theta, found, whole)
    step = np.where(good[:, None], step, np.nan)
    step = capped(objective, theta, step)
    for slot, location in scale_slots(objective.coordinates.slots):
        step[:, slot.where] = _scale_step(theta, found, step, slot, location)
    gate = objective.coordinates.slots[0]
    if _is_constant_gate(objective):
        step[:, gate.where] = _weight_step(theta, found, gate)
    return step


# --- constant gates -----------------------------------------------------------------------------


def _is_constant_gate(objective: Objective) -> bool:
    """Whether the gate is one softmax of constants, whose optimum is the experts' share of rows."""
    branching, gate = objective.coordinates.branching, objective.coordinates.slots[0]
    if branching is None or not branching.flat or gate.scaling is None or gate.basis is None:
        return False
    return gate.scaling.matrix.terms == (INTERCEPT,)


def _weight_step(theta: np.ndarray, found: Evaluation, gate: Slot) -> np.ndarray:
    """Step of a constant gate to its optimum, given the experts' rows.

    With ``N_k`` the rows, it maximises ``sum_k N_k log w_k + log prior``; without a prior,
    ``w_k = N_k / n``.
    """
    assert gate.basis is not None
    rows = np.maximum(found.rows, 1e-12)
    total = rows.sum(axis=1, keepdims=True)
    free = np.log(rows) @ gate.basis.T / gate.unit
    if gate.prior is None:
        return free - theta[:, gate.where]
    free = theta[:, gate.where].copy()
    for _ in range(12):
        weights = np.exp(log_softmax((free @ gate.basis * gate.unit)[..., None], NUMERIC))[..., 0]
        _, first, second = log_density(gate.prior, free[..., None])
        slope = gate.unit * (rows - total * weights) @ gate.basis.T + first[..., 0]
        spread = np.einsum("bk,kl->bkl", weights, np.eye(weights.shape[1]))
        spread = (spread - weights[:, :, None] * weights[:, None, :]) * total[:, :, None]
        bend = gate.unit**2 * gate.basis @ spread @ gate.basis.T
        diagonal = np.arange(bend.shape[1])
        bend[:, diagonal, diagonal] += np.maximum(-second[..., 0], 1e-9)
        change = np.clip(np.linalg.solve(bend, slope[..., None])[..., 0], -3.0, 3.0)
        free += change
        if np.abs(change).max() < 1e-10:
            break
    return free - theta[:, gate.where]


def capped(objective: Objective, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Shorten steps that would change a predictor on a log or logit scale beyond reason.

    A predictor may change by ``LARGEST_CHANGE``, or by as much as it is.
    """
    free = np.array([s.role == "location" for s in objective.coordinates.slots])
    allowed = LARGEST_CHANGE + objective.eta_size(theta)
    beyond = np.where(free, 0.0, objective.eta_size(step) / allowed).max(axis=1)
    return step / np.maximum(beyond, 1.0)[:, None]


def newton_step(found: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Newton steps, uphill also where the objective is not concave.

    Besides, where it is concave, and where, being so, it promises no gain beyond rounding: the
    gradient's norm alone cannot tell, since a large curvature multiplies what rounding leaves.
    """
    scale, matrix, good = _scaled(found.curvature)
    values, vectors = np.linalg.eigh(matrix)
    largest = np.abs(values).max(axis=1, keepdims=True)
    null = np.abs(values) <= NULL * len(values[0]) * largest
    along = np.einsum("bij,bi->bj", vectors, found.gradient * scale)
    inverse = np.where(null, 0.0, 1 / np.where(null, 1.0, np.abs(values)))
    step = np.einsum("bij,bj->bi", vectors, along * inverse) * scale
    # The curvature along an eigenvector, in units of the coordinates.
    bend = values / np.maximum(((scale[:, :, None] * vectors) ** 2).sum(axis=1), 1e-300)
    concave = ((values >= -1e-9 * largest) | (bend >= -FLAT)).all(axis=1) & good
    size = 1 + np.abs(found.value)
    settled = concave & ((along**2 * inverse).sum(axis=1) <= 2 * PROMISE * size)
    settled &= np.abs(along * null).max(axis=1) <= ACCEPTED_GRADIENT * size
    return np.where(good[:, None], step, np.nan), concave, settled


def modulus(matrix: np.ndarray) -> np.ndarray:
    """Return matrices with the absolute values of their eigenvalues, none of them zero."""
    scale, scaled, good = _scaled(matrix)
    values, vectors = np.linalg.eigh(scaled)
    values = np.abs(values) + NULL * np.abs(values).max(axis=1, keepdims=True) + 1e-300
    found: np.ndarray = np.einsum("bij,bj,bkj->bik", vectors, values, vectors)
    found = found / scale[:, :, None] / scale[:, None, :]
    return np.where(good[:, None, None], found, np.eye(matrix.shape[1]))


def _scaled(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale matrices to a diagonal of ones (or minus ones); say which are finite, zero others."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.einsum("bii->bi", matrix)), 1e-300))
    scale = np.where(np.isfinite(scale) & (scale < 1e100), scale, 1.0)
    scaled = matrix * scale[:, :, None] * scale[:, None, :]
    good = np.isfinite(scaled).all(axis=(1, 2))
    return scale, np.where(good[:, None, None], scaled, 0.0), good


# --- scales ---------------------------------------------------------------------------------


def scale_slots(slots: tuple[Slot, ...]) -> list[tuple[Slot, Slot]]:
    """Return the slots of constant scales with the location slots they belong to."""
    locations = {s.block: s for s in slots if s.role == "location"}
    return [
        (s, locations[s.block])
        for s in slots
        if s.role == "scale" and s.scaling is None and s.block in locations
    ]


def _scale_step(
    theta: np.ndarray, found: Evaluation, step: np.ndarray, slot: Slot, location: Slot
) -> np.ndarray:
    """Step of log sigma to its optimum, given the location's step.

    With ``N`` the experts' rows and ``S`` the weighted sum of squares of the new residuals in units
    of the old sigma, it maximises ``-N t - S exp(-2 t) / 2 + log prior`` over ``t``.
    """
    experts = len(slot.experts)
    move = step[:, location.where]
    own = found.own_curvature[:, location.where, location.where]
    gained = 2 * move * found.own_gradient[:, location.where] - move * np.einsum(
        "bij,bj->bi", own, move
    )
    gained = gained.reshape(len(theta), experts, -1).sum(axis=-1)
    rows = found.rows[:, slot.experts]
    square = np.maximum(rows + found.own_gradient[:, slot.where] - gained, 1e-12 * rows + 1e-300)
    old = theta[:, slot.where]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.clip(0.5 * np.log(square / rows), -8.0, 8.0)
    t = np.where(rows > 1e-8, t, 0.0)
    if slot.prior is None:
        return np.where(rows > 1e-8, np.maximum(t, slot.floor - old), 0.0)
    for _ in range(12):
        _, first, second = log_density_of_log(slot.prior, (old + t)[..., None])
        shrunk = square * np.exp(-2 * t)
        slope = shrunk - rows + first[..., 0]
        bend = 2 * shrunk + np.maximum(-second[..., 0], 1e-6)
        change = np.clip(slope / bend, -1.0, 1.0)
        t = t + change
        if np.abs(change).max() < 1e-10:
            break
    return t

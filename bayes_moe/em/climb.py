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

from bayes_moe.core.progress import Progress, silent
from bayes_moe.em.m_step import capped, sweep_step
from bayes_moe.em.newton import ACCEPTED_GRADIENT, modulus, newton_step
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.proximal_newton import predicted_gain, projected, proximal_step

LEAST_SWEEPS = 5
SMALL_GAIN = 0.1
"""Rise of the objective in a sweep, in nats a thousand rows, below which Newton's takes over.

Where the objective is not concave, it goes on while it gains more than the last sweep did."""
MOST_SWEEPS = 100
SWEEPS_BETWEEN = 5
"""Sweeps after Newton's method was tried where the objective is not concave."""
RUNNING = 0.05
"""Change of a predictor in a Newton step, at a vanishing gradient, that tells a runaway."""
GRADIENT = 1e-9
HALVINGS = 25
ROWS_AT_FLOOR = 0.5
"""Rows whose scale parameter is at its floor that make a point singular."""
NEUTRAL_SHAPE = 2.0
"""Logarithm of a shape parameter to begin with."""


@dataclass(frozen=True)
class ClimbResult:
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
) -> ClimbResult:
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
    climb = _ClimbState(objective, theta.copy(), tol, newton_first)
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


class _ClimbState:
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

    def end(self) -> ClimbResult:
        return ClimbResult(
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
        slope = predicted_gain(self.objective.coordinates, theta, found, step)
        settled = projected(self.objective.coordinates, theta, found)
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
        rest = projected(coordinates, theta, found)
        step, concave, settled = newton_step(rest)
        if self.kinks is not None:
            step = proximal_step(coordinates, theta, found, modulus(rest.curvature))
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
        slope = predicted_gain(coordinates, theta, found, step)
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


# --- constant gates -----------------------------------------------------------------------------


# --- scales ---------------------------------------------------------------------------------

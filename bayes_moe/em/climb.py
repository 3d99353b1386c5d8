"""EM from many starting points at once: sweeps, then Newton's method.

A sweep of EM solves every block of the complete-data information for its own gradient: weighted
least squares for locations, one step of iteratively reweighted least squares for other links, one
Newton step for the gate. The constant scale of a location-scale family is then at its exact
maximum given the new location, and a constant gate at its own. Newton's method on the exact
observed information takes over where sweeps gain little. Steps are halved until the objective does
not fall.

A Laplace prior has a kink, where the mode may be. Steps then maximise the quadratic model with the
kinks (proximal Newton), so that coordinates can be exactly at them.

References
----------
Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm. Neural
Computation, 6(2), 181-214.

Meng, X.-L., & Rubin, D. B. (1993). Maximum likelihood estimation via the ECM algorithm. Biometrika,
80(2), 267-278.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from bayes_moe.core.progress import Progress, silent
from bayes_moe.core.threads import one_blas_thread
from bayes_moe.em.edges import edge_steps
from bayes_moe.em.m_step import capped, sweep_step
from bayes_moe.em.newton import (
    ACCEPTED_GRADIENT,
    LEAST_GAIN,
    expanded,
    first_order_gain,
    modulus,
    newton_step,
    reduced,
)
from bayes_moe.em.objective import Curvature, Evaluation, Objective
from bayes_moe.em.proximal_newton import predicted_gain, projected, proximal_step

LEAST_SWEEPS = 5
SMALL_GAIN = 0.1
"""Gain of a sweep, in nats per thousand rows, below which Newton's method takes over.

Where the objective is not concave, Newton's method continues while it gains more than the last
sweep.
"""
MOST_SWEEPS = 100
SWEEPS_BETWEEN = 5
"""Sweeps between attempts of Newton's method where the objective is not concave."""
RUNNING = 0.05
"""Change of a predictor in a Newton step, at a vanishing gradient, from which it diverges."""
GRADIENT = 1e-9
HALVINGS = 25
EXTENSIONS = 8
"""How often a step is repeated where the density has edges."""
ROWS_AT_FLOOR = 0.5
"""Rows whose scale parameter is at its floor that make a point singular."""


@dataclass(frozen=True)
class ClimbResult:
    """Final points of optimiser runs.

    Attributes
    ----------
    theta : array (point, coordinate)
    value : array (point,)
    gradient_norm : array (point,)
    iterations : array (point,)
        Sweeps and Newton steps.
    converged : array (point,)
        Whether the gradient vanishes at a maximum that is reached at finite coordinates; where the
        slope jumps, whether one of the subgradients does.
    running : array (point, variable)
        Whether the predictor of a variable still diverges where the gradient vanishes.
    floored : array (point,)
        Whether a scale parameter is at its floor.
    exhausted : array (point,)
        Whether the run used up its iterations.
    path : array (iteration, point)
        The objective before every iteration and at the end; NaN after a run's end.
    variables : tuple of str
        Reported variables of ``running``.
    """

    theta: np.ndarray
    value: np.ndarray
    gradient_norm: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    running: np.ndarray
    floored: np.ndarray
    exhausted: np.ndarray
    path: np.ndarray
    variables: tuple[str, ...]

    @classmethod
    def concatenate(cls, runs: Sequence[ClimbResult]) -> ClimbResult:
        """Return the results of separate runs as one."""
        by_point = [f.name for f in fields(cls) if f.name not in ("path", "variables")]
        joined = {name: np.concatenate([getattr(run, name) for run in runs]) for name in by_point}
        path = padded_paths([run.path[:, j] for run in runs for j in range(len(run.value))])
        return cls(**joined, path=path, variables=runs[0].variables)


def padded_paths(paths: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """Return paths of different lengths as one array (iteration, run), with NaN at their ends."""
    padded = np.full((max(len(path) for path in paths), len(paths)), np.nan)
    for j, path in enumerate(paths):
        padded[: len(path), j] = path
    return padded


def run_em(
    objective: Objective,
    theta: np.ndarray,
    *,
    max_iter: int,
    tol: float = GRADIENT,
    newton_first: bool = False,
    progress: Progress = silent,
) -> ClimbResult:
    """Return the final points of EM runs from initial points (point, coordinate).

    Parameters
    ----------
    objective : Objective
        What to maximise.
    theta : array (point, coordinate)
        Initial points.
    max_iter : int
        Most iterations of each run.
    tol : float
        A gradient norm below ``tol * (1 + |f|)`` ends a run.
    newton_first : bool
        Start with Newton's method: for points that are nearly modes already.
    progress : callable
        Called with the number of runs that have ended, and of all runs.
    """
    with one_blas_thread(objective.size):
        state = _EMState(objective, theta.copy(), tol, newton_first)
        for _ in range(max_iter):
            active = np.flatnonzero(state.active)
            if not active.size:
                break
            state.iterate(active)
            progress(int((~state.active).sum()), len(theta))
    return state.result(max_iter)


class _EMState:
    """State of several EM runs."""

    def __init__(
        self, objective: Objective, theta: np.ndarray, tol: float, newton_first: bool
    ) -> None:
        points = len(theta)
        self.objective = objective
        self.vector = objective.vector
        self.theta = theta
        self.tol = tol
        # The mode may be at an edge of the density, where the gradient does not vanish.
        factors = objective.vector.spec.structure.factors
        self.has_edges = any(factor.block.family.kink for factor in factors)
        self.small_gain = SMALL_GAIN * max(1.0, objective.rows.weight / 1000)
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
        self.running = np.zeros((points, len(self.vector.blocks)), dtype=bool)
        self.floored = np.zeros(points, dtype=bool)
        self.path = [self.value.copy()]

    def result(self, max_iter: int) -> ClimbResult:
        return ClimbResult(
            theta=self.theta,
            value=self.value,
            gradient_norm=self.gradient_norm,
            iterations=self.iterations,
            converged=self.converged,
            running=self.running,
            floored=self.floored,
            exhausted=self.iterations >= max_iter,
            path=np.array(self.path),
            variables=tuple(block.variable for block in self.vector.blocks),
        )

    def iterate(self, active: np.ndarray) -> None:
        """One iteration of the runs ``active``: a step of Newton's method, or a sweep."""
        newton = self.try_newton[active]
        for which, step in ((active[~newton], self.sweep), (active[newton], self.newton)):
            if which.size:
                step(which)
        self.path.append(np.where(self.counted, self.value, np.nan))
        self.counted = self.active.copy()

    def sweep(self, which: np.ndarray) -> None:
        """One sweep of EM for the runs ``which``."""
        theta = self.theta[which]
        evaluation = self.objective.evaluate(theta, Curvature.COMPLETE)
        step = sweep_step(self.objective, theta, evaluation)
        predicted = self._predicted_gain(theta, evaluation, step)
        gradient = reduced(self.vector, self._projected(theta, evaluation)).gradient
        self.gradient_norm[which] = np.linalg.norm(gradient, axis=1)
        gained = self._move(which, step, predicted)
        if self.has_edges:
            gained += self._extend(which[gained > 0], step[gained > 0], which)
        self.sweeps[which] += 1
        slow = (gained < self.small_gain) | (self.sweeps[which] >= MOST_SWEEPS)
        self.try_newton[which] = (slow & (self.sweeps[which] >= self.next_try[which])) | (
            gained <= 0
        )
        self.gain[which] = gained
        ended = which[(gained <= 0) & self.stuck[which]]
        if self.has_edges and ended.size:
            ended = self._at_edges(ended)
        self.active[ended] = False
        self.stuck[which] = False
        self._stop_floored(which, evaluation.at_floor)

    def _at_edges(self, which: np.ndarray) -> np.ndarray:
        """Take steps of the runs ``which`` along edges; return those that are at their end."""
        step, gain, norm = edge_steps(self.objective, self.theta[which])
        self.gradient_norm[which] = norm
        size = 1 + np.abs(self.value[which])
        at_mode = (norm <= ACCEPTED_GRADIENT * size) | (gain <= 2 * LEAST_GAIN * size)
        self.converged[which], ended = at_mode, at_mode.copy()
        rest = ~at_mode
        ended[rest] = self._move(which[rest], step[rest], gain[rest]) <= 0
        return which[ended]

    def newton(self, which: np.ndarray) -> None:
        """One step of Newton's method; a sweep of EM where the objective is not concave."""
        theta = self.theta[which]
        evaluation = self.objective.evaluate(theta, Curvature.OBSERVED)
        smooth = reduced(self.vector, self._projected(theta, evaluation))
        step, concave, settled = newton_step(smooth)
        step = expanded(self.vector, step)
        if self.vector.has_kinks:
            step = proximal_step(self.vector, theta, evaluation, modulus(smooth.curvature))
        norm = np.linalg.norm(smooth.gradient, axis=1)
        self.gradient_norm[which] = norm
        size = 1 + np.abs(self.value[which])
        vanished = norm <= self.tol * size
        use_newton = concave | vanished | (self.gain[which] < self.small_gain)
        others = which[~use_newton]
        if others.size:
            self.next_try[others] = self.sweeps[others] + SWEEPS_BETWEEN
            self.try_newton[others] = False
            self.sweep(others)
        if not use_newton.any():
            return
        whole = step[use_newton]
        step = capped(self.objective, theta, step)
        predicted = self._predicted_gain(theta, evaluation, step)
        which, step, predicted, norm, vanished, concave, settled, size = (
            x[use_newton] for x in (which, step, predicted, norm, vanished, concave, settled, size)
        )
        before = self.theta[which]
        gained = self._move(which, step, predicted)
        no_gain = gained <= 0
        ended = (vanished & concave) | (no_gain & (settled | (norm <= ACCEPTED_GRADIENT * size)))
        hidden = ended & no_gain & concave & (predicted <= 2 * LEAST_GAIN * size)
        self._finish(which[hidden], step[hidden], before[hidden])
        diverges = self.objective.eta_size(whole[ended]) > RUNNING
        self.running[which[ended]] = diverges
        self.converged[which[ended]] = concave[ended] & ~diverges.any(axis=1)
        self.active[which[ended]] = False
        self.stuck[which] = no_gain & ~ended
        to_sweeps = which[~ended & (no_gain | (~concave & (gained < self.gain[which])))]
        self.try_newton[to_sweeps] = False
        self.next_try[to_sweeps] = self.sweeps[to_sweeps] + SWEEPS_BETWEEN
        self._stop_floored(which, evaluation.at_floor[use_newton])

    def _finish(self, which: np.ndarray, step: np.ndarray, before: np.ndarray) -> None:
        """Take last steps of Newton's method whose gains the objective's rounding hides.

        ``before`` (point, coordinate) are the points before the steps were tried.
        """
        if not self.vector.has_kinks:
            left = (self.theta[which] == before).all(axis=1)
            self.theta[which[left]] += step[left]

    def _projected(self, theta: np.ndarray, evaluation: Evaluation) -> Evaluation:
        return projected(self.vector, theta, evaluation) if self.vector.has_kinks else evaluation

    def _predicted_gain(
        self, theta: np.ndarray, evaluation: Evaluation, step: np.ndarray
    ) -> np.ndarray:
        if self.vector.has_kinks:
            return predicted_gain(self.vector, theta, evaluation, step)
        return first_order_gain(evaluation, step)

    def _move(self, which: np.ndarray, step: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Take steps, halved until the objective does not fall; return the gains (point,)."""
        self.iterations[which] += 1
        gained = np.zeros(len(which))
        length = np.ones(len(which))
        left = np.flatnonzero(np.isfinite(step).all(axis=1))
        for _ in range(HALVINGS):
            if not left.size:
                break
            at = which[left]
            candidate = self.theta[at] + length[left, None] * step[left]
            if self.vector.has_kinks:
                kinks = self.vector.kinks
                rounding = 1e-13 * (1 + np.abs(self.theta[at]) + np.abs(kinks))
                candidate = np.where(np.abs(candidate - kinks) <= rounding, kinks, candidate)
            value = self.objective.value(candidate)
            rounding = 1e-14 * (1 + np.abs(self.value[at]))
            required = np.maximum(1e-4 * length[left] * predicted[left], 0.0)
            good = value - self.value[at] >= np.where(required < 10 * rounding, 0.0, required)
            taken = at[good]
            self.theta[taken] = candidate[good]
            gained[left[good]] = value[good] - self.value[taken]
            self.value[taken] = value[good]
            length[left] /= 2
            left = left[~good]
        return gained

    def _extend(self, some: np.ndarray, step: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Repeat the steps of some of the runs ``which``, doubled each time, while they gain.

        EM comes to an edge of the density by a constant share of the distance in each sweep.
        """
        gained = np.zeros(len(which))
        for j in range(EXTENSIONS):
            if not some.size:
                break
            candidate = self.theta[some] + 2.0**j * step
            value = self.objective.value(candidate)
            good = value > self.value[some]
            some, step = some[good], step[good]
            gained[np.isin(which, some)] += value[good] - self.value[some]
            self.theta[some], self.value[some] = candidate[good], value[good]
        return gained

    def _stop_floored(self, which: np.ndarray, rows: np.ndarray) -> None:
        """End runs where a scale parameter is at its floor: there is no maximum.

        ``rows`` (point,) is the number of rows at it before the step.
        """
        low = rows > ROWS_AT_FLOOR
        for block in self.vector.blocks:
            if block.floor > -np.inf and block.scaling is None:
                spread = block.log_spread(self.theta[which, block.where])
                low |= (spread <= block.floor).any(axis=1)
        self.floored[which[low]] = True
        self.converged[which[low]] = False
        self.active[which[low]] = False

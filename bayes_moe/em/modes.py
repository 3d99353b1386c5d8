"""Modes of an objective: merged, sorted, and flagged as singular, separated or empty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayes_moe.core.linalg import information_ratio, inverse
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.em.chain_mixture import has_chain
from bayes_moe.em.climb import ClimbResult, padded_paths
from bayes_moe.em.objective import Curvature, Objective, parts, responsibilities
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.proximal_newton import at_kink
from bayes_moe.model import expert_order
from bayes_moe.model.allocation import (
    counted_units,
    observed_log_density,
    observed_responsibilities,
    unit_weight,
)
from bayes_moe.model.evaluation import chunks, evaluate
from bayes_moe.model.spec import MixtureOfExperts

SAME_VALUE = 2e-3
"""Difference of the objective within one mode, in nats."""
SAME_ROWS = 2e-2
"""Largest difference of a row's log density within one mode, in nats."""
LEAST_ROWS = 1.0
"""Rows below which an expert is empty."""

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Modes:
    """Modes, the highest first; ``best`` is the estimate.

    All arrays have the modes first, ``path`` (iteration, mode) second. ``values`` are the model's
    variables, ``theta`` the free coordinates, ``hits`` the number of runs that ended there,
    ``exhausted`` whether a run used up its iterations, ``share`` (mode, expert) the experts' share
    of the rows, ``log_allocation`` the sum over rows of the largest log responsibility. ``running``
    (mode,) is by variable whether it diverges; ``restarts`` is the number of starts, ``objective``
    what was maximised (None for a graph). ``effective_parameters`` are those of the best mode
    where ``objective`` cannot say them; NaN if unknown. ``finished`` is the number of starts whose
    runs went on to their end, ``new_mode_chance`` that of :func:`new_mode_chance`.
    """

    spec: MixtureOfExperts
    design: Design
    values: Values
    theta: np.ndarray
    value: np.ndarray
    log_prior: np.ndarray
    gradient_norm: np.ndarray
    iterations: np.ndarray
    hits: np.ndarray
    converged: np.ndarray
    singular: np.ndarray
    exhausted: np.ndarray
    path: np.ndarray
    share: np.ndarray
    log_allocation: np.ndarray
    restarts: int
    running: dict[str, np.ndarray]
    objective: Objective | None
    effective_parameters: float = np.nan
    finished: int = 1
    new_mode_chance: float = np.nan

    @classmethod
    def of_ends(
        cls,
        spec: MixtureOfExperts,
        design: Design,
        ends: ClimbResult,
        *,
        values: Values,
        log_prior: np.ndarray,
        objective: Objective | None = None,
    ) -> Modes:
        """Return one mode per optimiser run; :func:`merge_modes` merges and judges them.

        ``values`` are the model's variables at the final points, with the experts in canonical
        order.
        """
        return cls(
            spec=spec,
            design=design,
            values=values,
            theta=ends.theta,
            value=ends.value,
            log_prior=log_prior,
            gradient_norm=ends.gradient_norm,
            iterations=ends.iterations,
            hits=np.ones(len(ends.theta), dtype=int),
            converged=ends.converged,
            singular=ends.floored,
            exhausted=ends.exhausted,
            path=ends.path,
            share=np.empty((len(ends.theta), 0)),
            log_allocation=np.empty(len(ends.theta)),
            restarts=len(ends.theta),
            finished=len(ends.theta),
            running={name: ends.running[:, j] for j, name in enumerate(ends.variables)},
            objective=objective,
        )

    @property
    def best(self) -> int:
        """Index of the highest mode that is not singular, if there is one."""
        return int(np.argmin(self.singular))

    @property
    def separated(self) -> np.ndarray:
        """Whether a variable diverges (mode,)."""
        none = np.zeros(len(self.value), dtype=bool)
        return np.logical_or.reduce([none, *self.running.values()])

    @property
    def empty(self) -> np.ndarray:
        """Whether an expert has less than ``LEAST_ROWS`` rows (mode,)."""
        return (self.share * unit_weight(self.design.rows) < LEAST_ROWS).any(axis=1)


def compared_density(modes: Modes, rows: Rows) -> np.ndarray:
    """Log density (mode, obs) of evenly spaced rows at modes."""
    if modes.objective is not None and has_chain(modes.objective.vector):
        return densities_at(modes.objective, modes.theta)
    return row_densities(modes.spec, modes.values, rows)


def densities_at(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Log density (point, obs) of evenly spaced rows of an objective, at points."""
    vector = objective.vector
    if not has_chain(vector):
        return row_densities(vector.spec, vector.variables(theta), objective.rows)
    spaced = expert_order.evenly_spaced(objective.rows.size)
    density = [part.value[:, spaced] for t in theta for part in parts(objective, t[None])]
    return np.nan_to_num(np.concatenate(density), neginf=-1e300, posinf=1e300)


def row_densities(spec: MixtureOfExperts, values: Values, rows: Rows) -> np.ndarray:
    """Log density (point, obs) of evenly spaced rows, which does not depend on expert labels."""
    spaced = expert_order.evenly_spaced_rows(rows)
    with np.errstate(all="ignore"):
        density = observed_log_density(evaluate(spec, values, spaced), spaced)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)


def new_mode_chance(modes: Modes) -> float:
    """Return the chance that one more start ends in a mode that none has reached; NaN of one start.

    The estimate of Good and Turing: the share of starts that are alone in their mode. Singular
    modes count as none, and starts that a race has stopped are left out.

    References
    ----------
    Good, I. J. (1953). The population frequencies of species and the estimation of population
    parameters. Biometrika, 40(3-4), 237-264.
    """
    if modes.finished < 2:
        return float("nan")
    alone = (modes.hits == 1) & ~modes.singular
    return float(alone.sum() / modes.finished)


def joined(modes: Modes, further: Modes) -> Modes:
    """Modes and the ends of further runs, which are no starts, as one; see :func:`merge_modes`."""
    runs = ("theta", "value", "log_prior", "gradient_norm", "iterations", "converged")
    by_mode = (*runs, "singular", "exhausted", "log_allocation")
    both: dict[str, Any] = {
        n: np.concatenate([getattr(modes, n), getattr(further, n)]) for n in by_mode
    }
    paths = [one.path[:, j] for one in (modes, further) for j in range(len(one.value))]
    values = {n: (v, further.values[n]) for n, v in modes.values.items()}
    ends = {n: (v, further.running[n]) for n, v in modes.running.items()}
    return replace(
        modes,
        **both,
        hits=np.concatenate([modes.hits, np.zeros(len(further.value), dtype=int)]),
        path=padded_paths(paths),
        values={n: np.concatenate(both_ends) for n, both_ends in values.items()},
        running={n: np.concatenate(both_ends) for n, both_ends in ends.items()},
    )


def match_modes(modes: Modes, other: Modes, rows: Rows) -> np.ndarray:
    """Index in ``modes`` of each of ``other`` (mode,), by their densities of rows; -1 for none."""
    density, other_density = compared_density(modes, rows), compared_density(other, rows)
    close = np.abs(other.value[:, None] - modes.value) <= 10 * SAME_VALUE * (
        1 + 1e-6 * np.abs(modes.value)
    )
    distance = np.abs(other_density[:, None] - density[None]).max(axis=-1)
    same = close & (distance <= 5 * SAME_ROWS)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def merge_modes(modes: Modes, rows: Rows) -> Modes:
    """Distinct modes, the highest first, with the experts' shares of the rows."""
    which, hits = _distinct(modes, rows)
    values = {name: v[which] for name, v in modes.values.items()}
    share, log_allocation = _allocated(
        replace(modes, values=values, theta=modes.theta[which]), rows
    )
    return replace(
        modes,
        values=values,
        theta=modes.theta[which],
        value=modes.value[which],
        log_prior=modes.log_prior[which],
        gradient_norm=modes.gradient_norm[which],
        iterations=modes.iterations[which],
        hits=hits,
        converged=modes.converged[which],
        singular=modes.singular[which],
        exhausted=modes.exhausted[which],
        path=modes.path[:, which],
        share=share,
        log_allocation=log_allocation,
        running={name: diverges[which] for name, diverges in modes.running.items()},
    )


def _allocated(modes: Modes, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Experts' shares of the rows (mode, expert), and sums of the largest log responsibility."""
    share = np.zeros((len(modes.theta), modes.spec.n_experts))
    log_allocation = np.zeros(len(share))
    if modes.objective is not None and has_chain(modes.objective.vector):
        for j, theta in enumerate(modes.theta):
            r = responsibilities(modes.objective, theta[None])[0]
            share[j] = r.mean(axis=-1)
            with np.errstate(divide="ignore"):
                log_allocation[j] = np.log(r.max(axis=0)).sum()
        return share, log_allocation
    total = unit_weight(rows)
    for _, part, mixture in chunks(modes.spec, modes.values, rows):
        with np.errstate(all="ignore"):
            r = observed_responsibilities(mixture, part)
            share += counted_units(part, r).sum(axis=-1) / total
            log_allocation += counted_units(part, np.log(r.max(axis=1))).sum(axis=-1)
    return share, log_allocation


def _distinct(modes: Modes, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Indices of distinct modes, the highest first, and their hits."""
    density = compared_density(modes, rows)
    distinct: list[int] = []
    hits: list[int] = []
    for j in np.argsort(-modes.value, kind="stable"):
        for m, k in enumerate(distinct):
            tolerance = SAME_VALUE + 1e-9 * abs(modes.value[k])
            close = modes.value[j] >= modes.value[k] - tolerance  # also of -inf
            if close and np.abs(density[k] - density[j]).max() <= SAME_ROWS:
                hits[m] += int(modes.hits[j])
                break
        else:
            distinct.append(int(j))
            hits.append(int(modes.hits[j]))
    return np.array(distinct), np.array(hits)


def canonical_order(vector: ParameterVector, theta: np.ndarray, rows: Rows) -> np.ndarray:
    """Points (point, coordinate) with exchangeable experts in canonical order."""
    levels = expert_order.levels(vector.spec, vector.variables(theta), rows)
    return vector.permute(theta, expert_order.order(vector.spec, levels))


def covariance(objective: Objective, theta: np.ndarray) -> np.ndarray | None:
    """Inverse of the observed information at one point (coordinate,); None if it has none.

    It has none too where a matrix would be too large (:attr:`Objective.has_matrices`).
    Coordinates that are fixed at a kink of the prior have no variance.
    """
    if not objective.has_matrices:
        return None
    evaluation = objective.evaluate(theta[None], Curvature.OBSERVED)
    free, constraint = np.ones(len(theta), dtype=bool), objective.vector.constraint
    if constraint is not None and not objective.vector.has_kinks:
        of_free = inverse(constraint.curvature(evaluation.curvature)[0])
        return None if of_free is None else constraint.covariance(of_free)
    if objective.vector.has_kinks:
        free = ~at_kink(objective.vector, theta[None], evaluation)[0]
    return inverse_of_free(evaluation.curvature[0], free)


def effective_parameters(modes: Modes) -> float:
    """Effective number of parameters of the best mode; NaN if its information has no inverse."""
    if modes.objective is None or modes.singular[modes.best]:
        return modes.effective_parameters
    objective, theta = modes.objective, modes.theta[modes.best]
    if not objective.has_matrices:
        return float("nan")
    evaluation = objective.evaluate(theta[None], Curvature.OBSERVED)
    variances = covariance(objective, theta)
    return information_ratio(evaluation.likelihood_curvature[0], variances)


def inverse_of_free(information: np.ndarray, free: np.ndarray) -> np.ndarray | None:
    """Inverse of an information matrix over its free coordinates, zero elsewhere; None if none."""
    variances = inverse(information[np.ix_(free, free)])
    if variances is None:
        return None
    matrix = np.zeros_like(information)
    matrix[np.ix_(free, free)] = variances
    return matrix

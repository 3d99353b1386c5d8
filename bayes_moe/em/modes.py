"""Modes of an objective: merged, sorted, and flagged as singular, separated or empty."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.linalg import inverse
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.proximal_newton import at_kink
from bayes_moe.model import expert_order
from bayes_moe.model.evaluation import chunks, evaluate
from bayes_moe.model.spec import MixtureOfExperts

SAME_VALUE = 2e-3


SAME_ROWS = 2e-2


LEAST_ROWS = 1.0


Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Modes:
    """Modes, the highest first; the answer is ``best``.

    All arrays have the modes first, ``path`` (iteration, mode) second. ``values`` are the model's
    variables, ``theta`` the coordinates that moved, ``share`` (mode, expert) the experts' share of
    the rows, ``exhausted`` whether a climb used up its iterations, ``log_allocation`` the sum over
    rows of the largest log responsibility. ``running`` (mode,) says by variable whether it runs
    away; ``restarts`` is the number of climbs, ``objective`` what was climbed (None for a graph).
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

    @property
    def best(self) -> int:
        """The mode of largest objective that is not singular, if there is one."""
        return int(np.argmin(self.singular))

    @property
    def separated(self) -> np.ndarray:
        """Whether a variable runs away (mode,)."""
        none = np.zeros(len(self.value), dtype=bool)
        return np.logical_or.reduce([none, *self.running.values()])

    @property
    def empty(self) -> np.ndarray:
        """Whether an expert has less than ``LEAST_ROWS`` rows (mode,)."""
        return (self.share * self.design.rows.size < LEAST_ROWS).any(axis=1)


def compared_density(found: Modes, rows: Rows) -> np.ndarray:
    """Log density (point, obs) of rows spread over the table: the same for any labels."""
    some = expert_order.evenly_spaced_rows(rows)
    with np.errstate(all="ignore"):
        density = evaluate(found.spec, found.values, some).log_density(some.observed)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)


def merge_modes(found: Modes, rows: Rows) -> Modes:
    """Sort ends of climbs, merge those in the same mode, and see how the experts share rows."""
    n = rows.size
    density = compared_density(found, rows)
    kept: list[int] = []
    hits: list[int] = []
    for j in np.argsort(-found.value, kind="stable"):
        for m, k in enumerate(kept):
            near = found.value[k] - found.value[j] <= SAME_VALUE + 1e-9 * abs(found.value[k])
            if near and np.abs(density[k] - density[j]).max() <= SAME_ROWS:
                hits[m] += int(found.hits[j])
                break
        else:
            kept.append(int(j))
            hits.append(int(found.hits[j]))
    which = np.array(kept)
    values = {name: v[which] for name, v in found.values.items()}
    share = np.zeros((len(which), found.spec.n_experts))
    log_allocation = np.zeros(len(which))
    for _, part, mixture in chunks(found.spec, values, rows):
        with np.errstate(all="ignore"):
            r = mixture.responsibilities(part.observed)
            share += r.sum(axis=-1) / n
            log_allocation += np.log(r.max(axis=1)).sum(axis=-1)
    return replace(
        found,
        values=values,
        theta=found.theta[which],
        value=found.value[which],
        log_prior=found.log_prior[which],
        gradient_norm=found.gradient_norm[which],
        iterations=found.iterations[which],
        hits=np.array(hits),
        converged=found.converged[which],
        singular=found.singular[which],
        exhausted=found.exhausted[which],
        path=found.path[:, which],
        share=share,
        log_allocation=log_allocation,
        running={name: runs[which] for name, runs in found.running.items()},
    )


def covariance(objective: Objective, theta: np.ndarray) -> np.ndarray | None:
    """Inverse of the observed information at one point (coordinate,); None if it has none.

    Coordinates that rest at a kink of the prior are taken as known: their rows are zero.
    """
    found = objective.evaluate(theta[None], Curvature.OBSERVED)
    free = ~at_kink(objective.coordinates, theta[None], found)[0]
    spread = inverse(found.curvature[0][np.ix_(free, free)])
    if spread is None:
        return None
    whole = np.zeros_like(found.curvature[0])
    whole[np.ix_(free, free)] = spread
    return whole

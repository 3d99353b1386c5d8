"""E-step on rows with missing features, by imputation points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.em.climb import ROWS_AT_FLOOR
from bayes_moe.em.objective import Curvature, Evaluation, Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.proximal_newton import projected
from bayes_moe.model.likelihood import allocate, log_components
from bayes_moe.model.missing_features import (
    Imputed,
    IncompleteEvaluation,
    Pattern,
    evaluate_incomplete,
    features,
    filled,
    has_gaps,
    patterns,
)
from bayes_moe.model.spec import MixtureOfExperts

ROUNDS = 5
"""Rounds of regression by which gaps are filled for first starts."""


LEFT = 0.5
"""Standard deviation of what is added to filled gaps, in units of the feature's."""


STEP = 1e-4
"""Difference by which second derivatives are taken, in units of the coordinates."""


ROUGH_STEP = 1e-6
"""The same where they serve a step only."""


def incomplete(spec: MixtureOfExperts, design: Design) -> bool:
    """Whether a model is to be fitted to rows with missing features."""
    return has_gaps(spec.gate, spec.n_experts, design.rows)


def mean_imputed_design(spec: MixtureOfExperts, design: Design) -> Design:
    """Return a design without gaps, with the averages and spreads of what was observed.

    Default priors, units and floors are made from it; its rows are not those of the data.
    """
    rows = filled(design.rows, spec.gate, imputed(spec, design.rows))
    matrices = dict(rows.matrices)
    for m in spec.gate.feature_densities:
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

    moving: ParameterVector
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
        norm = float(np.linalg.norm(projected(self.moving, theta[None], found).gradient))
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

    def _read(self, theta: np.ndarray) -> IncompleteEvaluation:
        spec = self.moving.spec
        draws = self.moving.variables(theta[None])
        return evaluate_incomplete(
            spec.gate, spec.n_experts, spec.blocks, draws, self.rows, self._groups
        )

    def _allocate(self, reading: IncompleteEvaluation) -> tuple[np.ndarray, np.ndarray]:
        density = log_components(
            self.rows.observed, self.moving.spec.blocks, reading.params, NUMERIC
        )
        return allocate(reading.log_joint + density)

    def _augmented(self, reading: IncompleteEvaluation, r: np.ndarray) -> tuple[Rows, np.ndarray]:
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

    def _given_response(
        self, reading: IncompleteEvaluation, found: Imputed
    ) -> tuple[np.ndarray, np.ndarray]:
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
    moving: ParameterVector, theta: np.ndarray, found: Evaluation, size: int, points: int
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

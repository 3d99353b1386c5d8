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
from bayes_moe.gates.feature_model import FeatureModel
from bayes_moe.model.allocation import allocation_of
from bayes_moe.model.likelihood import log_components
from bayes_moe.model.missing_features import (
    Imputed,
    IncompleteEvaluation,
    Pattern,
    evaluate_incomplete,
    feature_values,
    filled,
    has_gaps,
    patterns,
)
from bayes_moe.model.spec import MixtureOfExperts

ROUNDS = 5
"""Rounds of regression that fill gaps for initial points."""
NOISE = 0.5
"""Standard deviation of the noise in filled gaps, in units of the feature's."""
STEP = 1e-4
"""Step of finite differences for second derivatives, in units of the coordinates."""
ROUGH_STEP = 1e-6
"""The same where second derivatives are for a step only."""


def has_missing_features(spec: MixtureOfExperts, design: Design) -> bool:
    """Whether a model is to be fitted to rows with missing features."""
    features = spec.structure.gate.features
    return features is not None and has_gaps(features, design.rows)


def _features(spec: MixtureOfExperts) -> FeatureModel:
    features = spec.structure.gate.features
    assert features is not None
    return features


def mean_imputed_design(spec: MixtureOfExperts, design: Design) -> Design:
    """Return a design without gaps, with the means and standard deviations of observed features.

    Default priors, units and floors are computed from it; its rows are not those of the data.
    """
    rows = filled(design.rows, _features(spec), imputed(spec, design.rows))
    matrices = dict(rows.matrices)
    for m in _features(spec).densities:
        values = matrices[m.stem].values.copy()
        observed = design.rows.matrices[m.stem].values[:, m.column]
        observed = observed[~np.isnan(observed)]
        column = values[:, m.column]
        ratio = observed.std() / column.std()
        values[:, m.column] = observed.mean() + (column - column.mean()) * ratio
        matrices[m.stem] = replace(matrices[m.stem], values=values)
    return replace(design, rows=replace(rows, matrices=matrices))


def imputed(
    spec: MixtureOfExperts, rows: Rows, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Features (obs, feature) with gaps filled by regression on the observed ones.

    With a generator, noise is added: without it the filled rows are on a plane, and a scale
    parameter fitted to them goes to its floor.
    """
    x = feature_values(_features(spec), rows)
    missing = np.isnan(x)
    centre, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    z = np.where(missing, 0.0, (x - centre) / scale)
    groups = patterns(x)
    for _ in range(ROUNDS):
        cov = np.cov(z, rowvar=False).reshape(z.shape[1], -1) + 1e-6 * np.eye(z.shape[1])
        for g in groups:
            within = cov[np.ix_(g.observed, g.observed)]
            across = np.linalg.solve(within, cov[np.ix_(g.observed, g.missing)])
            z[np.ix_(g.rows, g.missing)] = z[np.ix_(g.rows, g.observed)] @ across
    if rng is not None:
        z = z + missing * rng.normal(scale=NOISE, size=z.shape)
    return np.where(missing, z * scale + centre, x)


@dataclass(frozen=True)
class EStep:
    """E-step at a point: the observed objective, and complete-data derivatives."""

    value: float
    evaluation: Evaluation
    objective: Objective
    norm: float
    floored: bool


@dataclass(frozen=True)
class ObservedObjective:
    """Observed objective of a model on rows with missing features."""

    vector: ParameterVector
    rows: Rows

    @cached_property
    def _patterns(self) -> list[Pattern]:
        return patterns(feature_values(_features(self.vector.spec), self.rows))

    def value(self, theta: np.ndarray) -> float:
        """Observed objective at a point (coordinate,); minus infinity if it is not finite."""
        with np.errstate(all="ignore"):
            value = self.rows.counted(self._allocate(self._evaluate(theta))[0]).sum()
        value += self.vector.log_prior(theta[None])[0][0]
        return float(value) if np.isfinite(value) else -np.inf

    def state(self, theta: np.ndarray) -> EStep:
        """E-step at a point (coordinate,)."""
        incomplete = self._evaluate(theta)
        value, r = self._allocate(incomplete)
        rows, allocation = self._augmented(incomplete, r[0])
        objective = Objective(self.vector, rows)
        evaluation = objective.evaluate(theta[None], Curvature.COMPLETE, allocation[None])
        evaluation = _with_gate(self.vector, theta[None], evaluation, self.rows.weight, rows.weight)
        prior = self.vector.log_prior(theta[None])[0][0]
        gradient = projected(self.vector, theta[None], evaluation).gradient
        norm = float(np.linalg.norm(gradient))
        floored = bool(evaluation.at_floor[0] > ROWS_AT_FLOOR)
        return EStep(
            float(self.rows.counted(value).sum() + prior), evaluation, objective, norm, floored
        )

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """Gradient (coordinate,) of the observed objective, by Fisher's identity."""
        gradient: np.ndarray = self.state(theta).evaluation.gradient[0]
        return gradient

    def information(self, theta: np.ndarray, gradient: np.ndarray | None = None) -> np.ndarray:
        """Minus the second derivatives of the observed objective, by central differences.

        With the ``gradient`` at the point, by forward differences, which halves the work.
        """
        columns = []
        length = STEP if gradient is None else ROUGH_STEP
        for step in length * np.eye(len(theta)):
            after = self.gradient(theta + step)
            if gradient is None:
                difference = self.gradient(theta - step) - after
            else:
                difference = 2 * (gradient - after)
            columns.append(difference / (2 * length))
        matrix = np.column_stack(columns)
        symmetric: np.ndarray = (matrix + matrix.T) / 2
        return symmetric

    def _evaluate(self, theta: np.ndarray) -> IncompleteEvaluation:
        spec = self.vector.spec
        draws = self.vector.variables(theta[None])
        return evaluate_incomplete(spec.structure, draws, self.rows, self._patterns)

    def _allocate(self, incomplete: IncompleteEvaluation) -> tuple[np.ndarray, np.ndarray]:
        density = log_components(
            self.rows.observed, self.vector.spec.structure.blocks, incomplete.params, NUMERIC
        )
        return allocation_of(self.rows.observation).by_unit(incomplete.log_joint, density)

    def _augmented(
        self, incomplete: IncompleteEvaluation, r: np.ndarray
    ) -> tuple[Rows, np.ndarray]:
        """Complete rows and imputation points of the others; their allocation (expert, obs)."""
        x = feature_values(_features(self.vector.spec), self.rows)
        complete = np.flatnonzero(~np.isnan(x).any(axis=1))
        sources, values, shares = [complete], [x[complete]], [r[:, complete]]
        for imputation in incomplete.imputed:
            mean, root = self._given_response(incomplete, imputation)
            where, missing = imputation.pattern.rows, imputation.pattern.missing
            experts, m, n = mean.shape
            signed = np.sqrt(m) * np.concatenate([root, -root], axis=2)  # (expert, m, 2 m, obs)
            points = mean[:, :, None] + np.broadcast_to(signed, (experts, m, 2 * m, n))
            source = np.broadcast_to(where, (experts, 2 * m, n)).ravel()
            imputed_x = x[source]
            imputed_x[:, missing] = np.moveaxis(points, 1, -1).reshape(-1, m)
            share = np.einsum("kj,jn->kjn", np.eye(experts), r[:, where])
            share = np.broadcast_to(share[:, :, None] / (2 * m), (experts, experts, 2 * m, n))
            sources.append(source)
            values.append(imputed_x)
            shares.append(share.reshape(experts, -1))
        rows = _picked(self.rows, np.concatenate(sources))
        return filled(rows, _features(self.vector.spec), np.concatenate(values)), np.hstack(shares)

    def _given_response(
        self, incomplete: IncompleteEvaluation, imputation: Imputed
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean (expert, missing, obs) and root (expert, missing, missing, obs) given all else."""
        where = imputation.pattern.rows
        mean, root = imputation.mean[0].copy(), imputation.root[0][..., None]
        root = np.array(np.broadcast_to(root, (*root.shape[:3], len(where))))
        y = self.rows.observed[..., where]
        for j, (block, slopes) in enumerate(
            zip(self.vector.spec.structure.blocks, imputation.slopes, strict=True)
        ):
            if slopes is None:
                continue
            experts = list(block.positions)
            params, bare = incomplete.params[j], incomplete.bare[j]["sigma"][0]
            mu, sigma = (params[name][0][:, where] for name in ("mu", "sigma"))
            bare = np.broadcast_to(bare, params["mu"][0].shape)[:, where]
            along = np.einsum("kij,ki->kj", imputation.root[0][experts], slopes[0])
            out = np.einsum("kij,kj->ki", imputation.root[0][experts], along)
            mean[experts] += out[..., None] * ((y - mu) / sigma**2)[:, None]
            shrink = 1 / (sigma**2 * (1 + bare / sigma))
            root[experts] -= np.einsum("ki,kj,kn->kijn", out, along, shrink)
        return mean, root


def _picked(rows: Rows, which: np.ndarray) -> Rows:
    """Rows by position, with repetition, without their columns."""
    matrices: dict[str, Matrix] = {stem: m.pick(which) for stem, m in rows.matrices.items()}
    return Rows(matrices, rows.obs_id[which], None, rows.observation.pick(which))


def _with_gate(
    vector: ParameterVector, theta: np.ndarray, evaluation: Evaluation, size: float, points: float
) -> Evaluation:
    """Derivatives in which the gate has every row once, and not once per imputation point."""
    gate = vector.blocks[0]
    log_weights = vector.spec.structure.gate.log_weights(
        gate.unit * gate.raw(theta) + gate.offset, NUMERIC
    )
    slope = gate.unit * (evaluation.rows - size * np.exp(log_weights[..., 0]))
    slope = slope if gate.basis is None else slope @ gate.basis.T
    of_likelihood, gradient = evaluation.likelihood_gradient.copy(), evaluation.gradient.copy()
    gradient[:, gate.where] += slope - of_likelihood[:, gate.where]
    of_likelihood[:, gate.where] = slope
    likelihood_curvature = evaluation.likelihood_curvature.copy()
    curvature = evaluation.curvature.copy()
    surplus = (1 - size / points) * likelihood_curvature[:, gate.where, gate.where]
    likelihood_curvature[:, gate.where, gate.where] -= surplus
    curvature[:, gate.where, gate.where] -= surplus
    return replace(
        evaluation,
        gradient=gradient,
        curvature=curvature,
        likelihood_gradient=of_likelihood,
        likelihood_curvature=likelihood_curvature,
    )

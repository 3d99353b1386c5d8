r"""Laplace-approximate marginal likelihood of a linear model with random effects, and its maximum.

The effects ``u`` are integrated out by the normal approximation at their mode given all else: fixed
coefficients, other parameters, and the coordinates ``s`` of standard deviations
(logarithms) and of correlations,

.. math:: L(b, s) = \log p(y \mid b, \hat u) + \log p(\hat u \mid s)
          + \tfrac{U}{2} \log 2 \pi - \tfrac12 \log |H|,

with ``H`` the information of ``u`` there. It is exact for normal responses of one expert. With
priors, those of ``b`` and the density of ``s`` are added. The gradient of ``log |H|`` is by central
differences along the change of ``u`` with each coordinate.

Where rows of a group may be of either of two experts, the mode of its effects can be about to
become two: ``|H|`` is then nearly 0, and the normal approximation without bound. So the
information is at least a share, :data:`FLOOR`, of that of rows whose experts are known.

References
----------
Pinheiro, J. C., & Bates, D. M. (1995). Approximations to the log-likelihood function in the
nonlinear mixed-effects model. Journal of Computational and Graphical Statistics, 4(1), 12-35.

Kristensen, K., Nielsen, A., Berg, C. W., Skaug, H., & Bell, B. M. (2016). TMB: Automatic
differentiation and Laplace approximation. Journal of Statistical Software, 70(5), 1-21.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.em.effect_information import Derivatives, EffectInformation
from bayes_moe.em.effect_marginal import EffectMarginal, MarginalPoint
from bayes_moe.em.effect_matrices import GroupPrior
from bayes_moe.em.grouped_rows import Effects, GroupedRows

STEP = 1e-4
"""Step of central differences, in units of a coordinate's standard deviation."""
INNER_STEPS = 60
SETTLED = 1e-14
"""Gain of a Newton step of the effects at which it is the last."""
FLOOR = 0.5
"""Least share of the information that rows of known experts would have."""


class GroupMarginal(EffectMarginal):
    """Marginal log likelihood of rows that each choose an expert, or posterior density."""

    def __init__(self, rows: GroupedRows, likelihood: bool) -> None:
        super().__init__(rows, likelihood)
        self.information = EffectInformation(rows)
        self.several = self.vector.spec.n_experts > 1

    def covariances(self, point: MarginalPoint, e: Effects) -> np.ndarray:
        return self.information.matrices.covariances(point.factor, e)

    # --- effects ----------------------------------------------------------------------------------

    def mode(
        self, psi: np.ndarray, effects: np.ndarray
    ) -> tuple[np.ndarray, Derivatives, np.ndarray, list[GroupPrior]] | None:
        """Mode of the effects at a point, from a first guess, by Newton's method.

        With derivatives there, the Cholesky factor of the information, and the effects' priors;
        None where no maximum is reached.
        """
        fixed, priors = psi[: self.fixed], self.group_priors(psi)
        joint = self._joint(fixed, effects, priors)
        for _ in range(INNER_STEPS):
            own = self.information.derivatives(fixed, effects)
            slope = own.by_effect + np.concatenate(
                [p.slope(effects[p.effects.where]) for p in priors]
            )
            total = self.information.matrices.with_prior(own.inner, priors)
            factor, definite = _factor(total)
            if factor is None:
                return None
            step = self.information.matrices.solve(factor, slope[:, None])[:, 0]
            gain = float(slope @ step)
            if definite and gain < SETTLED * (1.0 + abs(joint)):
                return effects, own, factor, priors
            length, moved = 1.0, joint
            while length > 1e-8:
                moved = self._joint(fixed, effects + length * step, priors)
                if moved >= joint - SETTLED * (1.0 + abs(joint)):
                    break
                length *= 0.5
            else:
                return (effects, own, factor, priors) if definite else None
            effects, joint = effects + length * step, moved
        return None

    def _joint(self, fixed: np.ndarray, effects: np.ndarray, priors: list[GroupPrior]) -> float:
        value = float(self.rows.value(fixed[None], effects[None])[0])
        return value + sum(p.log_density(effects[p.effects.where]) for p in priors)

    # --- the objective ----------------------------------------------------------------------------

    def value(self, psi: np.ndarray, effects: np.ndarray) -> float:
        """Marginal log likelihood, or log posterior density, at one point; NaN if there is none."""
        found = self.mode(psi, effects)
        if found is None:
            return float("nan")
        at, own, _, priors = found
        return self._value(psi, at, own, priors)[0] + self.log_prior(psi)[0]

    def _value(
        self, psi: np.ndarray, effects: np.ndarray, own: Derivatives, priors: list[GroupPrior]
    ) -> tuple[float, np.ndarray]:
        """Marginal log likelihood, and the Cholesky factor of the information with its floor."""
        density = sum(p.log_density(effects[p.effects.where]) for p in priors)
        matrix, complete = self.information.matrices.with_prior(own.inner, priors), None
        if self.several:
            at = (psi[None, : self.fixed], effects[None])
            known = self.information.inner(*at, complete=True)[1][0]
            complete = self.information.matrices.with_prior(known, priors)
        logs, floored = floored_information(matrix, complete)
        volume = 0.5 * (self.rows.size * np.log(2 * np.pi) - float(logs.sum()))
        return own.value + density + volume, np.linalg.cholesky(floored)

    def evaluate(
        self, psi: np.ndarray, effects: np.ndarray, axes: np.ndarray
    ) -> MarginalPoint | None:
        found = self.mode(psi, effects)
        if found is None:
            return None
        effects, own, factor, priors = found
        log_prior, gradient = self.log_prior(psi)
        across, by_scale = self._by_scales(psi, effects, own.across)
        slopes = self.information.matrices.solve(factor, across.T)  # (effect, coordinate)
        gradient = gradient + np.concatenate([own.by_fixed, by_scale])
        moved = slopes @ axes
        plus = np.concatenate([psi[:, None] + s * STEP * axes for s in (1, -1)], axis=1).T
        at = np.concatenate([effects[:, None] + s * STEP * moved for s in (1, -1)], axis=1).T
        logs = self._log_determinants(plus, at)
        half = (
            0.5 * (np.array(logs[: axes.shape[1]]) - np.array(logs[axes.shape[1] :])) / (2 * STEP)
        )
        gradient = gradient - np.linalg.solve(axes.T, half)
        value, factor = self._value(psi, effects, own, priors)
        value += log_prior
        curvature = own.within - own.across @ slopes[:, : self.fixed]
        return MarginalPoint(psi, effects, factor, value, log_prior, gradient, slopes, curvature)

    def _log_determinants(self, psi: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Log determinants of the effects' information at points (point, ...)."""
        fixed, add = psi[:, : self.fixed], self.information.matrices.with_prior
        priors = [self.group_priors(point) for point in psi]
        found = [
            np.stack([add(each, own) for each, own in zip(matrices, priors, strict=True)])
            for matrices in self.information.inner(fixed, effects, complete=self.several)
        ]
        logs, _ = floored_information(found[0], found[1] if self.several else None)
        return np.asarray(logs.reshape(len(psi), -1).sum(axis=1))

    def _by_scales(
        self, psi: np.ndarray, effects: np.ndarray, across: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mixed second derivatives (coordinate, effect), and slopes by the logarithms of scales.

        The first are those of the log density of data and effects, with the opposite sign of
        ``across`` (fixed, effect) for fixed coordinates.
        """
        mixed, slopes = [-across], []
        for j in range(self.fixed, self.size):
            ends = []
            for sign in (1.0, -1.0):
                moved = psi.copy()
                moved[j] += sign * STEP
                priors = self.group_priors(moved)
                parts = [(p, effects[p.effects.where]) for p in priors]
                ends.append(
                    (
                        sum(p.log_density(u) for p, u in parts),
                        np.concatenate([p.slope(u) for p, u in parts]),
                    )
                )
            slopes.append((ends[0][0] - ends[1][0]) / (2 * STEP))
            mixed.append(((ends[0][1] - ends[1][1]) / (2 * STEP))[None])
        return np.concatenate(mixed), np.array(slopes)


def _factor(matrix: np.ndarray) -> tuple[np.ndarray | None, bool]:
    """Cholesky factor, of the absolute matrix if it is indefinite, and whether it is definite."""
    if not np.isfinite(matrix).all():
        return None, False
    try:
        return np.linalg.cholesky(matrix), True
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        least = 1e-6 * np.abs(values).max(axis=-1, keepdims=True)
        size = np.maximum(np.abs(values), least)
        absolute = (vectors * size[..., None, :]) @ np.swapaxes(vectors, -1, -2)
        return np.linalg.cholesky(absolute), False


def floored_information(
    matrix: np.ndarray, complete: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Log determinants (...,) of information matrices (..., position, position), and these.

    With the information ``complete`` of known experts, the log of eigenvalues of the one in units
    of the other goes on as a parabola below :data:`FLOOR`, which is flat at 0: there two modes of
    the effects meet, and eigenvalues change without bound. The matrix has the floor at least.
    """
    if complete is None:
        return np.asarray(np.linalg.slogdet(matrix)[1]), matrix
    try:
        lower = np.linalg.cholesky(complete)
    except np.linalg.LinAlgError:
        return np.full(matrix.shape[:-2], np.nan), matrix
    half = np.linalg.solve(lower, matrix)
    share = np.linalg.solve(lower, np.swapaxes(half, -1, -2))
    values, vectors = np.linalg.eigh(0.5 * (share + np.swapaxes(share, -1, -2)))
    below = np.clip(values / FLOOR, 0.0, 1.0)
    logs = np.log(np.maximum(values, FLOOR)) + 0.5 * (below**2 - 1.0)
    total = (logs + 2 * np.log(np.diagonal(lower, axis1=-2, axis2=-1))).sum(axis=-1)
    if (values > FLOOR).all():
        return total, matrix
    axes = lower @ vectors
    floored = (axes * np.maximum(values, FLOOR)[..., None, :]) @ np.swapaxes(axes, -1, -2)
    return total, floored

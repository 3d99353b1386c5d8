"""Learned spreads of coefficients, by their marginal mode: shrinkage and smoothing.

The joint mode of coefficients and of the spreads of their prior is no estimate: it lies where all
spreads are zero, or nowhere. So the spreads are put at the mode of their own posterior, with the
coefficients integrated out by Laplace's method, and the coefficients at their mode given these. A
quasi-Newton method climbs ``f(c) + log |S| / 2 + log p``: the log density at the mode ``c`` of the
coefficients, the volume of their normal approximation, and the log prior of the spreads' logarithms
as a sampler sees it. Its gradient is that of the expected log density ``-log s_j - E[c_j^2] / (2
s_j^2)``, which leaves out how the curvature of the likelihood moves with the mode.

References
----------
MacKay, D. J. C. (1992). Bayesian interpolation. Neural Computation, 4(3), 415-447.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bayes_moe import labels
from bayes_moe.ascent import ascend
from bayes_moe.coordinates import Coordinates
from bayes_moe.densities import log_density_of_log
from bayes_moe.errors import SpecError
from bayes_moe.objective import Objective
from bayes_moe.optima import FINALISTS, Optima, covariance, search
from bayes_moe.predictors.expansion import about_zero

MOST_ROUNDS = 100
SETTLED = 1e-9
"""Relative gain of a step that ends the climb."""
STEP = 1e-4
"""Of difference slopes, in logarithms."""
FARTHEST = 12.0
"""Largest logarithm of a parameter of a spread."""
NO_MARGIN = 1e300
"""Minus the log marginal density where there is no normal approximation."""


def search_settled(moving: Coordinates, **settings: Any) -> Optima:
    """Find modes as :func:`bayes_moe.optima.search` does, with spreads at their marginal mode.

    ``settings`` are its own. The spreads are those of the best mode, and other modes are followed
    under them.
    """
    found = search(moving, **settings)
    if not moving.own or found.singular[found.best]:
        return found
    objective, best = _settle(Objective(moving, cores=settings.get("cores", 1)), found)
    moving = objective.coordinates
    others = np.argsort(found.singular, kind="stable")[:FINALISTS]
    others = others[others != found.best]
    rest = {k: v for k, v in settings.items() if k not in ("theta", "allocation")}
    final = search(moving, theta=np.concatenate([best[None], found.theta[others]]), **rest)
    hits = final.hits.copy()
    hits[final.best] = max(hits[final.best], found.hits[found.best])
    final = replace(final, hits=hits, restarts=found.restarts)
    return _in_order(final) if moving.tied else final


def _settle(objective: Objective, found: Optima) -> tuple[Objective, np.ndarray]:
    """The objective with spreads at their marginal mode, and the mode of the coefficients."""
    from scipy.optimize import minimize

    margin = _Margin(objective, found.theta[found.best])
    minimize(
        margin,
        margin.logs(objective.coordinates.own),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-FARTHEST, FARTHEST)] * margin.size,
        options={"maxiter": MOST_ROUNDS, "ftol": SETTLED, "gtol": 1e-3},
    )
    return objective.under(margin.own(margin.best_logs)), margin.best


class _Margin:
    """Minus the log marginal density of the spreads' parameters, by Laplace's method.

    It keeps the best point that was asked for, and the mode of the coefficients there.
    """

    def __init__(self, objective: Objective, theta: np.ndarray) -> None:
        moving = objective.coordinates
        self.objective, self.best = objective, theta
        self.priors = moving.spec.resolve_priors(moving.design)
        self.shapes = {name: value.shape for name, value in moving.own.items()}
        self.size = sum(value.size for value in moving.own.values())
        self.best_logs, self.least = self.logs(moving.own), np.inf
        self.slots = [slot for slot in moving.slots if slot.stretch is not None]
        for slot in self.slots:
            assert slot.prior is not None
            if not about_zero(slot.prior):
                raise SpecError(
                    f"The prior of {slot.variable!r} must be normal about 0 where its spread is "
                    f"learned by EM; it is {slot.prior!r}. Use method='nuts'."
                )

    def logs(self, own: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logarithms of all parameters in a row."""
        return np.log(np.concatenate([own[name].ravel() for name in self.shapes]))

    def own(self, logs: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters by name, from their logarithms in a row."""
        found, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            found[name] = np.exp(logs[at : at + size]).reshape(shape)
            at += size
        return found

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        objective = self.objective.under(self.own(logs))
        climbed = ascend(objective, self.best[None], max_iter=50, newton_first=True)
        theta, spread = climbed.theta[0], covariance(objective, climbed.theta[0])
        if spread is None:
            return NO_MARGIN, np.zeros_like(logs)
        volume = 0.5 * float(np.linalg.slogdet(spread)[1])
        value = float(climbed.value[0]) + volume + self._log_prior(logs)
        if -value < self.least:
            self.least, self.best, self.best_logs = -value, theta, logs.copy()
        second = theta**2 + np.diag(spread)
        slopes = [
            (self._expected(logs + step, second) - self._expected(logs - step, second)) / (2 * STEP)
            for step in STEP * np.eye(len(logs))
        ]
        return -value, -np.array(slopes)

    def _expected(self, logs: np.ndarray, second: np.ndarray) -> float:
        """Expected log density of coefficients with some second moments, and the log prior."""
        own, total = self.own(logs), self._log_prior(logs)
        for slot in self.slots:
            assert slot.prior is not None
            shape = (slot.directions, slot.terms)
            units = np.asarray(slot.prior.arguments["sigma"])
            s = np.broadcast_to(units * self.objective.coordinates.spread(slot, own), shape)
            total += float((-np.log(s) - 0.5 * second[slot.where].reshape(shape) / s**2).sum())
        return total

    def _log_prior(self, logs: np.ndarray) -> float:
        total, own = float(logs.sum()), self.own(logs)
        for name, value in own.items():
            total += float(
                np.sum(log_density_of_log(self.priors[name], np.log(value)[..., None])[0])
            )
        return total


def _in_order(found: Optima) -> Optima:
    """The modes with the experts in the order of the best one's locations."""
    assert found.objective is not None
    moving = found.objective.coordinates
    levels = labels.levels(moving.spec, found.values, moving.design.rows)
    order = labels.order(moving.spec, levels)[found.best]
    every = np.tile(order, (len(found.theta), 1))
    own = {name: v[None] for name, v in moving.own.items()}
    own = {name: v[0] for name, v in labels.permuted(moving.spec, own, order[None]).items()}
    objective = found.objective.under(own)
    theta = moving.permuted(found.theta, every)
    return replace(
        found,
        theta=theta,
        values=objective.coordinates.variables(theta),
        share=found.share[:, order],
        objective=objective,
    )

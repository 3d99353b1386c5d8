"""Learned spreads of coefficients, by their marginal mode: shrinkage and smoothing, under EM.

The joint mode of coefficients and of the spreads of their prior is no estimate: it lies where all
spreads are zero, or nowhere. So the spreads are put at the mode of their own posterior
(:mod:`bayes_moe.em.marginal_likelihood`), and the coefficients at their mode given these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.em.climb import ascend
from bayes_moe.em.marginal_likelihood import MarginalLikelihood, Values
from bayes_moe.em.modes import Modes, covariance
from bayes_moe.em.multistart import FINALISTS, search
from bayes_moe.em.objective import Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.model import expert_order
from bayes_moe.predictors.basis import about_zero

MOST_ROUNDS = 100


def optimise_hyperparameters(moving: ParameterVector, **settings: Any) -> Modes:
    """Modes as :func:`bayes_moe.em.multistart.search` finds them, spreads at their marginal mode.

    ``settings`` are its own. The spreads are those of the best mode, and other modes are followed
    under them.
    """
    found = search(moving, **settings)
    if not moving.own or found.singular[found.best]:
        return found
    margin = _Margin(Objective(moving, cores=settings.get("cores", 1)), found.theta[found.best])
    moving, best = moving.under(margin.climb(MOST_ROUNDS)), margin.mode
    others = np.argsort(found.singular, kind="stable")[:FINALISTS]
    others = others[others != found.best]
    rest = {k: v for k, v in settings.items() if k not in ("theta", "allocation")}
    final = search(moving, theta=np.concatenate([best[None], found.theta[others]]), **rest)
    hits = final.hits.copy()
    hits[final.best] = max(hits[final.best], found.hits[found.best])
    final = replace(final, hits=hits, restarts=found.restarts)
    return _in_order(final) if moving.tied else final


class _Margin(MarginalLikelihood):
    """The margin over a model's coordinates; ``mode`` is that of the coefficients at the best."""

    def __init__(self, objective: Objective, theta: np.ndarray) -> None:
        moving = objective.coordinates
        super().__init__(moving.own, moving.spec.resolve_priors(moving.design))
        self.objective, self.mode, self._last = objective, theta, theta
        self.slots = [slot for slot in moving.slots if slot.stretch is not None]
        for slot in self.slots:
            assert slot.prior is not None
            if not about_zero(slot.prior):
                raise SpecError(
                    f"The prior of {slot.variable!r} must be normal about 0 where its spread is "
                    f"learned by EM; it is {slot.prior!r}. Use method='nuts'."
                )

    def evaluate(self, own: Values) -> tuple[float, Values] | None:
        objective = self.objective.under(own)
        climbed = ascend(objective, self.mode[None], max_iter=50, newton_first=True)
        theta, spread = climbed.theta[0], covariance(objective, climbed.theta[0])
        if spread is None:
            return None
        self._last = theta
        second = theta**2 + np.diag(spread)
        volume = 0.5 * float(np.linalg.slogdet(spread)[1])
        for slot in objective.coordinates.slots:
            if slot.stretch is not None:  # from these coordinates to the sampler's
                shape = (slot.directions, slot.terms)
                volume -= float(np.log(np.broadcast_to(slot.stretch, shape)).sum())
        parts = {s.variable: second[s.where].reshape(s.directions, s.terms) for s in self.slots}
        return float(climbed.value[0]) - objective.coordinates.log_own + volume, parts

    def spreads(self, own: Values) -> Values:
        found = {}
        for slot in self.slots:
            assert slot.prior is not None
            units = np.asarray(slot.prior.arguments["sigma"])
            found[slot.variable] = units * self.objective.coordinates.spread(slot, own)
        return found

    def keep(self) -> None:
        self.mode = self._last


def _in_order(found: Modes) -> Modes:
    """The modes with the experts in the order of the best one's locations."""
    assert found.objective is not None
    moving = found.objective.coordinates
    levels = expert_order.levels(moving.spec, found.values, moving.design.rows)
    order = expert_order.order(moving.spec, levels)[found.best]
    every = np.tile(order, (len(found.theta), 1))
    own = {name: v[None] for name, v in moving.own.items()}
    own = {name: v[0] for name, v in expert_order.permute(moving.spec, own, order[None]).items()}
    objective = found.objective.under(own)
    theta = moving.permute(found.theta, every)
    return replace(
        found,
        theta=theta,
        values=objective.coordinates.variables(theta),
        share=found.share[:, order],
        objective=objective,
    )

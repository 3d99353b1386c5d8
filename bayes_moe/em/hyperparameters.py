"""Hyperparameters of linear models at their marginal mode: scales of shrinkage and smoothing.

The joint mode of coefficients and of the scales of their prior is no estimate: it is where all
scales are zero, or does not exist. So the scales are at the mode of their marginal posterior
(:mod:`bayes_moe.em.marginal_likelihood`), and the coefficients at their mode for these scales.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.em.climb import run_em
from bayes_moe.em.constraint import of_free
from bayes_moe.em.marginal_likelihood import MarginalLikelihood, Values
from bayes_moe.em.modes import Modes, covariance
from bayes_moe.em.multistart import FINALISTS, NO_START, SearchSettings, Start, search
from bayes_moe.em.objective import Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.model import expert_order
from bayes_moe.predictors.variables import about_zero

MOST_ROUNDS = 100


def optimise_hyperparameters(
    vector: ParameterVector,
    settings: SearchSettings,
    rng: np.random.Generator,
    start: Start = NO_START,
) -> Modes:
    """Return modes as :func:`bayes_moe.em.multistart.search`, hyperparameters at their mode.

    For a vector with hyperparameters: they are those of the best mode, and other modes are the ends
    of further runs under these.
    """
    modes = search(vector, settings, rng, start)
    if modes.singular[modes.best]:
        return modes
    objective = Objective(vector, cores=settings.cores)
    marginal = _LinearMarginal(objective, modes.theta[modes.best])
    vector, mode = vector.with_hyperparameters(marginal.maximise(MOST_ROUNDS)), marginal.mode
    others = np.argsort(modes.singular, kind="stable")[:FINALISTS]
    others = others[others != modes.best]
    theta = np.concatenate([mode[None], modes.theta[others]])
    final = search(vector, settings, rng, Start(theta=theta))
    hits = final.hits.copy()
    hits[final.best] = max(hits[final.best], modes.hits[modes.best])
    of_starts = {n: getattr(modes, n) for n in ("restarts", "finished", "new_mode_chance")}
    final = replace(final, hits=hits, **of_starts)
    return _in_order_of_best(final) if vector.tied else final


class _LinearMarginal(MarginalLikelihood):
    """Marginal likelihood of a linear model; ``mode`` is the coefficients' at the best scales."""

    def __init__(self, objective: Objective, theta: np.ndarray) -> None:
        vector = objective.vector
        super().__init__(vector.hyperparameters, vector.spec.resolve_priors(vector.design))
        self.objective, self.mode, self._last = objective, theta, theta
        self.blocks = [block for block in vector.blocks if block.prior_scale is not None]
        for block in self.blocks:
            assert block.prior is not None
            if not about_zero(block.prior):
                raise SpecError(
                    f"The prior of {block.variable!r} must be normal about 0 where its spread is "
                    f"learned by EM; it is {block.prior!r}. Use method='nuts'."
                )

    def evaluate(self, scales: Values) -> tuple[float, Values] | None:
        objective = self.objective.with_hyperparameters(scales)
        result = run_em(objective, self.mode[None], max_iter=50, newton_first=True)
        theta, variances = result.theta[0], covariance(objective, result.theta[0])
        if variances is None:
            return None
        self._last = theta
        second = theta**2 + np.diag(variances)
        volume = 0.5 * float(np.linalg.slogdet(of_free(objective.vector.constraint, variances))[1])
        for block in objective.vector.blocks:
            if block.prior_scale is not None:  # from these coordinates to the sampler's
                shape = (block.directions, block.terms)
                volume -= float(np.log(np.broadcast_to(block.prior_scale, shape)).sum())
        moments = {b.variable: second[b.where].reshape(b.directions, b.terms) for b in self.blocks}
        log_joint = float(result.value[0]) - objective.vector.log_hyperprior
        return log_joint + volume, moments

    def prior_sds(self, scales: Values) -> Values:
        sds = {}
        for block in self.blocks:
            assert block.prior is not None
            units = np.asarray(block.prior.arguments["sigma"])
            sds[block.variable] = units * self.objective.vector.spread(block, scales)
        return sds

    def record_best(self) -> None:
        self.mode = self._last


def _in_order_of_best(modes: Modes) -> Modes:
    """The modes with the experts in the order of the best one's locations."""
    assert modes.objective is not None
    vector = modes.objective.vector
    levels = expert_order.levels(vector.spec, modes.values, vector.design.rows)
    order = expert_order.order(vector.spec, levels)[modes.best]
    scales = {name: v[None] for name, v in vector.hyperparameters.items()}
    permuted = expert_order.permute(vector.spec, scales, order[None])
    objective = modes.objective.with_hyperparameters({name: v[0] for name, v in permuted.items()})
    theta = vector.permute(modes.theta, np.tile(order, (len(modes.theta), 1)))
    return replace(
        modes,
        theta=theta,
        values=objective.vector.variables(theta),
        share=modes.share[:, order],
        objective=objective,
    )

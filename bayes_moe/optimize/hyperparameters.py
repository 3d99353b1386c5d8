"""Learned scales of a graph's variables, at their marginal mode: weight decay, smoothing.

Scales of weights and coefficients have no mode together with these. Climbs hold them, and here they
are put at the mode of their own posterior (:mod:`bayes_moe.em.marginal_likelihood`), as
:mod:`bayes_moe.em.hyperparameters` does for models that EM can treat.

References
----------
MacKay, D. J. C. (1992). A practical Bayesian framework for backpropagation networks. Neural
Computation, 4(3), 448-472.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayes_moe.em.marginal_likelihood import MarginalLikelihood, Values
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.optimize.lbfgs import LBFGSResult, climb, polished

MOST_ROUNDS, FEW_ROUNDS = 10, 3
"""Steps of the scales, and how many where second derivatives take seconds."""
MOST_COORDINATES = 800
"""Coordinates up to which the normal approximation of a round is affordable."""
FOLLOWED = 3
"""Climbs that are followed under the scales of the best."""
ITERATIONS = 300
"""Most iterations of a climb under new scales."""


def optimise_hyperparameters(
    surface: GraphLogDensity, climbs: list[LBFGSResult]
) -> list[LBFGSResult]:
    """Return the best few climbs, the highest first, under scales at their marginal mode.

    Without scales, or where second derivatives are not affordable, all climbs as they are: scales
    then stay where climbs begin.
    """
    moving = int(surface.moving.sum())
    if surface.moving.all() or not surface.affordable(moving, MOST_COORDINATES):
        return climbs
    margin = _Margin(surface, climbs[0])
    own = margin.climb(MOST_ROUNDS if surface.affordable(moving) else FEW_ROUNDS)
    others = [
        climb(surface, _moved(surface, c.x, own), ITERATIONS, newton_steps=0).after(c)
        for c in climbs[1:FOLLOWED]
    ]
    return sorted([polished(surface, margin.mode), *others], key=lambda c: -c.value)


class _Margin(MarginalLikelihood):
    """The margin over a surface's vector; ``mode`` is the climb at the best scales."""

    def __init__(self, surface: GraphLogDensity, best: LBFGSResult) -> None:
        values, spec = surface.variables(best.x), surface.graph.spec
        own = {name: values[name] for place, p in spec.placed for name in p.scales(place)}
        super().__init__(own, surface.graph.priors)
        self.surface, self.mode, self._last = surface, best, best

    def evaluate(self, own: Values) -> tuple[float, Values] | None:
        x = _moved(self.surface, self.mode.x, own)
        ended = climb(self.surface, x, ITERATIONS, newton_steps=0)
        spread = self.surface.rough_covariance(ended.x)
        self._last, moving = ended.after(self.mode), self.surface.moving
        volume = 0.5 * float(np.linalg.slogdet(spread[np.ix_(moving, moving)])[1])
        variance = np.diag(spread)
        second = {
            name: (self.surface.values(ended.x, name) ** 2 + self.surface.values(variance, name))
            * s**2
            for name, s in self.spreads(own).items()
        }
        logs = np.log(np.concatenate([v.ravel() for v in own.values()]))
        prior = self._log_prior(logs) - (0.0 if self.surface.jacobian else float(logs.sum()))
        return ended.value - prior + volume, second

    def spreads(self, own: Values) -> Values:
        graph, found = self.surface.graph, dict[str, np.ndarray]()
        for place, predictor in graph.spec.placed:
            matrix = graph.design.rows.matrices[place.stem]
            found |= predictor.raw_sds(place, own, matrix, graph.design.response)
        return found

    def keep(self) -> None:
        self.mode = self._last


def _moved(surface: GraphLogDensity, x: np.ndarray, own: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vector of the same weights and coefficients under other scales."""
    values = surface.variables(x)
    reported = {name: values[name] for name in surface.graph.spec.variables}
    return surface.point(reported | dict(own))

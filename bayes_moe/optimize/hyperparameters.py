"""Learned scales at their marginal mode: weight decay, smoothing.

Scales of weights and coefficients have no joint mode with these. L-BFGS runs keep them fixed, and
here they are set to the mode of their marginal posterior (:mod:`bayes_moe.em.marginal_likelihood`),
as :mod:`bayes_moe.em.hyperparameters` does for models with linear predictors.

References
----------
MacKay, D. J. C. (1992). A practical Bayesian framework for backpropagation networks. Neural
Computation, 4(3), 448-472.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayes_moe.em.marginal_likelihood import MarginalLikelihood, Values
from bayes_moe.model.log_density import LogDensity
from bayes_moe.optimize.lbfgs import LBFGSResult, newton_polish, run_lbfgs

MOST_ROUNDS, FEW_ROUNDS = 10, 3
"""Most rounds, and most where the second derivatives of a round take seconds."""
MOST_COORDINATES = 800
"""Number of coordinates up to which the normal approximation of a round is affordable."""
FOLLOWED = 3
"""Runs that are continued under the scales of the best."""
ITERATIONS = 300
"""Most iterations of a run under new scales."""


def optimise_hyperparameters(surface: LogDensity, runs: list[LBFGSResult]) -> list[LBFGSResult]:
    """Best few runs, in order of decreasing log density, under scales at their marginal mode.

    Without learned scales, or where second derivatives are not affordable, all runs as they are:
    the scales then have their initial values.
    """
    count = int(surface.free_coordinates.sum())
    if surface.free_coordinates.all() or not surface.affordable(count, MOST_COORDINATES):
        return runs
    margin = _Margin(surface, runs[0])
    scales = margin.maximise(MOST_ROUNDS if surface.affordable(count) else FEW_ROUNDS)
    others = [
        run_lbfgs(surface, _with_scales(surface, c.x, scales), ITERATIONS, newton_steps=0).after(c)
        for c in runs[1:FOLLOWED]
    ]
    return sorted([newton_polish(surface, margin.mode), *others], key=lambda c: -c.value)


class _Margin(MarginalLikelihood):
    """Marginal likelihood of a density's scales; ``mode`` is the run at the best scales."""

    def __init__(self, surface: LogDensity, best: LBFGSResult) -> None:
        values, spec = surface.variables(best.x), surface.spec
        sites = spec.structure.sites
        scales = {n: values[n] for site, p in sites for n in p.variables(site).scales}
        super().__init__(scales, surface.priors)
        self.surface, self.mode, self._last = surface, best, best

    def evaluate(self, scales: Values) -> tuple[float, Values] | None:
        x = _with_scales(self.surface, self.mode.x, scales)
        run = run_lbfgs(self.surface, x, ITERATIONS, newton_steps=0)
        covariance = self.surface.rough_covariance(run.x)
        self._last, free = run.after(self.mode), self.surface.free_coordinates
        volume = 0.5 * float(np.linalg.slogdet(covariance[np.ix_(free, free)])[1])
        variance = np.diag(covariance)
        second = {
            name: (self.surface.values(run.x, name) ** 2 + self.surface.values(variance, name))
            * s**2
            for name, s in self.prior_sds(scales).items()
        }
        # The run's value has the scales' log prior, by their logarithms only with the Jacobian.
        logs = np.log(np.concatenate([v.ravel() for v in scales.values()]))
        prior = self._log_prior(logs) - (0.0 if self.surface.jacobian else float(logs.sum()))
        return run.value - prior + volume, second

    def prior_sds(self, scales: Values) -> Values:
        design, sds = self.surface.design, dict[str, np.ndarray]()
        for predictor, b in self.surface.spec.structure.bound(design):
            sds |= predictor.raw_sds(b, scales)
        return sds

    def record_best(self) -> None:
        self.mode = self._last


def _with_scales(
    surface: LogDensity, x: np.ndarray, scales: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Vector of the same weights and coefficients under other scales."""
    values = surface.variables(x)
    reported = {name: values[name] for name in surface.spec.variables}
    return surface.point(reported | dict(scales))

"""Laplace-approximate marginal likelihood of scales of priors, and its mode.

With weights ``w`` of scales ``s`` integrated out by their normal approximation at the mode,
``log p(s | y) = log p(y, w, s) + log |S| / 2``, where ``S`` is the covariance of ``w`` in the
sampler's units and ``p(s)`` the density of the scales' logarithms. The gradient is that of the
expected log density ``- log s_j - E[w_j^2] / (2 s_j^2)`` of each weight, which neglects the change
of the likelihood's curvature with the mode.

References
----------
MacKay, D. J. C. (1992). Bayesian interpolation. Neural Computation, 4(3), 415-447.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from bayes_moe.priors.densities import log_density_of_coordinate
from bayes_moe.priors.prior import Prior

SETTLED = 1e-9
"""Relative gain of a step below which the optimiser stops."""
STEP = 1e-4
"""Step of finite differences, in logarithms."""
FARTHEST = 12.0
"""Largest absolute logarithm of a scale."""
NONE = 1e300
"""Minus the log marginal density where there is no normal approximation."""

Values = dict[str, np.ndarray]


class MarginalLikelihood(ABC):
    """Minus the log marginal density of scales, up to a constant, by their logarithms.

    ``scales`` are the initial ones, ``priors`` their priors. ``best`` are the best scales so far.
    """

    def __init__(self, scales: Mapping[str, np.ndarray], priors: Mapping[str, Prior]) -> None:
        self.priors = {name: priors[name] for name in scales}
        self.shapes = {name: value.shape for name, value in scales.items()}
        self.start = np.log(np.concatenate([value.ravel() for value in scales.values()]))
        self.least, self.best = np.inf, dict(scales)

    @abstractmethod
    def evaluate(self, scales: Values) -> tuple[float, Values] | None:
        """Log density of data and weights at their mode plus log volume, and moments of weights.

        The log density is in the sampler's units, without the log prior of the scales; the moments
        are second moments by name. None where there is no normal approximation.
        """

    @abstractmethod
    def prior_sds(self, scales: Values) -> Values:
        """Prior standard deviations of the weights, by name; they broadcast against the moments."""

    @abstractmethod
    def record_best(self) -> None:
        """Record the last evaluation as the best."""

    def maximise(self, rounds: int) -> Values:
        """Return the scales of largest marginal density."""
        from scipy.optimize import minimize

        minimize(
            self,
            np.clip(self.start, -FARTHEST, FARTHEST),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-FARTHEST, FARTHEST)] * self.start.size,
            options={"maxiter": rounds, "maxfun": 2 * rounds, "ftol": SETTLED, "gtol": 1e-3},
        )
        return self.best

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        approximation = self.evaluate(self._scales(logs))
        if approximation is None:
            return NONE, np.zeros_like(logs)
        loss, second = -approximation[0] - self._log_prior(logs), approximation[1]
        if loss < self.least:
            self.least, self.best = loss, self._scales(logs)
            self.record_best()
        slopes = [
            (self._expected(logs + step, second) - self._expected(logs - step, second)) / (2 * STEP)
            for step in STEP * np.eye(len(logs))
        ]
        return loss, -np.array(slopes)

    def _scales(self, logs: np.ndarray) -> Values:
        """Scales by name, from the vector of their logarithms."""
        scales, start = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            scales[name] = np.exp(logs[start : start + size]).reshape(shape)
            start += size
        return scales

    def _expected(self, logs: np.ndarray, second: Values) -> float:
        """Expected log density of weights with given second moments, plus the log prior."""
        total = self._log_prior(logs)
        for name, sds in self.prior_sds(self._scales(logs)).items():
            sd = np.broadcast_to(sds, second[name].shape)
            total -= float((np.log(sd) + 0.5 * second[name] / sd**2).sum())
        return total

    def _log_prior(self, logs: np.ndarray) -> float:
        """Log prior density of the logarithms."""
        total = float(logs.sum())
        for name, value in self._scales(logs).items():
            log_value = np.log(np.atleast_1d(value))
            total += float(np.sum(log_density_of_coordinate(self.priors[name], log_value)[0]))
        return total

"""The marginal density of learned scales, by Laplace's method, and its mode.

With ``w`` what the scales ``s`` scale, integrated out by its normal approximation at the mode,
``log p(s | y) = log p(y, w, s) + log |S| / 2``, where ``S`` is the covariance of ``w`` in the
sampler's units and ``p(s)`` the density of the scales' logarithms, as a sampler sees them. The
slope is that of the expected log density ``- log s_j - E[w_j^2] / (2 s_j^2)`` of each weight, which
leaves out how the curvature of the likelihood moves with the mode.

References
----------
MacKay, D. J. C. (1992). Bayesian interpolation. Neural Computation, 4(3), 415-447.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from bayes_moe.priors.densities import log_density_of_log
from bayes_moe.priors.prior import Prior

SETTLED = 1e-9
"""Relative gain of a step that ends the climb."""
STEP = 1e-4
"""Of difference slopes, in logarithms."""
FARTHEST = 12.0
"""Largest logarithm of a scale."""
NONE = 1e300
"""Minus the log marginal density where there is no normal approximation."""

Values = dict[str, np.ndarray]


class MarginalLikelihood(ABC):
    """Minus the log marginal density of scales, but for a constant, by their logarithms.

    ``own`` are the scales to begin with, ``priors`` their priors. It keeps the best scales that
    were asked for.
    """

    def __init__(self, own: Mapping[str, np.ndarray], priors: Mapping[str, Prior]) -> None:
        self.priors = {name: priors[name] for name in own}
        self.shapes = {name: value.shape for name, value in own.items()}
        self.start = np.log(np.concatenate([value.ravel() for value in own.values()]))
        self.least, self.best = np.inf, dict(own)

    @abstractmethod
    def evaluate(self, own: Values) -> tuple[float, Values] | None:
        """Log density of data and weights at their mode, in the sampler's units, and volume.

        Besides, the second moments of what is scaled, by name; None without approximation. The
        scales' own log prior is left out.
        """

    @abstractmethod
    def spreads(self, own: Values) -> Values:
        """Standard deviations of what is scaled, by name; they broadcast against the moments."""

    @abstractmethod
    def keep(self) -> None:
        """Note that the last evaluation was the best."""

    def climb(self, rounds: int) -> Values:
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
        found = self.evaluate(self.own(logs))
        if found is None:
            return NONE, np.zeros_like(logs)
        loss, second = -found[0] - self._log_prior(logs), found[1]
        if loss < self.least:
            self.least, self.best = loss, self.own(logs)
            self.keep()
        slopes = [
            (self._expected(logs + step, second) - self._expected(logs - step, second)) / (2 * STEP)
            for step in STEP * np.eye(len(logs))
        ]
        return loss, -np.array(slopes)

    def own(self, logs: np.ndarray) -> Values:
        """Scales by name, from their logarithms in a row."""
        found, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            found[name] = np.exp(logs[at : at + size]).reshape(shape)
            at += size
        return found

    def _expected(self, logs: np.ndarray, second: Values) -> float:
        """Expected log density of weights with some second moments, and the log prior."""
        total = self._log_prior(logs)
        for name, spread in self.spreads(self.own(logs)).items():
            s = np.broadcast_to(spread, second[name].shape)
            total -= float((np.log(s) + 0.5 * second[name] / s**2).sum())
        return total

    def _log_prior(self, logs: np.ndarray) -> float:
        """Log prior density of the logarithms."""
        total = float(logs.sum())
        for name, value in self.own(logs).items():
            log_value = np.log(value)[..., None]
            total += float(np.sum(log_density_of_log(self.priors[name], log_value)[0]))
        return total

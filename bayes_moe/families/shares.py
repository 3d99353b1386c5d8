"""Responses between zero and one: the beta distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import Arrays
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.links import LOG, LOG_ODDS

LEAST_LOG = -600.0
"""Least log of a shape whose gamma function is evaluated."""
LEAST = 1e-300
"""Least shape in moments, cdf and draws."""


class Beta(Family):
    """Beta distribution with mean ``mu`` and precision ``nu``: shapes ``mu nu``, ``(1 - mu) nu``.

    ``log f(y) = log Gamma(nu) - log Gamma(mu nu) - log Gamma((1 - mu) nu) + (mu nu - 1) log y
    + ((1 - mu) nu - 1) log(1 - y)``. The parameter ``mu`` is its log odds wherever it is an
    argument. The variance is ``mu (1 - mu) / (1 + nu)``.
    """

    kind = "beta"
    parameters = (
        Parameter("mu", LOG_ODDS, "odds"),
        Parameter("nu", LOG, "share_precision"),
    )
    lower, upper = 0.0, 1.0
    support = "numbers between 0 and 1, without these"

    def row(self, m: Any) -> Callable[..., Any]:
        def normaliser(log_shape: Any) -> Any:
            return m.gamma_normaliser(m.where(log_shape > LEAST_LOG, log_shape, LEAST_LOG))

        def row(t: Any, u: Any, base: Any, eta: Any, log_nu: Any) -> Any:
            log_p, log_q = -m.softplus(-eta), -m.softplus(eta)
            log_a, log_b = log_p + log_nu, log_q + log_nu
            of_shapes = normaliser(log_a) + normaliser(log_b) - normaliser(log_nu)
            return base + of_shapes + m.exp(log_a) * (t - log_p) + m.exp(log_b) * (u - log_q)

        return row

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        inside = (y > 0) & (y < 1)
        there = xp.where(inside, y, 0.5)
        t, u = xp.log(there), xp.log1p(-there)
        return RowData(t, u, xp.where(inside, -t - u, -np.inf))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        p, q = special.expit(etas[0]), special.expit(-etas[0])
        nu = np.exp(etas[1])
        a, b = (np.maximum(x * nu, 1e-100) for x in (p, q))
        first, second = a * a * special.zeta(2, a), b * b * special.zeta(2, b)
        of_nu = first + second - nu * nu * special.zeta(2, nu)
        return q * q * first + p * p * second, np.maximum(of_nu, 0.0)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        eta, nu = pt.as_tensor(params["mu"]), params["nu"]
        a, b = (pt.maximum(pt.sigmoid(x) * nu, LEAST) for x in (eta, -eta))
        return pm.Beta.dist(alpha=a, beta=b)

    def shapes(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (..., expert, obs), at least the smallest that SciPy takes."""
        eta, nu = np.asarray(params["mu"]), params["nu"]
        a, b = (np.maximum(special.expit(x) * nu, LEAST) for x in (eta, -eta))
        return a, b

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y) - np.log1p(-y)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.betainc(*self.shapes(params), np.clip(y, 0.0, 1.0))

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        a, b = self.shapes(params)
        return special.betaincc(a, b, np.clip(y, 0.0, 1.0))

    def mean(self, params: Parameters) -> np.ndarray:
        return np.asarray(special.expit(params["mu"]))

    def variance(self, params: Parameters) -> np.ndarray:
        eta = np.asarray(params["mu"])
        return special.expit(eta) * special.expit(-eta) / (1.0 + params["nu"])

    def scale(self, params: Parameters) -> np.ndarray:
        return np.maximum(np.sqrt(self.variance(params)), np.finfo(float).tiny)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        # Draws may be zero or one by rounding, which are no responses.
        tiny, largest = np.finfo(float).tiny, np.nextafter(1.0, 0.0)
        return np.clip(rng.beta(*self.shapes(params), size), tiny, largest)

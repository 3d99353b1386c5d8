"""Responses between zero and one: the beta distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_one_of
from bayes_moe.families import functions
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.links import LOG, PROBABILITIES, Link

LEAST_LOG = -600.0
"""Least log of a shape whose gamma function is evaluated."""
LEAST_LOG_SHARE = -1e30
"""Least log of a mean: infinity times a share of zero would be no number."""
LEAST = 1e-300
"""Least shape in moments, cdf and draws."""


@dataclass(frozen=True)
class Beta(Family):
    """Beta distribution with mean ``mu`` and precision ``nu``: shapes ``mu nu``, ``(1 - mu) nu``.

    ``log f(y) = log Gamma(nu) - log Gamma(mu nu) - log Gamma((1 - mu) nu) + (mu nu - 1) log y
    + ((1 - mu) nu - 1) log(1 - y)``. The parameter ``mu`` is its predictor, such as its log odds,
    wherever it is an argument. The variance is ``mu (1 - mu) / (1 + nu)``.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}
        Link of ``mu``.
    """

    kind = "beta"
    link: str = "logit"
    lower, upper = 0.0, 1.0
    support = "numbers between 0 and 1, without these"

    def __post_init__(self) -> None:
        check_one_of("link", self.link, PROBABILITIES)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        mean = Parameter("mu", Link(self.link, natural=False), "odds")
        return mean, Parameter("nu", LOG, "share_precision")

    def row(self, m: Any) -> Callable[..., Any]:
        def normaliser(log_shape: Any) -> Any:
            return m.gamma_normaliser(m.where(log_shape > LEAST_LOG, log_shape, LEAST_LOG))

        def row(t: Any, u: Any, base: Any, eta: Any, log_nu: Any) -> Any:
            log_p, log_q = _log_shares(self.link, m, eta)
            log_a, log_b = log_p + log_nu, log_q + log_nu
            of_shapes = normaliser(log_a) + normaliser(log_b) - normaliser(log_nu)
            return base + of_shapes + m.exp(log_a) * (t - log_p) + m.exp(log_b) * (u - log_q)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, eta: Any, log_nu: Any) -> Any:
            logs = (log + log_nu for log in _log_shares(self.link, m, eta))
            log_a, log_b = (m.where(log > LEAST_LOG, log, LEAST_LOG) for log in logs)
            return m.log_beta_below(log_a, log_b, t - u), m.log_beta_below(log_b, log_a, u - t)

        return tails

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        inside = (y > 0) & (y < 1)
        there = xp.where(inside, y, 0.5)
        t, u = xp.log(there), xp.log1p(-there)
        return RowData(t, u, xp.where(inside, -t - u, -np.inf))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        link = PROBABILITIES[self.link]
        nu = np.exp(etas[1])
        a, b = (np.maximum(x * nu, 1e-100) for x in link.shares(etas[0]))
        of_a, of_b = (x * x * special.zeta(2, x) for x in (a, b))
        of_nu = of_a + of_b - nu * nu * special.zeta(2, nu)
        p, q = link.slopes(functions.numeric(), etas[0])
        return p * p * of_a + q * q * of_b, np.maximum(of_nu, 0.0)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        logs = _log_shares(self.link, functions.symbolic(), pt.as_tensor(params["mu"]))
        a, b = (pt.maximum(pt.exp(log) * params["nu"], LEAST) for log in logs)
        return pm.Beta.dist(alpha=a, beta=b)

    def shapes(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (..., expert, obs), at least the smallest that SciPy takes."""
        shares = PROBABILITIES[self.link].shares(params["mu"])
        a, b = (np.maximum(x * params["nu"], LEAST) for x in shares)
        return a, b

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.asarray(PROBABILITIES[self.link].of_share(y))

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return special.betainc(*self.shapes(params), np.clip(y, 0.0, 1.0))

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        a, b = self.shapes(params)
        return special.betaincc(a, b, np.clip(y, 0.0, 1.0))

    def mean(self, params: Parameters) -> np.ndarray:
        return PROBABILITIES[self.link].shares(params["mu"])[0]

    location = mean

    def variance(self, params: Parameters) -> np.ndarray:
        p, q = PROBABILITIES[self.link].shares(params["mu"])
        return np.asarray(p * q / (1.0 + params["nu"]))

    def scale(self, params: Parameters) -> np.ndarray:
        return np.maximum(np.sqrt(self.variance(params)), np.finfo(float).tiny)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        # Draws may be zero or one by rounding, which are no responses.
        tiny, largest = np.finfo(float).tiny, np.nextafter(1.0, 0.0)
        return np.clip(rng.beta(*self.shapes(params), size), tiny, largest)


def _log_shares(link: str, m: Any, eta: Any) -> tuple[Any, Any]:
    """Logs of the mean and of one less it over a namespace ``m``, bounded."""
    logs = PROBABILITIES[link].logs(m, eta)
    log_p, log_q = (m.where(log > LEAST_LOG_SHARE, log, LEAST_LOG_SHARE) for log in logs)
    return log_p, log_q

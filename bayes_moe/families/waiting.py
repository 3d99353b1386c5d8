"""Positive responses such as waiting times: inverse Gaussian, Weibull and Lomax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.families.base import Parameter, Parameters, RowData, Size
from bayes_moe.families.functions import LARGEST_EXPONENT, bounded_exp, log_exceeded
from bayes_moe.families.links import LOG, LOG_RATE
from bayes_moe.families.location_scale import HALF_LOG_2PI
from bayes_moe.families.positive import INFO, Hazard, PositiveMean

LEAST_GAP = -1e-300
"""Largest log of which the rest of a probability is taken."""
LARGEST_RATIO = 150.0
"""Log ratio of a response and its mean beyond which densities are zero."""


class InverseGaussian(PositiveMean):
    """Inverse Gaussian (Wald) distribution with mean ``mu`` and ``lam``, in the unit of ``y``.

    ``log f(y) = log(lam / (2 pi y^3)) / 2 - lam (y / mu - 1)^2 / (2 y)``; the variance is
    ``mu^3 / lam``.
    """

    kind = "inversegaussian"
    others = (Parameter("lam", LOG, "mean_precision"),)
    log_constant = -HALF_LOG_2PI

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        found = super().data(y, known, xp)
        return RowData(found.t, found.t, found.base - 0.5 * found.t)

    def of_ratio(self, m: Any, r: Any, u: Any, log_lam: Any) -> Any:
        excess = m.expm1(m.where(r < LARGEST_RATIO, r, LARGEST_RATIO))
        return 0.5 * log_lam - 0.5 * bounded_exp(m, log_lam - u) * (excess * excess)

    def tails_of_ratio(self, m: Any, r: Any, u: Any, *etas: Any) -> tuple[Any, Any]:
        near = m.where(r < LARGEST_RATIO, r, LARGEST_RATIO)
        root = bounded_exp(m, 0.5 * (etas[0] - u))
        # As in `ends`; the second normal probability is that below -b, times exp(2 lam / mu).
        a, b = root * m.expm1(near), root * (1.0 + m.exp(near))
        mills = m.log_mills(b)
        below = m.logsumexp(m.log_ndtr(a), mills - 0.5 * (a * a) - math.log(2.0))
        gap = mills - m.log_mills(a)
        return below, m.log_ndtr(-a) + m.log1mexp(m.where(gap < LEAST_GAP, gap, LEAST_GAP))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        ratio = np.minimum(etas[1] - self.log_mean({"mu": etas[0]}), LARGEST_EXPONENT)
        return np.exp(ratio) * self.squared_slope(etas[0]), 0.5

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Wald.dist(mu=1.0 / self.inverse_mean(params), lam=params["lam"])

    def ends(self, log_y: np.ndarray, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """``sqrt(lam / y) (y / mu - 1)``, and with ``+ 1``."""
        root = np.sqrt(params["lam"] * NUMERIC.exp(-log_y))
        r = log_y - self.log_mean(params)
        with np.errstate(over="ignore"):
            return root * np.expm1(r), root * (1.0 + np.exp(r))

    def below(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        a, b = self.ends(log_y, params)
        with np.errstate(over="ignore", under="ignore"):
            return special.ndtr(a) + 0.5 * np.exp(-0.5 * a * a) * special.erfcx(b / math.sqrt(2))

    def above(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        a, b = self.ends(log_y, params)
        inside = np.maximum(a, 0.0)
        with np.errstate(over="ignore", under="ignore"):
            tails = special.erfcx(inside / math.sqrt(2)) - special.erfcx(b / math.sqrt(2))
            tail = 0.5 * np.exp(-0.5 * inside * inside) * tails
        return np.where(a > 0, tail, 1.0 - self.below(log_y, params))

    def relative_variance(self, params: Parameters) -> Any:
        return self.mean(params) / params["lam"]

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return rng.wald(self.mean(params), params["lam"], size)


SMALL_INVERSE = 0.1
"""Inverse shape below which the log gamma function is the sum of its series."""
EULER_TERMS = (-np.euler_gamma, *((-1.0) ** k * special.zeta(k) / k for k in range(2, 18)))
"""Of ``log Gamma(1 + a) / a`` in powers of ``a``."""


class Weibull(Hazard, PositiveMean):
    """Weibull distribution with mean ``mu`` and shape ``alpha``.

    ``log f(y) = log alpha + x - exp(x) - log y`` with ``x = alpha log(y / beta)``, where PyMC's
    scale ``beta`` is ``mu / Gamma(1 + 1 / alpha)``.
    """

    kind = "weibull"
    others = (Parameter("alpha", LOG, "relative_precision"),)

    def log_hazard(self, m: Any, r: Any, log_alpha: Any) -> Any:
        """``alpha log(y / beta)`` over the functions of ``m``."""
        few = log_alpha > -math.log(SMALL_INVERSE)
        inverse = m.exp(-m.where(few, log_alpha, -math.log(SMALL_INVERSE)))
        series = EULER_TERMS[-1]
        for term in EULER_TERMS[-2::-1]:
            series = series * inverse + term
        rest = m.where(few, -math.log(SMALL_INVERSE), log_alpha)
        alpha = m.exp(rest)
        exact = -rest * (alpha + 1.0) - 1.0 - alpha * m.gamma_normaliser(-rest)
        return m.exp(log_alpha) * r + m.where(few, series, exact)

    def of_ratio(self, m: Any, r: Any, u: Any, log_alpha: Any) -> Any:
        x = self.log_hazard(m, r, log_alpha)
        return log_alpha + x - bounded_exp(m, x)

    def tails_of_ratio(self, m: Any, r: Any, u: Any, *etas: Any) -> tuple[Any, Any]:
        x = self.log_hazard(m, r, *etas)
        return log_exceeded(m, x), -bounded_exp(m, x)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        of_shape = 1.0 - np.euler_gamma - special.digamma(1.0 + np.exp(-etas[1]))
        of_mean = np.exp(2.0 * etas[1]) * self.squared_slope(etas[0])
        return of_mean, math.pi**2 / 6 + of_shape * of_shape

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        alpha = params["alpha"]
        beta = pt.exp(-pt.gammaln(1.0 + 1.0 / alpha)) / self.inverse_mean(params)
        return pm.Weibull.dist(alpha=alpha, beta=beta)

    def hazard(self, log_y: np.ndarray, params: Parameters) -> Any:
        """``(y / beta)^alpha``."""
        alpha = params["alpha"]
        level = self.log_mean(params) - special.gammaln(1.0 + 1.0 / alpha)
        return NUMERIC.exp(alpha * (log_y - level))

    def relative_variance(self, params: Parameters) -> Any:
        inverse = 1.0 / np.asarray(params["alpha"])
        logs = special.gammaln(1.0 + 2.0 * inverse) - 2.0 * special.gammaln(1.0 + inverse)
        with np.errstate(over="ignore"):
            return np.expm1(logs)

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        alpha = params["alpha"]
        level = np.exp(-special.gammaln(1.0 + 1.0 / alpha))
        return self.mean(params) * level * rng.weibull(alpha, size)


class Lomax(Hazard):
    """Lomax (Pareto of type II) distribution with scale ``m`` and tail index ``alpha``.

    ``log f(y) = log(alpha / m) - (alpha + 1) log(1 + y / m)``; ``y + m`` has PyMC's Pareto
    distribution. The mean is ``m / (alpha - 1)``. The parameter ``m`` is ``log m`` wherever it is
    an argument.
    """

    kind = "lomax"
    parameters = (Parameter("m", LOG_RATE, "rate"), Parameter("alpha", LOG, "shape"))

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any, log_alpha: Any) -> Any:
            r = t - eta
            return base + log_alpha + r - (m.exp(log_alpha) + 1.0) * m.softplus(r)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, eta: Any, log_alpha: Any) -> Any:
            hazard = m.exp(log_alpha) * m.softplus(t - eta)
            least = m.where(hazard > -LEAST_GAP, hazard, -LEAST_GAP)
            return m.log1mexp(-least), -hazard

        return tails

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return 1.0 / (1.0 + 2.0 * np.exp(-etas[1])), 1.0

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        m = pt.exp(pt.as_tensor(params["m"]))
        return pm.Pareto.dist(alpha=params["alpha"], m=m) - m

    def hazard(self, log_y: np.ndarray, params: Parameters) -> np.ndarray:
        """``alpha log(1 + y / m)``."""
        return np.asarray(params["alpha"] * NUMERIC.softplus(log_y - params["m"]))

    def location(self, params: Parameters) -> np.ndarray:
        return self.scale(params)

    def scale(self, params: Parameters) -> np.ndarray:
        """The median."""
        with np.errstate(over="ignore", divide="ignore"):
            median = np.exp(params["m"]) * np.expm1(math.log(2.0) / params["alpha"])
        return np.clip(median, INFO.tiny, INFO.max)

    def mean(self, params: Parameters) -> np.ndarray:
        alpha = np.asarray(params["alpha"])
        scale = NUMERIC.exp(params["m"])
        return np.where(alpha > 1, scale / np.where(alpha > 1, alpha - 1, 1.0), np.inf)

    def variance(self, params: Parameters) -> np.ndarray:
        alpha = np.asarray(params["alpha"])
        there = np.where(alpha > 2, alpha, 3.0)
        with np.errstate(over="ignore"):
            square = self.mean({"m": params["m"], "alpha": there}) ** 2 * there / (there - 2)
        return np.where(alpha > 2, square, np.inf)

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        return NUMERIC.exp(params["m"]) * rng.pareto(params["alpha"], size)

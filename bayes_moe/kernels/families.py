"""Kernels of the families: log density of a row and its derivatives by the linear predictors."""

from __future__ import annotations

from bayes_moe.kernels.elementary import exp, log1p, logistic, softplus
from bayes_moe.kernels.family_rows import kernel
from bayes_moe.kernels.gamma import deviance
from bayes_moe.kernels.gamma import normaliser as normaliser_of_gamma
from bayes_moe.kernels.student_t import normaliser

LARGEST_LOG = 1e3
"""Above the logarithm of every number: in place of infinity, which has no deviance."""


@kernel(2)
def normal(
    y: float, base: float, known: float, mu: float, log_sigma: float
) -> tuple[float, float, float]:
    """Log density, and its derivatives by ``mu`` and ``log sigma``."""
    inverse = exp(-log_sigma)
    z = (y - mu) * inverse
    z2 = z * z
    return base - log_sigma - 0.5 * z2, z * inverse, z2 - 1.0


@kernel(3)
def studentt(
    y: float, base: float, known: float, mu: float, log_sigma: float, log_nu: float
) -> tuple[float, float, float, float]:
    """Log density, and its derivatives by ``mu``, ``log sigma`` and ``log nu``."""
    inverse, nu = exp(-log_sigma), exp(log_nu)
    log_normaliser, normaliser_score = normaliser(nu)
    z = (y - mu) * inverse
    ratio = z * z / nu
    tail = ratio / (1.0 + ratio)
    excess = log1p(ratio)
    pull = (nu + 1.0) * tail
    value = base + log_normaliser - log_sigma - 0.5 * (nu + 1.0) * excess
    slope = (nu + 1.0) * z * inverse / (nu * (1.0 + ratio))
    return value, slope, pull - 1.0, normaliser_score + 0.5 * (pull - nu * excess)


@kernel(1)
def poisson(y: float, base: float, known: float, log_rate: float) -> tuple[float, float]:
    """Log probability, and its derivative by the log rate."""
    rate = exp(log_rate)
    return base + y * log_rate - rate, y - rate


@kernel(1)
def binomial(y: float, base: float, trials: float, log_odds: float) -> tuple[float, float]:
    """Log probability, and its derivative by the log odds."""
    return base + y * log_odds - trials * softplus(log_odds), y - trials * logistic(log_odds)


@kernel(1)
def bernoulli(y: float, base: float, known: float, log_odds: float) -> tuple[float, float]:
    """Log probability, and its derivative by the log odds."""
    return base + y * log_odds - softplus(log_odds), y - logistic(log_odds)


@kernel(2)
def gamma(
    y: float, base: float, known: float, log_mean: float, log_alpha: float
) -> tuple[float, float, float]:
    """Log density, and its derivatives by the log mean and ``log alpha``."""
    alpha = exp(log_alpha)
    log_normaliser, normaliser_score = normaliser_of_gamma(alpha, log_alpha)
    log_y = min(-base, LARGEST_LOG)  # the base is minus the log response, or minus infinity
    half, slope = deviance(log_y - log_mean)
    pull = alpha * half
    return base + log_normaliser - pull, alpha * slope, normaliser_score - pull

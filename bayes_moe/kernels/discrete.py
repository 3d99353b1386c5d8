"""Kernels of the families of whole numbers."""

from __future__ import annotations

from bayes_moe.kernels.elementary import exp, logistic, softplus
from bayes_moe.kernels.family_rows import kernel


@kernel(1)
def poisson(y: float, base: float, known: float, log_rate: float) -> tuple[float, float]:
    """Return the log probability by the log rate."""
    rate = exp(log_rate)
    return base + y * log_rate - rate, y - rate


@kernel(1)
def binomial(y: float, base: float, trials: float, log_odds: float) -> tuple[float, float]:
    """Return the log probability by the log odds."""
    return base + y * log_odds - trials * softplus(log_odds), y - trials * logistic(log_odds)


@kernel(1)
def bernoulli(y: float, base: float, known: float, log_odds: float) -> tuple[float, float]:
    """Return the log probability by the log odds."""
    return base + y * log_odds - softplus(log_odds), y - logistic(log_odds)

"""Quantities of draws that no relabelling of experts changes, and their figures."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import log_softmax, logsumexp

from benchmarks.cases import Case

FIXED = 5  # rows whose mixture mean and gate weights are compared
CHUNK = 50  # draws at a time

Draws = dict[str, np.ndarray]
"""gate and mu (chain, draw, expert, term); sigma and nu (chain, draw, expert)."""


def _student(y: np.ndarray, eta: np.ndarray, d: Draws) -> np.ndarray:
    return np.asarray(stats.t.logpdf(y, d["nu"][..., None], eta, d["sigma"][..., None]))


LOG_DENSITY: dict[str, Callable[[np.ndarray, np.ndarray, Draws], np.ndarray]] = {
    "normal": lambda y, eta, d: np.asarray(stats.norm.logpdf(y, eta, d["sigma"][..., None])),
    "studentt": _student,
    "poisson": lambda y, eta, _: np.asarray(stats.poisson.logpmf(y, np.exp(eta))),
}


def invariants(draws: Draws, features: np.ndarray, y: np.ndarray, family: str) -> np.ndarray:
    """Label-invariant quantities (chain, draw, quantity).

    The log likelihood of all rows; at a few rows, the mean and the sum of squared gate weights.
    """
    chains, length = draws["mu"].shape[:2]
    flat = {name: v.reshape(chains * length, *v.shape[2:]) for name, v in draws.items()}
    rows = np.linspace(0, len(y) - 1, FIXED).astype(int)
    quantities = []
    for start in range(0, chains * length, CHUNK):
        some = {name: v[start : start + CHUNK] for name, v in flat.items()}
        log_weight = log_softmax(some["gate"] @ features.T, axis=1)  # (draw, expert, obs)
        eta = some["mu"] @ features.T
        density = logsumexp(log_weight + LOG_DENSITY[family](y, eta, some), axis=1)
        weight, mean = np.exp(log_weight[..., rows]), eta[..., rows]
        means = (weight * (np.exp(mean) if family == "poisson" else mean)).sum(axis=1)
        quantities.append(np.column_stack([density.sum(axis=1), means, (weight**2).sum(axis=1)]))
    return np.concatenate(quantities).reshape(chains, length, -1)


def of_each(figure: str, quantities: np.ndarray) -> np.ndarray:
    """One of ArviZ's statistics of each quantity (quantity,), from (chain, draw, quantity)."""
    from arviz_stats.base import array_stats

    call = getattr(array_stats, figure)
    return np.array([call(v, chain_axis=0, draw_axis=1) for v in quantities.T.swapaxes(1, 2)])


def figures(case: Case, draws: Draws, features: np.ndarray) -> dict[str, Any]:
    """Least ESS, worst R-hat, and posterior means with their Monte Carlo standard errors."""
    found = invariants(draws, features, case.response, case.family)
    return {
        "ess": float(of_each("ess", found).min()),
        "rhat": float(of_each("rhat", found).max()),
        "means": found.mean(axis=(0, 1)).tolist(),
        "mcse": of_each("mcse", found).tolist(),
    }

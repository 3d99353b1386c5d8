"""Cdf and quantiles of the predictive mixture over all draws.

Quantiles are approximated with few draws, which gives starting values for all draws. Quantiles
of a continuous response are roots of the cdf; that of a discrete one is the least whole number
whose cdf reaches the level.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.optimize import elementwise

from bayes_moe.model.evaluation import Mixture

PILOT_DRAWS = 100
SECANT_STEPS = 8
PROBABILITY_TOLERANCE = 1e-9
ROUNDING = 1e-12  # of a cdf: a sum over draws and experts
LARGEST_WHOLE = 2.0**53
"""Not every larger whole number is a double."""


ARRAY_LIBRARIES = ("jax", "torch", "cupy", "dask.array")
"""Libraries whose arrays SciPy's root finders ask for, if they are imported."""


def load_array_libraries() -> None:
    """Load array libraries that wait for their first use, before threads find quantiles.

    ArviZ leaves JAX so. Two threads that load such a module at once get it half loaded
    (``module 'jax' has no attribute 'Array'``, Python 3.12).
    """
    for name in ARRAY_LIBRARIES:
        if name in sys.modules:
            getattr(sys.modules[name], "__all__", None)  # any attribute loads it


def cdf(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Return the predictive cdf (obs,), the average over draws."""
    total = np.einsum("seo,seo->o", mixture.weights, mixture.expert_cdf(y))
    return total / len(mixture.log_weights)


def quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return predictive quantiles (obs, level)."""
    samples = len(mixture.log_weights)
    # Evaluations on all draws are expensive, and most steps precede convergence.
    subset = np.linspace(0, samples - 1, min(PILOT_DRAWS, samples)).astype(int)
    pilot = mixture.take_samples(subset)
    solve = _whole_quantiles if mixture.blocks[0].family.discrete else _real_quantiles
    return np.stack(solve(mixture, pilot, levels), axis=-1)


def _whole_quantiles(mixture: Mixture, pilot: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Return the least whole number (obs,) whose cdf reaches each level."""
    centre = np.floor(pilot.moments("location").mean(axis=(0, 1)))
    width = np.ceil(pilot.moments("scale").mean(axis=(0, 1)))
    approximate = (_least_whole(pilot, level, centre, width) for level in levels)
    return [
        _least_whole(mixture, level, guess, 1.0)
        for level, guess in zip(levels, approximate, strict=True)
    ]


def _least_whole(
    mixture: Mixture, level: float, guess: np.ndarray, first_step: np.ndarray | float
) -> np.ndarray:
    """Return the least whole number (obs,) whose cdf reaches ``level``, from a guess.

    The cdf is below the level at ``low`` and not at ``high``. Doubling steps give this bracket,
    which is then bisected.
    """
    low, high = np.full_like(guess, -1.0), np.full_like(guess, np.inf)
    trial = np.clip(guess, 0.0, LARGEST_WHOLE)
    step = np.clip(np.broadcast_to(first_step, guess.shape), 1.0, LARGEST_WHOLE)
    active = np.arange(guess.size)
    while active.size:
        # Taking rows copies the arrays.
        part = mixture if active.size == guess.size else mixture.take_rows(active)
        y = trial[active]
        reached = (cdf(part, y) >= level - ROUNDING) | (y >= LARGEST_WHOLE)
        high[active[reached]], low[active[~reached]] = y[reached], y[~reached]
        active = active[high[active] - low[active] > 1]
        below, above = low[active], high[active]
        trial[active] = np.where(
            np.isinf(above),
            np.minimum(below + step[active], LARGEST_WHOLE),
            np.where(
                below < 0,
                np.maximum(above - step[active], 0.0),
                np.floor(0.5 * (below + above)),
            ),
        )
        step[active] *= 2
    return high


def _real_quantiles(mixture: Mixture, pilot: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Return the root (obs,) of the cdf minus each level."""
    location, width = pilot.moments("location"), pilot.moments("scale")
    # The bracket covers the experts of the pilot draws; bracket_root widens it if needed.
    low = (location - 4 * width).min(axis=(0, 1))
    high = (location + 4 * width).max(axis=(0, 1))
    roots = []
    for level in levels:
        approximate = _root(pilot, level, low, high)
        # The derivative of the cdf is the density.
        slope = np.exp(pilot.log_density(approximate)).mean(axis=0)
        y, converged = _secant(mixture, level, approximate, slope)
        if not converged.all():
            rest = np.flatnonzero(~converged)
            y[rest] = _root(mixture.take_rows(rest), level, low[rest], high[rest])
        roots.append(y)
    return roots


def _secant(
    mixture: Mixture, level: float, y: np.ndarray, slope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return solutions of ``cdf(y) = level`` by the secant method, and where it converged."""
    excess = cdf(mixture, y) - level
    for _ in range(SECANT_STEPS):
        converged = np.abs(excess) <= PROBABILITY_TOLERANCE
        if converged.all():
            break
        # A zero slope gives a step that is not finite; such rows do not converge here.
        with np.errstate(divide="ignore", invalid="ignore"):
            next_y = np.where(converged, y, y - excess / slope)
            next_excess = cdf(mixture, next_y) - level
            slope = np.where(next_y == y, slope, (next_excess - excess) / (next_y - y))
        y, excess = next_y, next_excess
    return y, np.abs(excess) <= PROBABILITY_TOLERANCE


def _root(mixture: Mixture, level: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the root of ``cdf(y) - level``; the bracket is widened if the root is outside."""
    all_rows = np.arange(len(low))

    def excess(y: np.ndarray, row: np.ndarray) -> np.ndarray:
        index = row.astype(int)
        part = mixture if np.array_equal(index, all_rows) else mixture.take_rows(index)
        return cdf(part, y) - level

    bracket = elementwise.bracket_root(excess, low, high, args=(all_rows,), maxiter=100)
    # The tolerance is in probability: between two modes the cdf is almost flat in y.
    tolerances = {"xatol": 0.0, "xrtol": 1e-15, "fatol": PROBABILITY_TOLERANCE, "frtol": 0.0}
    result = elementwise.find_root(excess, bracket.bracket, args=(all_rows,), tolerances=tolerances)
    root: np.ndarray = result.x
    return root

"""Cdf and quantiles of the predictive mixture over all draws.

Quantiles are sought on few draws first and then on all of them: real ones as roots of the cdf,
whole ones as the least whole number whose cdf reaches the level.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import elementwise

from bayes_moe.model.evaluation import Mixture

PILOT_DRAWS = 100
SECANT_STEPS = 8
PROBABILITY_TOLERANCE = 1e-9
ROUNDING = 1e-12
LARGEST_WHOLE = 2.0**53
"""From here on not every whole number is a double."""


def cdf(mixture: Mixture, y: np.ndarray) -> np.ndarray:
    """Predictive cdf (obs,), one pass over (sample, expert, obs)."""
    total = np.einsum("seo,seo->o", mixture.weights, mixture.expert_cdf(y))
    return total / len(mixture.log_weights)


def quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Predictive quantiles (obs, level): sought on few draws, then on all of them."""
    samples = len(mixture.log_weights)
    few = np.linspace(0, samples - 1, min(PILOT_DRAWS, samples)).astype(int)
    pilot = mixture.take_samples(few)
    each = _whole_quantiles if mixture.discrete else _real_quantiles
    return np.stack(each(mixture, pilot, levels), axis=-1)


def _whole_quantiles(mixture: Mixture, pilot: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Least whole numbers whose cdf reaches each level."""
    middle = np.floor(pilot.expert_locations().mean(axis=(0, 1)))
    width = np.ceil(pilot.expert_scales().mean(axis=(0, 1)))
    rough = (_least_whole(pilot, level, middle, width) for level in levels)
    return [_least_whole(mixture, p, r, 1.0) for p, r in zip(levels, rough, strict=True)]


def _least_whole(
    mixture: Mixture, level: float, guess: np.ndarray, first_step: np.ndarray | float
) -> np.ndarray:
    """Least whole number (obs,) whose cdf reaches ``level``, from a guess.

    The cdf is below the level at ``low`` and not at ``high``. Steps that double find the two, and
    bisection brings them together.
    """
    low, high = np.full_like(guess, -1.0), np.full_like(guess, np.inf)
    trial = np.clip(guess, 0.0, LARGEST_WHOLE)
    step = np.clip(np.broadcast_to(first_step, guess.shape), 1.0, LARGEST_WHOLE)
    left = np.arange(guess.size)
    while left.size:
        part = mixture if left.size == guess.size else mixture.take_rows(left)
        here = trial[left]
        reached = (cdf(part, here) >= level - ROUNDING) | (here >= LARGEST_WHOLE)
        high[left[reached]], low[left[~reached]] = here[reached], here[~reached]
        left = left[high[left] - low[left] > 1]
        below, above = low[left], high[left]
        trial[left] = np.where(
            np.isinf(above),
            np.minimum(below + step[left], LARGEST_WHOLE),
            np.where(
                below < 0,
                np.maximum(above - step[left], 0.0),
                np.floor(0.5 * (below + above)),
            ),
        )
        step[left] *= 2
    return high


def _real_quantiles(mixture: Mixture, pilot: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Roots of the cdf."""
    location, width = pilot.expert_locations(), pilot.expert_scales()
    low = (location - 4 * width).min(axis=(0, 1))
    high = (location + 4 * width).max(axis=(0, 1))
    found = []
    for level in levels:
        rough = _root(pilot, level, low, high)
        slope = np.exp(pilot.log_density(rough)).mean(axis=0)
        y, converged = _secant(mixture, level, rough, slope)
        if not converged.all():
            left = np.flatnonzero(~converged)
            y[left] = _root(mixture.take_rows(left), level, low[left], high[left])
        found.append(y)
    return found


def _secant(
    mixture: Mixture, level: float, y: np.ndarray, slope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``cdf(y) = level`` from a near point; return the points and where they converged."""
    excess = cdf(mixture, y) - level
    for _ in range(SECANT_STEPS):
        converged = np.abs(excess) <= PROBABILITY_TOLERANCE
        if converged.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(converged, y, y - excess / slope)
            new = cdf(mixture, moved) - level
            slope = np.where(moved == y, slope, (new - excess) / (moved - y))
        y, excess = moved, new
    return y, np.abs(excess) <= PROBABILITY_TOLERANCE


def _root(mixture: Mixture, level: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Solve ``cdf(y) = level`` from a bracket that need not hold the root."""
    every = np.arange(len(low))

    def excess(y: np.ndarray, row: np.ndarray) -> np.ndarray:
        index = row.astype(int)
        part = mixture if np.array_equal(index, every) else mixture.take_rows(index)
        return cdf(part, y) - level

    bracket = elementwise.bracket_root(excess, low, high, args=(every,), maxiter=100)
    tolerances = {"xatol": 0.0, "xrtol": 1e-15, "fatol": PROBABILITY_TOLERANCE, "frtol": 0.0}
    result = elementwise.find_root(excess, bracket.bracket, args=(every,), tolerances=tolerances)
    root: np.ndarray = result.x
    return root

"""Cdf and quantiles of the predictive mixture over all draws.

Quantiles are approximated with few draws, which gives starting values for all draws. Quantiles
of a continuous response are roots of the cdf; that of a discrete one is the least whole number
whose cdf reaches the level. Above the median both are found from the probability of a larger
response, so that their error is relative to the probability of the nearer tail.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.roots import Brackets, find_roots

PILOT_DRAWS = 100
BRACKET_DRAWS = 16
TAIL_TOLERANCE = 1e-11
"""Relative error of the probability of the nearer tail, to first order."""

ROUNDING = 1e-12  # of the probability of a tail: a sum over draws and experts
BRACKET_SCALES = (-16.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 16.0)
LARGEST_WHOLE = 2.0**53
"""Not every larger whole number is a double."""


def cdf(mixture: Mixture, y: np.ndarray, *, above: bool = False) -> np.ndarray:
    """Return the predictive cdf (obs,), the average over draws; ``above``: 1 less it."""
    total = np.einsum("seo,seo->o", mixture.weights, mixture.expert_cdf(y, above=above))
    return total / len(mixture.log_weights)


def quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return predictive quantiles (obs, level)."""
    samples, _, rows = mixture.log_weights.shape
    if not rows:
        return np.zeros((0, len(levels)))
    # Evaluations on all draws are expensive, and most steps precede convergence.
    pilot = mixture.take_samples(_some(samples, PILOT_DRAWS))
    solve = _whole_quantiles if mixture.blocks[0].family.discrete else _real_quantiles
    return np.stack(solve(mixture, pilot, levels), axis=-1)


def _some(samples: int, most: int) -> np.ndarray:
    """Return at most so many indices of draws, evenly spaced."""
    return np.linspace(0, samples - 1, min(most, samples)).astype(int)


def _whole_quantiles(mixture: Mixture, pilot: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Return the least whole number (obs,) whose cdf reaches each level."""
    centre = np.floor(pilot.moments("location").mean(axis=(0, 1)))
    width = np.ceil(pilot.moments("scale").mean(axis=(0, 1)))
    approximate = (_least_whole(pilot, level, centre, width) for level in levels)
    return [
        _least_whole(mixture, level, guess, 1.0)
        for level, guess in zip(levels, approximate, strict=True)
    ]


def _reached(mixture: Mixture, level: float, y: np.ndarray) -> np.ndarray:
    """Whether the cdf (obs,) reaches ``level``, up to rounding of the nearer tail."""
    if level <= 0.5:
        return cdf(mixture, y) >= level * (1 - ROUNDING)
    return cdf(mixture, y, above=True) <= (1 - level) * (1 + ROUNDING)


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
        reached = _reached(part, level, y) | (y >= LARGEST_WHOLE)
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
    few = mixture.take_samples(_some(len(mixture.log_weights), BRACKET_DRAWS))
    location, width = few.moments("location"), few.moments("scale")
    points = np.concatenate([location + scale * width for scale in BRACKET_SCALES])
    points = points.reshape(-1, points.shape[-1])
    lower = mixture.blocks[0].family.lower
    if np.isfinite(lower):
        # Close to the end of the support, the cdf can rise at any scale.
        near = lower + (location[0] - lower) * np.exp2(-np.arange(0.0, 64.0, 8.0))[:, None, None]
        points = np.concatenate([points, near.reshape(-1, points.shape[-1])])
        points = np.where(points > lower, points, near[0, 0])
    points.sort(axis=0)
    narrowest = width.min(axis=(0, 1))
    roots = []
    for level in levels:
        low, high = _between(pilot, level, points, lower)
        first = np.where(np.isinf(low), high, low)
        brackets = Brackets(low, high, np.maximum(narrowest, 0.5 * np.abs(first)))
        approximate = _tail_root(pilot, level, brackets, _start(low, high), None)
        # The derivative of the cdf is the density.
        slope = np.exp(pilot.log_density(approximate)).mean(axis=0) / _tail(level)
        whole = np.full_like(low, np.inf)
        below = np.full_like(low, -np.inf if np.isinf(lower) else lower)
        brackets = Brackets(below, whole, narrowest)
        roots.append(
            approximate
            if len(mixture.log_weights) == len(pilot.log_weights)
            else _tail_root(mixture, level, brackets, approximate, slope)
        )
    return roots


def _tail(level: float) -> float:
    """Probability of the nearer tail."""
    return level if level <= 0.5 else 1 - level


def _between(
    mixture: Mixture, level: float, points: np.ndarray, lower: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbours (obs,) among increasing points (point, obs) with the quantile between.

    Beyond the last point the upper one is infinite, before the first the lower is the end of the
    support.
    """
    columns = np.arange(points.shape[1])
    low, high = np.full(columns.size, -1), np.full(columns.size, len(points))
    while (high - low > 1).any():
        middle = np.clip((low + high) // 2, 0, len(points) - 1)
        reached = _reached(mixture, level, points[middle, columns])
        low = np.where(reached, low, np.maximum(low, middle))
        high = np.where(reached, np.minimum(high, middle), high)
    below = np.where(low < 0, lower, points[np.maximum(low, 0), columns])
    above = np.where(high >= len(points), np.inf, points[high.clip(max=len(points) - 1), columns])
    return below, above


def _start(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return a point inside each bracket, whose ends are not both infinite."""
    with np.errstate(invalid="ignore"):
        middle = low + 0.5 * (high - low)
        middle = np.where(np.isinf(high), low + np.maximum(1.0, np.abs(low)), middle)
        return np.where(np.isinf(low), high - np.maximum(1.0, np.abs(high)), middle)


def _tail_root(
    mixture: Mixture,
    level: float,
    brackets: Brackets,
    start: np.ndarray,
    slope: np.ndarray | None,
) -> np.ndarray:
    """Return where the log of the nearer tail's probability is that of ``level``."""
    above, target = level > 0.5, np.log(_tail(level))

    def excess(y: np.ndarray, index: np.ndarray) -> np.ndarray:
        part = mixture if index.size == start.size else mixture.take_rows(index)
        with np.errstate(divide="ignore"):
            value = np.log(cdf(part, y, above=above)) - target
        return -value if above else value

    return find_roots(excess, brackets, start, slope, TAIL_TOLERANCE)

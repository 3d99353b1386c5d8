"""Cdf and quantiles of the predictive mixture over all draws.

Quantiles are searched with few draws, from anywhere; all draws then take one or two steps from
there, for all rows and levels at once. Quantiles of a continuous response are roots of the cdf;
that of a discrete one is the least whole number whose cdf reaches the level. Above the median both
are found from the probability of a larger response, so that their error is relative to the
probability of the nearer tail.
"""

from __future__ import annotations

import numpy as np

from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.roots import Brackets, find_roots

PILOT_DRAWS = 100
BRACKET_DRAWS = 16
TAIL_TOLERANCE = 1e-11
"""Relative error of the probability of the nearer tail, to first order."""

MOST_IMPROVEMENTS = 5
NEAR = 1e-2
"""Value, an error of a log probability, below which a step can be the last."""

LAST_ERROR = 1e-12
"""Error of the log probability that is left after a step that is not evaluated."""

MOST_LOST = 1e3
"""Ratio of a count's probability to the tail's, above which their difference is not exact."""

ROUNDING = 1e-12  # of the probability of a tail: a sum over draws and experts
BRACKET_SCALES = (-16.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 16.0)
LARGEST_WHOLE = 2.0**53
"""Not every larger whole number is a double."""


def cdf(mixture: Mixture, y: np.ndarray, *, above: bool = False) -> np.ndarray:
    """Return the predictive cdf (obs,), the average over draws; ``above``: 1 less it.

    ``y`` is (obs,), or one number for all rows.
    """
    points = np.broadcast_to(y, (1, mixture.log_weights.shape[-1]))
    share: np.ndarray = mixture.tails(points, np.array([above]), derivatives=False)[0, 0]
    return share


def quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return predictive quantiles (obs, level)."""
    pilot = mixture.take_samples(some_draws(len(mixture.log_weights), PILOT_DRAWS))
    return improved_quantiles(mixture, levels, searched_quantiles(pilot, levels))


def searched_quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return quantiles (obs, level), searched from anywhere: for a few draws."""
    if not mixture.log_weights.shape[-1]:
        return np.zeros((0, len(levels)))
    search = _whole_quantiles if mixture.blocks[0].family.discrete else _real_quantiles
    return np.stack(search(mixture, levels), axis=-1)


def improved_quantiles(mixture: Mixture, levels: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Return quantiles (obs, level) from a guess (obs, level) that is nearly right.

    Of at most ``PILOT_DRAWS`` draws the guess is right. What is not found in a few evaluations for
    all rows is searched row by row.
    """
    if not guess.size or len(mixture.log_weights) <= PILOT_DRAWS:
        return guess
    discrete = mixture.blocks[0].family.discrete
    improve, search = (
        (_improved_whole, _searched_whole) if discrete else (_improved_real, _searched_real)
    )
    y, found = improve(mixture, levels, np.ascontiguousarray(guess.T))
    for level, own, done in zip(levels, y, found, strict=True):
        rest = np.flatnonzero(~done)
        if rest.size:
            own[rest] = search(mixture.take_rows(rest), level, own[rest])
    return y.T


def _improved_real(
    mixture: Mixture, levels: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return roots (level, obs), and which of them are found, by Halley's method.

    The function is the log of the nearer tail's probability, whose derivatives are known. A last
    step is not evaluated where its error is small: as many times the power of the value as that
    was in the step before.
    """
    above = levels > 0.5
    target = np.log(np.where(above, 1 - levels, levels))[:, None]
    sign = np.where(above, -1.0, 1.0)[:, None]
    low = np.full_like(y, mixture.blocks[0].family.lower)
    high, before = np.full_like(y, np.inf), np.full_like(y, np.nan)
    found = np.zeros(y.shape, dtype=bool)
    for _ in range(MOST_IMPROVEMENTS):
        with np.errstate(all="ignore"):
            tail, density, slope = np.moveaxis(mixture.tails(y, above), 1, 0)
            value = sign * (np.log(tail) - target)
            gradient = density / tail
            bend = sign * (sign * slope / tail - gradient * gradient) / gradient
            order = np.where(np.isfinite(bend), 3, 2)
            newton = value / gradient
            step = newton / (1 - 0.5 * newton * np.where(order == 3, bend, 0.0))
            trial = y - step
            error = np.maximum(np.abs(value / before**order), 1.0) * np.abs(value) ** order
        found |= np.abs(value) <= TAIL_TOLERANCE
        low, high = np.where(value < 0, y, low), np.where(value > 0, y, high)
        sound = (trial > low) & (trial < high)
        last = sound & (np.abs(value) < NEAR) & (error < LAST_ERROR) & ~found
        y = np.where(sound & ~found, trial, y)
        found |= last
        if (found | ~sound).all():
            break
        before = value
    return y, found


def _improved_whole(
    mixture: Mixture, levels: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the guesses (level, obs), and which of them are the quantiles."""
    above = levels > 0.5
    tail, density, _ = np.moveaxis(mixture.tails(y, above), 1, 0)
    below = np.where(above[:, None], tail + density, tail - density)
    found = (y >= 0) & (density <= MOST_LOST * tail)
    for level, now, previous, own in zip(levels, tail, below, found, strict=True):
        own &= _reaches(now, level) & ~_reaches(previous, level)
    return y, found


def some_draws(samples: int, most: int) -> np.ndarray:
    """Return at most so many indices of draws, evenly spaced."""
    return np.linspace(0, samples - 1, min(most, samples)).astype(int)


def _whole_quantiles(mixture: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Return the least whole number (obs,) whose cdf reaches each level."""
    centre = np.floor(mixture.moments("location").mean(axis=(0, 1)))
    width = np.ceil(mixture.moments("scale").mean(axis=(0, 1)))
    return [_least_whole(mixture, level, centre, width) for level in levels]


def _searched_whole(mixture: Mixture, level: float, guess: np.ndarray) -> np.ndarray:
    """Return the least whole number (obs,) whose cdf reaches ``level``, near a guess."""
    return _least_whole(mixture, level, guess, 1.0)


def _reached(mixture: Mixture, level: float, y: np.ndarray) -> np.ndarray:
    """Whether the cdf (obs,) reaches ``level``, up to rounding of the nearer tail."""
    return _reaches(cdf(mixture, y, above=level > 0.5), level)


def _reaches(tail: np.ndarray, level: float) -> np.ndarray:
    """Whether the cdf reaches ``level`` where the nearer tail has a probability."""
    if level <= 0.5:
        return tail >= level * (1 - ROUNDING)
    return tail <= (1 - level) * (1 + ROUNDING)


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


def _real_quantiles(mixture: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Return the root (obs,) of the cdf minus each level."""
    few = mixture.take_samples(some_draws(len(mixture.log_weights), BRACKET_DRAWS))
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
        low, high = _between(mixture, level, points, lower)
        first = np.where(np.isinf(low), high, low)
        brackets = Brackets(low, high, np.maximum(narrowest, 0.5 * np.abs(first)))
        roots.append(_tail_root(mixture, level, brackets, _start(low, high), None))
    return roots


def _searched_real(mixture: Mixture, level: float, guess: np.ndarray) -> np.ndarray:
    """Return the root (obs,) of the cdf minus ``level``, near a guess."""
    few = mixture.take_samples(some_draws(len(mixture.log_weights), BRACKET_DRAWS))
    with np.errstate(all="ignore"):
        # The derivative of the cdf is the density.
        slope = np.exp(mixture.log_density(guess)).mean(axis=0) / _tail(level)
    lower = mixture.blocks[0].family.lower
    below = np.full_like(guess, -np.inf if np.isinf(lower) else lower)
    width = few.moments("scale").min(axis=(0, 1))
    brackets = Brackets(below, np.full_like(guess, np.inf), width)
    return _tail_root(mixture, level, brackets, guess, slope)


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

"""Cdf and quantiles of the predictive mixture over all draws.

Quantiles are searched with few draws, from anywhere; all draws then take one or two steps from
there, for all rows and levels at once. Quantiles of a continuous response are roots of the cdf, or
atoms, at which it jumps over the level; that of a discrete one is the least whole number whose cdf
reaches the level. Above the median both
are found from the probability of a larger response, so that their error is relative to the
probability of the nearer tail.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def density_cdf(mixture: Mixture, y: np.ndarray, *, above: bool = False) -> np.ndarray:
    """Return the part of the cdf (obs,) that has a density: without jumps at atoms."""
    part = mixture.density_part
    share = cdf(part, y, above=above)
    for atom, mass in zip(part.measure.atoms, part.atom_masses, strict=True):
        passed = np.asarray(atom > y if above else atom <= y)
        share = share - np.where(passed, mass, 0.0)
    return np.maximum(share, 0.0) if part.measure.atoms else share


def quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return predictive quantiles (obs, level)."""
    pilot = mixture.take_samples(some_draws(len(mixture.log_weights), PILOT_DRAWS))
    return improved_quantiles(mixture, levels, searched_quantiles(pilot, levels))


def searched_quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return quantiles (obs, level), searched from anywhere: for a few draws."""
    if not mixture.log_weights.shape[-1]:
        return np.zeros((0, len(levels)))
    search = _whole_quantiles if mixture.measure.discrete else _real_quantiles
    return np.stack(search(mixture, levels), axis=-1)


def improved_quantiles(mixture: Mixture, levels: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Return quantiles (obs, level) from a guess (obs, level) that is nearly right.

    Of at most ``PILOT_DRAWS`` draws the guess is right. What is not found in a few evaluations for
    all rows is searched row by row.
    """
    if not guess.size or len(mixture.log_weights) <= PILOT_DRAWS:
        return guess
    improve, search = (
        (_improved_whole, _searched_whole)
        if mixture.measure.discrete
        else (_improved_real, _searched_real)
    )
    y, found = improve(mixture, levels, np.ascontiguousarray(guess.T))
    for level, own, done in zip(levels, y, found, strict=True):
        rest = np.flatnonzero(~done)
        if rest.size:
            own[rest] = search(mixture.take_rows(rest), level, own[rest])
    return y.T


@dataclass(frozen=True)
class Bounds:
    """Where quantiles (level, obs) are: ``at`` an atom, or, where that is NaN, between two ends.

    There is no atom between the ends.
    """

    low: np.ndarray
    high: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, mixture: Mixture, levels: np.ndarray) -> Bounds:
        """Ends of the support, or the atoms next to each quantile."""
        shape = (len(levels), mixture.log_weights.shape[-1])
        measure = mixture.measure
        low, high = (np.array(np.broadcast_to(end, shape)) for end in mixture.span)
        at = np.full(shape, np.nan)
        masses = mixture.atom_masses if measure.atoms else np.zeros((0, shape[1]))
        for j, atom in enumerate(measure.atoms):
            below = masses[:j].sum(axis=0) + density_cdf(mixture, np.array(atom))
            beyond = masses[j + 1 :].sum(axis=0) + density_cdf(mixture, np.array(atom), above=True)
            for level, own_low, own_high, own_at in zip(levels, low, high, at, strict=True):
                if level > 0.5:
                    before, after = _reaches(beyond + masses[j], level), _reaches(beyond, level)
                else:
                    before, after = _reaches(below, level), _reaches(below + masses[j], level)
                own_at[after & ~before] = atom
                own_low[~after] = np.maximum(own_low[~after], atom)
                own_high[before] = np.minimum(own_high[before], atom)
        return cls(low, high, at)


def _improved_real(
    mixture: Mixture, levels: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return roots (level, obs), and which of them are found, by Halley's method.

    The function is the log of the nearer tail's probability, whose derivatives are known. A last
    step is not evaluated where its error is small: as many times the power of the value as that
    was in the step before. Quantiles at an atom are found as such.
    """
    bounds = Bounds.of(mixture, levels)
    low, high = bounds.low.copy(), bounds.high.copy()
    y = np.where((y > low) & (y < high), y, _start(low, high))
    y = np.where(np.isnan(bounds.at), y, bounds.at)
    found = ~np.isnan(bounds.at)
    above = levels > 0.5
    target = np.log(np.where(above, 1 - levels, levels))[:, None]
    sign = np.where(above, -1.0, 1.0)[:, None]
    before = np.full_like(y, np.nan)
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
    found = (y >= mixture.span[0]) & (density <= MOST_LOST * tail)
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
    least, most = np.ceil(mixture.span[0]), np.minimum(np.floor(mixture.span[1]), LARGEST_WHOLE)
    low, high = least - 1.0, np.full_like(guess, np.inf)
    trial = np.clip(guess, least, most)
    step = np.clip(np.broadcast_to(first_step, guess.shape), 1.0, LARGEST_WHOLE)
    active = np.arange(guess.size)
    while active.size:
        # Taking rows copies the arrays.
        part = mixture if active.size == guess.size else mixture.take_rows(active)
        y = trial[active]
        reached = _reached(part, level, y) | (y >= most[active])
        high[active[reached]], low[active[~reached]] = y[reached], y[~reached]
        active = active[high[active] - low[active] > 1]
        below, above = low[active], high[active]
        first = least[active]
        trial[active] = np.where(
            np.isinf(above),
            np.minimum(below + step[active], most[active]),
            np.where(
                below < first,
                np.maximum(above - step[active], first),
                np.floor(0.5 * (below + above)),
            ),
        )
        step[active] *= 2
    return high


def _real_quantiles(mixture: Mixture, levels: np.ndarray) -> list[np.ndarray]:
    """Return the root (obs,) of the cdf minus each level, or the atom where it jumps over it."""
    part = mixture.density_part
    few = part.take_samples(some_draws(len(mixture.log_weights), BRACKET_DRAWS))
    location, width = few.moments("location"), few.moments("scale")
    points = np.concatenate([location + scale * width for scale in BRACKET_SCALES])
    points = points.reshape(-1, points.shape[-1])
    for end in part.span:
        finite = np.isfinite(end)
        if finite.any():
            # Close to an end of the support, the cdf can rise at any scale.
            at = np.where(finite, end, 0.0)
            near = at + (location[0] - at) * np.exp2(-np.arange(0.0, 64.0, 8.0))[:, None, None]
            points = np.concatenate([points, near.reshape(-1, points.shape[-1])])
            inside = ~finite | ((points - at) * np.sign(near[0, 0] - at) > 0)
            points = np.where(inside, points, near[0, 0])
    points.sort(axis=0)
    narrowest = width.min(axis=(0, 1))
    bounds, roots = Bounds.of(mixture, levels), []
    for level, own_low, own_high, at in zip(
        levels, bounds.low, bounds.high, bounds.at, strict=True
    ):
        root, rest = at.copy(), np.flatnonzero(np.isnan(at))
        if rest.size:
            own = mixture if rest.size == at.size else mixture.take_rows(rest)
            ends = own_low[rest], own_high[rest]
            low, high = _between(own, level, np.clip(points[:, rest], *ends), ends)
            first = np.where(np.isinf(low), high, low)
            brackets = Brackets(low, high, np.maximum(narrowest[rest], 0.5 * np.abs(first)))
            root[rest] = _tail_root(own, level, brackets, _start(low, high), None)
        roots.append(root)
    return roots


def _searched_real(mixture: Mixture, level: float, guess: np.ndarray) -> np.ndarray:
    """Return the root (obs,) of the cdf minus ``level``, near a guess; none is an atom."""
    few = mixture.density_part.take_samples(some_draws(len(mixture.log_weights), BRACKET_DRAWS))
    with np.errstate(all="ignore"):
        # The derivative of the cdf is the density.
        slope = np.exp(mixture.log_density(guess)).mean(axis=0) / _tail(level)
    bounds = Bounds.of(mixture, np.array([level]))
    width = few.moments("scale").min(axis=(0, 1))
    brackets = Brackets(bounds.low[0], bounds.high[0], width)
    return _tail_root(mixture, level, brackets, guess, slope)


def _tail(level: float) -> float:
    """Probability of the nearer tail."""
    return level if level <= 0.5 else 1 - level


def _between(
    mixture: Mixture, level: float, points: np.ndarray, ends: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbours (obs,) among increasing points (point, obs) with the quantile between.

    Beyond the last and before the first point they are ``ends`` (obs,).
    """
    columns = np.arange(points.shape[1])
    low, high = np.full(columns.size, -1), np.full(columns.size, len(points))
    while (high - low > 1).any():
        middle = np.clip((low + high) // 2, 0, len(points) - 1)
        reached = _reached(mixture, level, points[middle, columns])
        low = np.where(reached, low, np.maximum(low, middle))
        high = np.where(reached, np.minimum(high, middle), high)
    below = np.where(low < 0, ends[0], points[np.maximum(low, 0), columns])
    above = points[high.clip(max=len(points) - 1), columns]
    above = np.where(high >= len(points), ends[1], above)
    return below, above


def _start(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return a point inside each bracket, zero where both ends are infinite."""
    with np.errstate(invalid="ignore"):
        middle = low + 0.5 * (high - low)
        middle = np.where(np.isinf(high), low + np.maximum(1.0, np.abs(low)), middle)
        middle = np.where(np.isinf(low), high - np.maximum(1.0, np.abs(high)), middle)
        return np.where(np.isinf(low) & np.isinf(high), 0.0, middle)


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

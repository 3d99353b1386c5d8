"""The distribution of what is recorded of a response: between limits, and cut at two others.

A row is recorded if its response is between the limits of a truncation; beyond the limits of
censoring, these are recorded in place of the response. So a recorded response has a probability at
each of these limits. Weights of experts beside each other are those of recorded rows: see
:mod:`bayes_moe.model.recorded_mixture`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families.base import Family, Parameters, Size
from bayes_moe.families.censored import Censored, Truncation
from bayes_moe.families.partial_moments import PARTIAL, cut_moments
from bayes_moe.families.tail_moments import Distributions, Tail, first_distance

BOTTOM, TOP = "recorded_from", "recorded_to"
LEFT, RIGHT = "censored_below", "censored_above"
"""Names of the limits (obs,) of rows, beside the known counts of a family."""

LOG_SHARE = "log_recorded"
"""Name of the log probability (..., expert, obs) that a row is recorded."""

ROUNDS = 10
"""Times that responses outside the limits are drawn anew, before the rest is drawn by tails."""

HALVINGS = 100
LIKELY = 1e-4
"""Share of recorded rows above which differences of probabilities have all digits that count."""


@dataclass(frozen=True, repr=False)
class Recorded(Censored):
    """The distribution of what is recorded of responses of ``family``.

    Its parameters hold, beside those of the family, limits (obs,) and the log probability that a
    row is recorded: see :meth:`within`. Figures of a distribution are those of recorded responses,
    ``location`` and ``scale`` those of responses between the limits of the truncation.
    """

    kind = "recorded"

    def within(self, limits: np.ndarray, params: Parameters) -> dict[str, Any]:
        """Parameters with limits (4, obs): see :class:`bayes_moe.data.observation.Observation`."""
        bottom, top, left, right = limits
        share = self.log_probability(bottom, top, params)
        return {**params, BOTTOM: bottom, TOP: top, LEFT: left, RIGHT: right, LOG_SHARE: share}

    def log_probability(self, lower: Any, upper: Any, params: Parameters) -> np.ndarray:
        """Log probability (..., expert, obs) of a response between two numbers, both included."""
        part = _truncation(self.family)
        rows = np.stack(np.broadcast_arrays(lower, upper, lower, upper))
        data = part.data(rows, params, NUMERIC)
        found: np.ndarray = part.log_density_at(data, self.family.etas(params, NUMERIC), NUMERIC)
        return found

    def _share(self, lower: Any, upper: Any, params: Parameters) -> np.ndarray:
        """Probability that a response between the limits is between two numbers."""
        low, high = np.maximum(lower, params[BOTTOM]), np.minimum(upper, params[TOP])
        total = params[LOG_SHARE]
        known = total > -np.inf
        log_share = self.log_probability(low, high, params) - np.where(known, total, 0.0)
        return np.where(known, np.exp(np.minimum(log_share, 0.0)), 0.0)

    def below(self, y: Any, params: Parameters) -> np.ndarray:
        """Probability of a response up to ``y``, of those between the limits."""
        return self._share(-np.inf, y, params)

    def above(self, y: Any, params: Parameters) -> np.ndarray:
        """Probability of a response above ``y``, of those between the limits."""
        return self._share(self.next_above(y), np.inf, params)

    def next_above(self, y: Any) -> np.ndarray:
        """The least possible response above ``y``."""
        found: np.ndarray = np.floor(y) + 1.0 if self.discrete else np.nextafter(y, np.inf)
        return found

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        below = self.below(y, params)
        return np.where(y >= params[RIGHT], 1.0, np.where(y < params[LEFT], 0.0, below))

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        above = self.above(y, params)
        return np.where(y >= params[RIGHT], 0.0, np.where(y < params[LEFT], 1.0, above))

    def mean(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[0]

    def variance(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[1]

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (..., expert, obs) of recorded responses."""
        flat = Flat.of(self, params)
        mean, variance, rest = flat.without_moments()
        if rest.size and self.family.kind in PARTIAL:
            by_formula, rest = flat.by_formula(rest)
            mean, variance = np.where(np.isnan(by_formula), [mean, variance], by_formula)
        low, high = flat.ends
        own = np.floor(flat.location) if self.discrete else flat.location
        inside, width = np.clip(own, low, high), flat.scale
        likely = flat.params[LOG_SHARE][0, rest] > np.log(LIKELY)
        for some, tails in ((rest[likely], flat.differences), (rest[~likely], flat.tails)):
            if some.size:
                ends = (low[some], high[some], inside[some], width[some])
                found = Distributions(*tails(some), *ends).moments(self.discrete)
                mean[some] = found[0]
                variance[some] = np.where(np.isinf(variance[some]), np.inf, found[1])
        return mean.reshape(flat.shape), variance.reshape(flat.shape)

    def location(self, params: Parameters) -> np.ndarray:
        flat = Flat.of(self, params)
        return flat.centre()[0].reshape(flat.shape)

    def scale(self, params: Parameters) -> np.ndarray:
        flat = Flat.of(self, params)
        return flat.centre()[1].reshape(flat.shape)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        flat = Flat.of(self, params, size)
        drawn = np.array(self.family.random(params, rng, size), dtype=float).ravel()
        bottom, top = flat.params[BOTTOM], flat.params[TOP]
        rest = np.flatnonzero(flat.params[LOG_SHARE][0] > -np.inf)
        for turn in range(ROUNDS + 1):
            rest = rest[(drawn[rest] < bottom[rest]) | (drawn[rest] > top[rest])]
            if not rest.size:
                break
            if turn < ROUNDS:
                own = flat.at(rest)
                drawn[rest] = self.family.random(own, rng, (1, rest.size))[0]
            else:
                drawn[rest] = flat.quantiles(rest, rng.random(rest.size))
        return np.clip(drawn, flat.params[LEFT], flat.params[RIGHT]).reshape(flat.shape)


@dataclass(frozen=True, eq=False)
class Flat:
    """Recorded responses of many experts and rows, one after the other.

    Parameters are (1, number), what is known of rows (number,); ``shape`` is that of all.
    """

    family: Recorded
    params: dict[str, np.ndarray]
    shape: Size

    @classmethod
    def of(cls, family: Recorded, params: Parameters, size: Size | None = None) -> Flat:
        """Of parameters (..., expert, obs)."""
        arrays = {name: np.asarray(v) for name, v in params.items()}
        shape = np.broadcast_shapes(*(v.shape for v in arrays.values())) if size is None else size
        flat = {}
        for name, value in arrays.items():
            full = np.broadcast_to(value, shape).ravel()
            flat[name] = full if value.ndim == 1 else full[None]
        return cls(family, flat, shape)

    def at(self, which: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters of those at some positions."""
        return {name: value[..., which] for name, value in self.params.items()}

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the responses of recorded rows: whole numbers of counts."""
        low, high = self.family.family.support_ends(self.params)
        low, high = np.maximum(low, self.params[BOTTOM]), np.minimum(high, self.params[TOP])
        return (np.ceil(low), np.floor(high)) if self.family.discrete else (low, high)

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the recorded responses."""
        low, high = (np.clip(x, self.params[LEFT], self.params[RIGHT]) for x in self.limits)
        return low, high

    @property
    def location(self) -> np.ndarray:
        """Centres of the family's own distributions."""
        size = self.params[LOG_SHARE].shape
        return np.broadcast_to(self.family.family.location(self.params), size)[0]

    @property
    def scale(self) -> np.ndarray:
        """Widths of the family's own distributions."""
        size = self.params[LOG_SHARE].shape
        return np.broadcast_to(self.family.family.scale(self.params), size)[0]

    def below(self, y: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Probability up to ``y`` (..., number) of those at some positions, between the limits."""
        return self._at_points(self.family.below, y, which)

    def above(self, y: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Probability above ``y`` (..., number) of those at some positions, between the limits."""
        return self._at_points(self.family.above, y, which)

    def _at_points(self, share: Any, y: np.ndarray, which: np.ndarray) -> np.ndarray:
        each = np.broadcast_to(which, y.shape).ravel()  # rows of which not the same need be known
        found: np.ndarray = share(y.ravel(), self.at(each))[0].reshape(y.shape)
        return found

    def tails(self, which: np.ndarray) -> tuple[Tail, Tail]:
        """Probabilities below and above of those at some positions, from the nearer tail."""
        return (
            lambda y, at: self.below(y, which[at]),
            lambda y, at: self.above(y, which[at]),
        )

    def by_formula(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances (2, number) of those at some positions by formulas, NaN for others.

        And the positions of which the formulas do not give enough digits.
        """
        params, family = self.at(which), self.family.family
        bottom, top, left, right = (params[name] for name in (BOTTOM, TOP, LEFT, RIGHT))
        if family.discrete:
            first, beyond, top = np.ceil(bottom) - 1.0, right - 1.0, np.floor(top)
        else:
            first, beyond = bottom, right
        points = np.stack([first, np.clip(left, first, top), np.clip(beyond, first, top), top])
        mean, variance, digits = cut_moments(family, params, points, np.stack([left, right]))
        good = digits > LIKELY
        found = np.full((2, self.params[LOG_SHARE].size), np.nan)
        found[:, which[good]] = mean[good], variance[good]
        return found, which[~good]

    def differences(self, which: np.ndarray) -> tuple[Tail, Tail]:
        """As :meth:`tails`, by differences of the family's own: cheaper, to the rounding of one."""
        family, params = self.family.family, self.at(which)
        bottom, top = params[BOTTOM], params[TOP]
        first = np.ceil(bottom) - 1.0 if family.discrete else np.nextafter(bottom, -np.inf)
        place = np.broadcast_to(family.location(params), (1, which.size))[0]
        open_low, open_high = np.isneginf(bottom), np.isposinf(top)
        before = np.where(open_low, 0.0, family.cdf(np.where(open_low, place, first), params)[0])
        after = np.where(open_high, 0.0, family.sf(np.where(open_high, place, top), params)[0])
        total = np.exp(params[LOG_SHARE][0])

        def of(tail: Any, y: np.ndarray, at: np.ndarray, outside: np.ndarray) -> np.ndarray:
            share = tail(y, {name: value[..., at] for name, value in params.items()})
            return np.clip((share - outside[at]) / total[at], 0.0, 1.0)

        return (
            lambda y, at: of(family.cdf, y, at, before).reshape(y.shape),
            lambda y, at: of(family.sf, y, at, after).reshape(y.shape),
        )

    def without_moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means and variances that are not finite, and positions of those with a finite mean.

        A tail that has no moments has none beyond a limit either, unless there is another limit.
        Experts of which nothing is recorded have no mean.
        """
        family, share = self.family.family, self.params[LOG_SHARE][0]
        low, high = self.ends
        up, down = np.isposinf(high), np.isneginf(low)
        own = np.broadcast_to(family.mean(self.params), (1, share.size))[0]
        spread = np.broadcast_to(family.variance(self.params), (1, share.size))[0]
        mean = np.where(up, np.where(down, own, np.inf), np.where(down, -np.inf, np.nan))
        infinite = ~np.isfinite(own) & (up | down)
        variance = np.where(~np.isfinite(spread) & (up | down) & ~infinite, np.inf, np.nan)
        mean = np.where(infinite & (share > -np.inf), mean, np.nan)
        return mean, variance, np.flatnonzero(~infinite & (share > -np.inf))

    def centre(self) -> tuple[np.ndarray, np.ndarray]:
        """A point among responses of recorded rows of each, and a width of these."""
        low, high = self.limits
        place = np.clip(self.location, low, high)
        width = np.minimum(self.scale, high - low)
        if self.family.discrete:
            return place, self.scale
        for end, side, sign in ((low, self.above, 1.0), (high, self.below, -1.0)):
            at = np.flatnonzero(
                (place == end) & (high > low) & (self.params[LOG_SHARE][0] > -np.inf)
            )
            if at.size:
                tail = lambda r, of, at=at, end=end, side=side, sign=sign: side(  # noqa: E731
                    end[at[of]] + sign * r, at[of]
                )
                reach, _ = first_distance(tail, (high - low)[at], width[at])
                place[at], width[at] = end[at] + 0.5 * sign * reach, reach
        return place, np.where(width > 0, width, self.scale)

    def quantiles(self, which: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Least response of those at some positions whose probability below reaches a level."""
        (low, high), (place, width) = self.limits, self.centre()
        low, high, place, width = (x[which] for x in (low, high, place, width))
        least, most = np.where(np.isinf(low), place, low), np.where(np.isinf(high), place, high)
        for _ in range(HALVINGS * 10):  # until both ends are right
            under = np.isinf(low) & (self.below(least, which) >= level)
            over = np.isinf(high) & (self.below(most, which) < level)
            if not (under | over).any():
                break
            width = 2.0 * width
            least, most = np.where(under, least - width, least), np.where(over, most + width, most)
        if self.family.discrete:
            least, most = np.floor(least) - 1.0, np.floor(most)
        for _ in range(HALVINGS):
            middle = 0.5 * (least + most)
            middle = np.floor(middle) if self.family.discrete else middle
            reached = self.below(middle, which) >= level
            most = np.where(reached, middle, most)
            least = np.where(reached, least, middle)
        return most


def recorded_as(family: Family) -> Recorded:
    """The family of what is recorded of responses, by that of what is known of them."""
    assert isinstance(family, Censored)
    return _recorded(family.family, family.intervals, family.truncated)


@cache
def _recorded(family: Family, intervals: bool, truncated: bool) -> Recorded:
    return Recorded(family, intervals, truncated)


@cache
def _truncation(family: Family) -> Truncation:
    return Truncation(family, True, False)

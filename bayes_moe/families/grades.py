"""Ordered classes, such as grades: the cumulative logit and probit models."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.families.base import Parameter, Parameters
from bayes_moe.families.categories import Levels
from bayes_moe.families.links import LOG, Link

HALF = 0.5
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
NARROW = 1e-5
"""Width times distance from zero below which a normal density is constant to 1e-11."""


@dataclass(frozen=True)
class Ordered(Levels):
    """A class by thresholds on a latent scale: ``P(y <= c) = F(cut_c - mu)``.

    The first threshold is zero, so that ``mu`` has an intercept, and the next ones are sums of
    the positive distances ``gap``: ``cut_c = gap_1 + ... + gap_c``.
    """

    ordered: ClassVar[bool] = True
    link: ClassVar[Link]
    """Link of the probabilities, under which ``mu`` is linear."""

    @property
    def shown_levels(self) -> tuple[Any, ...]:
        return self.levels or (0, 1, 2)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        location = Parameter("mu", self.link, "odds")
        between = self.shown_levels[1:-1]
        if not between:
            return (location,)
        return location, Parameter("gap", LOG, "gap", between, "threshold")

    @abstractmethod
    def log_between(self, m: Any, lower: Any, upper: Any, width: Any) -> Any:
        """Log probability of the latent variable between two points ``width`` apart."""

    @abstractmethod
    def log_below(self, m: Any, upper: Any) -> Any:
        """Log probability of the latent variable up to a point."""

    def row(self, m: Any) -> Callable[..., Any]:
        last = self.count - 1

        def row(t: Any, u: Any, base: Any, mu: Any, *log_gaps: Any) -> Any:
            below = self.log_below(m, -mu)
            cut: Any = 0.0
            middle: list[Any] = []
            for log_gap in log_gaps:
                gap = m.exp(log_gap)
                middle.append(self.log_between(m, cut - mu, cut + gap - mu, gap))
                cut = cut + gap
            value = self.log_below(m, mu - cut)
            for code in reversed(range(1, last)):
                value = m.where(t < code + HALF, middle[code - 1], value)
            return base + m.where(t < HALF, below, value)

        return row

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log((y + HALF) / (self.count - 1 - y + HALF))

    def cutpoints(self, params: Parameters) -> np.ndarray:
        """Thresholds (..., threshold, expert, obs)."""
        first = np.zeros_like(np.asarray(params["mu"]))[..., None, :, :]
        if "gap" not in params:
            return first
        sums = np.cumsum(params["gap"], axis=-3)
        shape = np.broadcast_shapes(first.shape[:-3], sums.shape[:-3])
        first = np.broadcast_to(first[..., :1], (*shape, 1, *sums.shape[-2:]))
        return np.concatenate([first, np.broadcast_to(sums, (*shape, *sums.shape[-3:]))], axis=-3)

    def dist_of(self, params: Parameters, make: Callable[..., Any]) -> Any:
        """PyMC distribution by thresholds along the last dimension."""
        import pytensor.tensor as pt

        mu = pt.as_tensor(params["mu"])
        cuts = pt.zeros_like(mu)[..., None]
        if "gap" in params:
            gap = pt.as_tensor(params["gap"])
            cuts = pt.concatenate([pt.zeros_like(gap[..., :1]), pt.cumsum(gap, axis=-1)], axis=-1)
        return make(eta=mu, cutpoints=cuts)


@dataclass(frozen=True)
class OrderedLogistic(Ordered):
    """Cumulative logit model (proportional odds): ``P(y <= c) = logistic(cut_c - mu)``."""

    kind = "orderedlogistic"
    link = Link("logit", natural=False)

    def log_below(self, m: Any, upper: Any) -> Any:
        return -m.softplus(-upper)

    def log_between(self, m: Any, lower: Any, upper: Any, width: Any) -> Any:
        return m.log1mexp(-width) - m.softplus(-upper) - m.softplus(lower)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return self.dist_of(params, pm.OrderedLogistic.dist)


@dataclass(frozen=True)
class OrderedProbit(Ordered):
    """Cumulative probit model: ``P(y <= c) = Phi(cut_c - mu)``."""

    kind = "orderedprobit"
    link = Link("probit", natural=False)

    def log_below(self, m: Any, upper: Any) -> Any:
        return m.log_ndtr(upper)

    def log_between(self, m: Any, lower: Any, upper: Any, width: Any) -> Any:
        # Both points in the lower tail, where probabilities keep their relative error.
        middle = 0.5 * (lower + upper)
        high = m.log_ndtr(m.where(middle > 0.0, -lower, upper))
        low = m.log_ndtr(m.where(middle > 0.0, -upper, lower))
        # Points so near that the difference would be rounding: density times width.
        narrow = width * (1.0 + m.absolute(middle)) < NARROW
        density = m.log(width) - 0.5 * (middle * middle) - HALF_LOG_2PI
        return m.where(narrow, density, high + m.log1mexp(m.where(narrow, -1.0, low - high)))

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return self.dist_of(params, pm.OrderedProbit.dist)

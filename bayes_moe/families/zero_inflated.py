"""Families with a probability of zero of their own: zero inflation and hurdles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import Arrays, symbolic
from bayes_moe.core.errors import SpecError
from bayes_moe.families.base import NOTHING, Family, Parameter, Parameters, RowData, Size, quoted
from bayes_moe.families.counts import Poisson
from bayes_moe.families.discrete import HALF_UNIT, Discrete
from bayes_moe.families.links import LOGIT
from bayes_moe.families.positive import Positive
from bayes_moe.families.shares import Beta

POISSON = Poisson()
PSI = Parameter("psi", LOGIT, "probability")
LEAST = -1e5
"""Least log probability of a zero: below it there is no other but the extra ones."""
LEAST_MISS = -1e-150
"""Largest log probability of a zero: second derivatives have the square of its inverse."""
LOG_OF_ZERO = -1e4
"""Stands for the log of a response of zero, in the data of families that take ``log y``."""


@dataclass(frozen=True)
class OfFamily(Family):
    """A family made of another one, whose support it has, and zero."""

    family: Family = POISSON
    lower = 0.0

    @property
    def known_counts(self) -> tuple[str, ...]:
        return self.family.known_counts

    @property
    def discrete(self) -> bool:
        return self.family.discrete

    @property
    def upper(self) -> float:
        return self.family.upper

    @property
    def has_tails(self) -> bool:
        return self.family.has_tails

    def support_ends(self, known: Parameters) -> tuple[Any, Any]:
        return 0.0, self.family.support_ends(known)[1]

    @property
    def atoms(self) -> tuple[float, ...]:
        return () if self.discrete else (0.0,)


@dataclass(frozen=True)
class WithZeros(OfFamily):
    """Zero or a response of ``family``, with probabilities ``1 - psi`` and ``psi``.

    The summand of the log density of ``family`` without parameters is zero at zero counts.
    """

    takes: ClassVar[tuple[type[Family], ...]]
    """Families beside which there may be extra zeros."""
    shown: ClassVar[str]
    """The same in words."""
    family: Family = POISSON

    lower = 0.0

    def __post_init__(self) -> None:
        self._check(self.family)

    def _check(self, family: Family) -> None:
        if not isinstance(family, Family):
            raise SpecError(
                f"The family of {self.kind!r} is a family such as Poisson(); got {family!r}."
            )
        if not (isinstance(family, self.takes) and family.takes_levels is None):
            raise SpecError(f"{self.kind!r} is for {self.shown}; got {quoted(family)}.")

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*self.family.parameters, PSI)

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params) if self.discrete else self.family.location(params)

    def scale(self, params: Parameters) -> np.ndarray:
        if not self.discrete:
            return self.family.scale(params)
        variance = np.minimum(self.variance(params), np.finfo(float).max)
        return np.hypot(np.sqrt(variance), HALF_UNIT)

    def moments_of_part(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (..., expert, obs) of responses that are no extra zeros."""
        return self.family.mean(params), self.family.variance(params)

    def tail_of_part(self, y: Any, params: Parameters) -> np.ndarray:
        """Probability above ``y``, not negative, of responses that are no extra zeros."""
        return self.family.sf(y, params)

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        """Draws of shape ``size`` that are no extra zeros."""
        return self.family.random(params, rng, size)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        psi, extra = _shares(params)
        level = extra + psi * self.family.cdf(y, params)
        return np.where(np.asarray(y) >= 0, level, 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        y = np.asarray(y)
        tail = _shares(params)[0] * self.tail_of_part(np.maximum(y, 0.0), params)
        return np.where(y >= 0, tail, 1.0)

    def mean(self, params: Parameters) -> np.ndarray:
        return _shares(params)[0] * self.moments_of_part(params)[0]

    def variance(self, params: Parameters) -> np.ndarray:
        psi, extra = _shares(params)
        mean, variance = self.moments_of_part(params)
        with np.errstate(over="ignore"):
            return psi * (variance + extra * mean**2)

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        own = rng.random(size) < _shares(params)[0]
        return np.where(own, self.drawn(params, rng, size), 0)

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        if self.discrete:
            return self.family.initial_eta(y, known)
        own = np.sort(y[y > 0])
        middle = own[own.size // 2] if own.size else 0.5
        return self.family.initial_eta(np.where(y > 0, y, middle), known)

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        if self.discrete:
            self.family.check_response(y, name, known, obs_id)
            return
        super().check_response(y, name, known, obs_id)
        other = np.flatnonzero(y != 0)
        at = other if obs_id is None else obs_id[other]
        self.family.check_response(y[other], name, known, at)


class ZeroInflated(WithZeros):
    """Zero-inflated counts: those of ``family`` with probability ``psi``, else zero.

    ``f(0) = 1 - psi + psi g(0)`` and ``f(y) = psi g(y)`` with the density ``g`` of ``family``.
    Parameters are those of ``family``, and ``psi`` under a logit link, as in PyMC: other packages
    have formulas of ``1 - psi``.

    Parameters
    ----------
    family : Family
        A family of counts, such as ``Poisson()``, ``NegativeBinomial()`` or ``Binomial()``.
    """

    kind = "zeroinflated"
    takes = (Discrete,)
    shown = "families of counts (positive responses and zeros are those of 'hurdle')"

    def row(self, m: Any) -> Callable[..., Any]:
        inner = self.family.row(m)

        def row(t: Any, u: Any, base: Any, *etas: Any) -> Any:
            log_psi, log_extra = -m.softplus(-etas[-1]), -m.softplus(etas[-1])
            own = inner(t, u, t * 0.0, *etas[:-1])
            at_zero = m.where(own > LEAST, own, LEAST)
            either = m.logsumexp(log_extra, log_psi + at_zero)
            return base + m.where(t > 0.0, log_psi + own, either)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        inner = self.family.tails(m)

        def tails(t: Any, u: Any, *etas: Any) -> Any:
            log_psi, log_extra = -m.softplus(-etas[-1]), -m.softplus(etas[-1])
            below, above = inner(t, u, *etas[:-1])
            least = m.where(below > LEAST, below, LEAST)
            return m.logsumexp(log_extra, log_psi + least), log_psi + above

        return tails

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return self.family.data(y, known, xp)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        psi, counts = pt.as_tensor(params["psi"]), self.family.dist(_without_psi(params))
        zero = pm.DiracDelta.dist(pt.zeros((), dtype="int64"))
        return pm.Mixture.dist(w=pt.stack([1.0 - psi, psi], axis=-1), comp_dists=[zero, counts])


class Hurdle(WithZeros):
    """Hurdle: zero with probability ``1 - psi``, else a positive response of ``family``.

    Of a family of counts, the density ``g`` is that of counts from 1: ``f(y) = psi g(y) /
    (1 - g(0))``. Parameters are those of ``family`` and ``psi`` under a logit link, as in PyMC.

    Parameters
    ----------
    family : Family
        A family of counts or of positive responses, such as ``Poisson()``, ``Gamma()`` or
        ``LogNormal()``.
    """

    kind = "hurdle"
    takes = (Discrete, Positive, Beta)
    shown = "families of counts or of positive responses"

    def row(self, m: Any) -> Callable[..., Any]:
        inner = self.family.row(m)

        def row_of_counts(t: Any, u: Any, base: Any, *etas: Any) -> Any:
            log_psi, log_extra = -m.softplus(-etas[-1]), -m.softplus(etas[-1])
            zero = inner(t * 0.0, u, t * 0.0, *etas[:-1])
            other = m.log1mexp(m.where(zero < LEAST_MISS, zero, LEAST_MISS))
            own = inner(t, u, t * 0.0, *etas[:-1])
            return base + m.where(t > 0.0, log_psi + (own - other), log_extra)

        def row(t: Any, u: Any, base: Any, *etas: Any) -> Any:
            log_psi, log_extra = -m.softplus(-etas[-1]), -m.softplus(etas[-1])
            own = inner(m.where(t > LOG_OF_ZERO, t, 0.0), u, t * 0.0, *etas[:-1])
            return base + m.where(t > LOG_OF_ZERO, log_psi + own, log_extra)

        return row_of_counts if self.discrete else row

    def tails(self, m: Any) -> Callable[..., Any]:
        inner = self.family.tails(m)

        def tails_of_counts(t: Any, u: Any, *etas: Any) -> Any:
            log_psi, log_extra = -m.softplus(-etas[-1]), -m.softplus(etas[-1])
            share = inner(t, u, *etas[:-1])[1] - inner(t * 0.0, u, *etas[:-1])[1]
            below = m.log1mexp(m.where(share < LEAST_MISS, share, LEAST_MISS))
            return m.logsumexp(log_extra, log_psi + below), log_psi + share

        def tails(t: Any, u: Any, *etas: Any) -> Any:
            log_psi, log_extra = -m.softplus(-etas[-1]), -m.softplus(etas[-1])
            positive = t > LOG_OF_ZERO
            below, above = inner(m.where(positive, t, 0.0), u, *etas[:-1])
            least = m.where(below > LEAST, below, LEAST)
            up_to = m.where(positive, m.logsumexp(log_extra, log_psi + least), log_extra)
            return up_to, log_psi + m.where(positive, above, 0.0)

        return tails_of_counts if self.discrete else tails

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        found = self.family.data(y, known, xp)
        if self.discrete:
            return found
        zero = (y >= 0) & (y <= 0)
        t, base = xp.where(zero, LOG_OF_ZERO, found.t), xp.where(zero, 0.0, found.base)
        return RowData(t, found.u, base)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any] | None:
        if self.discrete:
            return None
        own = np.asarray(data.t) > LOG_OF_ZERO
        inner = replace(data, t=np.where(own, data.t, 0.0))
        found = self.family.information(inner, etas[:-1]) or [None] * (len(etas) - 1)
        return [*(None if x is None else np.where(own, x, 0.0) for x in found), None]

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        if self.discrete:
            return self._dist_of_counts(params)
        inner = self.family.dist(_without_psi(params))
        own = pm.Bernoulli.dist(p=pt.as_tensor(params["psi"]) + pt.zeros_like(inner))
        return pt.where(own > 0, inner, 0.0)

    def _dist_of_counts(self, params: Parameters) -> Any:
        """Distribution of counts: draws of PyMC's truncation fail if few are positive."""
        import pymc as pm

        names = list(params)

        def drawn(*values: Any, rng: np.random.Generator, size: Any) -> np.ndarray:
            shape = np.broadcast_shapes(*map(np.shape, values)) if size is None else tuple(size)
            return self.random(dict(zip(names, values, strict=True)), rng, shape).astype(np.int64)

        def log_density(y: Any, *values: Any) -> Any:
            return self.log_density(y, dict(zip(names, values, strict=True)), symbolic())

        return pm.CustomDist.dist(
            *params.values(), random=drawn, logp=log_density, dtype="int64", class_name="Hurdle"
        )

    def positive(self, params: Parameters) -> np.ndarray:
        """Probability (..., expert, obs) of a positive count of ``family``."""
        return self.family.sf(np.zeros(1), params)

    def moments_of_part(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = super().moments_of_part(params)
        if not self.discrete:
            return mean, variance
        share = self.positive(params)
        own = mean / share
        return own, np.maximum((variance + mean**2) / share - own**2, 0.0)

    def tail_of_part(self, y: Any, params: Parameters) -> np.ndarray:
        tail = self.family.sf(y, params)
        return tail / self.positive(params) if self.discrete else tail

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return 1.0 - self.sf(y, params) if self.discrete else super().cdf(y, params)

    def drawn(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        found = np.asarray(self.family.random(params, rng, size))
        again = found <= 0
        if self.discrete and again.any():
            rest = {k: np.broadcast_to(v, size)[again] for k, v in params.items()}
            found = np.array(found, dtype=float)
            found[again] = self._by_tails(rest, rng.random(int(again.sum())))
        return found

    def _by_tails(self, params: Parameters, level: np.ndarray) -> np.ndarray:
        """Least counts (draw,) from 1 that are exceeded with no more than some probabilities."""
        low, high = np.zeros(level.shape), np.ones(level.shape)
        while True:  # double the upper ends, then halve the intervals
            beyond = self.tail_of_part(high, params) > level
            if not beyond.any():
                break
            low, high = np.where(beyond, high, low), np.where(beyond, 2 * high, high)
        while (high - low > 1).any():
            middle = np.floor(0.5 * (low + high))
            beyond = self.tail_of_part(middle, params) > level
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return high


def _without_psi(params: Parameters) -> dict[str, Any]:
    return {k: v for k, v in params.items() if k != PSI.name}


def _shares(params: Parameters) -> tuple[np.ndarray, Any]:
    """Probabilities of the part that is no extra zero, and of extra zeros."""
    psi = np.asarray(params["psi"])
    return psi, 1.0 - psi

"""Numbers of successes in trials: Bernoulli, binomial and beta-binomial distributions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.checks import check_one_of
from bayes_moe.data.class_labels import TWO
from bayes_moe.families import functions
from bayes_moe.families.base import Parameter, Parameters, Size, check_varied
from bayes_moe.families.counts import gamma_ratio
from bayes_moe.families.discrete import HALF_UNIT, Discrete, is_count
from bayes_moe.families.links import LOG, PROBABILITIES, Link

CHUNK, LONGEST = 2**16, 2**10
"""Probabilities of a beta-binomial distribution that are summed at once, and most of one row."""

LEAST_LOG = -600.0
"""Least log of a shape in sums of probabilities."""
NEGLIGIBLE = 1e-17
"""Share of a sum that may be left out of it."""


@dataclass(frozen=True)
class SuccessCounts(Discrete):
    """Number of successes ``y`` in ``n`` trials, with probability ``p`` of each.

    The parameter ``p`` is its predictor wherever it is an argument here, so that formulas are free
    of rounding of ``1 - p``.
    """

    link: str = "logit"

    def __post_init__(self) -> None:
        check_one_of("link", self.link, PROBABILITIES)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("p", Link(self.link, natural=False), "odds"),)

    def log_probabilities(self, eta: Any, m: Any) -> tuple[Any, Any]:
        """Logs of ``p`` and ``1 - p`` over a namespace ``m``."""
        return PROBABILITIES[self.link].logs(m, eta)

    def shares(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities ``p`` and ``1 - p``."""
        return PROBABILITIES[self.link].shares(params["p"])

    @abstractmethod
    def trials(self, params: Parameters) -> Any:
        """Number of trials: (obs,), (1,) or a number."""

    def in_support(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return is_count(y, xp) & (y <= self.trials(params))

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any) -> Any:
            if self.link == "logit":
                return base + t * eta - u * m.softplus(eta)
            log_p, log_q = self.log_probabilities(eta, m)
            return base + t * log_p + (u - t) * log_q

        return row

    def support_ends(self, known: Parameters) -> tuple[Any, Any]:
        return 0.0, self.trials(known)

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, eta: Any) -> Any:
            log_p, log_q = self.log_probabilities(eta, m)
            # At the largest count, where no tail is asked for, both need positive shapes.
            left, more = m.log(m.where(t < u, u - t, 1.0)), m.log(t + 1.0)
            odds = log_p - log_q
            return m.log_beta_below(left, more, -odds), m.log_beta_below(more, left, odds)

        return tails

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        share = (y + HALF_UNIT) / (self.trials(known) + 2 * HALF_UNIT)
        return np.asarray(PROBABILITIES[self.link].of_share(share))

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        step, trials = np.floor(y), self.trials(params)
        # betainc needs positive arguments: y < 0 and y >= trials are replaced here, and set below.
        inside = np.clip(step, 0, np.maximum(trials - 1, 0))
        failure = self.shares(params)[1]
        level = special.betainc(np.maximum(trials - inside, 1), inside + 1, failure)
        return np.where(step >= 0, np.where(step < trials, level, 1.0), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        step, trials = np.floor(y), self.trials(params)
        inside = np.clip(step, 0, np.maximum(trials - 1, 0))
        success = self.shares(params)[0]
        level = special.betainc(inside + 1, np.maximum(trials - inside, 1), success)
        return np.where(step >= 0, np.where(step < trials, level, 0.0), 1.0)

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        success, failure = self.shares(params)
        mean = self.trials(params) * success
        return mean, mean * failure

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        trials = np.asarray(self.trials(params)).astype(np.int64)
        return rng.binomial(trials, self.shares(params)[0], size)

    def symbolic_success(self, params: Parameters) -> dict[str, Any]:
        """Argument of PyMC's distributions for the probability of success."""
        if self.link == "logit":
            return {"logit_p": params["p"]}
        import pytensor.tensor as pt

        eta = pt.as_tensor(params["p"])
        return {"p": pt.exp(self.log_probabilities(eta, functions.symbolic())[0])}


@dataclass(frozen=True)
class Bernoulli(SuccessCounts):
    """Bernoulli distribution: ``y`` is 1 with probability ``p``, else 0.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}
        Link of ``p``.
    """

    kind = "bernoulli"
    support = "0 and 1, or False and True"
    takes_levels = TWO

    def trials(self, params: Parameters) -> Any:
        return 1.0

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return 0.0 * y

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Bernoulli.dist(**self.symbolic_success(params))


@dataclass(frozen=True)
class Binomial(SuccessCounts):
    """Binomial distribution: ``C(trials, y) p^y (1 - p)^(trials - y)``.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}
        Link of ``p``.
    """

    kind = "binomial"
    known_counts = ("trials",)
    support = "whole numbers from 0 to the number of trials"

    def trials(self, params: Parameters) -> Any:
        return params["trials"]

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        trials = params["trials"]
        return xp.gammaln(trials + 1) - xp.gammaln(y + 1) - xp.gammaln(trials - y + 1)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        trials = pt.cast(params["trials"], "int64")
        return pm.Binomial.dist(n=trials, **self.symbolic_success(params))

    def check_variation(self, y: np.ndarray, name: str, known: Parameters) -> None:
        trials = np.broadcast_to(known["trials"], y.shape)
        tried = trials > 0
        check_varied(y[tried] / trials[tried], f"share of successes {name!r}")

    def beside(self, at: int, known: Parameters) -> str:
        trials = known["trials"]
        return f" of {trials[at if trials.size > 1 else 0]:g} trials"


@dataclass(frozen=True)
class BetaBinomial(Binomial):
    """Beta-binomial distribution: binomial, with a beta distribution of the probability.

    The probability has mean ``p`` and precision ``phi``; PyMC's parameters are ``alpha = p phi``
    and ``beta = (1 - p) phi``. The more precise, the nearer to a binomial distribution.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}
        Link of ``p``.
    """

    kind = "betabinomial"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*super().parameters, Parameter("phi", LOG, "concentration"))

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any, log_phi: Any) -> Any:
            log_p, log_q = self.log_probabilities(eta, m)
            total = m.exp(log_phi) + u
            success = _outcomes(m, t, u - t, total, log_p, log_q, log_phi)
            failure = _outcomes(m, u - t, t, total, log_q, log_p, log_phi)
            return base + success + failure - gamma_ratio(m, u, log_phi)

        return row

    def tails(self, m: Any) -> Callable[..., Any]:
        def tails(t: Any, u: Any, eta: Any, log_phi: Any) -> Any:
            logs = (log + log_phi for log in self.log_probabilities(eta, m))
            log_a, log_b = (m.where(log > LEAST_LOG, log, LEAST_LOG) for log in logs)
            left = m.where(t < u, u - t - 1.0, 0.0)
            below = m.log_betabinomial_below(t, u, log_a, log_b)
            return below, m.log_betabinomial_below(left, u, log_b, log_a)

        return tails

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        eta, phi = pt.as_tensor(params["p"]), params["phi"]
        logs = self.log_probabilities(eta, functions.symbolic())
        alpha, beta = (pt.exp(log) * phi for log in logs)
        return pm.BetaBinomial.dist(n=pt.cast(params["trials"], "int64"), alpha=alpha, beta=beta)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return self._accumulated(y, params, above=False)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return self._accumulated(y, params, above=True)

    def _accumulated(self, y: Any, params: Parameters, *, above: bool) -> np.ndarray:
        """Probability up to ``y``, or above it: by the sum that leads away from the mean."""
        names = ("p", "phi", "trials")
        step, *args = np.broadcast_arrays(np.floor(y), *(params[name] for name in names))
        flat = {name: arg.ravel() for name, arg in zip(names, args, strict=True)}
        step, trials = step.ravel(), flat["trials"]
        found = np.where(step < 0, float(above), 1.0 - above)
        inside = np.flatnonzero((step >= 0) & (step < trials))
        if not inside.size:
            return found.reshape(args[0].shape)
        upward = step >= self.moments(flat)[0]
        value = np.empty(step.shape)
        for up in (False, True):
            rows = inside[upward[inside] == up]
            value[rows] = self._outward(step[rows] + up, _some(flat, rows), up=up)
        turned = inside[upward[inside] != above]
        # Where little is left, a difference from one would have few digits.
        little = turned[value[turned] > 0.5]
        value[turned] = 1.0 - value[turned]
        value[little] = self._outward(step[little] + above, _some(flat, little), up=above)
        found[inside] = np.minimum(value[inside], 1.0)
        return found.reshape(args[0].shape)

    def _outward(self, first: np.ndarray, params: Parameters, *, up: bool) -> np.ndarray:
        """Probability (row,) of the counts from ``first`` on, up to the trials or down to zero.

        Within chunks each probability is the one before it times their ratio. Rows end where what
        remains is negligible.
        """
        trials, (success, failure) = params["trials"], self.shares(params)
        alpha, beta = success * params["phi"], failure * params["phi"]
        towards, away = (beta, alpha) if up else (alpha, beta)
        total = np.exp(self.log_density(trials if up else 0.0 * trials, params, NUMERIC))
        left = trials - first if up else first  # counts that follow
        rows = np.flatnonzero(left > 0)
        while rows.size:
            length = int(min(max(CHUNK // rows.size, 16), left[rows].max(), LONGEST))
            rest = left[rows, None] - np.arange(length)  # from each count of the chunk to the end
            done = trials[rows, None] - rest
            count = trials[rows] - left[rows] if up else left[rows]
            start = self.log_density(count, _some(params, rows), NUMERIC)
            before = np.maximum(rest[:, 1:], 0.0) + 1.0  # the same, from the count before
            ratio = before * (away[rows, None] + done[:, 1:] - 1.0)
            ratio /= done[:, 1:] * (towards[rows, None] + before - 1.0)
            ratio[rest[:, 1:] <= 0] = 0.0  # the end itself is in the sum already
            terms = np.cumprod(np.column_stack([np.exp(start), ratio]), axis=1)
            total[rows] += terms.sum(axis=1)
            left[rows] -= length
            # Towards the end ratios only fall, or are below one, unless the end has a pole.
            last = ratio[:, -1] if length > 1 else np.inf
            ended = (towards[rows] >= 1) & (last < 1)
            ended &= terms[:, -1] * left[rows] <= NEGLIGIBLE * total[rows]
            rows = rows[(left[rows] > 0) & ~ended]
        return total

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = super().moments(params)
        return mean, variance * (1 + (self.trials(params) - 1) / (params["phi"] + 1))

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        least = np.finfo(float).tiny
        alpha, beta = (np.maximum(x * params["phi"], least) for x in self.shares(params))
        success = rng.beta(alpha, beta, size)
        return rng.binomial(np.asarray(self.trials(params)).astype(np.int64), success)


def _some(params: Parameters, rows: np.ndarray) -> Parameters:
    """Return the parameters of some rows."""
    return {name: value[rows] for name, value in params.items()}


def _outcomes(m: Any, t: Any, others: Any, total: Any, log_p: Any, log_q: Any, log_phi: Any) -> Any:
    """What ``t`` outcomes of one kind add to the log probability of a beta-binomial distribution.

    With the shape ``a = p phi`` of that kind it is ``log Gamma(a + t) - log Gamma(a)``, less
    ``t log total - t``, of which the sum over both kinds does not depend on the parameters' split.
    ``total`` is ``phi`` plus the number of trials.
    """
    shape = m.exp(log_p + log_phi)
    later = shape + t
    log_odds = log_q - log_p
    # (later - p total) / (p total): small where outcomes are as frequent as expected.
    surplus = (t * m.exp(m.where(log_odds > 700.0, 700.0, log_odds)) - others) / total
    near = m.where(surplus > 1.0, -1.0, surplus) > -0.5
    close = t * log_p + later * m.log1p(m.where(near, surplus, 0.0))
    positive = m.where(later > 1e-300, later, 1.0)
    far = later * m.log(positive / total) - shape * log_p
    return gamma_ratio(m, t, log_p + log_phi) + m.where(near, close, far)

"""Links between a parameter and its predictor, and the formulas of those of a mean or probability.

``LINKS`` has inverse and link of parameters that formulas take on their own scale. The location of
a family of positive numbers, counts or events is taken as its predictor: what its formulas need of
the mean or probability comes from ``MEANS`` and ``PROBABILITIES``, without loss where it is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import Arrays
from bayes_moe.families import functions

Mapped = Callable[[Any, Arrays], Any]

LINKS: dict[str, tuple[Mapped, Mapped, str]] = {
    "identity": (lambda eta, xp: eta, lambda value, xp: value, "real"),
    "log": (lambda eta, xp: xp.exp(eta), lambda value, xp: xp.log(value), "positive"),
    "logit": (
        lambda eta, xp: xp.sigmoid(eta),
        lambda value, xp: xp.log(value) - xp.log1p(-value),
        "unit",
    ),
    "fisher": (
        lambda eta, xp: xp.tanh(0.5 * eta),
        lambda value, xp: xp.log1p(value) - xp.log1p(-value),
        "correlation",
    ),
}
"""By name: inverse and link of a parameter, and its support.

The predictor is the coordinate of that support (:mod:`bayes_moe.priors.coordinates`).
"""


@dataclass(frozen=True)
class Link:
    """A link function by name, and the scale on which a family's formulas take the parameter.

    With ``natural=False`` the formulas take the predictor itself, as for log odds and log rates:
    ``1 - p`` of a probability that rounds to one is lost, and so is the log of a rate that
    underflows.
    """

    name: str
    natural: bool = True

    @property
    def support(self) -> str:
        """Support of the parameter, as of its prior if it is a constant."""
        return LINKS[self.name][2]

    def inverse(self, eta: Any, xp: Arrays) -> Any:
        """Argument of the family's formulas for a predictor ``eta``."""
        return LINKS[self.name][0](eta, xp) if self.natural else eta

    def __call__(self, value: Any, xp: Arrays) -> Any:
        """Predictor for an argument of the family's formulas."""
        return LINKS[self.name][1](value, xp) if self.natural else value


IDENTITY = Link("identity")
LOG = Link("log")
LOGIT = Link("logit")
FISHER = Link("fisher")
LOG_RATE = Link("log", natural=False)
LOG_ODDS = Link("logit", natural=False)

Pair = tuple[Any, Any]
TURN = 2.0 * math.pi


@dataclass(frozen=True)
class MeanLink:
    """A link of a positive mean.

    Attributes
    ----------
    role : str
        Role of the mean under the link.
    log_and_mean : callable
        Namespace and predictor -> log of the mean, and the mean.
    of_mean : callable
        Mean -> predictor.
    """

    role: str
    log_and_mean: Callable[[Any, Any], Pair]
    of_mean: Callable[[Any], Any]

    def mean(self, m: Any, eta: Any) -> Any:
        """Mean of a predictor; 0 where a predictor under the identity is negative."""
        mean = self.log_and_mean(m, eta)[1]
        return m.where(eta > 0.0, mean, 0.0) if self.role == "location" else mean


def _identity(m: Any, eta: Any) -> Pair:
    mean = m.where(eta > 0.0, eta, 1.0)
    return m.log(mean), mean


MEANS = {
    "log": MeanLink("rate", lambda m, eta: (eta, m.exp(eta)), np.log),
    "identity": MeanLink("location", _identity, np.asarray),
    "sqrt": MeanLink("root", lambda m, eta: (2.0 * m.log(m.absolute(eta)), eta * eta), np.sqrt),
}
"""Links of a positive mean by name.

With the identity they give the log and the mean of 1 where the predictor is not positive: a family
says what its density is there.
"""


SMALL_RATE = 1e-20
"""Rate ``r`` below which ``r / (exp(r) - 1)`` is one."""


@dataclass(frozen=True)
class ProbabilityLink:
    """A link of a probability.

    Attributes
    ----------
    logs : callable
        Namespace and predictor -> log of the probability, and of one less it.
    slopes : callable
        Namespace of arrays and predictor -> derivatives of both.
    of_share : callable
        Probability -> predictor.
    """

    logs: Callable[[Any, Any], Pair]
    slopes: Callable[[Any, Any], Pair]
    of_share: Callable[[Any], Any]

    def shares(self, eta: Any) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of a predictor, and one less these."""
        log_p, log_q = self.logs(functions.numeric(), np.asarray(eta))
        return np.exp(log_p), np.exp(log_q)


class _Logit(ProbabilityLink):
    def shares(self, eta: Any) -> tuple[np.ndarray, np.ndarray]:
        eta = np.asarray(eta)
        return special.expit(eta), special.expit(-eta)


def _cloglog(m: Any, eta: Any) -> Pair:
    rate = functions.bounded_exp(m, eta)
    return m.log1mexp(-rate), -rate


def _cloglog_slopes(m: Any, eta: Any) -> Pair:
    rate = functions.bounded_exp(m, eta)
    least = m.where(rate > SMALL_RATE, rate, SMALL_RATE)
    return -least * m.log1mexp_slope(-least), -rate


PROBABILITIES: dict[str, ProbabilityLink] = {
    "logit": _Logit(
        lambda m, eta: (-m.softplus(-eta), -m.softplus(eta)),
        lambda m, eta: (m.logistic(-eta), -m.logistic(eta)),
        special.logit,
    ),
    "probit": ProbabilityLink(
        lambda m, eta: (m.log_ndtr(eta), m.log_ndtr(-eta)),
        lambda m, eta: (m.normal_hazard(eta), -m.normal_hazard(-eta)),
        special.ndtri,
    ),
    "cloglog": ProbabilityLink(
        _cloglog,
        _cloglog_slopes,
        lambda share: np.log(-np.log1p(-share)),
    ),
}
"""Links of a probability by name."""


@dataclass(frozen=True)
class AngleLink:
    """A link of a direction.

    Attributes
    ----------
    role : str
        Role of the direction under the link.
    half : callable
        Namespace and predictor -> cosine and sine of half the direction.
    slope : callable
        Predictor -> derivative of the direction.
    direction : callable
        Predictor and arrays -> direction between minus pi and pi.
    of_direction : callable
        Direction -> predictor.
    """

    role: str
    half: Callable[[Any, Any], Pair]
    slope: Callable[[Any], Any]
    direction: Mapped
    of_direction: Callable[[Any], Any]


def _half_of_tangent(m: Any, eta: Any) -> Pair:
    cosine = 1.0 / m.sqrt(1.0 + eta * eta)
    return cosine, eta * cosine


ANGLES: dict[str, AngleLink] = {
    "tan_half": AngleLink(
        "direction",
        _half_of_tangent,
        lambda eta: 2.0 / (1.0 + eta * eta),
        lambda eta, xp: 2.0 * xp.arctan(eta),
        lambda direction: np.tan(0.5 * direction),
    ),
    "identity": AngleLink(
        "location",
        lambda m, eta: (m.cos(0.5 * eta), m.sin(0.5 * eta)),
        lambda eta: 1.0,
        lambda eta, xp: eta - TURN * xp.floor(eta / TURN + 0.5),
        lambda direction: direction,
    ),
}
"""Links of a direction by name. By the identity, whole turns are taken off the predictor."""

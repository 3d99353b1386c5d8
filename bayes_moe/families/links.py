"""Links between a parameter and its predictor, and the formulas of those of a mean or probability.

``LINKS`` has inverse and link of parameters that formulas take on their own scale. The location of
a family of positive numbers, counts or events is taken as its predictor: what its formulas need of
the mean or probability comes from ``MEANS`` and ``PROBABILITIES``, without loss where it is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays

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

PROBABILITIES: dict[str, Callable[[Any, Any], Pair]] = {
    "logit": lambda m, eta: (-m.softplus(-eta), -m.softplus(eta)),
    "probit": lambda m, eta: (m.log_ndtr(eta), m.log_ndtr(-eta)),
    "cloglog": lambda m, eta: (m.log1mexp(-m.exp(eta)), -m.exp(eta)),
}
"""By link of a probability: namespace and predictor -> its log, and the log of one less it."""

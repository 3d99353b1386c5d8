"""Links between a parameter and its predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bayes_moe.core.arrays import Arrays


@dataclass(frozen=True)
class Link:
    """A link function by name, and the scale on which a family's formulas take the parameter.

    With ``natural=False`` the formulas take the predictor itself, as for log odds and log rates:
    ``1 - p`` of a probability that rounds to one is lost, and so is the log of a rate that
    underflows.
    """

    name: str
    natural: bool = True

    def inverse(self, eta: Any, xp: Arrays) -> Any:
        """Argument of the family's formulas for a predictor ``eta``."""
        return xp.exp(eta) if self.natural and self.name == "log" else eta

    def __call__(self, value: Any, xp: Arrays) -> Any:
        """Predictor for an argument of the family's formulas."""
        return xp.log(value) if self.natural and self.name == "log" else value


IDENTITY = Link("identity")
LOG = Link("log")
LOG_RATE = Link("log", natural=False)
LOG_ODDS = Link("logit", natural=False)

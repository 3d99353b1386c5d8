"""Link functions of family parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bayes_moe.core.arrays import Arrays


@dataclass(frozen=True)
class Link:
    """A link function by name, and the scale on which formulas take a parameter.

    With ``natural=False`` a family's formulas take the predictor itself. So it is with log odds and
    log rates: a probability that rounds to one has lost what it lacks of one, and a rate that
    underflows its logarithm.
    """

    name: str
    natural: bool = True

    def inverse(self, eta: Any, xp: Arrays) -> Any:
        """Map a predictor to what the family's formulas take."""
        return xp.exp(eta) if self.natural and self.name == "log" else eta

    def __call__(self, value: Any, xp: Arrays) -> Any:
        """Map what the family's formulas take to the predictor."""
        return xp.log(value) if self.natural and self.name == "log" else value


IDENTITY = Link("identity")


LOG = Link("log")


LOG_RATE = Link("log", natural=False)


LOG_ODDS = Link("logit", natural=False)

"""Families of any number of classes, as a package's new file would define them: for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy import special

from bayes_moe.families.binomial import SuccessCounts


@dataclass(frozen=True)
class Kinds(SuccessCounts):
    """The code of a class, binomial with as many trials as there are classes beyond the first."""

    kind = "kinds"
    support = "codes of classes"
    takes_levels = "any"
    levels: tuple[Any, ...] | None = None

    def trials(self, params):
        return float(len(self.levels or "ab") - 1)

    def log_coefficient(self, y, params, xp):
        n = self.trials(params)
        return special.gammaln(n + 1) - xp.gammaln(y + 1) - xp.gammaln(n - y + 1)

    def dist(self, params):
        import pymc as pm

        return pm.Binomial.dist(n=int(self.trials(params)), logit_p=params["p"])


@dataclass(frozen=True)
class Grades(Kinds):
    """As :class:`Kinds`, of classes whose order has a meaning."""

    kind = "grades"
    ordered = True


ROWS = {name.lower(): f"{__name__}:{name}" for name in ("Kinds", "Grades")}
"""Rows of the registry's table of families."""

"""Censored and truncated responses of every family: random rows, and log densities by SciPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.families.base import Family
from bayes_moe.families.censored import Censored, Truncation
from tests.support.examples import FAMILIES

NAMES = [name for name in FAMILIES if name not in ("bernoulli", "vonmises")]
"""Families with tails and parameters; Bernoulli responses are classes."""


@dataclass(frozen=True)
class Case:
    """Random rows of a family: what is known of responses (number, obs), and parameters."""

    family: Family
    law: Any
    rows: np.ndarray
    etas: list[np.ndarray]
    known: dict[str, np.ndarray]

    @property
    def censored(self) -> Censored:
        """The family of what is known."""
        return Censored(self.family)

    @property
    def truncation(self) -> Truncation:
        """The probability of the limits."""
        return Truncation(self.family)

    def log_probability(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """SciPy's log probability of intervals with both ends."""
        left = np.ceil(lower) - 1.0 if self.family.discrete else lower
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = self.law.sf(left), self.law.sf(upper)
            within = self.law.cdf(upper), self.law.cdf(left)
            near = beyond[0] < 0.5
            return np.log(np.where(near, beyond[0] - beyond[1], within[0] - within[1]))

    @property
    def expected(self) -> np.ndarray:
        """SciPy's log density of what is known."""
        lower, upper = self.rows[:2]
        exact = lower == upper
        y = np.where(exact, lower, self.law.median())
        density = FAMILIES[self.family.kind].log_density
        own = density(y, **self.params)
        return np.where(exact, own, self.log_probability(lower, upper))

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Parameters (obs,) and known counts by name."""
        named = self.family.named([eta[0] for eta in self.etas], self.known, NUMERIC)
        return {name: np.asarray(value) for name, value in named.items()}


def case(name: str, seed: int = 0, n: int = 100) -> Case:
    """Random rows of a family: observed, right-censored, left-censored, and between two numbers.

    Limits of a truncation are about them, and infinite in some rows.
    """
    rng = np.random.default_rng([seed, len(name)])
    family = families.by_name(name)
    known = {k: rng.integers(3, 12, n).astype(float) for k in family.known_counts}
    etas = [rng.normal(0.3, 0.7, (1, n)) for _ in family.slots]
    params = family.named([eta[0] for eta in etas], known, NUMERIC)
    law = FAMILIES[name].law(**params)
    drawn = np.sort(law.rvs(size=(4, n), random_state=rng).astype(float), axis=0)
    if not family.discrete:
        drawn += np.arange(4)[:, None] * 1e-3 * (name not in ("beta",))
    kind = rng.integers(0, 4, n)
    lower, upper = drawn[1], np.where(kind == 0, drawn[1], drawn[2])
    lower, upper = np.where(kind == 2, -np.inf, lower), np.where(kind == 1, np.inf, upper)
    bottom = np.where(rng.random(n) < 0.3, -np.inf, drawn[0])
    top = np.where(rng.random(n) < 0.3, np.inf, drawn[3])
    rows = np.stack([lower, upper, bottom, top])
    return Case(family, law, rows, etas, known)


def limited(family: str, lhs: str = "status", seed: int = 0, n: int = 120) -> pd.DataFrame:
    """A table of two regimes of a family: a response with a status, an interval and limits.

    ``lhs`` is a key of :data:`SIDES`, or a left-hand side. About three rows in ten are censored.
    """
    rng = np.random.default_rng([seed, n])
    x, z = rng.normal(size=n), rng.uniform(-1, 1, n)
    second = rng.random(n) < 1 / (1 + np.exp(-3 * z))
    eta = np.where(second, 1.3 + 0.6 * x, 0.2 - 0.4 * x)
    draw = {
        "normal": lambda: rng.normal(4 * eta, 0.8),
        "studentt": lambda: 4 * eta + 0.5 * rng.standard_t(4, n),
        "logistic": lambda: rng.logistic(4 * eta, 0.4),
        "poisson": lambda: rng.poisson(np.exp(eta + 1)).astype(float),
        "negativebinomial": lambda: rng.poisson(np.exp(eta + 1) * rng.gamma(4, 1 / 4, n)) + 0.0,
        "gamma": lambda: rng.gamma(6, np.exp(eta) / 6),
        "weibull": lambda: np.exp(eta) * rng.weibull(3, n),
        "lognormal": lambda: rng.lognormal(eta, 0.3),
    }[family]
    y = draw()
    counts = family in ("poisson", "negativebinomial")
    low, high = np.quantile(y, [0.1, 0.8])
    if counts:
        low, high = np.floor(low), np.ceil(high)
    limit = high + (rng.integers(0, 2, n) if counts else np.abs(rng.normal(0, 0.1, n)))
    deductible = np.where(rng.random(n) < 0.4, -np.inf, low)
    width = 1.0 if counts else 0.2 * y.std()
    between = rng.random(n) < 0.3
    lower = np.where(between, np.floor(y / width) * width, y)
    upper = np.where(between, lower + width, y)
    table = pd.DataFrame(
        {
            "x": x,
            "z": z,
            "y": np.minimum(y, limit),
            "status": np.where(y > limit, "right", "none"),
            "lower": np.where(lower < low, -np.inf if family == "normal" else 0.0, lower),
            "upper": np.where(upper > high, np.inf, upper),
            "deductible": deductible,
            "limit": limit,
        }
    )
    table["lower"] = np.minimum(table["lower"], table["upper"])
    return (
        table[y > deductible].reset_index(drop=True)
        if "truncated" in SIDES.get(lhs, lhs)
        else table
    )


SIDES = {
    "status": "censored(y, status)",
    "interval": "censored(lower=lower, upper=upper)",
    "truncated": "truncated(y, lower=deductible)",
    "both": "truncated(censored(y, status), lower=deductible, upper=1e6)",
}
"""Left-hand sides of formulas on the tables of :func:`limited`."""
STATED = "truncated(censored(y, upper=limit), lower=deductible)"
"""A deductible and a limit that are both columns."""

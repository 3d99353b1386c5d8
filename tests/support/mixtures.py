"""Random mixtures of one row with chosen parameters, as fits and as laws of SciPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

import bayes_moe as bm
from bayes_moe import families
from tests.support.examples import FAMILIES
from tests.support.fits import fake_fit

SEEDS = [range(6), pytest.param(range(6, 34), marks=pytest.mark.slow)]
"""Seeds of random mixtures: with six families 204 of them."""

PREDICTED = [
    pytest.param(name, marks=pytest.mark.slow)
    if name in ("inversegaussian", "skewnormal")
    else name
    for name in FAMILIES
]
"""Families of predictions; quantiles of some in SciPy take long."""


@dataclass(frozen=True)
class LawMixture:
    """A mixture of SciPy's distributions."""

    weights: np.ndarray
    laws: list[Any]

    @property
    def discrete(self) -> bool:
        return hasattr(self.laws[0].dist, "pmf")

    @np.errstate(over="ignore")  # of SciPy's Gumbel distribution
    def density(self, y):
        """Density or probability of points (...)."""
        of = [law.pmf(y) if self.discrete else law.pdf(y) for law in self.laws]
        return np.tensordot(self.weights, np.array(of), 1)

    @np.errstate(over="ignore")
    def cdf(self, y):
        return np.tensordot(self.weights, np.array([law.cdf(y) for law in self.laws]), 1)

    @np.errstate(over="ignore")
    def sf(self, y):
        return np.tensordot(self.weights, np.array([law.sf(y) for law in self.laws]), 1)

    def span(self, tail=1e-7):
        """Quantiles between which all but twice ``tail`` of every distribution lies."""
        ends = [(law.ppf(tail), law.isf(tail)) for law in self.laws]
        return min(e[0] for e in ends), max(e[1] for e in ends)


def random_mixture(family: str, seed: int, ratio: float = 1e6):
    """Fit of one draw and its law: 2 to 4 experts, scales up to ``ratio`` apart."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 5))
    weights = rng.dirichlet(np.full(k, 3.0))
    sizes = 10 ** rng.uniform(-np.log10(ratio) / 2, np.log10(ratio) / 2, k)
    params, known = parameters(family, rng, sizes)
    return mixture_of(family, weights, params, known)


def parameters(family: str, rng: np.random.Generator, sizes: np.ndarray):
    """Parameters (expert,) by name, on the scale that reports use, and known counts."""
    k = len(sizes)
    if family in ("poisson", "binomial", "bernoulli"):
        rate = 10 ** rng.uniform(-1, 4, k)
        trials = 30_000.0 if family == "binomial" else 1.0
        if family == "poisson":
            return {"mu": np.log(rate)}, {}
        return {"p": special.logit(np.clip(rate / 3e4, 1e-5, 0.99))}, {"trials": trials}
    by_role = {
        "location": lambda: rng.normal(0, 3, k) * rng.choice(sizes, k),
        "scale": lambda: sizes,
        "rate": lambda: np.log(sizes),
        "log_scale": lambda: 10 ** rng.uniform(-1.3, 0.2, k),
        "shape": lambda: 10 ** rng.uniform(0, 2, k),
        "power": lambda: 10 ** rng.uniform(-0.5, 0.5, k),
        "asymmetry": lambda: rng.normal(0, 2, k),
        "relative_precision": lambda: 10 ** rng.uniform(0.1, 1.5, k),  # without poles
        "mean_precision": lambda: sizes * 10 ** rng.uniform(-0.5, 3, k),
        "direction": lambda: rng.normal(0, 1, k),
        "angular_precision": lambda: 10 ** rng.uniform(-1, 3, k),
        "odds": lambda: rng.uniform(-2.5, 2.5, k),
        "share_precision": lambda: 10 ** rng.uniform(1.5, 3, k),  # densities without poles
        "precision": lambda: 10 ** rng.uniform(-0.5, 3, k),
        "concentration": lambda: 10 ** rng.uniform(-0.3, 2, k),
    }
    described = families.by_name(family)
    return {p.name: by_role[p.role]() for p in described.parameters}, {
        name: 200.0 for name in described.known_counts
    }


def mixture_of(family: str, weights, params, known=(), draws: int = 1, spread: float = 0.0):
    """Fit and law of given weights and parameters (expert,), the same for every row."""
    example, weights = FAMILIES[family], np.asarray(weights, dtype=float)
    known = dict(known)
    spec = bm.mixture_of_experts(
        "y ~ 1", gate="~ 1", experts=len(weights), family=family, **example.options
    )
    real = np.linspace(-30, 30, 40)
    n = np.full(40, known.get("trials", 9.0))
    table = pd.DataFrame({"y": example.response(real, np.arange(40) % 9, n), "n": n})
    logits = np.log(weights)
    location = families.by_name(family).parameters[0].name
    values = {"gate_coef": (logits - logits.mean())[:, None]}
    for name, value in params.items():
        by_expert = np.asarray(value, dtype=float)
        stem = f"{name}_coef" if name == location else name
        values[stem] = by_expert[:, None] if name == location else by_expert
    fit = fake_fit(spec, table, values, chains=1, draws=draws, spread=spread)
    laws = [
        example.law(
            **{name: np.asarray(v)[j] for name, v in params.items()}, **_used(family, known)
        )
        for j in range(len(weights))
    ]
    return fit, LawMixture(weights, laws), table[["n"]].iloc[:1]


def _used(family, known):
    return known if families.by_name(family).known_counts else {}


def fine_points(law: LawMixture, count: int = 4001) -> np.ndarray:
    """Increasing points about every component, at every scale; all whole numbers for counts."""
    low, high = law.span()
    if law.discrete:
        return np.arange(low, high + 1)
    parts = [np.linspace(low, high, count)]
    ends = law.laws[0].support()
    if np.isfinite(ends).all():
        parts.append(np.linspace(*ends, count))
    for component in law.laws:
        tails = 10.0 ** np.linspace(-9, np.log10(0.5), count // 4)
        parts += [component.ppf(tails), component.isf(tails)]
        median = component.median()
        width = component.ppf(0.84) - component.ppf(0.16)
        parts.append(median + width * np.linspace(-6, 6, count))
    points = np.sort(np.concatenate(parts))
    points = points[np.diff(points, prepend=-np.inf) > 1e-12 * np.abs(points)]
    return points[np.isfinite(points) & (points > component.support()[0])]

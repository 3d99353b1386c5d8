"""Models of classes, whose parameters have several numbers, and fits of them made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import bayes_moe as bm
from bayes_moe.results.fit import Fit
from tests.support import bridges

LEVELS = ("hid", "hod", "hud", "had")
NUMBERS = (1, 2, 5, 7)
TERMS = "1 + x0 + x1"
WIDE = {"p_coef": bm.Prior("Normal", sigma=2.0)}


def _expert(family: str, name: str | None = None, **settings: Any) -> bm.Expert:
    return bm.Expert(f"y ~ {TERMS}", family, name=name, levels=LEVELS, **settings)


def _model(*experts: bm.Expert, **settings: Any) -> bm.MixtureOfExperts:
    return bm.MixtureOfExperts(bm.gates.Softmax("~ x"), list(experts), **settings)


MODELS = {
    "linear": _model(*[_expert("categorical")] * 3),
    "not zero-sum": _model(*[_expert("categorical")] * 2, priors=WIDE),
    "grades": _model(*[_expert("orderedlogistic")] * 2),
    "grades by row": _model(*[_expert("orderedprobit", gap="~ x0")] * 2),
    "spline": _model(*[_expert("categorical", predictor="spline")] * 2),
    "horseshoe": _model(*[_expert("categorical", predictor="horseshoe")] * 2),
    "networks": _model(*[_expert("categorical", predictor=bm.predictors.MLP(hidden=(3,)))] * 2),
    "blocks": _model(_expert("categorical", "wild"), *[_expert("orderedlogistic", "tame")] * 2),
    "outcomes": _model(
        *[bm.Expert(f"cbind(a, b, c) ~ {TERMS}", "multinomial", trials="I(a + b + c)")] * 2
    ),
}
"""Every way in which outputs of (number, expert) come about."""
PORTABLE = [name for name in MODELS if name not in ("spline", "networks")]
"""Models whose variables refer to no particular table."""


def table(n: int = 40, seed: int = 0) -> pd.DataFrame:
    """Features, and each class at least once."""
    rng = np.random.default_rng(seed)
    classes = np.resize(LEVELS, n)[rng.permutation(n)]
    counts = {name: rng.integers(0, 5, n) for name in "abc"}
    return bridges.table(n, seed).assign(y=classes, **counts)


def fit_by_hand(name: str, draws: int = 3) -> Fit:
    """Fit with random draws of all reported variables."""
    return bridges.fit_by_hand(MODELS[name], table(), draws)

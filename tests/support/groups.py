"""Models whose rows share an expert by group, or have a known one, with tables for them."""

import numpy as np
import pandas as pd
from scipy import special

import bayes_moe as bm
from bayes_moe.model.evaluation import evaluate
from tests.support.linear_models import MODELS, table

NAMES = (
    *("normal-2", "poisson-2", "binomial-4", "gamma-2", "negativebinomial-2", "studentt-2"),
    *("sigma formula", "constant gate", "no intercept", "normal gate prior", "binary tree"),
    *("sticks", "a warm gate", "two responses", "three responses, own formulas"),
)
"""Linear models whose gate has features that can be the same within a group."""


def grouped(name, **columns):
    """A linear model by name, with a column of groups, of known experts, or both."""
    spec = MODELS[name]
    given = (spec.priors, spec.center, spec.functions, spec.shared, spec.fixed)
    columns = columns or {"group": "g"}
    return bm.MixtureOfExperts(spec.gate, spec.experts, *given, **columns)


def group_table(seed=3, labels=0):
    """Rows of 22 groups, which are not next to each other; ``z`` is the same within each.

    The expert of every third row is known, if there are ``labels`` of experts.
    """
    rng = np.random.default_rng(seed)
    data = table()
    data["g"] = [f"g{j}" for j in rng.integers(0, 22, len(data))]
    data["z"] = data.groupby("g")["z"].transform("first")
    if labels:
        of_group = {g: int(rng.integers(labels)) for g in data["g"].unique()}
        known = pd.Series([of_group[g] for g in data["g"]], dtype=float)
        known[np.arange(len(data)) % 3 > 0] = np.nan
        data["label"] = known
    return data


def brute_force(spec, values, design, data):
    """Log density of every group, and responsibilities (expert, group), by its definition."""
    mixture = evaluate(spec, {name: v[None] for name, v in values.items()}, design.rows)
    weights = mixture.log_weights[0] + np.zeros((1, len(data)))
    densities = mixture.log_components(design.response)[0]
    density, shares = {}, {}
    labels = [str(label) for label in spec.expert_labels]
    for g in data["g"].unique() if "group" in spec.row_columns.given else data.index:
        rows = np.flatnonzero(data["g"] == g) if isinstance(g, str) else np.array([g])
        joint = weights[:, rows[0]].copy()
        for i in rows:
            joint += densities[:, i]
            if spec.row_columns.expert and not np.isnan(data["label"][i]):
                wrong = np.array(labels) != str(int(data["label"][i]))
                joint[wrong] = -np.inf
        density[g] = special.logsumexp(joint)
        shares[g] = np.exp(joint - density[g])
    return density, shares

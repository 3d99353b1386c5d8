"""Growth curves of groups of two kinds, and the likelihood of their mixture by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

import bayes_moe as bm

TIMES = np.arange(5.0)


def growth_table(groups: int = 60, seed: int = 3, times: np.ndarray = TIMES) -> pd.DataFrame:
    """Rows of groups of two kinds in random order, with effects of groups in both."""
    rng = np.random.default_rng(seed)
    size = len(times)
    code, t = np.repeat(np.arange(groups), size), np.tile(times, groups)
    a = rng.normal(size=groups)[code]
    fast = (rng.random(groups) < special.expit(1.5 * a[::size]))[code]
    u = (rng.normal(size=(groups, 2)) * [0.8, 0.2])[code]
    eta = np.where(fast, 1.0 + 1.2 * t, 3.0 - 0.3 * t) + u[:, 0] + u[:, 1] * t
    table = pd.DataFrame(
        {
            "id": [f"p{g:02d}" for g in code],
            "t": t,
            "visit": (t // 2).astype(int),
            "a": a,
            "w": rng.integers(1, 4, groups)[code].astype(float),
            "y": eta + rng.normal(0.0, 0.5, code.size),
            "c": rng.poisson(np.exp(0.4 * eta)),
            "b": (rng.random(code.size) < special.expit(eta - 2.0)).astype(int),
            "fast": fast,
        }
    )
    return table.iloc[rng.permutation(len(table))].reset_index(drop=True)


def values_at_random(spec: bm.MixtureOfExperts, table: Any, count: int) -> dict[str, np.ndarray]:
    """Reported variables (sample, ...) at random."""
    rng, structure = np.random.default_rng(7), spec.structure
    design = spec.design(table)
    found: dict[str, np.ndarray] = {}
    for c in structure.components:
        found |= {
            n: rng.normal(size=(count, *shape))
            for n, shape in c.shapes(design.rows.matrices).items()
        }
        found |= {n: np.exp(0.5 * found[n]) for n, s in c.supports.items() if s == "positive"}
    for name in found:
        if name.endswith("corr"):
            found[name] = np.tanh(found[name])
        elif name.endswith("_sd"):
            found[name] = np.exp(0.5 * found[name])
    for head in structure.gate.heads:
        shape = (count, head.n_outputs, len(design.rows.matrices[head.stem].terms))
        coef = rng.normal(size=shape)
        found[head.site.coef] = coef - coef.mean(axis=1, keepdims=True)
    return found


def normal_joint(values: dict[str, Any], rows: pd.DataFrame, log_weights: np.ndarray) -> np.ndarray:
    """Log weights plus log densities (expert,) of the rows of one group: ``y ~ t + (t | id)``.

    ``values`` are those of one draw; with one standard deviation an expert, ``y ~ t + (1 | id)``.
    """
    x = np.column_stack([np.ones(len(rows)), rows.t])
    found = []
    for k, weight in enumerate(log_weights):
        sd = values["mu_id_sd"][k]
        z = x[:, : len(sd)]
        corr = np.eye(len(sd))
        if len(sd) > 1:
            corr[0, 1] = corr[1, 0] = values["mu_id_corr"][k, 0]
        covariance = z @ (np.outer(sd, sd) * corr) @ z.T
        covariance = covariance + values["sigma"][k] ** 2 * np.eye(len(rows))
        normal = stats.multivariate_normal(x @ values["mu_coef"][k], covariance)
        found.append(weight + normal.logpdf(rows.y))
    return np.array(found)

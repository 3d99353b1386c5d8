"""Models of every predictor and gate, and fits of them that are made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.coordinates import COORDINATES
from bayes_moe.results.draws import standard_tree
from bayes_moe.results.fit import Fit
from bayes_moe.results.mode_tree import dataset
from tests.support.examples import GATE_EXPERTS, GATES, PREDICTORS, PREDICTORS_WITHOUT_GRADIENT

KINDS = {
    **{n: p for n, (p, _) in PREDICTORS.items() if not p.has_memory},
    **PREDICTORS_WITHOUT_GRADIENT,
}
"""Predictors of single rows: those with memory are of tables with times."""
COLUMNS = {n: columns for n, (_, columns) in PREDICTORS.items()}
PAIRS = [(gate, predictor) for gate in GATES for predictor in KINDS]
"""Every gate with every predictor."""
ROTATED = list(zip(np.resize([*GATES], len(KINDS)).tolist(), KINDS, strict=True))
"""Every gate and every predictor at least once."""
LINEAR = {"linear", "horseshoe", "r2d2", "normalgamma"}
PORTABLE_GATES = {*GATES} - {"attention", "two heads", "spline", "hsgp", "mlp"}
PORTABLE = [
    *((gate, "linear") for gate in GATES if gate in PORTABLE_GATES),
    *(p for p in ROTATED if p[0] in PORTABLE_GATES and p[1] in LINEAR - {"linear"}),
]
"""Pairs whose columns and coefficients refer to no particular table."""


def described(gate: str, predictor: str) -> MixtureOfExperts:
    """Model of four experts with a predictor, under a gate."""
    terms = " + ".join(f"x{j}" for j in range(COLUMNS.get(predictor, 2)))
    expert = bm.Expert(f"y ~ {terms}", predictor=KINDS[predictor])
    return bm.MixtureOfExperts(GATES[gate], [expert] * GATE_EXPERTS)


def table(n: int = 40, seed: int = 0, shift: float = 0.0, stretch: float = 1.0) -> pd.DataFrame:
    """Five features; ``shift`` and ``stretch`` move them, as in another table."""
    rng = np.random.default_rng(seed)
    columns = {f"x{j}": shift + stretch * rng.uniform(-2, 2, n) for j in range(3)}
    columns |= {"x": shift + stretch * rng.uniform(-2, 2, n), "z": rng.normal(3, stretch, n)}
    y = np.where(columns["x"] > shift, 2.0, -1.0) + columns["x0"] + rng.standard_normal(n)
    return pd.DataFrame(columns | {"y": y})


def fit_by_hand(spec: MixtureOfExperts, data: Any, draws: int = 3, seed: int = 1) -> Fit:
    """Fit with normal draws of all reported variables, mapped to their supports."""
    rng, design = np.random.default_rng(seed), spec.design(data)
    shapes = spec.structure.gate.shapes(design.rows.matrices)
    coords = {names.CHAIN: [0], names.DRAW: np.arange(draws)}
    values = {}
    for c in spec.structure.components:
        if c.predictor.gradient:
            shapes |= c.shapes(design.rows.matrices)
        else:  # for each expert a split at column 0 with two leaves
            split = np.array([0, -1, -1])[None, None, None]
            values[f"{c.stem}_split"] = np.resize(split, (1, draws, spec.n_experts, 3))
            values[f"{c.stem}_cut"] = rng.standard_normal((1, draws, spec.n_experts, 3))
            shapes |= {names.part(c.stem, n): None for n in ("split", "cut")}
            coords[f"{c.stem}_node"] = np.arange(3)
    for name in spec.variables:
        if name not in values:
            drawn = rng.standard_normal((1, draws, *shapes[name]))
            support = spec.structure.supports.get(name, "real")
            scale = 1.0 if support == "real" else 0.3
            values[name] = COORDINATES[support].value(scale * drawn)
    posterior = dataset(spec, design, values, (names.CHAIN, names.DRAW)).assign_coords(coords)
    tree = xr.DataTree.from_dict({names.POSTERIOR: posterior})
    tree.attrs[names.KIND] = names.KIND_DRAWS
    return Fit(spec, design, standard_tree(tree, spec, design, log_likelihood=None))

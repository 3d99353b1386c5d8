"""Fits made by hand, so that tests of what reads a fit need no sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from warnings import catch_warnings

import numpy as np
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import standard_tree
from bayes_moe.results.fit import Fit


def fake_fit(
    spec: MixtureOfExperts,
    table: Any,
    parameters: Mapping[str, Any],
    chains: int = 2,
    draws: int = 50,
    spread: float = 0.01,
    seed: int = 0,
) -> Fit:
    """Make a fit whose draws lie about known parameters.

    ``parameters`` holds every reported variable on the user's scale, as for ``bm.simulate``:
    ``gate_coef`` (expert, gate_term), ``mu_coef`` (expert, mu_term), ``sigma`` (expert,), ...
    Draws are independent normal with standard deviation ``spread``; positive variables vary by
    that factor instead, and ``gate_coef`` sums to zero over the branches of a split as under the
    default prior.
    """
    design = spec.design(table)
    missing = {*spec.variables} ^ {*parameters}
    if missing:
        raise ValueError(f"`parameters` must be {spec.variables}; wrong or missing: {missing}")
    rng = np.random.default_rng(seed)
    coords = {names.CHAIN: np.arange(chains), names.DRAW: np.arange(draws)}
    dims = {name: spec.structure.dims[name] for name in spec.variables}
    for stem, matrix in design.rows.matrices.items():
        coords[names.term(stem)] = np.array(matrix.terms)
    labels = np.array(spec.expert_labels)
    for block in spec.structure.blocks:
        coords[block.dim] = labels[list(block.positions)]
    if spec.n_experts > 1:
        coords |= {d: np.array(v) for d, v in spec.structure.gate.coords().items()}
    posterior = {}
    for name in spec.variables:
        value = np.asarray(parameters[name], dtype=float)
        noise = spread * rng.standard_normal((chains, draws, *value.shape))
        positive = names.term("") not in "".join(dims[name])
        drawn = value * np.exp(noise) if positive else value + noise
        if name in spec.structure.gate_variables:
            drawn = _centred(spec, name, drawn)
        posterior[name] = ((names.CHAIN, names.DRAW, *dims[name]), drawn)
    used = {d for dim in dims.values() for d in dim} | {names.CHAIN, names.DRAW}
    tree = xr.DataTree.from_dict(
        {
            names.POSTERIOR: xr.Dataset(posterior, {d: v for d, v in coords.items() if d in used}),
            names.SAMPLE_STATS: _quiet_stats(rng, chains, draws),
        }
    )
    tree.attrs.update({"complete": 1, "random_seed": seed, "method": "nuts"})
    return Fit(spec, design, standard_tree(tree, spec, design, log_likelihood=None))


def tiny_fit(spec: MixtureOfExperts, table: Any) -> float:
    """Fit a few draws by NUTS; return one number of them. Here, a child process imports little."""
    tiny: dict[str, Any] = {"draws": 20, "tune": 20, "chains": 2, "cores": 1}
    with catch_warnings(action="ignore", category=bm.ConvergenceWarning):
        fit = bm.fit(spec, table, random_seed=1, progressbar=False, **tiny)
    return float(fit.idata["posterior"]["mu_coef"].sum())


def parallel_lines(
    k: int, n: int = 120, seed: int = 0
) -> tuple[MixtureOfExperts, Any, dict[str, np.ndarray]]:
    """Spec, table and parameters of K well separated lines."""
    rng = np.random.default_rng(seed)
    spec = bm.mixture_of_experts("y ~ x", experts=k, sigma="~ x")
    gate = rng.normal(0, 1, (k, 2))
    parameters = {
        "gate_coef": gate - gate.mean(axis=0),
        "mu_coef": np.column_stack([3.0 * np.arange(k), rng.normal(0, 0.3, k)]),
        "sigma_coef": np.column_stack([np.full(k, -1.0), rng.normal(0, 0.1, k)]),
    }
    table = bm.simulate(spec, {"x": rng.uniform(-1, 1, n)}, parameters, random_seed=seed)
    return spec, table, parameters


def _centred(spec: MixtureOfExperts, name: str, drawn: np.ndarray) -> np.ndarray:
    """Let coefficients (chain, draw, row, term) sum to zero over the branches of each split."""
    splits = [s for s in spec.structure.gate.splits.splits if names.coef(s.stem) == name]
    first = min(s.rows.start for s in splits)
    drawn = drawn.copy()
    for split in splits:
        if not split.pinned:
            rows = slice(split.rows.start - first, split.rows.stop - first)
            drawn[:, :, rows] -= drawn[:, :, rows].mean(axis=2, keepdims=True)
    return drawn


def _quiet_stats(rng: np.random.Generator, chains: int, draws: int) -> xr.Dataset:
    """Sampler statistics without anything to complain about."""
    sample = (names.CHAIN, names.DRAW)
    return xr.Dataset(
        {
            "diverging": (sample, np.zeros((chains, draws), dtype=bool)),
            "maxdepth_reached": (sample, np.zeros((chains, draws), dtype=bool)),
            "energy": (sample, rng.standard_normal((chains, draws))),
        },
        {names.CHAIN: np.arange(chains), names.DRAW: np.arange(draws)},
    )

"""Modes -> DataTree: a mode as one chain with one draw, its errors, and the table of modes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.em.modes import Modes
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.model.structure import coords

if TYPE_CHECKING:
    import xarray as xr

FLAGS = ("converged", "singular", "separated", "empty")


def point_tree(
    found: Modes, objective: str, errors: Mapping[str, np.ndarray] | None
) -> xr.DataTree:
    """Return the best mode as a posterior of one draw, with groups about how it was found."""
    best = found.best
    values = {name: v[best][None] for name, v in found.values.items()}
    stats = {"lp": found.value[best][None]}
    return tree(found, objective, errors, values, stats, (1, 1), kind="mode")


def tree(
    found: Modes,
    objective: str,
    errors: Mapping[str, np.ndarray] | None,
    draws: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    *,
    kind: str = "draws",
) -> xr.DataTree:
    """Return draws (sample, ...) as a posterior of a shape (chain, draw), and the groups of modes.

    ``errors`` are the standard errors of the best mode; None if there are none. ``kind`` says
    whether the posterior is draws or one mode.
    """
    import xarray as xr

    spec, design = found.spec, found.design
    sample = {names.CHAIN: np.arange(shape[0]), names.DRAW: np.arange(shape[1])}
    described = xr.Dataset(
        {k: ((names.CHAIN, names.DRAW), v.reshape(shape)) for k, v in stats.items()}, sample
    )
    laid = {k: v.reshape(*shape, *v.shape[1:]) for k, v in draws.items()}
    posterior = dataset(spec, design, laid, (names.CHAIN, names.DRAW)).assign_coords(sample)
    best = found.best
    known = {n: np.full(found.values[n].shape[1:], np.nan) for n in spec.variables}
    running = {name for name, runs in found.running.items() if runs[best]}
    known |= {n: error for n, error in (errors or {}).items() if n not in running}
    result = xr.DataTree.from_dict(
        {
            names.POSTERIOR: posterior,
            names.SAMPLE_STATS: described,
            names.FIT: _fit(found, best, objective).assign_attrs(kind=kind),
            names.MODES: modes_dataset(found),
            names.STANDARD_ERROR: dataset(spec, design, known, ()),
        }
    )
    result.attrs["complete"] = 1
    return result


def _fit(found: Modes, best: int, objective: str) -> xr.Dataset:
    import xarray as xr

    path = found.path[:, best]
    return xr.Dataset(
        {
            "objective": found.value[best],
            "log_likelihood": found.value[best] - found.log_prior[best],
            "log_prior": found.log_prior[best],
            "log_allocation": found.log_allocation[best],
            "gradient_norm": found.gradient_norm[best],
            "iterations": int(found.iterations[best]),
            "n_parameters": n_parameters(found.spec, found.design, found.values),
            "restarts": found.restarts,
            "exhausted": bool(found.exhausted[best]),
            "path": ("iteration", path[np.isfinite(path)]),
            **{flag: bool(getattr(found, flag)[best]) for flag in FLAGS},
        },
        attrs={
            "objective": objective,
            "running": json.dumps([n for n, runs in found.running.items() if runs[best]]),
        },
    )


def modes_dataset(found: Modes) -> xr.Dataset:
    """Return every mode's parameters and figures along the dimension ``mode``."""
    figures: dict[str, Any] = {
        "objective": found.value,
        "log_likelihood": found.value - found.log_prior,
        "hits": found.hits,
        "gradient_norm": found.gradient_norm,
        "iterations": found.iterations,
        **{flag: getattr(found, flag) for flag in FLAGS},
    }
    table = dataset(found.spec, found.design, found.values, (names.MODE,))
    table = table.assign({k: (names.MODE, v) for k, v in figures.items()})
    table = table.assign(share=((names.MODE, names.EXPERT), found.share))
    table = table.assign_coords({names.MODE: np.arange(len(found.value))})
    table.attrs["best"] = found.best
    return table


def n_parameters(spec: MixtureOfExperts, design: Design, values: Mapping[str, np.ndarray]) -> int:
    """Number of free parameters of the likelihood; of a softmax only differences count."""
    matrices = design.rows.matrices
    total = spec.gate.free(spec.n_experts, matrices)
    shared = {
        n for h in spec.gate.heads(spec.n_experts) for n in h.predictor.shared_variables(h.place)
    }
    for c in spec.components:
        if c.formula is None:
            total += values[c.variable][0].size
            continue
        total += c.predictor.free(c.place, matrices[c.stem], 0)
        new = (
            c.predictor.shared_variables(c.place) & c.predictor.basis_parameters(c.place)
        ) - shared
        total += sum(values[name][0].size for name in new)
        shared |= new
    return total


def dataset(
    spec: MixtureOfExperts,
    design: Design,
    values: Mapping[str, np.ndarray],
    lead: tuple[str, ...],
) -> xr.Dataset:
    """Return the model's variables with their dimensions after some leading ones."""
    import xarray as xr

    data = {name: ((*lead, *spec.dims[name]), v) for name, v in values.items()}
    used = {dim for dims, _ in data.values() for dim in dims} | {names.EXPERT}
    every = coords(spec, design)
    return xr.Dataset(data, {d: np.asarray(v) for d, v in every.items() if d in used})

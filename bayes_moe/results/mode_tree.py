"""DataTree of a mode, or of draws about it: standard errors, figures, and the table of modes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.em.modes import Modes, effective_parameters
from bayes_moe.model.free_values import exact, free_values
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.defaults import role_of

if TYPE_CHECKING:
    import xarray as xr

FLAGS = (names.CONVERGED, names.SINGULAR, names.SEPARATED, names.EMPTY)


def point_tree(
    modes: Modes, objective: str, errors: Mapping[str, np.ndarray] | None
) -> xr.DataTree:
    """Best mode as a posterior of one draw, with the groups of modes."""
    best = modes.best
    values = {name: v[best][None] for name, v in modes.values.items()}
    stats = {names.LP: modes.value[best][None]}
    return tree(modes, objective, errors, values, stats, (1, 1), kind=names.KIND_MODE)


def tree(
    modes: Modes,
    objective: str,
    errors: Mapping[str, np.ndarray] | None,
    draws: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    *,
    kind: str = names.KIND_APPROXIMATION,
) -> xr.DataTree:
    """Draws (sample, ...) as a posterior of a shape (chain, draw), and the groups of modes.

    ``errors`` are the standard errors of the best mode; None if there are none. ``kind`` says
    whether the posterior is draws of an approximation or one mode.
    """
    import xarray as xr

    spec, design = modes.spec, modes.design
    sample = {names.CHAIN: np.arange(shape[0]), names.DRAW: np.arange(shape[1])}
    sample_stats = xr.Dataset(
        {k: ((names.CHAIN, names.DRAW), v.reshape(shape)) for k, v in stats.items()}, sample
    )
    by_chain = {k: v.reshape(*shape, *v.shape[1:]) for k, v in draws.items()}
    posterior = dataset(spec, design, by_chain, (names.CHAIN, names.DRAW)).assign_coords(sample)
    best = modes.best
    standard_errors = {n: np.full(modes.values[n].shape[1:], np.nan) for n in spec.variables}
    running = {name for name, runs in modes.running.items() if runs[best]}
    standard_errors |= {n: error for n, error in (errors or {}).items() if n not in running}
    standard_errors |= _of_held(spec, design, standard_errors)
    # Earlier versions read this attribute of the group.
    figures = _fit(modes, best, objective).assign_attrs(
        {names.KIND: names.KIND_MODE if kind == names.KIND_MODE else names.KIND_DRAWS}
    )
    result = xr.DataTree.from_dict(
        {
            names.POSTERIOR: posterior,
            names.SAMPLE_STATS: sample_stats,
            names.FIT: figures,
            names.MODES: modes_dataset(modes),
            names.STANDARD_ERROR: dataset(spec, design, standard_errors, ()),
        }
    )
    result.attrs |= {names.KIND: kind, names.COMPLETE: 1}
    return result


def _of_held(
    spec: MixtureOfExperts, design: Design, errors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Standard errors of variables with held entries, zero there."""
    free = free_values(spec, design)
    held = {} if free is None else {n: free.held(n) for n in errors}
    return {n: np.where(h, 0.0, errors[n]) for n, h in held.items() if h is not None}


def _fit(modes: Modes, best: int, objective: str) -> xr.Dataset:
    """Figures of one mode, the group ``fit``."""
    import xarray as xr

    path = modes.path[:, best]
    count = n_parameters(modes.spec, modes.design, modes.values)
    effective = float(count) if objective == "likelihood" else effective_parameters(modes)
    return xr.Dataset(
        {
            names.OBJECTIVE: modes.value[best],
            names.LOG_LIKELIHOOD: modes.value[best] - modes.log_prior[best],
            names.LOG_PRIOR: modes.log_prior[best],
            names.LOG_ALLOCATION: modes.log_allocation[best],
            names.GRADIENT_NORM: modes.gradient_norm[best],
            names.ITERATIONS: int(modes.iterations[best]),
            names.N_PARAMETERS: count,
            names.EFFECTIVE: effective,
            names.RESTARTS: modes.restarts,
            names.EXHAUSTED: bool(modes.exhausted[best]),
            names.PATH: (names.ITERATION, path[np.isfinite(path)]),
            **{flag: bool(getattr(modes, flag)[best]) for flag in FLAGS},
        },
        attrs={
            names.OBJECTIVE: objective,
            names.RUNNING: json.dumps([n for n, runs in modes.running.items() if runs[best]]),
        },
    )


def modes_dataset(modes: Modes) -> xr.Dataset:
    """Parameters and figures of all modes along the dimension ``mode``, the group ``modes``."""
    figures: dict[str, Any] = {
        names.OBJECTIVE: modes.value,
        names.LOG_LIKELIHOOD: modes.value - modes.log_prior,
        names.HITS: modes.hits,
        names.GRADIENT_NORM: modes.gradient_norm,
        names.ITERATIONS: modes.iterations,
        **{flag: getattr(modes, flag) for flag in FLAGS},
    }
    values = exact(modes.spec, modes.design, modes.values)
    table = dataset(modes.spec, modes.design, values, (names.MODE,))
    table = table.assign({k: (names.MODE, v) for k, v in figures.items()})
    table = table.assign({names.SHARE: ((names.MODE, names.EXPERT), modes.share)})
    table = table.assign_coords({names.MODE: np.arange(len(modes.value))})
    table.attrs |= {names.BEST: modes.best, names.FINISHED: modes.finished}
    if not np.isnan(modes.new_mode_chance):
        table.attrs[names.NEW_MODE_CHANCE] = modes.new_mode_chance
    return table


def n_parameters(spec: MixtureOfExperts, design: Design, values: Mapping[str, np.ndarray]) -> int:
    """Number of free parameters of the likelihood; of a softmax only differences count."""
    matrices = design.rows.matrices
    total = spec.structure.gate.n_parameters(matrices)
    shared = {n for h in spec.structure.gate.heads for n in h.predictor.variables(h.site).shared}
    for c in spec.structure.components:
        if c.formula is None:
            total += values[c.variable][0].size
            continue
        idle = c.experts if role_of(c.parameter.role).zero_sum else 0
        total += c.predictor.free(c.site.bind(matrices[c.stem]), idle)
        of_component = c.predictor.variables(c.site)
        uncounted = (of_component.shared & of_component.basis) - shared
        total += sum(values[name][0].size for name in uncounted)
        shared |= uncounted
    free = free_values(spec, design)
    return total if free is None else total - free.removed


def dataset(
    spec: MixtureOfExperts,
    design: Design,
    values: Mapping[str, np.ndarray],
    lead: tuple[str, ...],
) -> xr.Dataset:
    """Dataset of the model's variables, whose first dimensions are ``lead``."""
    import xarray as xr

    data = {name: ((*lead, *spec.structure.dims[name]), v) for name, v in values.items()}
    used = {dim for dims, _ in data.values() for dim in dims} | {names.EXPERT}
    all_coords = spec.structure.coords(design)
    return xr.Dataset(data, {d: np.asarray(v) for d, v in all_coords.items() if d in used})

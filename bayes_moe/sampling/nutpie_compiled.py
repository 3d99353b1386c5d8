"""nutpie on a compiled log density, without a PyMC graph."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.progress import announced
from bayes_moe.em.floors import without_floors
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.model.compiled_table import CompiledDensity
from bayes_moe.model.log_density import learned_scales
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.optimize.network_density import NetworkDensity
from bayes_moe.optimize.network_table import GroupedTable
from bayes_moe.results.draws import nothing_drawn
from bayes_moe.results.mode_tree import dataset
from bayes_moe.sampling.chain_starts import GraphStarts, GroupedStarts, LinearStarts, Starts
from bayes_moe.sampling.compiled_density import LinearTable
from bayes_moe.sampling.engine import (
    Engine,
    SamplingTask,
    StartPoints,
    Tuning,
    sample_nutpie,
    sampler_groups,
)
from bayes_moe.sampling.frame import Framed
from bayes_moe.sampling.group_frame import GroupFrame, largest_grouping

if TYPE_CHECKING:
    import xarray as xr

type Density = CompiledDensity | Framed | GroupFrame

POINT = "point"
MOST_FIXED = 1000
"""Coordinates, without effects of one grouping, up to which a change of coordinates is a matrix."""
GROUPED = Tuning(adaptation="diag")
"""Settings of models with effects of groups: a mass matrix of low rank takes longer to adapt than
sampling takes, and in coordinates of a normal approximation little correlation is left."""
NEAR_NORMAL = Tuning(tune=200, target_accept=0.8)
"""Settings in the coordinates of a normal approximation."""
KEPT = (
    "depth",
    "maxdepth_reached",
    "diverging",
    "energy",
    "energy_error",
    "logp",
    "mean_tree_accept",
    "n_steps",
    "step_size",
)
"""Stored statistics of a draw, by nutpie's names."""


class Direct(Engine):
    """nutpie, whose threads call the compiled log density without Python.

    Where the posterior is nearly normal, the normal approximation at a mode gives the coordinates,
    so that little is left to adapt.
    """

    def tuning(self, starts: Starts) -> Tuning:
        if isinstance(starts, GroupedStarts):
            return GROUPED
        return NEAR_NORMAL if starts.near_normal else super().tuning(starts)

    def run(self, task: SamplingTask) -> xr.DataTree:
        import nutpie.compile_pymc  # noqa: F401  (before the message: importing takes seconds)

        with announced("Compiling the sampler, once for this machine.", shown=task.progressbar):
            parameters, own = _compiled_density(task.starts)
            density = _in_frame(task.starts, parameters, own)
            points = StartPoints(task.starts, partial(_coordinates, parameters, density))
            compiled = _compiled(density, points, parameters.size)
        trace = sample_nutpie(compiled, task, return_raw_trace=True)
        draws, stats = trace.get_arrow_trace()
        if not len(draws) or not points.drawn:
            raise nothing_drawn()
        theta, begun, kept = kept_draws(draws, stats, parameters.size)
        first = parameters.variables(begun)
        flat = parameters.variables(theta.reshape(-1, parameters.size))
        values = {name: v.reshape(*theta.shape[:2], *v.shape[1:]) for name, v in flat.items()}
        posterior = dataset(parameters.spec, parameters.design, values, (names.CHAIN, names.DRAW))
        return sampler_groups(
            posterior, stored_stats(stats, kept, theta.shape[1]), points.modes(first)
        )


def _in_frame(
    starts: Starts, parameters: ParameterVector | FreeVariables, density: CompiledDensity
) -> Density:
    """The density in coordinates of a normal approximation, where that is good enough.

    So it is for effects of groups, whose standard deviations are skewed, but which depend on the
    coefficients. Otherwise it is in the free coordinates.
    """
    if isinstance(starts, GroupedStarts):
        assert isinstance(parameters, FreeVariables)
        groups = largest_grouping(parameters)
        if parameters.size - groups.size > MOST_FIXED:
            return density
        best = starts.variables(starts.approximation[0])
        scales = parameters.coordinates(learned_scales(starts.spec))
        return GroupFrame.near(density, _point(parameters, best), groups, scales)
    constraint = parameters.constraint if isinstance(parameters, ParameterVector) else None
    centre, covariance = starts.approximation
    if covariance is None or not starts.near_normal:
        return density if constraint is None else Framed.constrained(density, constraint)
    return Framed.of(density, centre, covariance, constraint)


def _compiled_density(starts: Starts) -> tuple[ParameterVector | FreeVariables, CompiledDensity]:
    """Coordinates of a model that has a compiled density, and this density."""
    if isinstance(starts, GroupedStarts):
        spec, design = starts.spec, starts.design
        free = FreeVariables.of(spec, design, spec.resolve_priors(design))
        return free, GroupedTable(free, jacobian=True).density()
    if isinstance(starts, LinearStarts):
        parameters = without_floors(starts.parameters)
        return parameters, LinearTable(parameters).density()
    if isinstance(starts, GraphStarts) and isinstance(starts.surface, NetworkDensity):
        return starts.surface.free, starts.surface.compiled
    raise TypeError(f"No compiled density has starts of type {type(starts).__name__}.")


def _coordinates(
    parameters: ParameterVector | FreeVariables,
    density: Density,
    values: dict[str, np.ndarray],
) -> np.ndarray:
    """The sampler's coordinates (coordinate,) of reported variables."""
    theta = _point(parameters, values)
    return density.coordinates(theta) if isinstance(density, Framed | GroupFrame) else theta


def _point(
    parameters: ParameterVector | FreeVariables, values: dict[str, np.ndarray]
) -> np.ndarray:
    """Point (coordinate,) of reported variables."""
    theta: np.ndarray = parameters.points({name: v[None] for name, v in values.items()})[0]
    return theta


def _compiled(density: Density, points: StartPoints, stored: int) -> Any:
    """Nutpie's model of functions in C: its class for compiled graphs, with our functions.

    ``stored`` is the number of coordinates of a draw.
    """
    from nutpie.compile_pymc import CompiledPyMCModel

    shape = (stored,)
    return CompiledPyMCModel(
        dims={POINT: ("coordinate",)},
        _n_dim=density.size,
        _coords={"coordinate": np.arange(stored)},
        _shapes={POINT: shape},
        compiled_logp_func=density.log_density,
        compiled_expand_func=density.copy,
        initial_point_func=points,
        shared_data={},
        shared_var_keys={},
        user_data=density.table,
        n_expanded=stored,
        shape_info=([POINT], [slice(0, stored)], [shape]),
        logp_func=density,  # unused by nutpie: keeps the arrays of the table alive
        expand_func=None,
    )


def kept_draws(
    draws: list[Any], stats: list[Any], size: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Points (chain, draw, coordinate) after tuning, first ones (chain, coordinate), and which.

    Chains that were stopped are filled with NaN.
    """
    kept = [~_column(batch, "tuning").astype(bool) for batch in stats]
    length = max(int(k.sum()) for k in kept)
    theta = np.full((len(draws), length, size), np.nan)
    for chain, (batch, k) in enumerate(zip(draws, kept, strict=True)):
        theta[chain, : k.sum()] = _column(batch, POINT).reshape(-1, size)[k]
    return theta, np.array([_first(batch, size) for batch in draws]), kept


def _column(batch: Any, name: str) -> np.ndarray:
    """Column of an Arrow record batch as a flat array; NaN where a value is missing."""
    import pyarrow

    column = pyarrow.array(batch.column(name))
    values = column.flatten() if hasattr(column, "flatten") else column
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _first(batch: Any, size: int) -> np.ndarray:
    """Point after the first tuning step."""
    values = _column(batch, POINT)
    return values[:size] if values.size else np.full(size, np.nan)


def stored_stats(batches: list[Any], kept: list[np.ndarray], length: int) -> xr.Dataset:
    """Statistics (chain, draw) of the draws that are kept."""
    import xarray as xr

    data = {}
    for name in KEPT:
        columns = [_column(batch, name) for batch in batches]
        values = np.zeros((len(batches), length), dtype=np.result_type(*columns))
        if values.dtype.kind == "f":
            values.fill(np.nan)
        for chain, (column, k) in enumerate(zip(columns, kept, strict=True)):
            values[chain, : k.sum()] = column[k]
        data[name] = ((names.CHAIN, names.DRAW), values)
    return xr.Dataset(data)

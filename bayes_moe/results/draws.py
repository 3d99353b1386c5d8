"""DataTree of draws with the standard groups, and the arrays of such a tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.data.responses import response_dims
from bayes_moe.data.sparse_columns import matrix_in, stored_parts
from bayes_moe.model.allocation import observed_log_density
from bayes_moe.model.evaluation import Where, map_chunks
from bayes_moe.model.free_values import exact
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.portability import is_portable
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.by_group import by_group
from bayes_moe.results.fit import is_ensemble, kind_of
from bayes_moe.results.reported_shape import internal_arrays, reported_tree

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LARGEST_LOG_LIKELIHOOD = 2 * 10**7
"""Draws x rows up to which the pointwise log likelihood is stored with the fit (160 MB)."""


def nothing_drawn() -> KeyboardInterrupt:
    """Exception for a sampler that was stopped before its first draw."""
    return KeyboardInterrupt("Sampling was stopped before any draw was made.")


def rectangular(tree: xr.DataTree, draws: int, chains: int) -> xr.DataTree:
    """Chains of equal length without gaps; ``attrs`` say whether all draws are there.

    A sampler that was stopped leaves chains of different lengths. The chains and the common
    length that keep the most draws are kept.

    Raises
    ------
    KeyboardInterrupt
        If the sampler was stopped before any draw was made.
    """
    posterior = tree[names.POSTERIOR].to_dataset()
    made = _draws_made(posterior)
    if not made.any():
        raise nothing_drawn()
    longest_first = np.argsort(-made, kind="stable")
    kept = made[longest_first] * np.arange(1, made.size + 1)
    n_chains = int(np.argmax(kept)) + 1
    length = int(made[longest_first[n_chains - 1]])
    which = np.sort(longest_first[:n_chains])
    groups = {}
    for group in (names.POSTERIOR, names.SAMPLE_STATS):
        data = tree[group].to_dataset()
        data = data.drop_vars([v for v in data.data_vars if data[v].dtype == object])
        groups[group] = data.isel({names.CHAIN: which, names.DRAW: slice(length)}).assign_coords(
            {names.CHAIN: np.arange(len(which)), names.DRAW: np.arange(length)}
        )
    import xarray as xr

    result = xr.DataTree.from_dict(groups)
    result.attrs |= {
        names.KIND: names.KIND_DRAWS,
        names.COMPLETE: int(length >= draws and n_chains >= chains),
        names.DRAWS_ASKED: draws,
        names.CHAINS_ASKED: chains,
    }
    return result


def _draws_made(posterior: xr.Dataset) -> np.ndarray:
    """Number of draws of each chain (chain,); short chains are padded with NaN."""
    sizes = posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW]
    finite = np.ones(sizes, dtype=bool)
    for variable in posterior.data_vars.values():
        values = variable.transpose(names.CHAIN, names.DRAW, ...).values
        finite &= np.isfinite(values).all(axis=tuple(range(2, values.ndim)))
    return finite.cumprod(axis=1).sum(axis=1)


def standard_tree(
    tree: xr.DataTree, spec: MixtureOfExperts, design: Design, *, log_likelihood: bool | None
) -> xr.DataTree:
    """Tree with the draws, the data, and the pointwise log likelihood.

    The sampler's variables that are not reported are in a group of their own, see
    :func:`without_internal`.
    ``log_likelihood=None`` stores the pointwise log likelihood of more than one draw, unless it is
    very large, and not of an ensemble.
    """
    import xarray as xr

    tree = without_internal(reported_tree(tree, spec), spec)
    described = {names.RESPONSE_TERM: spec.response}  # a density of log(y) is not one of y
    posterior = with_derived(_exact(tree[names.POSTERIOR].to_dataset(), spec, design), spec)
    kept = set(tree.children) - {names.LOG_LIKELIHOOD, names.POSTERIOR}
    groups = {names.POSTERIOR: posterior}
    groups |= {name: tree[name].to_dataset() for name in tree.children if name in kept}
    size = posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW] * design.rows.size
    several = posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW] > 1
    several = several and not is_ensemble(tree)
    if log_likelihood or (log_likelihood is None and several and size <= LARGEST_LOG_LIKELIHOOD):
        groups[names.LOG_LIKELIHOOD] = xr.Dataset(
            {names.RESPONSE: pointwise(spec, posterior, design).assign_attrs(described)}
        )
    obs = {names.OBS: design.rows.obs_id}
    # ArviZ tells counts from measurements by their type.
    response = design.plain_response.astype(np.int64 if spec.structure.discrete else float)
    dims, labels = response_dims(spec.response)
    groups[names.OBSERVED_DATA] = xr.Dataset(
        {names.RESPONSE: (dims, response.T, {names.COLUMN: spec.response})}, coords=obs | labels
    )
    groups[names.CONSTANT_DATA] = columns_to_dataset(design.columns, obs)
    result = xr.DataTree.from_dict(groups)
    result.attrs |= {names.KIND: kind_of(tree)} | tree.attrs | described
    return with_table_mark(result, spec, design)


def _exact(posterior: xr.Dataset, spec: MixtureOfExperts, design: Design) -> xr.Dataset:
    """Posterior whose held and shared entries are free of rounding."""
    if not spec.structure.constraints:
        return posterior
    sample, structure = (names.CHAIN, names.DRAW), spec.structure
    values = exact(spec, design, internal_arrays(spec, posterior, sample))
    return posterior.assign(
        {
            name: (
                (*sample, *structure.reported_dims[name]),
                structure.pairs.reported(value, structure.dims[name]),
            )
            for name, value in values.items()
        }
    )


def with_table_mark(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> xr.DataTree:
    """Tree whose constant data tell PyMC if the draws go with no graph of another table.

    See ``graph/table_mark``, which reads it.
    """
    if is_portable(spec, design):
        return tree
    import xarray as xr

    text = "draws of a fit: build PyMC's model of other rows by bm.build(fit, rows)"
    mark = ((), text, {names.COLUMN: names.TABLE_MARK})
    result = tree.copy()
    stored = tree.get(names.CONSTANT_DATA)  # a user may have removed it
    columns = xr.Dataset() if stored is None else stored.to_dataset()
    result[names.CONSTANT_DATA] = xr.DataTree(columns.assign({names.TABLE_MARK: mark}))
    return result


def without_internal(tree: xr.DataTree, spec: MixtureOfExperts) -> xr.DataTree:
    """Tree whose posterior has no internal variables; they are in ``unconstrained_posterior``.

    Internal variables are those of the sampler, on centred and scaled features of the fitted rows:
    PyMC and ArviZ must not take them for variables of the model. Files of earlier versions have
    them in the posterior.
    """
    import xarray as xr

    posterior = tree[names.POSTERIOR].to_dataset()
    internal = [n for n in spec.structure.dims if n in posterior and n not in spec.variables]
    if not internal:
        return tree
    result = tree.copy()
    result[names.POSTERIOR] = xr.DataTree(_only(posterior, posterior.drop_vars(internal).data_vars))
    result[names.UNCONSTRAINED] = xr.DataTree(_only(posterior, internal))
    return result


def _only(dataset: xr.Dataset, variables: Iterable[Any]) -> xr.Dataset:
    """Dataset of some variables, with the labels along their dimensions and no others."""
    chosen = dataset[list(variables)]
    used = {names.CHAIN, names.DRAW, names.EXPERT}.union(*(v.dims for v in chosen.values()))
    return chosen.drop_vars([c for c in chosen.coords if not used.issuperset(chosen[c].dims)])


def with_derived(posterior: xr.Dataset, spec: MixtureOfExperts) -> xr.Dataset:
    """Posterior with the variables that the gate derives from its parameters."""
    features = spec.structure.gate.features
    if features is None:
        return posterior
    sizes = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    derived = features.derived(stacked_draws(spec, posterior))
    variables = {
        name: (
            (names.CHAIN, names.DRAW, *dims),
            derived[name].reshape(*sizes, *derived[name].shape[1:]),
        )
        for name, dims in spec.structure.derived_dims.items()
    }
    return posterior.assign(variables).assign_coords(features.derived_coords)


def pointwise(spec: MixtureOfExperts, posterior: xr.Dataset, design: Design) -> xr.DataArray:
    """Log density (chain, draw, obs) of the fitted rows, times their weights.

    Of rows that share an expert by group, that of the groups (chain, draw, group).
    """
    import xarray as xr

    draws = stacked_draws(spec, posterior)
    values = np.empty((len(next(iter(draws.values()))), design.rows.size))

    def fill(where: Where, chunk: Rows, mixture: Mixture) -> None:
        values[:, where] = chunk.counted(observed_log_density(mixture, chunk))

    for _ in map_chunks(fill, spec, draws, design.rows):
        pass
    sizes = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    by_row = xr.DataArray(
        values.reshape(*sizes, -1),
        dims=(names.CHAIN, names.DRAW, names.OBS),
        coords={
            names.CHAIN: posterior[names.CHAIN],
            names.DRAW: posterior[names.DRAW],
            names.OBS: design.rows.obs_id,
        },
    )
    return by_group(spec, design.rows, by_row)


def stacked_draws(spec: MixtureOfExperts, posterior: xr.Dataset) -> dict[str, np.ndarray]:
    """Reported variables as internal arrays (sample, ...), chains one after another."""
    arrays = internal_arrays(spec, posterior, (names.CHAIN, names.DRAW))
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in arrays.items()}


def columns_to_dataset(
    columns: pd.DataFrame, coords: Mapping[str, Any], dim: str = names.OBS
) -> xr.Dataset:
    """Dataset of a table's columns along a dimension; text and categories as strings.

    The name of a column is an attribute of its variable.

    A sparse matrix ``x`` is in the variables ``x_data``, ``x_indices`` and ``x_indptr``, as in
    SciPy.
    """
    import xarray as xr
    from pandas.api import types

    taken = {*map(str, columns), *coords}
    variables = {}
    # xarray refuses names that are dimensions, and netCDF names of dots or with a slash.
    for j, column in enumerate(map(str, columns)):
        series = columns[column]
        name = column
        if column in coords or not column.strip(". ") or "/" in column:
            name = f"column_{j}"
            while name in taken:
                name += "_"
        if matrix_in(series) is not None:
            for part, entries in stored_parts(series).items():
                along = f"{name}_{'row_end' if part == 'indptr' else 'entry'}"
                variables[f"{name}_{part}"] = (along, entries, {names.COLUMN: column})
            continue
        is_numeric = types.is_numeric_dtype(series.dtype)  # booleans count as numeric
        values = series.to_numpy() if is_numeric else series.astype(str).to_numpy(dtype=str)
        variables[name] = (dim, values, {names.COLUMN: column})
    return xr.Dataset(variables, coords=dict(coords))

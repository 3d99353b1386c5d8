"""Draws -> DataTree with the standard groups; one netCDF file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LARGEST_LOG_LIKELIHOOD = 2 * 10**7
"""Draws x rows up to which the pointwise log likelihood is stored with the fit (160 MB)."""


def nothing_drawn() -> KeyboardInterrupt:
    """Return what is raised where a sampler was stopped too early."""
    return KeyboardInterrupt("Sampling was stopped before any draw was made.")


def rectangular(tree: xr.DataTree, draws: int, chains: int) -> xr.DataTree:
    """Return whole chains of equal length, and say in ``attrs`` whether all draws are there.

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

    whole = xr.DataTree.from_dict(groups)
    complete = length >= draws and n_chains >= chains
    whole.attrs.update({"complete": int(complete), "draws_asked": draws, "chains_asked": chains})
    return whole


def _draws_made(posterior: xr.Dataset) -> np.ndarray:
    """How many draws each chain has (chain,); short chains are filled up with NaN."""
    sizes = posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW]
    finite = np.ones(sizes, dtype=bool)
    for variable in posterior.data_vars.values():
        values = variable.transpose(names.CHAIN, names.DRAW, ...).values
        finite &= np.isfinite(values).all(axis=tuple(range(2, values.ndim)))
    return finite.cumprod(axis=1).sum(axis=1)


def standard_tree(
    tree: xr.DataTree, spec: MixtureOfExperts, design: Design, *, log_likelihood: bool | None
) -> xr.DataTree:
    """Return a tree with the draws, the data they were made from, and the log likelihood.

    ``log_likelihood=None`` stores the pointwise log likelihood of more than one draw, unless it is
    very large.
    """
    import xarray as xr

    posterior = with_derived(tree[names.POSTERIOR].to_dataset(), spec)
    kept = set(tree.children) - {names.LOG_LIKELIHOOD, names.POSTERIOR}
    groups = {names.POSTERIOR: posterior}
    groups |= {name: tree[name].to_dataset() for name in tree.children if name in kept}
    size = posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW] * design.rows.size
    several = posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW] > 1
    if log_likelihood or (log_likelihood is None and several and size <= LARGEST_LOG_LIKELIHOOD):
        groups[names.LOG_LIKELIHOOD] = xr.Dataset(
            {names.RESPONSE: pointwise(spec, posterior, design)}
        )
    obs = {names.OBS: design.rows.obs_id}
    groups[names.OBSERVED_DATA] = xr.Dataset(
        {names.RESPONSE: (names.OBS, design.response, {"column": spec.response})}, coords=obs
    )
    groups[names.CONSTANT_DATA] = columns_to_dataset(design.columns, obs)
    result = xr.DataTree.from_dict(groups)
    result.attrs.update(tree.attrs)
    return result


def with_derived(posterior: xr.Dataset, spec: MixtureOfExperts) -> xr.Dataset:
    """Add what the gate derives from its variables."""
    if not spec.derived_dims:
        return posterior
    sizes = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    found = spec.gate.derived(spec.n_experts, samples(spec, posterior))
    variables = {
        name: (
            (names.CHAIN, names.DRAW, *dims),
            found[name].reshape(*sizes, *found[name].shape[1:]),
        )
        for name, dims in spec.derived_dims.items()
    }
    return posterior.assign(variables).assign_coords(spec.gate.derived_coords())


def pointwise(spec: MixtureOfExperts, posterior: xr.Dataset, design: Design) -> xr.DataArray:
    """Log density of the fitted rows (chain, draw, obs)."""
    import xarray as xr

    draws = samples(spec, posterior)
    values = np.empty((len(next(iter(draws.values()))), design.rows.size))
    for where, part, mixture in chunks(spec, draws, design.rows):
        values[:, where] = mixture.log_density(part.observed)
    sizes = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    return xr.DataArray(
        values.reshape(*sizes, -1),
        dims=(names.CHAIN, names.DRAW, names.OBS),
        coords={
            names.CHAIN: posterior[names.CHAIN],
            names.DRAW: posterior[names.DRAW],
            names.OBS: design.rows.obs_id,
        },
    )


def samples(spec: MixtureOfExperts, posterior: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the reported variables as arrays (sample, ...), chains one after another."""
    found = {}
    for name in spec.variables:
        variable = posterior[name].transpose(names.CHAIN, names.DRAW, ...)
        values = np.asarray(variable.values, dtype=float)
        found[name] = values.reshape(-1, *values.shape[2:])
    return found


def columns_to_dataset(columns: pd.DataFrame, coords: Mapping[str, Any]) -> xr.Dataset:
    """Store a table's columns; text and categories as strings, the original name as attribute."""
    import xarray as xr
    from pandas.api import types

    taken = {*map(str, columns), *coords}
    variables = {}
    for j, column in enumerate(map(str, columns)):
        series = columns[column]
        name = column
        if column in coords or not column.strip(". ") or "/" in column:
            name = f"column_{j}"
            while name in taken:
                name += "_"
        is_number = types.is_numeric_dtype(series.dtype)  # of truth values also
        values = series.to_numpy() if is_number else series.astype(str).to_numpy(dtype=str)
        variables[name] = (names.OBS, values, {"column": column})
    return xr.Dataset(variables, coords=dict(coords))

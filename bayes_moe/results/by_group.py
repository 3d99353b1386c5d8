"""Figures of rows that share an expert by group, as figures of the groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import allocation_of
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr


def by_group(spec: MixtureOfExperts, rows: Rows, values: xr.DataArray) -> xr.DataArray:
    """Values of groups (..., group_id, ...) from those at their first rows (..., obs_id, ...).

    Groups are in the order of their first rows, with the user's labels. Values of rows that have an
    expert each are returned as they are.
    """
    if rows.observation.group is None:
        return values
    first = allocation_of(rows.observation).first
    at_first = values.isel({names.OBS: first})
    at_first = at_first.drop_vars([n for n, c in at_first.coords.items() if names.OBS in c.dims])
    labelled = at_first.rename({names.OBS: names.GROUP})
    return labelled.assign_coords({names.GROUP: group_labels(spec, rows)})


def group_labels(spec: MixtureOfExperts, rows: Rows) -> np.ndarray:
    """Labels (group,) of the groups of rows, in the order of their first rows."""
    first = allocation_of(rows.observation).first
    labels: Any = rows.columns[spec.row_columns.group].iloc[first]
    values = np.asarray(labels.to_numpy())
    return values if values.dtype.kind in "iufbM" else values.astype(str)

"""Rows in time in a saved fit: times, series and what lags read, of all rows of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayes_moe.core.checks import check_whole
from bayes_moe.core.records import check_names
from bayes_moe.data.design import Design
from bayes_moe.data.observation import RowColumns
from bayes_moe.results.draws import columns_to_dataset
from bayes_moe.results.stored_columns import describe_columns, restore_columns

if TYPE_CHECKING:
    import xarray as xr

PAST = "past"
"""Part of a stored design, of models with times, and the beginning of its variables' names."""
ROW = "past_row"
"""Dimension of all rows of the table, in a file."""


def described(design: Design) -> dict[str, Any]:
    """Part of a header that describes the rows in time; empty for a model without times."""
    line = design.past.timeline
    if line is None:
        return {}
    lost = [design.past.lost.get(label, 0) for label in line.labels]
    return {PAST: {"columns": describe_columns(line.table), "lost": lost}}


def with_times(dataset: xr.Dataset, design: Design) -> xr.Dataset:
    """Dataset with the rows in time too."""
    line = design.past.timeline
    if line is None:
        return dataset
    table = line.table.set_axis([f"{PAST}_{j}" for j in range(line.table.shape[1])], axis=1)
    return dataset.assign(columns_to_dataset(table, {}, ROW).data_vars)


def count(entry: Any) -> int:
    """Number of variables of the rows in time."""
    return 0 if entry is None else len(entry["columns"])


def restored(design: Design, dataset: xr.Dataset, entry: Any, columns: RowColumns) -> Design:
    """Design of a file with the rows in time; itself for a model without times.

    Raises
    ------
    ValueError
        For a file that describes them otherwise than it stores them.
    """
    if columns.time is None or entry is None:
        if columns.time is not None or entry is not None:
            raise ValueError("the rows in time are not described as the model says")
        return design
    check_names("The stored rows in time", entry, ("columns", "lost"))
    stored: Mapping[str, Any] = {}
    for j, column in enumerate(entry["columns"]):
        variable = dataset[f"{PAST}_{j}"]
        if variable.dims != (ROW,):
            raise ValueError(f"the stored column {variable.name!r} is not one value a row in time")
        stored = {**stored, column["column"]: variable.values}
    table = restore_columns(stored, entry["columns"])
    lost = entry["lost"]
    if not isinstance(lost, list):
        raise ValueError("the rows without earlier ones are not counted")
    for number in lost:
        check_whole("number of rows without earlier ones", number, 0, len(table))
    return design.with_past(table, lost, columns)

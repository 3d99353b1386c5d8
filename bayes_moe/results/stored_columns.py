"""Tables of used columns and responses as datasets, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.results.draws import columns_to_dataset

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

RESPONSE = "response"

UNIT = "(?:s|ms|us|ns)"
ZONE = r"(?:[A-Z][A-Za-z0-9_+-]{0,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}|UTC[+-]\d\d:\d\d)"
"""Names of time zones; other texts could name a file."""
TYPES = re.compile(
    "u?int(?:8|16|32|64)|U?Int(?:8|16|32|64)|float(?:16|32|64)|Float(?:32|64)|bool|boolean|object"
    rf"|str|string|datetime64\[{UNIT}(?:, {ZONE})?\]|timedelta64\[{UNIT}\]"
)
"""Names of the types that a stored column may have."""


def fitted_data(design: Design) -> xr.Dataset:
    """Dataset of the used columns, in their order, and of the response, by the rows' labels."""
    numbered = design.columns.set_axis(list(map(str, range(design.columns.shape[1]))), axis=1)
    dataset = columns_to_dataset(numbered, {names.OBS: design.rows.obs_id})
    return dataset.assign({RESPONSE: (names.OBS, design.response)})


def stored_data(
    tree: xr.DataTree, entries: list[dict[str, Any]], group: str | None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Table of used columns, response (obs,) and labels (obs,) of the rows of a saved fit.

    ``group`` is where they are; None for files of earlier versions, which have them only in
    ``constant_data`` and ``observed_data``.
    """
    if group is not None:
        if group != names.FITTED_DATA:
            raise ValueError(f"the group {group!r} cannot hold the fitted rows")
        dataset = tree[group].to_dataset()
        if len(dataset.data_vars) != len(entries) + 1:
            raise ValueError(
                f"{len(dataset.data_vars) - 1} columns are stored, but {len(entries)} described"
            )
        stored = {e[names.COLUMN]: dataset[str(j)] for j, e in enumerate(entries)}
        response = dataset[RESPONSE]
    else:
        dataset = tree[names.CONSTANT_DATA].to_dataset()
        stored = {v.attrs[names.COLUMN]: v for v in dataset.data_vars.values()}
        stored.pop(names.TABLE_MARK, None)
        response = tree[names.OBSERVED_DATA].to_dataset()[names.RESPONSE]
    labels = response[names.OBS]
    for variable in (response, labels, *stored.values()):
        if variable.dims != (names.OBS,) or variable.shape != labels.shape:
            raise ValueError(f"the stored column {variable.name!r} is not one value a row")
    table = restore_columns({name: v.values for name, v in stored.items()}, entries)
    return table, np.asarray(response.values, dtype=float), labels.values


def describe_columns(columns: pd.DataFrame) -> list[dict[str, Any]]:
    """Name, type and categories of each column, which the stored strings do not hold."""
    import pandas as pd

    entries: list[dict[str, Any]] = []
    for column in columns:
        series = columns[column]
        entry: dict[str, Any] = {names.COLUMN: str(column), "dtype": str(series.dtype)}
        if isinstance(series.dtype, pd.CategoricalDtype):
            categories = series.cat.categories
            entry |= {
                "dtype": "category",
                "categories": categories.tolist(),
                "ordered": bool(series.cat.ordered),
            }
        entries.append(entry)
    return entries


def restore_columns(stored: dict[str, np.ndarray], entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Table of used columns, from their values and the entries of :func:`describe_columns`."""
    import pandas as pd

    table: dict[str, pd.Series[Any]] = {}
    for entry in entries:
        name, dtype = entry[names.COLUMN], entry["dtype"]
        values: pd.Series[Any] = pd.Series(stored[name])
        if not isinstance(name, str) or not isinstance(dtype, str) or name in table:
            raise ValueError(f"{name!r} is no name of a column")
        if dtype == "category":
            table[name] = values.map(_by_text(name, entry)).astype(_categories(entry))
        elif TYPES.fullmatch(dtype):
            table[name] = values.astype(pd.api.types.pandas_dtype(dtype))
        else:
            raise ValueError(f"the column {name!r} has the type {dtype!r}, which no design has")
    return pd.DataFrame(table)


def _by_text(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Categories of a column by what is stored for them."""
    categories = entry["categories"]
    if len({*map(type, categories)}) > 1 or not all(
        isinstance(c, str | int | float) for c in categories
    ):
        raise ValueError(f"the categories of {name!r} are neither all text nor all numbers")
    return dict(zip(map(str, categories), categories, strict=True))


def _categories(entry: dict[str, Any]) -> Any:
    import pandas as pd

    if not isinstance(entry["ordered"], bool):
        raise ValueError("`ordered` is neither true nor false")
    return pd.CategoricalDtype(entry["categories"], ordered=entry["ordered"])

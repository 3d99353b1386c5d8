"""Tables of used columns, responses and row labels as datasets, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError
from bayes_moe.data.design import Design
from bayes_moe.data.matrix_columns import SPARSE_ROWS
from bayes_moe.data.sparse_columns import matrix_in, restored
from bayes_moe.data.tables import plain
from bayes_moe.results.draws import columns_to_dataset

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

RESPONSE = "response"
WIDTH = "width"
"""Number of columns of a sparse matrix."""
PART = "part"
"""Dimension of several responses in a file."""
LEVEL = "row_label_"
"""Begins the names of the variables with the user's own row labels, one a level of the index."""

UNIT = "(?:s|ms|us|ns)"
ZONE = r"(?:[A-Z][A-Za-z0-9_+-]{0,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}|UTC[+-]\d\d:\d\d)"
"""Names of time zones; other texts could name a file."""
TYPES = re.compile(
    "u?int(?:8|16|32|64)|U?Int(?:8|16|32|64)|float(?:16|32|64)|Float(?:32|64)|bool|boolean|object"
    rf"|str|string|datetime64\[{UNIT}(?:, {ZONE})?\]|timedelta64\[{UNIT}\]"
)
"""Names of the types that a stored column may have."""


@dataclass(frozen=True)
class StoredRows:
    """Rows of a saved fit: used columns, response, positions and the user's own labels (obs,)."""

    columns: pd.DataFrame
    response: np.ndarray
    positions: np.ndarray
    index: pd.Index | None


def fitted_data(design: Design, levels: pd.DataFrame | None = None) -> xr.Dataset:
    """Dataset of the used columns, in their order, of the response, and of levels of row labels."""
    positions = {names.OBS: design.rows.obs_id}
    dataset = columns_to_dataset(_numbered(design.columns), positions)
    several = (PART,) if design.response.ndim == 2 else ()
    dataset = dataset.assign({RESPONSE: ((*several, names.OBS), design.response)})
    if levels is None:
        return dataset
    labels = columns_to_dataset(levels, positions)
    return dataset.assign({f"{LEVEL}{j}": labels[j] for j in labels.data_vars})


def stored_rows(
    tree: xr.DataTree,
    entries: list[dict[str, Any]],
    group: str | None,
    levels: list[dict[str, Any]] | None = None,
    others: int = 0,
) -> StoredRows:
    """Rows of a saved fit, from the descriptions of its columns and of its levels of row labels.

    ``group`` is where they are; None for files of earlier versions, which have them only in
    ``constant_data`` and ``observed_data``. There are ``others`` more variables.
    """
    levels = [] if levels is None else levels
    if not isinstance(levels, list):
        raise ValueError("the levels of the row labels are not listed")
    if group is not None:
        if group != names.FITTED_DATA:
            raise ValueError(f"the group {group!r} cannot hold the fitted rows")
        dataset = tree[group].to_dataset()
        sparse = {j: e for j, e in enumerate(entries) if e["dtype"] == SPARSE_ROWS}
        found = len(dataset.data_vars) - others - 1
        if found != len(entries) + 2 * len(sparse) + len(levels):
            described = f"{len(entries)} described, and {len(levels)} levels of row labels"
            raise ValueError(f"{found} columns are stored, but {described}")
        matrices = {e[names.COLUMN]: _matrix(dataset, j, e) for j, e in sparse.items()}
        stored = {
            e[names.COLUMN]: dataset[str(j)] for j, e in enumerate(entries) if j not in sparse
        }
        labels = {e[names.COLUMN]: dataset[f"{LEVEL}{j}"] for j, e in enumerate(levels)}
        response = dataset[RESPONSE]
    else:
        dataset = tree[names.CONSTANT_DATA].to_dataset()
        stored = {v.attrs[names.COLUMN]: v for v in dataset.data_vars.values()}
        stored.pop(names.TABLE_MARK, None)
        response, labels = tree[names.OBSERVED_DATA].to_dataset()[names.RESPONSE], {}
        matrices = {}
    response = response.transpose(..., names.OBS)
    positions = response[names.OBS]
    several = response.dims in ((PART, names.OBS), (names.RESPONSE_DIM, names.OBS))
    first = response[0] if several else response
    for variable in (first, positions, *stored.values(), *labels.values()):
        if variable.dims != (names.OBS,) or variable.shape != positions.shape:
            raise ValueError(f"the stored column {variable.name!r} is not one value a row")
    if any(len(matrix) != len(positions) for matrix in matrices.values()):
        raise ValueError("a sparse matrix has other rows than the response")
    columns = {name: v.values for name, v in stored.items()} | matrices
    table = restore_columns(columns, entries)
    values = {name: v.values for name, v in labels.items()}
    index = _joined(restore_columns(values, levels)) if labels else None
    return StoredRows(table, np.asarray(response.values, dtype=float), positions.values, index)


def label_levels(index: pd.Index) -> pd.DataFrame | None:
    """Row labels (obs,) as plain columns, one a level; None if a file could not give them back."""
    import pandas as pd

    tuples = index.dtype == object and all(isinstance(label, tuple) for label in index)
    if tuples and len({*map(len, index)}) > 1:
        return None
    levels = pd.MultiIndex.from_tuples(index) if tuples else index
    try:
        frame = _numbered(levels.to_frame(index=False))
        if frame.isna().to_numpy().any():
            return None
        frame = plain(frame)
        stored = columns_to_dataset(frame, {names.OBS: np.arange(len(index))})
        values = {str(name): v.values for name, v in stored.items()}
        back = _joined(restore_columns(values, describe_columns(frame)))
    except (DataError, TypeError, ValueError):
        return None
    return frame if back.equals(index) else None


def _numbered(columns: pd.DataFrame) -> pd.DataFrame:
    """Columns with the names 0, 1, ..., as texts."""
    return columns.set_axis(list(map(str, range(columns.shape[1]))), axis=1)


def _joined(levels: pd.DataFrame) -> pd.Index:
    """Row labels (obs,) of their levels; tuples of several."""
    import pandas as pd

    if levels.shape[1] > 1:
        return pd.MultiIndex.from_frame(levels).to_flat_index()
    return pd.Index(levels.iloc[:, 0]).rename(None)


def describe_columns(columns: pd.DataFrame) -> list[dict[str, Any]]:
    """Name, type and categories of each column, which the stored strings do not hold."""
    import pandas as pd

    entries: list[dict[str, Any]] = []
    for column in columns:
        series = columns[column]
        entry: dict[str, Any] = {names.COLUMN: str(column), "dtype": str(series.dtype)}
        if (matrix := matrix_in(series)) is not None:
            entry[WIDTH] = int(matrix.shape[1])
        if isinstance(series.dtype, pd.CategoricalDtype):
            categories = series.cat.categories
            entry |= {
                "dtype": "category",
                "categories": categories.tolist(),
                "ordered": bool(series.cat.ordered),
            }
        entries.append(entry)
    return entries


def _matrix(dataset: xr.Dataset, j: int, entry: dict[str, Any]) -> pd.Series:
    """Sparse matrix that is the column of a number."""
    parts = {part: dataset[f"{j}_{part}"].values for part in ("data", "indices", "indptr")}
    return restored(parts, entry[WIDTH])


def restore_columns(stored: Mapping[str, Any], entries: list[dict[str, Any]]) -> pd.DataFrame:
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
        elif dtype == SPARSE_ROWS:
            table[name] = values
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

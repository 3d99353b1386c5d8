"""Conversion of any supported table to complete pandas columns of a few plain types.

The user's table is never changed: changes are made in a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, listed, nearest
from bayes_moe.data.matrix_columns import SPARSE_ROWS, elements, expanded, matrix_of
from bayes_moe.data.row_labels import in_one_order, labels_of
from bayes_moe.data.sparse_columns import as_column, infinite_rows, sparse_of

if TYPE_CHECKING:
    import pandas as pd

LARGEST, SMALLEST = 1e150, 1e-150
"""Bounds of absolute values in a model: between them, squares are finite and positive."""

LARGEST_WHOLE = 2**53
"""Largest whole number up to which all whole numbers are exact in double precision."""

ROUNDING = 1e-12
"""Range of numbers, relative to their size, up to which they count as constant."""

PLAIN_CATEGORIES = {"string", "integer", "floating", "boolean", "empty"}
"""pandas' types of category labels that a saved fit can store."""


def to_pandas(data: Any) -> pd.DataFrame:
    """Any supported table as a pandas DataFrame whose column names are strings.

    Raises
    ------
    DataError
        For objects that are no table, columns of unequal length, and columns of the same name.
    """
    import pandas as pd

    if isinstance(data, Mapping):
        return expanded(_from_mapping(data))
    table = data if isinstance(data, pd.DataFrame) else _from_narwhals(data)
    if table.columns.nlevels > 1:
        raise DataError(
            f"The table's column names have {table.columns.nlevels} levels, such as "
            f"{table.columns[0]!r}; flatten them to one name a column."
        )
    labels = [str(c) for c in table.columns]
    _check_distinct(labels, "column names")
    table = table if labels == list(table.columns) else table.set_axis(labels, axis="columns")
    return expanded(table)


def row_labels(table: pd.DataFrame) -> pd.Index | None:
    """Return the index of a table; None for 0, 1, ..., which are the positions of the rows.

    Several levels are tuples.
    """
    import pandas as pd

    index = table.index
    if isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1:
        return None
    return index.to_flat_index() if index.nlevels > 1 else index


def plain(columns: pd.DataFrame) -> pd.DataFrame:
    """Complete columns as float64, integers, booleans, text, categories or dates.

    Raises
    ------
    DataError
        For columns of other types, and for columns that mix numbers and text.
    """
    import pandas as pd

    converted = {}
    for name in map(str, columns):
        _check_text(name, [name])
        converted[name] = _plain(name, _inferred(name, columns[name]))
    return pd.DataFrame(converted, index=columns.index)


def kind(series: pd.Series) -> str:
    """Type of a plain column: numbers, categories, dates, durations or a sparse matrix."""
    from pandas.api import types

    dtype = series.dtype
    if dtype.name == SPARSE_ROWS:
        return "a sparse matrix"
    if types.is_datetime64_any_dtype(dtype):
        return "dates"
    if types.is_timedelta64_dtype(dtype):
        return "durations"
    return "numbers" if types.is_numeric_dtype(dtype) else "categories"


def as_numbers(name: str, series: pd.Series) -> np.ndarray:
    """A plain column of numbers (row,) as float64, or as bool if it holds truth values.

    Raises
    ------
    DataError
        For whole numbers that float64 cannot tell apart.
    """
    if series.dtype.kind == "b":
        return series.to_numpy()
    if series.dtype.kind in "iu" and len(series):
        low, high = int(series.min()), int(series.max())
        if max(-low, high) > LARGEST_WHOLE:
            row = int(np.argmax(((series > LARGEST_WHOLE) | (series < -LARGEST_WHOLE)).to_numpy()))
            raise DataError(
                f"Column {name!r} has whole numbers beyond 2**53, such as {series.iloc[row]} "
                f"at row {row}, which double precision cannot tell apart. If they are labels, "
                f"write C({name}); else subtract a constant, or change the unit."
            )
    return series.to_numpy(dtype=float)


def complete_rows(columns: pd.DataFrame, missing: str, advice: str) -> tuple[np.ndarray, list[str]]:
    """Mask (row,) of complete rows, and the names of columns with missing values.

    Raises
    ------
    DataError
        For infinite values, and for missing ones unless ``missing`` is ``"drop"``.
    """
    keep = np.ones(len(columns), dtype=bool)
    incomplete = []
    for name in map(str, columns):
        series = _inferred(name, columns[name])
        absent = series.isna().to_numpy(dtype=bool)
        infinite = _infinite(series)
        if infinite.any():
            raise DataError(
                f"Column {name!r} has {int(infinite.sum())} infinite value(s), first at "
                f"row(s) {listed(np.flatnonzero(infinite))}. Mend or remove them."
            )
        if absent.any():
            incomplete.append(name)
            if missing != "drop":
                raise DataError(
                    f"Column {name!r} has {int(absent.sum())} missing value(s), first at row(s) "
                    f"{listed(np.flatnonzero(absent))}. {advice}"
                )
        keep &= ~absent
    return keep, incomplete


def numbers_with_gaps(name: str, series: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A column of numbers (row,) as floats with NaN for missing values, and a mask (row,) of these.

    Raises
    ------
    DataError
        For a column with missing values whose others are not numbers.
    """
    from pandas.api import types

    absent = _inferred(name, series).isna().to_numpy(dtype=bool)
    values = np.full(len(absent), np.nan)
    if absent.any() and not absent.all():
        observed = _inferred(name, series[~absent])
        if not types.is_numeric_dtype(observed.dtype):
            raise DataError(
                f"Column {name!r} has {int(absent.sum())} missing value(s), first at row(s) "
                f"{listed(np.flatnonzero(absent))}, and no numbers elsewhere, such as "
                f"{listed(observed[:1].tolist())}. Convert it to numbers."
            )
        values[~absent] = observed.to_numpy(dtype=float)
    return values, absent


def check_known(name: str, series: pd.Series, known: Iterable[Any]) -> None:
    """Raise :class:`DataError` if a column has categories other than the known ones."""
    categories = list(known)
    unknown = ~series.isin(categories).to_numpy(dtype=bool)
    if unknown.any():
        new = series[unknown].drop_duplicates().tolist()
        hint = nearest(new[0], categories)
        raise DataError(
            f"Column {name!r} has categories that the fitted rows do not: {listed(new)} "
            f"(first at row {int(np.flatnonzero(unknown)[0])}).{hint} Known: {listed(categories)}."
        )


def check_size(values: np.ndarray, what: str) -> None:
    """Raise :class:`DataError` for numbers whose squares overflow or underflow."""
    size = np.abs(values).max()
    # The range of still larger numbers could overflow.
    spread = size if size > LARGEST else np.ptp(values)
    if size > LARGEST or 0 < spread < SMALLEST:
        raise DataError(
            f"The {what} has values up to {size:g} that differ by {spread:g}: double precision "
            "cannot square them. Change the unit."
        )


def in_index(name: str, index: Iterable[Any]) -> str:
    """Hint that a column is in the table's index, or the empty string."""
    if name not in {str(i) for i in index if i is not None}:
        return ""
    return f" {name!r} is the table's index: make it a column by reset_index()."


def _from_mapping(data: Mapping[Any, Any]) -> pd.DataFrame:
    """Data frame of a mapping from column names to equally long sequences.

    Columns with row labels (Series, DataArrays) are paired by these, others by position.
    """
    _check_distinct([str(name) for name in data], "column names")
    columns: dict[str, pd.Series] = {}
    row_labels: dict[str, pd.Index] = {}
    lengths: dict[str, int] = {}
    for name, values in ((str(name), values) for name, values in data.items()):
        if (sparse := sparse_of(values)) is not None:
            own = {name: as_column(name, sparse)}
        else:
            matrix = matrix_of(name, values)
            own = {name: _column(name, values)} if matrix is None else elements(name, matrix)
        lengths[name] = len(next(iter(own.values())))
        columns |= own
        labels = labels_of(values)
        row_labels |= {} if labels is None else dict.fromkeys(own, labels)
    if len({*lengths.values()}) > 1:
        raise DataError(f"Columns of a dict must be equally long; lengths: {lengths}.")
    return in_one_order(columns, row_labels)


def _column(name: str, values: Any) -> pd.Series:
    """Values of a mapping's entry as a series with the index 0, 1, ..."""
    import pandas as pd

    if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return pd.Series(values).reset_index(drop=True)
    if not isinstance(values, list | tuple | np.ndarray):
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(
            f"Columns of a dict must be one-dimensional; {name!r} has the shape {values.shape}."
        )
    try:
        return pd.Series(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"Cannot read the column {name!r}: {error}.") from error


def _from_narwhals(data: Any) -> pd.DataFrame:
    """Data frame of any eager table that narwhals reads, such as polars'."""
    import narwhals.stable.v2 as nw

    try:
        frame = nw.from_native(data, eager_only=True)
        table: pd.DataFrame = frame.to_pandas()
    except TypeError as error:
        raise DataError(
            f"Cannot read a table from {type(data).__name__!r}: give a pandas or polars "
            "DataFrame, another eager table that narwhals reads, or a dict of arrays."
        ) from error
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Reading a table of {type(data).__module__.split('.')[0]} needs {error.name}: "
            f"pip install {error.name}"
        ) from error
    for name, dtype in frame.schema.items():
        if dtype == nw.Categorical:  # in order of appearance, unlike an Enum, whose order is given
            table[name] = table[name].cat.reorder_categories(sorted(table[name].cat.categories))
    return table


def _check_distinct(labels: list[str], what: str) -> None:
    """Raise :class:`DataError` for labels that occur more than once."""
    doubled = [name for name in dict.fromkeys(labels) if labels.count(name) > 1]
    if doubled:
        raise DataError(f"Duplicate {what}: {listed(doubled)}. Rename them.")


def _infinite(series: pd.Series) -> np.ndarray:
    """Mask (row,) of infinite floats."""
    from pandas.api import types

    if series.dtype.name == SPARSE_ROWS:
        return infinite_rows(series)
    if not types.is_float_dtype(series.dtype):
        return np.zeros(len(series), dtype=bool)
    return np.isinf(series.to_numpy(dtype=float, na_value=np.nan))


def _inferred(name: str, series: pd.Series) -> pd.Series:
    """Column with the type that its Python objects share, if they do."""
    try:
        return series.infer_objects()
    except ValueError as error:  # text that is no valid Unicode
        raise DataError(f"Cannot read the column {name!r}: {error}.") from error


def _plain(name: str, series: pd.Series) -> pd.Series:
    """A complete column as one of the plain types."""
    import pandas as pd
    from pandas.api import types

    dtype = series.dtype
    if dtype.name == SPARSE_ROWS:
        return series
    if isinstance(dtype, pd.CategoricalDtype):
        if dtype.categories.inferred_type not in PLAIN_CATEGORIES:  # intervals, dates, mixtures
            labels = [str(c) for c in dtype.categories]
            _check_distinct(labels, f"categories of {name!r}")
            series = series.cat.rename_categories(labels)
        _check_text(name, [c for c in series.cat.categories if isinstance(c, str)])
        return series
    if types.is_bool_dtype(dtype):
        return series.astype(bool)
    if types.is_float_dtype(dtype):
        return series.astype(float)
    if types.is_integer_dtype(dtype):
        return _whole(series)
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        return series
    if types.is_string_dtype(series):
        _check_text(name, series.unique())
        return series if dtype in ("object", "str") else series.astype(object)
    raise DataError(_unusable(name, series))


def _whole(series: pd.Series) -> pd.Series:
    """Whole numbers as int64, or as uint64 if they are too large for it."""
    largest = series.max() if len(series) else 0
    return series.astype("uint64" if largest > np.iinfo("int64").max else "int64")


def _check_text(name: str, values: Iterable[str]) -> None:
    """Raise :class:`DataError` for text that no saved fit could hold."""
    for value in values:
        if "\0" in value or value != value.encode(errors="ignore").decode():
            raise DataError(
                f"Column {name!r} has text that is no valid Unicode or holds a null character: "
                f"{value!r}. Mend it."
            )


def _unusable(name: str, series: pd.Series) -> str:
    """Message on a column that is neither numbers nor text, categories or dates."""
    if series.dtype != object:
        return (
            f"Column {name!r} has the type {series.dtype}, which formulas cannot use: convert it "
            "to numbers, text or categories."
        )
    first: dict[str, str] = {}
    for row, value in series.items():
        first.setdefault(type(value).__name__, f"{value!r} ({type(value).__name__}) at row {row}")
    return (
        f"Column {name!r} is neither all numbers nor all text: it holds "
        f"{', '.join(list(first.values())[:3])}. Convert it to one type."
    )

"""Columns of a dict whose rows have labels: paired by these, not by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayes_moe.core.errors import DataError, listed

if TYPE_CHECKING:
    import pandas as pd

_PAIRING = (
    "Give one DataFrame, or columns with the same index; to pair rows by position, give arrays "
    "(.to_numpy())."
)
"""Remedy for columns of a dict whose rows cannot be paired by their labels."""


def labels_of(values: Any) -> pd.Index | None:
    """Row labels of a pandas Series, or of an xarray DataArray with coordinates."""
    import pandas as pd

    if isinstance(values, pd.Series):
        return values.index
    indexes = getattr(values, "indexes", {})
    dims: tuple[Any, ...] = getattr(values, "dims", ())
    found = indexes.get(dims[0]) if len(dims) in (1, 2) and isinstance(indexes, Mapping) else None
    return found if isinstance(found, pd.Index) else None


def in_one_order(columns: dict[str, pd.Series], labels: Mapping[str, pd.Index]) -> pd.DataFrame:
    """Data frame of equally long columns, those with row labels in the order of the first one.

    Raises
    ------
    DataError
        For columns whose rows cannot be paired: they have other labels, or labels in another
        order while some occur twice or another column has none.
    """
    import pandas as pd

    if not labels:
        return pd.DataFrame(columns)
    first, index = next(iter(labels.items()))
    unlabelled = [name for name in columns if name not in labels]
    for name, other in labels.items():
        if other.equals(index):
            continue
        _check_same_labels(first, index, name, other)
        if unlabelled:
            raise DataError(
                f"Columns {first!r} and {name!r} of the dict have the same row labels in "
                f"different orders, and {unlabelled[0]!r} has no labels: it could be in either "
                f"order. {_PAIRING}"
            )
        columns[name] = columns[name].take(other.get_indexer(index)).reset_index(drop=True)
    return pd.DataFrame(columns).set_axis(index, axis="index")


def _check_same_labels(first: str, index: pd.Index, name: str, other: pd.Index) -> None:
    """Raise :class:`DataError` unless two columns have the same distinct row labels."""
    both = f"Columns {first!r} and {name!r} of the dict have"
    missing = index[~index.isin(other)].append(other[~other.isin(index)])
    if len(missing):
        raise DataError(
            f"{both} different row labels: {len(missing)} labels are in one column only, such as "
            f"{listed(missing[:3])}. {_PAIRING}"
        )
    doubled = index[index.duplicated()].append(other[other.duplicated()])
    if len(doubled):
        raise DataError(
            f"{both} row labels in different orders, and some labels occur twice, such as "
            f"{listed(doubled[:1])}: it is unknown which rows belong together. {_PAIRING}"
        )

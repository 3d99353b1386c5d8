"""Trees in netCDF files: written whole or not at all, and only if they can be read again."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import FitFileError
from bayes_moe.core.records import plain
from bayes_moe.results.hdf5_checks import check_layout
from bayes_moe.results.strict_json import parse

if TYPE_CHECKING:
    import xarray as xr

JSON_ATTRIBUTES = "bayes_moe_attributes"
"""Attribute of a group or variable with those as JSON that netCDF has no type for."""

DECODING = frozenset(
    (
        *("units", "calendar", "dtype", "_FillValue", "missing_value", "scale_factor"),
        *("add_offset", "coordinates", "bounds", "grid_mapping", "formula_terms", "nodes"),
        *("ancillary_variables", "cell_measures", "climatology", "geometry", "interior_ring"),
        *("node_coordinates", "node_count", "part_node_count", "_Unsigned", "_Encoding"),
        *("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_NCProperties", "_nc3_strict"),
        *("_Netcdf4Dimid", "_Netcdf4Coordinates", JSON_ATTRIBUTES),
    )
)
"""Attributes by which a reader of netCDF files changes values: they are kept in the JSON."""


def write(
    tree: xr.DataTree, path: Path, verify: Callable[[xr.DataTree], None] = lambda read: None
) -> None:
    """Write a tree to a file, which is whole and readable, or is left as it was.

    ``verify`` is called with the tree as it is read from the new file, values not yet loaded.

    Raises
    ------
    FitFileError
        If a variable or an attribute cannot be written, or would be read as another one.
    """
    import xarray as xr

    written = xr.DataTree.from_dict({node.path: _writable(node) for node in tree.subtree})
    # The file is renamed after it is on the disk, so that a crash leaves the old file or none.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _to_netcdf(written, temporary)
        try:
            check_layout(temporary)
        except ValueError as error:
            raise FitFileError(f"The fit cannot be saved: {error}.") from error
        with xr.open_datatree(temporary, engine="h5netcdf") as opened:
            _check_same(written, opened)
            verify(opened)
        with open(temporary, "rb") as stored:
            os.fsync(stored.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check(path: Path) -> None:
    """Raise :class:`FitFileError` for a file that is damaged, or has parts that no fit has."""
    try:
        check_layout(path)
    except ValueError as error:
        raise FitFileError(f"{str(path)!r} is no saved fit: {error}.") from error
    except Exception as error:
        raise _unreadable(path, error) from error


def attribute(path: Path, name: str) -> Any:
    """Attribute of the root of a file, which is checked before; None if there is none."""
    import h5py

    check(path)
    with h5py.File(path, "r") as file:
        return file.attrs.get(name)


def read(path: Path) -> xr.DataTree:
    """Tree of a file that :func:`write` wrote, in memory.

    Raises
    ------
    FitFileError
        If the file is damaged, or has parts that no saved fit has; no other file is opened.
    """
    import xarray as xr

    check(path)
    try:
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            tree = opened.load().copy()
        for node in tree.subtree:
            _restore(node.attrs)
            for variable in node.variables.values():
                _restore(variable.attrs)
    except Exception as error:
        raise _unreadable(path, error) from error
    return tree


def _unreadable(path: Path, error: Exception) -> FitFileError:
    return FitFileError(
        f"{str(path)!r} cannot be read as a netCDF file; it is damaged or of another kind "
        f"({type(error).__name__}: {error!s:.300})."
    )


# --- variables and attributes ---------------------------------------------------------------------


def _writable(node: xr.DataTree) -> xr.Dataset:
    """Dataset of a group whose attributes netCDF can hold, without a user's wishes of storage."""
    from xarray.indexes import PandasMultiIndex

    dataset = node.to_dataset(inherit=False).drop_encoding()
    group = f"the group {node.path!r}"
    for name, index in dataset.xindexes.items():
        if isinstance(index, PandasMultiIndex):
            raise FitFileError(
                f"The fit cannot be saved: the coordinate {name!r} of {group} is an index of "
                "several levels. Reset it (`reset_index`), or remove the group."
            )
    dataset.attrs = _stored_attributes(group, dataset.attrs)
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "c" or (
            variable.dtype.kind == "f" and variable.dtype.itemsize > 8
        ):
            raise FitFileError(
                f"The fit cannot be saved: the variable {name!r} of {group} has the type "
                f"{variable.dtype}, which has no form in a netCDF file; remove or convert it."
            )
        variable.attrs = _stored_attributes(f"the variable {name!r} of {group}", variable.attrs)
    return dataset


def _stored_attributes(what: str, attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes, with those as one JSON text that netCDF would change or not hold."""
    kept, rest = {}, {}
    for name, value in attributes.items():
        is_text = isinstance(value, str) and "\0" not in value
        is_number = isinstance(value, int | float | np.integer | np.floating)
        fits = is_text or (is_number and not isinstance(value, bool) and abs(value) < 2**63)
        array = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iuf"
        if not isinstance(name, str) or not name:
            raise FitFileError(f"The fit cannot be saved: {what} has an attribute named {name!r}.")
        if name not in DECODING and name.isidentifier() and (fits or (array and value.size)):
            kept[name] = value
        else:
            rest[name] = value.tolist() if isinstance(value, np.ndarray) else value
    if rest:
        for name, value in rest.items():
            _json(f"the attribute {name!r} of {what}", value)
        kept[JSON_ATTRIBUTES] = _json(f"the attributes of {what}", rest)
    return kept


def _json(what: str, value: Any) -> str:
    """JSON text that is read as the same value."""
    try:
        text = json.dumps(plain(value), allow_nan=False)
        if parse(text) == plain(value):
            return text
        problem = "it would be read as another value"
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"{error}"
    raise FitFileError(
        f"The fit cannot be saved: {what}, a {type(value).__name__}, has no JSON form ({problem}). "
        "Remove it, or make it text."
    )


def _restore(attributes: Any) -> None:
    """Put back the attributes that are stored as JSON."""
    text = attributes.pop(JSON_ATTRIBUTES, None)
    if text is not None:
        attributes.update(dict(parse(text)))


# --- writing and comparing ------------------------------------------------------------------------


def _to_netcdf(tree: xr.DataTree, path: Path) -> None:
    """Write a tree; the error for a variable that has no form in netCDF names it."""
    try:
        tree.to_netcdf(path, engine="h5netcdf", encoding=_checksums(tree))
    except OSError:
        raise
    except Exception as error:
        culprit = _unwritable(tree)
        problem = culprit or f"{type(error).__name__}: {error}"
        raise FitFileError(f"The fit cannot be saved: {problem}.") from error


def _checksums(tree: xr.DataTree) -> dict[str, Any]:
    """Encoding with a checksum of every numeric array, so that reading detects damage."""
    return {
        node.path: {
            name: {"fletcher32": True}
            for name, variable in node.data_vars.items()
            if variable.size and variable.ndim and variable.dtype.kind in "biuf"
        }
        for node in tree.subtree
    }


def _unwritable(tree: xr.DataTree) -> str:
    """The first variable that cannot be written alone, and why; empty if there is none."""
    import xarray as xr

    for node in tree.subtree:
        for name, variable in node.to_dataset(inherit=False).variables.items():
            try:
                xr.Dataset({name: variable}).to_netcdf(engine="h5netcdf")
            except Exception as error:
                return (
                    f"the variable {name!r} of the group {node.path!r} (type {variable.dtype}) "
                    f"has no form in a netCDF file ({error}); remove or convert it"
                )
    return ""


def _check_same(written: xr.DataTree, read: xr.DataTree) -> None:
    """Raise :class:`FitFileError` where a file would be read as another tree than was written.

    Text, dates and other values that are converted on their way are compared, numbers have
    checksums.
    """
    read_as = {node.path: node.to_dataset(inherit=False) for node in read.subtree}
    if {node.path for node in written.subtree} != {*read_as}:
        raise FitFileError("The fit cannot be saved: its groups would be read as others.")
    for node in written.subtree:
        one, other = node.to_dataset(inherit=False), read_as[node.path]
        for name in dict.fromkeys([*one.variables, *other.variables]):
            if not _same(one, other, name):
                raise FitFileError(
                    f"The fit cannot be saved: the variable {name!r} of the group {node.path!r} "
                    "would be read as another one. Remove or rename it, or convert it to numbers "
                    "or text."
                )


def _same(one: xr.Dataset, other: xr.Dataset, name: Any) -> bool:
    """Whether a variable is the same in two datasets; values are compared unless numeric."""
    if name not in one.variables or name not in other.variables:
        return False
    a, b = one.variables[name], other.variables[name]
    if (name in one.coords) != (name in other.coords) or (a.dims, a.shape) != (b.dims, b.shape):
        return False
    if a.dtype.kind in "iufb":
        return bool(a.dtype.kind == b.dtype.kind and a.dtype.itemsize == b.dtype.itemsize)
    first, second = np.asarray(a.values), np.asarray(b.values)
    if first.dtype.kind == "M" or first.dtype.kind == "m":
        same = (first == second) | (np.isnat(first) & np.isnat(second))
        return bool(first.dtype.kind == second.dtype.kind and same.all())
    return first.tolist() == second.tolist()

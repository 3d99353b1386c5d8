"""Fits in netCDF files: save and load."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import FitFileError
from bayes_moe.data.design import Design
from bayes_moe.model.missing_rules import integrable
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import without_internal
from bayes_moe.results.fit import Fit, kind_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT = "bayes_moe fit"
FORMAT_VERSION = 1
HEADER = "bayes_moe"
"""Attribute of the file's root with the description as JSON."""


def write(tree: xr.DataTree, path: str | os.PathLike[str], description: dict[str, Any]) -> Path:
    """Path of the netCDF file with a tree and a JSON description, written whole or not at all."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to save in.")
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder; name a file.")
    # The file is renamed after it is on the disk, so that a crash leaves the old file or none.
    header = {"format": FORMAT, "version": FORMAT_VERSION, **description}
    copy = tree.copy()
    copy.attrs[HEADER] = json.dumps(header)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        copy.to_netcdf(temporary, engine="h5netcdf", encoding=_checksums(copy))
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


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


def read(path: str | os.PathLike[str]) -> tuple[xr.DataTree, dict[str, Any]]:
    """Tree and description of a file that :func:`write` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FitFileError
        If the file is damaged, or was not written by this package.
    """
    import xarray as xr

    source = Path(path)
    if source.is_dir():
        raise FitFileError(f"{str(source)!r} is a folder, not a saved fit.")
    if not source.exists():
        raise FileNotFoundError(f"There is no file {str(source)!r}.")
    try:
        with xr.open_datatree(source, engine="h5netcdf") as opened:
            tree = opened.load().copy()
    except Exception as error:
        raise FitFileError(
            f"{str(source)!r} cannot be read as a netCDF file; it is damaged or of another "
            f"kind ({type(error).__name__}: {error})."
        ) from error
    try:
        header = json.loads(tree.attrs.pop(HEADER))
        if header["format"] != FORMAT:
            raise ValueError(FORMAT)
        newer = int(header["version"]) > FORMAT_VERSION
    except (KeyError, TypeError, ValueError) as error:
        raise FitFileError(
            f"{str(source)!r} is a netCDF file, but not a fit saved by bayes_moe."
        ) from error
    if newer:
        raise FitFileError(
            f"{str(source)!r} has format version {header['version']}; this bayes_moe reads up "
            f"to {FORMAT_VERSION}. Upgrade the package."
        )
    return tree, header


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


def restore_columns(tree: xr.DataTree, entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Table of used columns, from a tree and the entries of :func:`describe_columns`."""
    import pandas as pd

    stored = {
        str(v.attrs[names.COLUMN]): v.values
        for v in tree[names.CONSTANT_DATA].to_dataset().data_vars.values()
    }
    table = {}
    for entry in entries:
        values = pd.Series(stored[entry[names.COLUMN]])
        if entry["dtype"] == "category":
            categories = entry["categories"]
            by_text = dict(zip(map(str, categories), categories, strict=True))
            dtype = pd.CategoricalDtype(categories, ordered=entry["ordered"])
            values = values.map(by_text).astype(dtype)
        else:
            values = values.astype(entry["dtype"])
        table[entry[names.COLUMN]] = values
    return pd.DataFrame(table)


def save(fit: Fit, path: str | os.PathLike[str]) -> Path:
    """Save a fit to one netCDF file.

    The file holds the draws, the used columns of the data, and the description and design as
    JSON; no pickle. It is written whole or not at all.

    Parameters
    ----------
    fit : Fit
        A fit.
    path : path
        Path of the file; an existing file is replaced.

    Returns
    -------
    pathlib.Path
        Path of the file.
    """
    description = {
        "package_version": version("bayes_moe"),
        "spec": fit.spec.to_dict(),
        "design": {
            "columns": describe_columns(fit.design.columns),
            "terms": _terms(fit.design),
            "n_dropped": fit.design.n_dropped,
        },
    }
    return write(fit.idata, path, description)


def load(path: str | os.PathLike[str]) -> Fit:
    """Load a fit that :func:`save` wrote.

    The formulas are evaluated on the stored columns, and formulas can call NumPy and methods of
    columns: load files from people you trust, as with any notebook.

    Parameters
    ----------
    path : path
        Path of the file.

    Returns
    -------
    Fit
        The fit, with its data and draws.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FitFileError
        If the file is damaged, is not a saved fit, or needs a newer version of the package.
    """
    tree, header = read(path)
    try:
        spec = MixtureOfExperts.from_dict(header["spec"])
        stored = header["design"]
        observed = tree[names.OBSERVED_DATA].to_dataset()
        design = Design.from_data(
            spec.response,
            spec.formulas,
            restore_columns(tree, stored["columns"]),
            missing="model",
            center=spec.center,
            obs_id=observed[names.OBS].values,
            may_miss=integrable(spec.gate, spec.structure),
        )
        design = replace(design, n_dropped=int(stored["n_dropped"]))
        tree[names.POSTERIOR].to_dataset()[list(spec.variables)]  # raises if one is missing
        tree = without_internal(tree, spec)
        tree.attrs[names.KIND] = kind_of(tree)
        same_terms = _terms(design) == stored["terms"]
        same = same_terms and np.allclose(
            design.response, observed[names.RESPONSE].values, rtol=1e-12, atol=0
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FitFileError(
            f"{str(path)!r} is a damaged fit ({type(error).__name__}: {error})."
        ) from error
    if not same:
        raise FitFileError(
            f"{str(path)!r}: the formulas give other columns here than where the fit was saved; "
            "install the version of formulaic that it was saved with."
        )
    return Fit(spec, design, tree)


def _terms(design: Design) -> dict[str, list[str]]:
    """Names of the columns of each formula's matrix."""
    return {stem: list(m.terms) for stem, m in design.rows.matrices.items()}

"""Fits in netCDF files: save and load."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import PACKAGE_FILES, FitFileError
from bayes_moe.core.records import check_names
from bayes_moe.data.design import Design
from bayes_moe.data.fitted_texts import FittedTexts
from bayes_moe.data.formula_functions import MissingFunctionError
from bayes_moe.data.formulas import text_terms
from bayes_moe.data.responses import response_columns
from bayes_moe.data.sparse_columns import sparse_names, term_names
from bayes_moe.data.sparse_terms import sparse_terms
from bayes_moe.data.used_columns import Stored
from bayes_moe.model.missing_rules import integrable
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results import netcdf_trees, stored_texts, stored_times
from bayes_moe.results.draws import with_table_mark, without_internal
from bayes_moe.results.fit import Fit, kind_of
from bayes_moe.results.fit_checks import check_tree
from bayes_moe.results.stored_columns import (
    describe_columns,
    fitted_data,
    label_levels,
    stored_rows,
)
from bayes_moe.results.strict_json import parse

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT = "bayes_moe fit"
FORMAT_VERSION = 5
"""Version 5 has text terms, version 4 rows in time, version 3 labels of classes, version 2 row
labels; a file without any of these is of version 1, for earlier packages."""
LEAST_BYTES, MOST_RATIO = 2**29, 64
"""Bytes that the design matrices of a file of any length may take, and that those of a longer one
may take as a multiple of its length, with the products of their columns."""

HEADER = "bayes_moe"
"""Attribute of the file's root with the description as JSON."""
GROUP, ROW_LABELS = "group", "row_labels"
"""Parts of a stored design that not all files have: where its rows are, and their labels."""


def save(fit: Fit, path: str | os.PathLike[str]) -> Path:
    """Save a fit to one netCDF file.

    The file holds all groups of ``fit.idata``, the used columns and the response of
    ``fit.design``, and the description as JSON; no pickle. It is read again before it replaces an
    existing file, so that what is saved can be loaded. See :doc:`/saved_files`.

    Parameters
    ----------
    fit : Fit
        A fit. Groups that PyMC, ArviZ or you have added to ``fit.idata`` are saved too.
    path : path
        Path of the file; an existing file is replaced.

    Returns
    -------
    pathlib.Path
        Path of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    FitFileError
        If a variable or an attribute of ``fit.idata`` has no form in a netCDF file, or is not what
        the model needs; the message names it. An existing file is left as it was.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to save in.")
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder; name a file.")
    levels = _storable_levels(fit.design)
    description = {
        "format": FORMAT,
        "version": _least_version(fit.spec, levels is not None),
        "package_version": version("bayes_moe"),
        "spec": fit.spec.to_dict(),
        "design": {
            "columns": describe_columns(fit.design.columns),
            "terms": _terms(fit.design),
            "n_dropped": fit.design.n_dropped,
            GROUP: names.FITTED_DATA,
        }
        | stored_times.described(fit.design)
        | stored_texts.described(fit.design)
        | ({} if levels is None else {ROW_LABELS: describe_columns(levels)}),
    }
    if names.FITTED_DATA in fit.idata.children:
        raise FitFileError(
            f"The fit cannot be saved: a group {names.FITTED_DATA!r} holds the design in the file. "
            "Rename this group of `fit.idata`."
        )
    tree = fit.idata.copy()
    tree.attrs[HEADER] = json.dumps(description)
    tree[names.FITTED_DATA] = _tree(_stored(fit.design, levels))
    try:
        check_tree(tree, fit.spec, fit.design)
    except (TypeError, ValueError) as error:
        raise FitFileError(f"The fit cannot be saved: {error}.") from error

    def verify(read: xr.DataTree) -> None:
        try:
            header = parse(read.attrs[HEADER])
            spec = MixtureOfExperts.from_dict(header["spec"], fit.spec.functions)
            _check_restored(fit, spec, _design(spec, read, header), levels is None)
        except (TypeError, ValueError, _OtherTermsError) as error:
            raise FitFileError(f"The fit cannot be saved: {error}.") from error

    netcdf_trees.write(tree, target, verify)
    return target


def _stored(design: Design, levels: pd.DataFrame | None) -> xr.Dataset:
    """Used columns, response and row labels, rows in time, and what was fitted of text terms."""
    rows = stored_times.with_times(fitted_data(design, levels), design)
    return stored_texts.with_texts(rows, design)


def _least_version(spec: MixtureOfExperts, row_labels: bool) -> int:
    """First version of the format that has all that a fit has."""
    if text_terms(spec.formulas.values()):
        return FORMAT_VERSION
    if spec.row_columns.time is not None:
        return 4
    if spec.response_rule.given is not None:
        return 3
    return 2 if row_labels else 1


def load(
    path: str | os.PathLike[str],
    functions: Mapping[str, Callable[..., Any]] | None = None,
    *,
    max_bytes: int | None = None,
) -> Fit:
    """Load a fit that :func:`save` wrote.

    The file is checked before its values are read: nothing in it is executed, it can lead to no
    other file, and it cannot ask for much more memory than it is long. See
    :doc:`/saved_files`.

    Parameters
    ----------
    path : path
        Path of the file.
    functions : mapping of str to callable, optional
        Your functions that the formulas call; a file holds their names only.
    max_bytes : int, optional
        Most memory of the design matrices, which formulas make of the columns in the file, in
        bytes. By default 2**29 (512 MB), or 64 times the length of the file if that is more. Give
        more for a file that you trust.

    Returns
    -------
    Fit
        The fit, with its data and draws.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FitFileError
        If the file is damaged, is not a saved fit, has parts that no saved fit has, needs a
        newer version of the package, or asks for more memory than ``max_bytes``.
    SpecError
        If a function of yours is missing.
    """
    if max_bytes is not None:
        check_whole("max_bytes", max_bytes, 1)
    source = Path(path)
    header = _header(source)
    most = max_bytes or max(LEAST_BYTES, MOST_RATIO * source.stat().st_size)
    with _told(path):
        spec = MixtureOfExperts.from_dict(header["spec"], functions)
        tree = netcdf_trees.read(source)
        del tree.attrs[HEADER]
        design = _design(spec, tree, header, most)
        tree = tree.filter(lambda node: node.path != f"/{names.FITTED_DATA}")
        tree = without_internal(tree, spec)
        if header["design"].get(GROUP) is None:  # such versions wrote no mark
            tree = with_table_mark(tree, spec, design)
        tree.attrs[names.KIND] = kind_of(tree)
        check_tree(tree, spec, design)
        fit = Fit(spec, design, tree)
        repr(fit)  # reads the figures of a mode
    return fit


def _header(source: Path) -> dict[str, Any]:
    """Description in a saved fit, which is read before any values.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FitFileError
        If the file is damaged, or was not written by this package.
    """
    if source.is_dir():
        raise FitFileError(f"{str(source)!r} is a folder, not a saved fit.")
    if not source.exists():
        raise FileNotFoundError(f"There is no file {str(source)!r}.")
    if not source.is_file():
        raise FitFileError(f"{str(source)!r} is no ordinary file, so it is not a saved fit.")
    text = netcdf_trees.attribute(source, HEADER)
    try:
        header: dict[str, Any] = parse(text)
        if header["format"] != FORMAT:
            raise ValueError(FORMAT)
        check_whole("version", header["version"], 1)
        newer = header["version"] > FORMAT_VERSION
    except (KeyError, TypeError, ValueError) as error:
        raise FitFileError(
            f"{str(source)!r} is a netCDF file, but not a fit saved by bayes_moe ({error})."
        ) from error
    if newer:
        raise FitFileError(
            f"{str(source)!r} has format version {header['version']}; this bayes_moe reads up "
            f"to {FORMAT_VERSION}. Upgrade the package."
        )
    return header


class _OtherTermsError(Exception):
    """The formulas make other columns or another response than are stored."""


class _LargeDesignError(Exception):
    """The formulas make larger matrices than are allowed; the message says how large."""


@contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of a damaged fit as :class:`FitFileError` with the file's name."""
    try:
        yield
    except (FitFileError, MissingFunctionError):
        raise
    except _OtherTermsError as error:
        raise FitFileError(
            f"{str(path)!r}: the formulas give other columns here than where the fit was saved; "
            "install the version of formulaic that it was saved with."
        ) from error
    except _LargeDesignError as error:
        raise FitFileError(f"{str(path)!r}: {error}") from error
    except Exception as error:
        raise FitFileError(
            f"{str(path)!r} is a damaged fit ({type(error).__name__}: {error!s:.500})."
        ) from error


def _design(
    spec: MixtureOfExperts, tree: xr.DataTree, header: Mapping[str, Any], most: int | None = None
) -> Design:
    """Design of a saved fit, made anew from its columns and compared with what was saved.

    ``most`` are the bytes that its matrices may take, None for any number.
    """
    stored = header["design"]
    optional = (GROUP, ROW_LABELS, stored_times.PAST, stored_texts.TEXTS)
    check_names("The stored design", stored, ("columns", "terms", "n_dropped"), optional)
    check_whole("n_dropped", stored["n_dropped"], 0, 2**53)
    times = stored.get(stored_times.PAST)
    others = stored_times.count(times) + stored_texts.count(stored.get(stored_texts.TEXTS), spec)
    rows = stored_rows(tree, stored["columns"], stored.get(GROUP), stored.get(ROW_LABELS), others)
    fitted = tree[names.FITTED_DATA].to_dataset() if names.FITTED_DATA in tree.children else None
    texts = stored_texts.restored(fitted, spec, len(rows.columns))
    design = Design.restored(
        spec.response_rule,
        spec.formulas,
        rows.columns,
        center=spec.center,
        may_miss=integrable(spec.gate, spec.structure),
        functions=spec.functions,
        stored=Stored(_expected(spec, stored["terms"], (rows.columns, texts), most), texts),
    ).labelled(rows.positions, rows.index)
    if _terms(design) != stored["terms"]:
        raise _OtherTermsError
    if not np.allclose(design.response, rows.response, rtol=1e-12, atol=0):
        raise _OtherTermsError
    if times is not None or spec.row_columns.time is not None:
        assert fitted is not None
        design = stored_times.restored(design, fitted, times, spec.row_columns)
    return replace(design, n_dropped=stored["n_dropped"])


def _expected(
    spec: MixtureOfExperts, terms: Any, made_of: tuple[pd.DataFrame, FittedTexts], most: int | None
) -> dict[str, int]:
    """Numbers of columns by stem, from the stored names of these; bounded with all rows.

    The formulas are made of columns and of fitted text terms. Sparse matrices among these are in
    the file as they are in memory.
    """
    columns, texts = made_of
    if not isinstance(terms, dict):
        raise ValueError("the columns of the formulas are not listed")
    if terms.keys() != spec.formulas.keys():
        raise _OtherTermsError
    counts = {stem: len(of) if isinstance(of, list) else 0 for stem, of in terms.items()}
    rows, sparse = len(columns), sparse_names(columns)
    dense = {
        stem: counts[stem]
        - len(term_names(columns, sparse_terms(formula, sparse)))
        - stored_texts.sparse_width(texts, formula)
        for stem, formula in spec.formulas.items()
    }
    size = 8 * sum(count * (rows + count) for count in dense.values())
    if most is not None and size > most:
        raise _LargeDesignError(
            f"its formulas make matrices of {rows} rows and {sum(counts.values())} columns, which "
            f"take {size:,} bytes; {most:,} are allowed. If you trust the file, load it by "
            f"bm.load(path, max_bytes={size})."
        )
    return counts | {names.RESPONSE: len(response_columns(spec.response))}


def _check_restored(fit: Fit, spec: MixtureOfExperts, design: Design, plain: bool) -> None:
    """Raise :class:`FitFileError` unless a file gives a fit's description, matrices and labels.

    ``plain`` says that the file has no row labels.
    """
    index, found = fit.design.rows.index, design.rows.index
    if not (plain or (index is not None and found is not None and index.equals(found))):
        raise FitFileError("The fit cannot be saved: its row labels are others in the file.")
    same = spec == fit.spec and all(
        m.equals(design.rows.matrices[stem]) for stem, m in fit.design.rows.matrices.items()
    )
    if not same:
        raise FitFileError(
            "The fit cannot be saved: its formulas give other numbers on the columns in the file."
        )


def _storable_levels(design: Design) -> pd.DataFrame | None:
    """Row labels as columns of a file; None, with a warning, for labels that it cannot hold."""
    index = design.rows.index
    levels = None if index is None else label_levels(index)
    if index is not None and levels is None:
        warnings.warn(
            f"A file cannot hold the row labels of the fitted table, such as {index[0]!r:.80}: "
            "predictions of the loaded fit without a table will have positions. Labels that can "
            "be saved are numbers, text, dates, durations and truth values, none missing, and "
            "several levels of them.",
            UserWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
    return levels


def _tree(dataset: xr.Dataset) -> xr.DataTree:
    import xarray as xr

    return xr.DataTree(dataset)


def _terms(design: Design) -> dict[str, list[str]]:
    """Names of the columns of each formula's matrix."""
    return {stem: list(m.terms) for stem, m in design.rows.matrices.items()}

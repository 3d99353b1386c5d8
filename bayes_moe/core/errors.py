"""Errors and warnings of the package, and the text "Unknown name, did you mean ...?"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec
from os import sep
from pathlib import Path
from typing import Any

from bayes_moe.core.other_names import ABSENT, SAME, elsewhere, folded

__all__ = ["ConvergenceWarning", "DataError", "FitFileError", "MissingRowsWarning", "SpecError"]

PACKAGE_FILES = (f"{Path(__file__).parents[1]}{sep}",)
"""Prefixes of this package's files, for warnings that point at the line of the caller."""


class SpecError(ValueError):
    """A model description that cannot be built: unknown family, prior, gate or argument."""


class DataError(ValueError):
    """A table that cannot be used: missing values, unknown columns, degenerate designs."""


class FitFileError(OSError):
    """A file that is not a saved fit or is damaged, or a fit that no file can hold."""


class ConvergenceWarning(UserWarning):
    """A fit fails a convergence check; the message names the variables and a remedy."""


class MissingRowsWarning(UserWarning):
    """Rows with missing values were left out because of ``missing="drop"``; with their number."""


def closest(name: object, valid: Iterable[Any]) -> Any | None:
    """The valid name that is meant: another package's name for it, or the most similar; or None.

    Valid values need not be text: a category 1 is meant by ``"1"``.
    """
    wanted, by_text = folded(name), {str(v): v for v in valid}
    if str(name) in by_text:
        return by_text[str(name)]
    for ours in elsewhere(SAME, name) or ():
        if ours in by_text:
            return by_text[ours]
    by_folded = {folded(text): v for text, v in by_text.items()}
    similar = difflib.get_close_matches(wanted, by_folded, n=1, cutoff=0.5)
    similar = similar or [v for v in by_folded if wanted and v.startswith(wanted)]
    return by_folded[similar[0]] if similar else None


def nearest(name: object, valid: Iterable[Any]) -> str:
    """``" Did you mean ...?"`` with the valid name that is meant, or the empty string."""
    meant = closest(name, valid)
    return "" if meant is None else f" Did you mean {meant!r}?"


MOST = 40
"""Most valid names that a message lists."""


def unknown(kind: str, name: object, valid: Iterable[Any]) -> str:
    """Message that ``name`` is no valid ``kind``, with the name that is meant and the others."""
    names = sorted({str(v): v for v in valid}.items())
    listed = ", ".join(repr(v) for _, v in names[:MOST]) + (", ..." if len(names) > MOST else "")
    absent = elsewhere(ABSENT.get(kind, {}), name)
    hint = nearest(name, (v for _, v in names))
    if absent is not None:
        hint = f" The package has no {name!r}: {absent}."
    return f"Unknown {kind} {name!r}.{hint} Valid: {listed or '(none)'}."


def need(package: str, extra: str) -> None:
    """Raise :class:`ImportError`, with the command that installs it, if a package is missing."""
    if find_spec(package) is None:
        raise ImportError(f"This needs {package}: pip install 'bayes_moe[{extra}]'.")


def listed(values: Iterable[Any], most: int = 5) -> str:
    """First few values as text, separated by commas."""
    shown = [repr(v) if isinstance(v, str) else str(v) for v in values]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")

"""Errors and warnings of the package, and the text "Unknown name, did you mean ...?"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec
from os import sep
from pathlib import Path

__all__ = ["ConvergenceWarning", "DataError", "FitFileError", "MissingRowsWarning", "SpecError"]

PACKAGE_FILES = (f"{Path(__file__).parents[1]}{sep}",)
"""Prefixes of this package's files, for warnings that point at the line of the caller."""


class SpecError(ValueError):
    """A model description that cannot be built: unknown family, prior, gate or argument."""


class DataError(ValueError):
    """A table that cannot be used: missing values, unknown columns, degenerate designs."""


class FitFileError(OSError):
    """A file that is not a saved fit, or is a damaged one."""


class ConvergenceWarning(UserWarning):
    """A fit fails a convergence check; the message names the variables and a remedy."""


class MissingRowsWarning(UserWarning):
    """Rows with missing values were left out because of ``missing="drop"``; with their number."""


def nearest(name: object, valid: Iterable[str]) -> str:
    """``" Did you mean ...?"`` with the most similar valid name, or the empty string."""
    folded = {v.casefold(): v for v in valid}
    wanted = str(name).casefold()
    similar = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.5)
    similar = similar or [v for v in folded if wanted and v.startswith(wanted)]
    return f" Did you mean {folded[similar[0]]!r}?" if similar else ""


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """Message that ``name`` is no valid ``kind``, with the nearest valid name and the others."""
    names = sorted(str(v) for v in valid)
    listed = ", ".join(repr(n) for n in names[:20]) + (", ..." if len(names) > 20 else "")
    return f"Unknown {kind} {name!r}.{nearest(name, names)} Valid: {listed or '(none)'}."


def need(package: str, extra: str) -> None:
    """Raise :class:`ImportError`, with the command that installs it, if a package is missing."""
    if find_spec(package) is None:
        raise ImportError(f"This needs {package}: pip install 'bayes_moe[{extra}]'.")
